"""The contracts from another language: Node runs a study of its own objective."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.search.service import TOKEN, running

HERE = Path(__file__).parent
PROTOS = HERE.parents[2] / "protos"
TRIALS = 16


@pytest.fixture(scope="module")
def node() -> str:
    """Node with the packages of `package-lock.json`, which `make setup` installs."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None:
        pytest.skip("no Node on this machine: install Node 20 or newer")
    if not (HERE / "node_modules" / "@grpc" / "grpc-js").exists():
        assert npm is not None
        install = [npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(install, cwd=HERE, check=True, capture_output=True, timeout=100)
    return node


@pytest.mark.timeout(240)
async def test_a_study_from_node(node: str, tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        arguments = [str(HERE / "study.mjs"), str(PROTOS), service.address, TOKEN, str(TRIALS)]
        program = await asyncio.create_subprocess_exec(
            node,
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # A proxy is not for the loopback.
            env=os.environ | {"no_proxy": "127.0.0.1", "grpc_proxy": ""},
        )
        try:
            out, err = await asyncio.wait_for(program.communicate(), 120)
        finally:
            if program.returncode is None:
                program.kill()
        assert program.returncode == 0, err.decode()
        found = json.loads(out)

        assert found["state"] == "STUDY_STATE_COMPLETED"
        assert found["chosen"] == "bayesian+tpe"
        assert found["completed"] + found["pruned"] == TRIALS
        assert found["counts"]["completed"] == found["completed"]
        assert found["counts"]["pruned"] == found["pruned"] > 0
        assert found["best"] == pytest.approx(found["best_seen"])
        assert found["refusal"]["code"] == "INVALID_ARGUMENT"
        assert "parameters[0].float_range.min is nan" in found["refusal"]["message"]

        trials = await service.trials("from-node", page_size=100)
        assert len(trials) == TRIALS
        assert {attempt.worker for trial in trials for attempt in trial.attempts} == {"node"}
