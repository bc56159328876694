"""Workers on a simulated clock: every step takes what it took when the curve was measured.

Only training takes time. What a tool computes for its suggestions and verdicts is free: real
trials take minutes, ours take half a second.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from keeptune.search.space import Assignment
from tests.bench.early_stopping.curves import Curve, key_of


class Tool(Protocol):
    """A tuner in the middle of a study. Trials are numbered from 0."""

    def suggest(self, trial: int) -> Assignment: ...

    def report(self, trial: int, step: int, loss: float) -> bool:
        """Whether the trial is to stop now; never asked at its last step."""

    def complete(self, trial: int, step: int, loss: float) -> None:
        """The trial has come to its last step."""

    def stopped(self, trial: int, step: int, loss: float) -> None:
        """It was stopped, as `report` wished."""


@dataclass(frozen=True)
class Finished:
    """A trial: when it ended, after how many steps, and what it came to or would have come to."""

    time: float
    steps: int
    loss: float
    completed: bool
    # The best that completed trials had come to when it ended.
    best: float


def play(
    tool: Tool, table: dict[str, Curve], workers: int, until: float, wanted: float, most: int
) -> Iterator[Finished]:
    """Trials in the order they end, until one is as good as `wanted`, or time or trials are up.

    Time is in whole trainings of the middle configuration.
    """
    middle = sorted(curve.seconds * len(curve.losses) for curve in table.values())
    unit = middle[len(middle) // 2]
    best = float("inf")
    # (time of the next report, worker, trial, step)
    events: list[tuple[float, int, int, int]] = []
    running: dict[int, Curve] = {}
    begun = 0

    def begin(now: float, worker: int) -> None:
        nonlocal begun
        if begun >= most:
            return
        running[begun] = curve = table[key_of(tool.suggest(begun))]
        heapq.heappush(events, (now + curve.seconds / unit, worker, begun, 1))
        begun += 1

    for worker in range(workers):
        begin(0.0, worker)
    while events:
        now, worker, trial, step = heapq.heappop(events)
        if now > until:
            return
        curve = running[trial]
        loss = curve.losses[step - 1]
        last = step == len(curve.losses)
        if not last and not tool.report(trial, step, loss):
            heapq.heappush(events, (now + curve.seconds / unit, worker, trial, step + 1))
            continue
        yield Finished(now, step, curve.losses[-1], last, best)
        if last:
            tool.complete(trial, step, loss)
            best = min(best, loss)
            if best <= wanted:
                return
        else:
            tool.stopped(trial, step, loss)
        del running[trial]
        begin(now, worker)
