"""A steady stream of requests beside a test, with every one accounted for."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np

from keeptune.agent.triton import TritonClient
from tests.fixtures.triton import RunningTriton


@dataclass
class Load:
    """What became of the requests; `answers` counts the scale factors that served them."""

    sent: int = 0
    answers: Counter[float] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    async def more_than(self, requests: int, seconds: float = 60.0) -> None:
        """Returns once that many were sent: a busy machine only takes longer to send them."""
        async with asyncio.timeout(seconds):
            while self.sent <= requests:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def steady_load(
    triton: RunningTriton, model: str, *, per_second: int = 200
) -> AsyncIterator[Load]:
    """Sends unversioned requests to a scale model at a fixed pace, whatever the answers do."""
    load = Load()
    stop = asyncio.Event()
    pending: set[asyncio.Task[None]] = set()

    async def one(client: TritonClient, value: float) -> None:
        try:
            answer = await client.infer(model, {"x": np.full((1, 4), value, np.float32)})
        except Exception as error:  # noqa: BLE001 - every failure is counted
            load.failures.append(f"{type(error).__name__}: {error}")
            return
        scales = {round(float(y) / value, 3) for y in answer["y"].ravel()}
        load.answers[scales.pop() if len(scales) == 1 else float("nan")] += 1

    async def pace(client: TritonClient) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not stop.is_set():
            due = int((loop.time() - began) * per_second)
            while load.sent < due:
                load.sent += 1
                task = asyncio.ensure_future(one(client, 1.0 + load.sent % 7))
                pending.add(task)
                task.add_done_callback(pending.discard)
            await asyncio.sleep(1 / per_second)

    async with triton.client() as client:
        pacing = asyncio.ensure_future(pace(client))
        try:
            yield load
        finally:
            stop.set()
            await pacing
            await asyncio.gather(*pending)
