"""Sampling by Triton's trace extension.

The wheel's server is older than the sampler accepts, so it is forced here, with the allocator
setting under which tracing did not crash that version.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from keeptune.agent.sampling import Sample
from keeptune.agent.trace_sampling import TraceSampler
from keeptune.agent.triton import TritonClient
from keeptune.agent.updates import ModelUpdater
from keeptune.runtime.errors import FailedPrecondition
from tests.fixtures.onnx_models import make_package, scale_config, scale_model
from tests.fixtures.triton import RunningTriton, running_triton

pytestmark = [pytest.mark.triton, pytest.mark.xdist_group("triton")]


@pytest.fixture(scope="module")
def tracing_triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTriton]:
    folder = tmp_path_factory.mktemp("tracing")
    with running_triton(folder, tracing=True, safe_malloc=True) as server:
        yield server


@pytest.fixture
async def client(tracing_triton: RunningTriton, tmp_path: Path) -> AsyncIterator[TritonClient]:
    async with tracing_triton.client() as client:
        updater = ModelUpdater(tracing_triton.repository, client)
        await updater.install(make_package(tmp_path, "traced", 3, scale_model(2.0)))
        yield client
        await updater.remove_model("traced")


def _sampler(server: RunningTriton, client: TritonClient, **options: object) -> TraceSampler:
    return TraceSampler(
        client,
        server.options.endpoint_file,
        interval_seconds=0.3,
        force=True,
        **options,  # type: ignore[arg-type]
    )


async def _traced(client: TritonClient, model: str, on: bool) -> None:
    """Waits until the server traces a model, or no longer does."""
    async with asyncio.timeout(10):
        while ("TENSORS" in (await client.set_trace(model, {}))["trace_level"]) != on:
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def _running(sampler: TraceSampler) -> AsyncIterator[None]:
    task = asyncio.ensure_future(sampler.run())
    try:
        yield
    finally:
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError), result


async def _send(client: TritonClient, count: int) -> dict[str, float]:
    sent = {}
    for number in range(count):
        request_id = f'id "{number}", {{x}}'
        sent[request_id] = 1.5 + number
        array = np.full((2, 4), sent[request_id], np.float32)
        await client.infer("traced", {"x": array}, request_id=request_id)
    return sent


async def _collect(sampler: TraceSampler, count: int) -> list[Sample]:
    samples: list[Sample] = []
    async with asyncio.timeout(10):
        while len(samples) < count:
            samples += await sampler.take()
    return samples


async def test_one_in_n_arrives_with_awkward_request_ids(
    tracing_triton: RunningTriton, client: TritonClient
) -> None:
    sampler = _sampler(tracing_triton, client)
    sampler.set_rates({"traced": 3})
    async with _running(sampler):
        await _traced(client, "traced", True)
        sent = await _send(client, 90)
        samples = await _collect(sampler, 30)
        assert len(samples) == 30
        now = datetime.now(UTC)
        for one in samples:
            value = sent[one.request_id]
            assert (one.model, one.version, one.failed) == ("traced", 3, False)
            assert one.inputs["x"].tolist() == [[value] * 4] * 2
            assert one.outputs["y"].tolist() == [[2 * value] * 4] * 2
            assert now - timedelta(seconds=20) < one.time <= now
        sampler.set_rates({})
        await _traced(client, "traced", False)
        await _send(client, 9)
        await asyncio.sleep(0.7)
        assert sampler.counts.received == 30
    settings = await client.set_trace("traced", {})
    assert settings["trace_level"] == ("OFF",)
    trace_folder = Path(tracing_triton.endpoint.trace_file).parent
    assert list(trace_folder.iterdir()) == [], "files that were read are still there"


async def test_tracing_ends_by_itself_without_the_agent(
    tracing_triton: RunningTriton, client: TritonClient
) -> None:
    sampler = _sampler(tracing_triton, client, budget=5)
    sampler.set_rates({"traced": 1})
    async with _running(sampler):
        await _traced(client, "traced", True)
        await _send(client, 3)
        await _collect(sampler, 3)
    # As a killed agent leaves it: armed, and nobody winds up the count.
    await client.set_trace(
        "traced",
        {
            "trace_level": ("TIMESTAMPS", "TENSORS"),
            "trace_rate": ("1",),
            "trace_count": ("5",),
            "log_frequency": ("0",),
        },
    )
    await _send(client, 40)
    settings = await client.set_trace("traced", {"trace_level": ("OFF",)})
    assert settings["trace_count"] == ("0",)
    folder = Path(tracing_triton.endpoint.trace_file).parent
    traced = sum(path.read_text("latin-1").count('"model_name"') for path in folder.iterdir())
    assert traced == 5


async def test_restarted_server_is_armed_again(
    tracing_triton: RunningTriton, client: TritonClient
) -> None:
    sampler = _sampler(tracing_triton, client)
    sampler.set_rates({"traced": 1})
    async with _running(sampler):
        await _traced(client, "traced", True)
        before = tracing_triton.endpoint
        os.kill(before.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while tracing_triton.endpoint.start == before.start:
                await asyncio.sleep(0.05)
            while not (await client.live() and await client.ready("traced")):
                await asyncio.sleep(0.05)
        await _traced(client, "traced", True)
        await _send(client, 5)
        assert len(await _collect(sampler, 5)) == 5


async def test_large_tensors_are_not_traced(
    tracing_triton: RunningTriton, client: TritonClient, tmp_path: Path
) -> None:
    updater = ModelUpdater(tracing_triton.repository, client)
    content, config = scale_model(2.0, features=150_000), scale_config(features=150_000)
    await updater.install(make_package(tmp_path, "huge", 1, content, config=config))
    sampler = _sampler(tracing_triton, client)
    sampler.set_rates({"huge": 1, "traced": 1})
    async with _running(sampler):
        await _traced(client, "traced", True)
        assert (await client.set_trace("huge", {}))["trace_level"] == ("OFF",)
    await updater.remove_model("huge")


async def test_server_too_old_is_refused_unless_forced(
    tracing_triton: RunningTriton, client: TritonClient
) -> None:
    with pytest.raises(FailedPrecondition, match=r"2\.57"):
        await TraceSampler(client, tracing_triton.options.endpoint_file).run()
