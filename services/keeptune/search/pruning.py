"""Which running trials are not worth finishing. Pure: curves in, a verdict out.

A rule follows a study's learning curves by `observe` and `finish`, and judges a trial by `verdict`,
which costs about the logarithm of what was seen. Losses: less is better.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, assert_never


@dataclass(frozen=True)
class MedianPruning:
    """Golovin et al., Google Vizier: A Service for Black-Box Optimization (KDD 2017), 3.2.1."""

    startup_trials: int = 4
    warmup_steps: int = 1


@dataclass(frozen=True)
class AshaPruning:
    """Li et al., A System for Massively Parallel Hyperparameter Tuning (MLSys 2020), alg. 2."""

    min_steps: int = 1
    reduction_factor: int = 3


@dataclass(frozen=True)
class HyperbandPruning:
    """Li et al., Hyperband (JMLR 2018); `max_steps` = what a trial has that is not pruned."""

    max_steps: int
    min_steps: int = 1
    reduction_factor: int = 3


Pruning = MedianPruning | AshaPruning | HyperbandPruning


_GOLDEN = (math.sqrt(5) - 1) / 2

# A step and the loss reported there.
Point = tuple[int, float]


class PruningRule(Protocol):
    def observe(self, trial: int, step: int, loss: float) -> None:
        """A loss was reported; one for a step already seen changes nothing."""

    def finish(self, trial: int, *, completed: bool) -> None:
        """The trial has ended; `completed` = by itself, neither pruned nor failed."""

    def verdict(self, trial: int, fresh: Sequence[Point]) -> str:
        """Why the trial should stop now, given also points not observed yet; empty = go on."""


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

    def finish(self, trial: int, *, completed: bool) -> None:
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


class AshaRule:
    """Stops a trial that at a rung is not among the best 1/eta of those that reached the rung.

    Rungs stand at min_steps * eta^k. As in the stopping variant of the method, a trial is judged
    once, when it reaches a rung, and nothing is promoted later. At `end` a trial is done: no rung
    stands there or beyond.
    """

    def __init__(self, settings: AshaPruning, end: float = math.inf) -> None:
        self._settings = settings
        self._end = end
        self._reached: defaultdict[int, list[float]] = defaultdict(list)
        self._next_rung: dict[int, int] = {}

    def observe(self, trial: int, step: int, loss: float) -> None:
        rung = self._next_rung.get(trial, self._settings.min_steps)
        while rung <= step and rung < self._end:
            insort(self._reached[rung], loss)
            rung *= self._settings.reduction_factor
        self._next_rung[trial] = rung

    def finish(self, trial: int, *, completed: bool) -> None:
        self._next_rung.pop(trial, None)

    def verdict(self, trial: int, fresh: Sequence[Point]) -> str:
        eta = self._settings.reduction_factor
        rung = self._next_rung.get(trial, self._settings.min_steps)
        for step, loss in sorted(fresh):
            while rung <= step and rung < self._end:
                peers = self._reached.get(rung, [])
                count = len(peers) + 1
                kept = count // eta
                if kept and bisect_left(peers, loss) >= kept:
                    return f"at step {rung} it is not among the best {kept} of {count} trials"
                rung *= eta
        return ""


class HyperbandRule:
    """Several races of ASHA side by side, from bold to cautious; each trial runs in one of them.

    A trial's number decides in which, so that early and late trials are dealt out alike. Of n
    brackets the boldest, which prunes first at `min_steps`, gets most trials and the last, which
    never prunes, the fewest, as in the paper.
    """

    def __init__(self, settings: HyperbandPruning) -> None:
        eta, first = settings.reduction_factor, settings.min_steps
        self._brackets: list[AshaRule] = []
        while first * eta <= settings.max_steps:
            self._brackets.append(AshaRule(AshaPruning(first, eta), end=settings.max_steps))
            first *= eta
        self._brackets.append(AshaRule(AshaPruning(settings.max_steps, eta), settings.max_steps))
        n = len(self._brackets)
        sizes = [math.ceil(n * eta**s / (s + 1)) for s in reversed(range(n))]
        self._shares = [sum(sizes[: i + 1]) / sum(sizes) for i in range(n)]

    def bracket(self, trial: int) -> int:
        """From 0, the boldest."""
        # Multiples of the golden ratio fill the unit interval evenly from the first few on.
        return min(bisect_right(self._shares, trial * _GOLDEN % 1.0), len(self._shares) - 1)

    def observe(self, trial: int, step: int, loss: float) -> None:
        self._brackets[self.bracket(trial)].observe(trial, step, loss)

    def finish(self, trial: int, *, completed: bool) -> None:
        self._brackets[self.bracket(trial)].finish(trial, completed=completed)

    def verdict(self, trial: int, fresh: Sequence[Point]) -> str:
        bracket = self.bracket(trial)
        why = self._brackets[bracket].verdict(trial, fresh)
        return f"{why} of bracket {bracket + 1}" if why else ""


def rule_for(settings: Pruning) -> PruningRule:
    match settings:
        case MedianPruning():
            return MedianRule(settings)
        case AshaPruning():
            return AshaRule(settings)
        case HyperbandPruning():
            return HyperbandRule(settings)
        case _:
            assert_never(settings)


def _median(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2
