"""One run: a method on a task with a seed."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from tests.bench.search_quality.cache import Cache
from tests.bench.search_quality.peers import Method, Settings
from tests.bench.search_quality.tasks import Task


@dataclass(frozen=True)
class Run:
    """`losses` in the order the points were asked for; as many as trials were planned.

    `cpu_ms` is the mean CPU time of a suggestion with its share of tell, all threads together.
    """

    method: str
    task: str
    seed: int
    trials: int
    batch: int
    losses: tuple[float, ...]
    cpu_ms: float
    version: str | None

    def best(self, trials: int) -> float:
        return min(self.losses[:trials])


def play(method: Method, task: Task, seed: int, trials: int, batch: int, cache: Cache) -> Run:
    """Plays a run, or takes it from the cache: those of public tools do not change."""
    version = method.version()
    key = method.name, seed, trials, batch
    kept = cache.run(task.name, key) if method.package else None
    # Without the tool itself, what it did elsewhere is as good.
    if kept is not None and version in (None, kept["version"]):
        return Run(**{**kept, "losses": tuple(kept["losses"])})
    if method.missing():
        raise ImportError(method.missing())
    peer = method.make(Settings(task.space, seed, trials, batch))
    losses: list[float] = []
    spent, suggestions = 0.0, 0
    for first in range(0, trials, batch):
        count = min(batch, trials - first)
        began = time.process_time()
        points = peer.ask(count)
        spent += time.process_time() - began
        suggestions += len(points)
        for point in points:
            fault = task.space.problem_with(point)
            if fault:
                raise ValueError(f"{method.name} on {task.name}: {' '.join(fault)}: {point}")
        found = [cache.loss(task, point) for point in points]
        began = time.process_time()
        peer.tell(found)
        spent += time.process_time() - began
        losses += found
        if not losses:
            raise ValueError(f"{method.name} on {task.name} suggests nothing")
        # Places it left empty are lost to it; what it has seen already fills them.
        losses += losses[-1:] * (count - len(found))
    run = Run(
        method.name,
        task.name,
        seed,
        trials,
        batch,
        tuple(losses),
        1e3 * spent / suggestions,
        version,
    )
    if version:
        cache.keep(task.name, key, asdict(run))
    return run
