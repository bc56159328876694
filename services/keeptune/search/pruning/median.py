"""The median rule."""

from __future__ import annotations

import math
from bisect import insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from keeptune.search.pruning.settings import MedianPruning, Point


@dataclass
class _Curve:
    """A trial's losses so far, and their mean up to each step."""

    steps: set[int] = field(default_factory=set)
    best: float = math.inf
    total: float = 0.0
    means: list[Point] = field(default_factory=list)


class MedianRule:
    """Stops a trial whose best loss is worse than the median of the means of those completed.

    Compared are the running means at the very step that the trial has reached.
    """

    def __init__(self, settings: MedianPruning) -> None:
        self._settings = settings
        self._running: defaultdict[int, _Curve] = defaultdict(_Curve)
        self._means_at: defaultdict[int, list[float]] = defaultdict(list)

    def observe(self, trial: int, step: int, loss: float) -> None:
        curve = self._running[trial]
        if step in curve.steps:
            return
        curve.steps.add(step)
        curve.best = min(curve.best, loss)
        curve.total += loss
        curve.means.append((step, curve.total / len(curve.steps)))

    def finish(self, trial: int, *, completed: bool, loss: float | None = None) -> None:
        curve = self._running.pop(trial, None)
        if curve is None or not completed:
            return
        for step, mean in curve.means:
            insort(self._means_at[step], mean)

    def verdict(self, trial: int, fresh: Sequence[Point]) -> str:
        curve = self._running.get(trial, _Curve())
        new = [point for point in fresh if point[0] not in curve.steps]
        if not new:
            return ""
        step = max(step for step, _ in new)
        best = min(curve.best, *(loss for _, loss in new))
        means = self._means_at.get(step, [])
        if step <= self._settings.warmup_steps or len(means) < self._settings.startup_trials:
            return ""
        if not means or best <= _median(means):
            return ""
        return f"at step {step} its best is worse than the median of {len(means)} completed trials"


def _median(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2
