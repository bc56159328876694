"""What sampling costs a request: latency with sampling off and at several rates, interleaved."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

import numpy as np
import pytest

from keeptune.agent.sampling import ShimSampler
from keeptune.agent.triton import TritonClient
from keeptune.agent.updates import ModelUpdater
from tests.fixtures.onnx_models import make_package, scale_config, scale_model
from tests.fixtures.triton import RunningTriton

pytestmark = [pytest.mark.bench, pytest.mark.triton, pytest.mark.xdist_group("triton")]

ROUNDS, REQUESTS = 6, 300


async def test_sampling_latency(
    triton: RunningTriton, triton_client: TritonClient, updater: ModelUpdater, tmp_path: Path
) -> None:
    config = scale_config(features=64, extra="")
    content = scale_model(2.0, features=64)
    await updater.install(make_package(tmp_path, "timed", 1, content, config=config))
    sampler = ShimSampler(triton.options.sampling_dir)
    running = asyncio.ensure_future(sampler.run())
    inputs = {"x": np.zeros((1, 64), np.float32)}
    client_ms: dict[int, list[float]] = {}
    server_ms: dict[int, list[float]] = {}
    for _ in range(ROUNDS):
        for every in (0, 100, 10, 1):
            sampler.set_rates({"timed": every} if every else {})
            await asyncio.sleep(0.3)
            await triton_client.infer("timed", inputs)
            before = (await triton_client.statistics("timed"))[0]
            for _ in range(REQUESTS):
                began = time.perf_counter()
                await triton_client.infer("timed", inputs)
                client_ms.setdefault(every, []).append(1e3 * (time.perf_counter() - began))
            since = (await triton_client.statistics("timed"))[0].since(before)
            server_ms.setdefault(every, []).append(since.compute_infer.mean_ms)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    for every, latencies in client_ms.items():
        print(
            f"one in {every or 'none':>4}: p50 {statistics.median(latencies):.3f} ms at client, "
            f"{statistics.median(server_ms[every]):.3f} ms of computing in the server"
        )
    assert statistics.median(server_ms[10]) < statistics.median(server_ms[0]) + 0.2
