"""Stops what will not win: by a forecast of the last loss from the trial's curve and the others'.

A trial is judged at its first report in each span of time (see `extrapolation`), so that looking
again and again does not wear the level down, and a report costs nothing else.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from keeptune.search.pruning.extrapolation import Extrapolation, span_of
from keeptune.search.pruning.settings import ForecastPruning, Point


class ForecastRule:
    """Nothing is stopped before one trial has ended by itself: there is no best to beat."""

    def __init__(self, settings: ForecastPruning) -> None:
        self._settings = settings
        self._running: defaultdict[int, dict[int, float]] = defaultdict(dict)
        self._completed: list[tuple[dict[int, float], float]] = []
        self._best = math.inf
        self._last = settings.max_steps
        self._extrapolation = Extrapolation(self._last) if self._last else None

    def observe(self, trial: int, step: int, loss: float) -> None:
        self._running[trial].setdefault(step, loss)

    def finish(self, trial: int, *, completed: bool, loss: float | None = None) -> None:
        points = self._running.pop(trial, None)
        if not completed or loss is None:
            return
        self._best = min(self._best, loss)
        if not points:
            return
        if self._extrapolation is None:
            self._last = max(points)
            self._extrapolation = Extrapolation(self._last)
        self._extrapolation.learn(_by_span(points, self._last), loss)

    def verdict(self, trial: int, fresh: Sequence[Point]) -> str:
        known = self._running.get(trial, {})
        points = {step: loss for step, loss in fresh if step not in known}
        if not points or self._extrapolation is None or self._best == math.inf:
            return ""
        step = max(points)
        if step <= self._settings.min_steps or step >= self._last:
            return ""
        if known and span_of(max(known), self._last) <= span_of(step, self._last):
            return ""
        curve = _by_span({**points, **known}, self._last)
        chance = self._extrapolation.forecast(curve).probability_below(self._best)
        if chance >= self._settings.level:
            return ""
        return f"at step {step} its chance to beat the best by step {self._last} is {chance:.1%}"


def _by_span(points: Mapping[int, float], last: int) -> dict[int, float]:
    gathered: defaultdict[int, list[float]] = defaultdict(list)
    for step, loss in points.items():
        gathered[span_of(step, last)].append(loss)
    return {span: sum(losses) / len(losses) for span, losses in gathered.items()}
