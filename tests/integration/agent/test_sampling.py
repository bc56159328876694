"""Sampling inside the ONNX shim of a real Triton."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto as T

from keeptune.agent.sampling import Sample, ShimSampler
from keeptune.agent.tensors import NUMPY_TYPES, Array
from keeptune.agent.triton import TritonClient
from keeptune.agent.triton_model import InferenceFailed
from keeptune.agent.updates import ModelUpdater
from tests.fixtures.onnx_models import (
    echo_model,
    gather_model,
    make_package,
    model_config,
    scale_config,
    scale_model,
)
from tests.fixtures.triton import RunningTriton

pytestmark = [pytest.mark.triton, pytest.mark.xdist_group("triton")]

NOTICED_SECONDS = 0.3
"""The shim looks at the rates at most every 0.2 s."""


@contextlib.asynccontextmanager
async def _running(sampler: ShimSampler) -> AsyncIterator[ShimSampler]:
    task = asyncio.ensure_future(sampler.run())
    await asyncio.sleep(0)
    try:
        yield sampler
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def sampler(triton: RunningTriton) -> AsyncIterator[ShimSampler]:
    async with _running(ShimSampler(triton.options.sampling_dir)) as sampler:
        yield sampler


async def _rates_noticed(client: TritonClient, model: str, inputs: dict[str, Array]) -> None:
    """The shim looks at the rates with the first request after a while, which may go unsampled."""
    await asyncio.sleep(NOTICED_SECONDS)
    await client.canary(model, await client.signature(model), inputs=inputs)


async def _collect(sampler: ShimSampler, count: int) -> list[Sample]:
    samples: list[Sample] = []
    async with asyncio.timeout(5):
        while len(samples) < count:
            samples += await sampler.take()
    await asyncio.sleep(0.1)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            samples += await sampler.take()
    return samples


async def _send(
    client: TritonClient, model: str, count: int, prefix: str = "r"
) -> dict[str, Array]:
    rng = np.random.default_rng(7)
    sent = {}
    for number in range(count):
        array = rng.normal(size=(1, 4)).astype(np.float32)
        sent[f"{prefix}{number}"] = array
        await client.infer(model, {"x": array}, request_id=f"{prefix}{number}")
    return sent


async def test_one_in_n_arrives_bit_by_bit_and_the_rate_changes_without_a_reload(
    triton_client: TritonClient, updater: ModelUpdater, sampler: ShimSampler, tmp_path: Path
) -> None:
    model = "sampled"
    await updater.install(make_package(tmp_path, model, 3, scale_model(1 / 3)))
    probe = {"x": np.ones((1, 4), np.float32)}
    await _rates_noticed(triton_client, model, probe)
    before = (await triton_client.statistics(model))[0]
    await _send(triton_client, model, 20)
    assert sampler.counts.received == 0, "sampled before any rate was set"

    sampler.set_rates({model: 1})
    await _rates_noticed(triton_client, model, probe)
    sent = await _send(triton_client, model, 50)
    samples = [one for one in await _collect(sampler, 50) if one.request_id in sent]
    assert [one.request_id for one in samples] == list(sent)
    now = datetime.now(UTC)
    for one in samples:
        assert (one.model, one.version, one.failed) == (model, 3, False)
        assert one.inputs["x"].tobytes() == sent[one.request_id].tobytes()
        expected = sent[one.request_id] * np.float32(1 / 3)
        assert one.outputs["y"].tobytes() == expected.tobytes()
        assert now - timedelta(seconds=10) < one.time <= now

    sampler.set_rates({model: 10})
    await _rates_noticed(triton_client, model, probe)
    sent = await _send(triton_client, model, 299, "s")
    samples = [one for one in await _collect(sampler, 29) if one.request_id in sent]
    assert 29 <= len(samples) <= 30, "one in each ten, the canary being one of the 300"
    chosen = {int(one.request_id[1:]) % 10 for one in samples}
    assert len(chosen) > 3, "a fixed place in each ten would miss what comes in a rhythm"

    sampler.set_rates({})
    await _rates_noticed(triton_client, model, probe)
    received = sampler.counts.received
    await _send(triton_client, model, 20)
    await asyncio.sleep(0.1)
    assert sampler.counts.received == received
    since = (await triton_client.statistics(model))[0].since(before)
    assert since.success.count > 380, "counters went on: the model was never reloaded"
    counts = sampler.counts
    assert (counts.dropped, counts.too_large, counts.malformed, counts.overflowed) == (0, 0, 0, 0)


async def test_every_type_arrives_exactly(
    triton_client: TritonClient, updater: ModelUpdater, sampler: ShimSampler, tmp_path: Path
) -> None:
    types = {
        "BOOL": T.BOOL, "UINT8": T.UINT8, "INT8": T.INT8, "INT16": T.INT16, "INT32": T.INT32,
        "INT64": T.INT64, "UINT64": T.UINT64, "FP16": T.FLOAT16, "FP32": T.FLOAT,
        "FP64": T.DOUBLE, "BYTES": T.STRING,
    }  # fmt: skip
    names = {name: f"TYPE_{name.replace('BYTES', 'STRING')}" for name in types}
    config = model_config(
        {name.lower(): (names[name], [3]) for name in types},
        {f"{name.lower()}_out": (names[name], [3]) for name in types},
    )
    content = echo_model({name.lower(): onnx_type for name, onnx_type in types.items()})
    await updater.install(make_package(tmp_path, "typed", 1, content, config=config))
    inputs: dict[str, Array] = {
        name.lower(): np.array([[0, 1, 100]]).astype(NUMPY_TYPES[name])
        for name in types
        if name != "BYTES"
    }
    inputs["fp32"] = np.array([[np.pi, -0.0, 1e-42]], np.float32)
    inputs["bytes"] = np.array([["", 'ü, "quoted"', "x" * 300]], dtype=object)
    sampler.set_rates({"typed": 1})
    await asyncio.sleep(NOTICED_SECONDS)
    answer = await triton_client.infer("typed", inputs, request_id="all")
    (sample,) = await _collect(sampler, 1)
    inputs["bytes"] = np.array([[item.encode() for item in inputs["bytes"][0]]], dtype=object)
    assert sample.inputs.keys() == inputs.keys()
    for name, array in inputs.items():
        for arrived in (sample.inputs[name], sample.outputs[f"{name}_out"], answer[f"{name}_out"]):
            assert arrived.dtype == array.dtype
            assert arrived.shape == array.shape
            assert arrived.tolist() == array.tolist()


async def test_batched_requests_are_sampled_one_by_one(
    triton_client: TritonClient, updater: ModelUpdater, sampler: ShimSampler, tmp_path: Path
) -> None:
    config = scale_config(extra="dynamic_batching { max_queue_delay_microseconds: 20000 }")
    await updater.install(make_package(tmp_path, "joined", 1, scale_model(2.0), config=config))
    sampler.set_rates({"joined": 1})
    await asyncio.sleep(NOTICED_SECONDS)
    sent = {
        f"b{rows}": np.arange(4 * rows, dtype=np.float32).reshape(rows, 4) for rows in range(1, 9)
    }
    before = (await triton_client.statistics("joined"))[0]
    answers = await asyncio.gather(
        *(triton_client.infer("joined", {"x": x}, request_id=k) for k, x in sent.items())
    )
    after = (await triton_client.statistics("joined"))[0].since(before)
    assert after.executions < 8, "nothing was batched: the test shows nothing"
    assert after.inferences == 36
    for x, answer in zip(sent.values(), answers, strict=True):
        assert (answer["y"] == 2 * x).all()
    samples = {one.request_id: one for one in await _collect(sampler, 8)}
    assert samples.keys() == sent.keys()
    for request_id, x in sent.items():
        assert (samples[request_id].inputs["x"] == x).all()
        assert (samples[request_id].outputs["y"] == 2 * x).all()


async def test_a_request_that_fails_fails_alone_and_is_sampled_as_failed(
    triton_client: TritonClient, updater: ModelUpdater, sampler: ShimSampler, tmp_path: Path
) -> None:
    config = model_config(
        {"index": ("TYPE_INT64", [1])},
        {"y": ("TYPE_FP32", [1])},
        extra="dynamic_batching { max_queue_delay_microseconds: 20000 }",
    )
    await updater.install(make_package(tmp_path, "table", 1, gather_model(), config=config))
    sampler.set_rates({"table": 1})
    await asyncio.sleep(NOTICED_SECONDS)
    before = (await triton_client.statistics("table"))[0]
    results = await asyncio.gather(
        *(
            triton_client.infer("table", {"index": np.array([[i]])}, request_id=f"i{i}")
            for i in (0, 1, 99, 3)
        ),
        return_exceptions=True,
    )
    values = [one if isinstance(one, Exception) else one["y"].item() for one in results]
    assert values[:2] + values[3:] == [0.0, 10.0, 30.0]
    assert isinstance(values[2], InferenceFailed)
    samples = {one.request_id: one for one in await _collect(sampler, 4)}
    assert {key: one.failed for key, one in samples.items()} == {
        "i0": False, "i1": False, "i99": True, "i3": False,
    }  # fmt: skip
    assert samples["i99"].inputs["index"].item() == 99
    assert samples["i99"].outputs == {}
    with pytest.raises(InferenceFailed, match="out of"):
        await triton_client.infer("table", {"index": np.array([[99]])})
    since = (await triton_client.statistics("table"))[0].since(before)
    assert since.fail.count == 1, "a request that fails alone is a failure in the statistics"


async def test_tensors_too_large_for_a_datagram_are_counted(
    triton_client: TritonClient, updater: ModelUpdater, sampler: ShimSampler, tmp_path: Path
) -> None:
    content = scale_model(2.0, features=30_000)
    config = scale_config(features=30_000)
    await updater.install(make_package(tmp_path, "wide", 1, content, config=config))
    sampler.set_rates({"wide": 1})
    await asyncio.sleep(NOTICED_SECONDS)
    await triton_client.infer("wide", {"x": np.ones((1, 30_000), np.float32)})
    await asyncio.sleep(0.1)
    assert sampler.counts.too_large == 1
    assert sampler.counts.received == 0


async def test_agent_renews_its_lease_and_disarms_at_its_end(
    triton: RunningTriton, triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    model = "renewed"
    folder = triton.options.sampling_dir
    await updater.install(make_package(tmp_path, model, 1, scale_model(2.0)))
    async with _running(ShimSampler(folder, lease_seconds=0.6)) as sampler:
        sampler.set_rates({model: 1})
        for _ in range(3):
            await asyncio.sleep(0.5)
            await _send(triton_client, model, 5)
        assert len(await _collect(sampler, 15)) == 15
    left = json.loads((folder / "rates.json").read_text())
    assert left["expires_ns"] <= time.monotonic_ns()


async def test_sampling_stops_by_itself_when_nobody_renews_it(
    triton: RunningTriton, triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    model = "orphaned"
    folder = triton.options.sampling_dir
    await updater.install(make_package(tmp_path, model, 1, scale_model(2.0)))

    def arm(seconds: float) -> None:
        """Leaves what an agent leaves that is killed this long before its lease ends."""
        expires_ns = time.monotonic_ns() + int(seconds * 1e9)
        (folder / "rates.json").write_text(
            json.dumps({"expires_ns": expires_ns, "rates": {model: 1}})
        )

    def arrived() -> int:
        count = 0
        with contextlib.suppress(BlockingIOError):
            while receiver.recv(1 << 18):
                count += 1
        return count

    path = folder / "samples.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.setblocking(False)
        receiver.bind(str(path))
        try:
            arm(1.5)
            await asyncio.sleep(NOTICED_SECONDS)
            await _send(triton_client, model, 5)
            assert arrived() == 5
            await asyncio.sleep(1.5)
            await _send(triton_client, model, 5)
            assert arrived() == 0, "sampling outlived its lease"
            arm(1_000_000)
            await asyncio.sleep(NOTICED_SECONDS)
            await _send(triton_client, model, 5)
            assert arrived() == 0, "a lease from before a reboot was believed"
            arm(30)
            await asyncio.sleep(NOTICED_SECONDS)
            await _send(triton_client, model, 5)
            assert arrived() == 5
        finally:
            path.unlink()
            (folder / "rates.json").unlink()


async def test_samples_taken_while_no_agent_listens_are_dropped_and_counted(
    triton: RunningTriton, triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    model = "unheard"
    folder = triton.options.sampling_dir
    await updater.install(make_package(tmp_path, model, 1, scale_model(2.0)))
    async with _running(ShimSampler(folder)) as sampler:
        sampler.set_rates({model: 1})
        await asyncio.sleep(NOTICED_SECONDS)
        armed = (folder / "rates.json").read_text()
    (folder / "rates.json").write_text(armed)
    await asyncio.sleep(NOTICED_SECONDS)
    await _send(triton_client, model, 7)
    async with _running(ShimSampler(folder)) as successor:
        successor.set_rates({model: 1})
        await asyncio.sleep(NOTICED_SECONDS)
        await _send(triton_client, model, 3)
        assert len(await _collect(successor, 3)) == 3
        assert successor.counts.dropped == 7


async def test_damaged_rates_stop_sampling_and_do_not_hurt_serving(
    triton: RunningTriton,
    triton_client: TritonClient,
    updater: ModelUpdater,
    sampler: ShimSampler,
    tmp_path: Path,
) -> None:
    model = "muddled"
    await updater.install(make_package(tmp_path, model, 1, scale_model(2.0)))
    path = triton.options.sampling_dir / "rates.json"
    for text in ("", "[]", "{", json.dumps({"expires_ns": "x", "rates": 3}), '{"rates": null}'):
        path.write_text(text)
        await asyncio.sleep(NOTICED_SECONDS)
        await _send(triton_client, model, 3)
    assert sampler.counts.received == 0
    sampler.set_rates({model: 1})
    await asyncio.sleep(NOTICED_SECONDS)
    await _send(triton_client, model, 3)
    assert len(await _collect(sampler, 3)) == 3
