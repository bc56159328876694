"""Stops what will not win, by a forecast of the last loss from the trial's curve and the others'.

A trial is judged at its first report in each span of time (see `extrapolation`): a report costs
nothing else, and looking again and again does not wear the level down.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from keeptune.search.pruning.extrapolation import Curve, Extrapolation, span_of
from keeptune.search.pruning.settings import ForecastPruning, Point

# A curve of fewer reports has hardly a slope.
_FEWEST_REPORTS = 3


class ForecastRule:
    """Nothing is stopped before one trial has ended by itself: there is no best to beat."""

    def __init__(self, settings: ForecastPruning) -> None:
        self._settings = settings
        self._running: defaultdict[int, dict[int, float]] = defaultdict(dict)
        self._best = math.inf
        self._last = settings.max_steps
        self._extrapolation = Extrapolation(max(self._last, 1))

    def observe(self, trial: int, step: int, loss: float) -> None:
        self._running[trial].setdefault(step, loss)

    def finish(self, trial: int, *, completed: bool, loss: float | None = None) -> None:
        points = self._running.pop(trial, None)
        if not completed or loss is None:
            return
        self._best = min(self._best, loss)
        if not points:
            return
        if not self._settings.max_steps and max(points) > self._last:
            # Earlier curves were of shorter trials: they say nothing of how these end.
            self._last = max(points)
            self._extrapolation = Extrapolation(self._last)
        self._extrapolation.learn(Curve.of(points, self._last), loss)

    def verdict(self, trial: int, fresh: Sequence[Point]) -> str:
        known = self._running.get(trial, {})
        points = {step: loss for step, loss in fresh if step not in known}
        if not points or not self._is_due(max(points), max(known, default=0)):
            return ""
        if self._best == math.inf or len(points) + len(known) < _FEWEST_REPORTS:
            return ""
        forecast = self._extrapolation.forecast(Curve.of({**points, **known}, self._last))
        chance = forecast.probability_below(self._best)
        if not chance < self._settings.level:
            return ""
        return (
            f"at step {max(points)} its chance to beat the best by step {self._last} is "
            f"{chance:.2%}, below {self._settings.level:.2%}"
        )

    def _is_due(self, step: int, before: int) -> bool:
        if not self._settings.min_steps < step < self._last:
            return False
        return not before or span_of(step, self._last) < span_of(before, self._last)
