"""An agent that is killed anywhere in an update: serving goes on, and doing it again ends it."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from keeptune.agent.triton import TritonClient
from keeptune.agent.updates import ModelUpdater
from tests.fixtures.onnx_models import make_package, scale_model
from tests.fixtures.triton import RunningTriton
from tests.integration.agent.load import steady_load

pytestmark = [pytest.mark.triton, pytest.mark.xdist_group("triton")]

ROOT = Path(__file__).parents[3]
KILLS = 7


@pytest.mark.timeout(240)
async def test_update_killed_anywhere_is_ended_by_doing_it_again(
    triton: RunningTriton, triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    model = "unkillable"
    await updater.install(make_package(tmp_path, model, 1, scale_model(2.0)))

    async def run(version: int, kill_at: int) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.agent.killed_update"),
            *(str(triton.options.endpoint_file), str(triton.options.repository), str(tmp_path)),
            *(model, str(version), str(kill_at)),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()

    async with steady_load(triton, model, per_second=100) as load:
        status, printed = await run(2, -1)
        assert status == 0
        moments = int(printed)
        assert moments > 20
        for number in range(KILLS):
            version = 3 + number
            kill_at = number * moments // KILLS
            status, _ = await run(version, kill_at)
            assert status == -signal.SIGKILL, f"moment {kill_at} of {moments} was never reached"
            status, _ = await run(version, -1)
            assert status == 0
            state = await updater.state(model)
            assert (state.serving, list(state.versions)) == ((version,), [version])
            assert await updater.loaded(model) == (version,)
            assert f"{model}--challenger" not in triton.repository.names()
            leftovers = [path.name for path in triton.repository.root.rglob(".tmp*")]
            assert leftovers == []
    assert load.failures == []
    assert sum(load.answers.values()) == load.sent
    assert len(load.answers) == KILLS + 2, "each version has served for a while"
