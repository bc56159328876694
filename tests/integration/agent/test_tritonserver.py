"""Starting and supervising a real tritonserver."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from keeptune.agent.latency import latency_quantiles
from keeptune.agent.repository import ModelRepository
from keeptune.agent.sampling import ShimSampler
from keeptune.agent.triton import TritonClient
from keeptune.agent.triton_endpoint import TritonEndpoint
from keeptune.agent.triton_model import InferenceFailed, TritonUnavailable
from keeptune.agent.updates import ModelUpdater
from keeptune.runtime.errors import FailedPrecondition, PermissionDenied
from tests.fixtures.onnx_models import make_package, scale_model
from tests.fixtures.triton import SERVING_HOST, RunningTriton, running_triton, wait_until

pytestmark = [pytest.mark.triton, pytest.mark.xdist_group("triton")]

_SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from keeptune.agent.tritonserver import TritonOptions, run_tritonserver
options = TritonOptions(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
asyncio.run(run_tritonserver(options, on_ready=lambda e: print("ready", flush=True)))
"""


async def test_killed_server_comes_back_with_its_models_and_its_sampling(
    triton: RunningTriton, triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    ones = {"x": np.ones((1, 4), np.float32)}
    await updater.install(make_package(tmp_path, "phoenix", 1, scale_model(2.0)))
    await updater.install(make_package(tmp_path, "phoenix", 2, scale_model(3.0)))
    # A bad version that a kill has left in service must not keep the good one away.
    await updater.install(make_package(tmp_path, "scarred", 1, scale_model(4.0)))
    await updater.install(make_package(tmp_path, "scarred", 2, scale_model(5.0)))
    (triton.repository.root / "scarred" / "2" / "model.onnx").write_bytes(b"not a model")
    before = triton.endpoint
    sampler = ShimSampler(triton.options.sampling_dir)
    sampler.set_rates({"phoenix": 1})
    sampling = asyncio.ensure_future(sampler.run())
    try:
        os.kill(before.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while triton.endpoint.start == before.start:
                await asyncio.sleep(0.05)
            while not await triton_client.live():
                await asyncio.sleep(0.05)
        after = triton.endpoint
        assert after.grpc_address == before.grpc_address, "clients would not find it again"
        restored = {one.model: one for one in await updater.restore()}
        assert (restored["phoenix"].serving, restored["phoenix"].problem) == ((1, 2), "")
        assert restored["scarred"].serving == (1,)
        assert restored["scarred"].problem
        assert (await triton_client.infer("scarred", ones))["y"][0, 0] == 4.0
        assert (await triton_client.infer("phoenix", ones, version=1))["y"][0, 0] == 2.0
        await asyncio.sleep(0.3)
        await triton_client.infer("phoenix", ones, request_id="again")
        async with asyncio.timeout(5):
            samples = await sampler.take()
        assert samples[-1].request_id == "again"
        assert samples[-1].version == 2
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)


async def test_hanging_server_is_noticed_and_started_anew(tmp_path: Path) -> None:
    with running_triton(tmp_path, live_interval_seconds=0.2, live_deadline_seconds=1.0) as server:
        first = server.endpoint
        os.kill(first.pid, signal.SIGSTOP)
        wait_until(lambda: server.endpoint.start > first.start)
        async with server.client() as client:
            async with asyncio.timeout(20):
                while not await client.live():
                    await asyncio.sleep(0.05)
            assert (await client.server()).numbers >= (2, 51)
        assert not psutil.pid_exists(first.pid)


async def test_nothing_outlives_a_stop(tmp_path: Path) -> None:
    with running_triton(tmp_path) as server:
        async with server.client() as client:
            updater = ModelUpdater(server.repository, client)
            await updater.install(make_package(tmp_path, "brief", 1, scale_model(2.0)))
        assert len(_processes(server.options.state_dir)) >= 2
        regions = _regions(server)
        assert regions
        began = time.monotonic()
    assert time.monotonic() - began < 15
    assert _processes(server.options.state_dir) == []
    assert _regions(server) == []


async def test_nothing_outlives_a_killed_supervisor_and_its_successor_serves_the_same(
    tmp_path: Path,
) -> None:
    models, state = tmp_path / "models", tmp_path / "triton"

    async def supervisor() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _SUPERVISOR, str(SERVING_HOST), str(models), str(state)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while (line := await process.stdout.readline()).strip() != b"ready":
                assert line, "the supervisor ended"
        return process

    first = await supervisor()
    second = None
    try:
        endpoint = TritonEndpoint.read(state / "triton.json")
        async with TritonClient(
            endpoint.grpc_address, control_token=endpoint.control_token
        ) as client:
            updater = ModelUpdater(ModelRepository(models), client)
            await updater.install(make_package(tmp_path, "heir", 1, scale_model(2.0)))
            first.kill()
            await first.wait()
            wait_until(lambda: not psutil.pid_exists(endpoint.pid))
            second = await supervisor()
            # The same client, the same address and token: nothing had to be told to it.
            answer = await client.infer("heir", {"x": np.ones((1, 4), np.float32)})
            assert answer["y"][0, 0] == 2.0
            assert await updater.loaded("heir") == (1,)
        stubs = [one for one in _processes(state) if "stub" in " ".join(one.cmdline())]
        assert len(stubs) == 1, "the stub of the killed server is still there"
    finally:
        for process in (first, second):
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
    wait_until(lambda: not psutil.pid_exists(TritonEndpoint.read(state / "triton.json").pid))


async def test_only_the_token_opens_control(
    triton: RunningTriton, updater: ModelUpdater, tmp_path: Path
) -> None:
    await updater.install(make_package(tmp_path, "guarded", 1, scale_model(2.0)))
    async with TritonClient(triton.endpoint.grpc_address) as stranger:
        answer = await stranger.infer("guarded", {"x": np.ones((1, 4), np.float32)})
        assert answer["y"][0, 0] == 2.0
        for call in (stranger.load("guarded"), stranger.unload("guarded"), stranger.index()):
            with pytest.raises(PermissionDenied):
                await call
        with pytest.raises(PermissionDenied):
            await stranger.set_trace("guarded", {"trace_level": ("TENSORS",)})
    assert triton.options.endpoint_file.stat().st_mode & 0o077 == 0


async def test_reading_of_statistics_quantiles_and_metadata(
    triton: RunningTriton, triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    await updater.install(make_package(tmp_path, "counted", 4, scale_model(2.0)))
    ones = {"x": np.ones((2, 4), np.float32)}
    (before,) = await triton_client.statistics("counted")
    for _ in range(30):
        await triton_client.infer("counted", ones)
    # Triton counts a request shortly after it has answered it.
    async with asyncio.timeout(10):
        while True:
            (after,) = await triton_client.statistics("counted")
            since = after.since(before)
            if since.success.count >= 30:
                break
            await asyncio.sleep(0.02)
    assert (since.version, since.success.count, since.fail.count, since.inferences) == (
        4,
        30,
        0,
        60,
    )
    assert 0 < since.compute_infer.mean_ms < since.success.mean_ms < 1000
    assert since.last_inference is not None
    quantiles = {(q.model, q.version): q for q in await latency_quantiles(triton.endpoint)}
    assert 0 < quantiles["counted", 4].p50_ms <= quantiles["counted", 4].p99_ms < 1000
    signature = await triton_client.signature("counted")
    assert [(one.name, one.datatype, one.shape) for one in signature.inputs] == [
        ("x", "FP32", (4,))
    ]
    assert "onnxruntime" in triton.endpoint.backends
    assert "python" in triton.endpoint.backends
    with pytest.raises(InferenceFailed):
        await triton_client.infer("counted", {"x": np.ones((1, 5), np.float32)})


async def test_taken_port_unsound_environment_and_absent_server_are_named(tmp_path: Path) -> None:
    with running_triton(tmp_path) as server:
        taken = server.endpoint.grpc_port
        with (
            pytest.raises(FailedPrecondition, match=f"grpc_port {taken}"),
            running_triton(tmp_path / "second", grpc_port=taken),
        ):
            pass
    with (
        pytest.raises(FailedPrecondition, match="serving-host environment"),
        running_triton(tmp_path / "third", environment=tmp_path),
    ):
        pass
    async with TritonClient(f"127.0.0.1:{taken}", call_seconds=2.0) as client:
        with pytest.raises(TritonUnavailable):
            await client.server()
        assert not await client.live()


def _processes(state_dir: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("KEEPTUNE_SAMPLING_DIR") == str(state_dir / "sampling"):
                found.append(process)
    return found


def _regions(server: RunningTriton) -> list[Path]:
    from keeptune.agent.tritonserver import _shm_prefix

    return list(Path("/dev/shm").glob(f"{_shm_prefix(server.options.state_dir)}*"))
