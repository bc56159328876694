"""Kills processes of a running stage, one after the other, and starts them again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field

import psutil

from keeptune.demo.processes import Part
from keeptune.demo.stage import Stage

TRAINING_WORKER = "training worker"
TRITON_ITSELF = "tritonserver"


@dataclass
class Chaos:
    """`kills` counts what was killed. Victims come in a shuffled round, so that all get a turn."""

    stage: Stage
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)

    async def run(self, pause: tuple[float, float]) -> None:
        """Until cancelled; what was killed is back before the next is."""
        while True:
            names = [*self.stage.parts, TRAINING_WORKER, TRITON_ITSELF]
            names.remove("triton")
            self.rng.shuffle(names)
            for name in names:
                await asyncio.sleep(self.rng.uniform(*pause))
                await asyncio.shield(self._strike(name))

    async def _strike(self, name: str) -> None:
        if name == TRAINING_WORKER:
            await self._kill_child(self.stage.parts["training"], "keeptune", name)
        elif name == TRITON_ITSELF:
            await self._kill_child(self.stage.parts["triton"], "tritonserver", name)
            await self._back("triton")
        else:
            part = self.stage.parts[name]
            await asyncio.to_thread(part.kill)
            self.kills[name] += 1
            await asyncio.sleep(self.rng.uniform(0.0, 0.5))
            part.start()
            await self._back(name)

    async def _back(self, name: str) -> None:
        ready = self.stage.ready(name)
        await self.stage.parts[name].until(ready, seconds=60, what="it is back")

    async def _kill_child(self, part: Part, word: str, name: str) -> None:
        """Kills one process below a part; there may be none right now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = [
                child
                for child in psutil.Process(part.pid).children(recursive=True)
                if any(word in argument for argument in child.cmdline())
                # The last of a chain: not a fork server, not a supervisor.
                and not child.children()
            ]
            if children:
                self.rng.choice(children).kill()
                self.kills[name] += 1
