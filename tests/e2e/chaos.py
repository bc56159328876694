"""Kills processes of a running stage, one after the other, and starts them again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import psutil

from keeptune.demo.stage import Stage

TRAINING_WORKER = "training worker"
TRITON_ITSELF = "tritonserver"
_WORKER_SECONDS = 90.0


@dataclass
class Chaos:
    """`kills` counts what was killed, by name."""

    stage: Stage
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)

    async def run(self, *, extra: int, pause: tuple[float, float]) -> None:
        """Kills every process once, in a random order, and then `extra` more.

        What was killed is back before the next is.
        """
        victims = [*self.stage.parts, TRAINING_WORKER, TRITON_ITSELF]
        victims.remove("triton")
        self.rng.shuffle(victims)
        victims += self.rng.sample(victims, extra)
        for name in victims:
            await asyncio.sleep(self.rng.uniform(*pause))
            await self._strike(name)

    async def _strike(self, name: str) -> None:
        if name == TRAINING_WORKER:
            await self._kill_worker()
        elif name == TRITON_ITSELF:
            supervisor = psutil.Process(self.stage.parts["triton"].pid)
            server = next(p for p in supervisor.children() if "tritonserver" in p.name())
            server.kill()
            await self._back("triton")
        else:
            part = self.stage.parts[name]
            await asyncio.to_thread(part.kill)
            await asyncio.sleep(self.rng.uniform(0.0, 0.5))
            part.start()
            await self._back(name)
        self.kills[name] += 1

    async def _back(self, name: str) -> None:
        ready = self.stage.ready(name)
        await self.stage.parts[name].until(ready, seconds=90, what="it is back")

    async def _kill_worker(self) -> None:
        """Waits for a worker to be there: they are children of the training service's child."""
        deadline = time.monotonic() + _WORKER_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(psutil.NoSuchProcess):
                service = psutil.Process(self.stage.parts["training"].pid)
                workers = [w for child in service.children() for w in child.children()]
                if workers:
                    self.rng.choice(workers).kill()
                    return
            await asyncio.sleep(0.05)
        raise AssertionError("no training worker was there to be killed")
