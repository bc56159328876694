"""Which results are better than which: feasible ones by their losses, then how near the rest are.

Better comes first as with Deb's rules (An Efficient Constraint Handling Method for Genetic
Algorithms, 2000): any feasible result before any that breaks a constraint, those by how much they
break, and at last what could not be evaluated. Several objectives are ranked by non-dominated
sorting, within a front the lonely before the crowded (NSGA-II, Deb et al. 2002).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keeptune.search.optimizers.base import Outcome, Result

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Standing:
    """What has been told, best first. A trial that failed says nothing and is not kept.

    Of a long history only the best and the latest are kept, so that a ranking costs no more for it.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._told: list[Result] = []
        self._ranked: list[Result] | None = None
        self.count = 0

    def add(self, result: Result) -> None:
        if result.outcome is Outcome.FAILED:
            return
        self.count += 1
        self._told.append(result)
        self._ranked = None
        if len(self._told) > self._limit:
            quarter = self._limit // 4
            kept = {id(each) for each in [*self.ranked[:quarter], *self._told[-quarter:]]}
            self._told = [each for each in self._told if id(each) in kept]
            self._ranked = None

    @property
    def told(self) -> Sequence[Result]:
        """In the order they came."""
        return self._told

    @property
    def ranked(self) -> Sequence[Result]:
        """Best first; equal ones in the order they came."""
        if self._ranked is None:
            self._ranked = [self._told[i] for i in order(self._told)]
        return self._ranked

    @property
    def usable(self) -> Sequence[Result]:
        """The ranked that could be evaluated."""
        return [result for result in self.ranked if is_usable(result)]


def is_usable(result: Result) -> bool:
    """It was measured, and every loss is a number."""
    return result.outcome is Outcome.MEASURED and all(map(math.isfinite, result.losses))


def order(results: Sequence[Result]) -> list[int]:
    """The places of the results, best first; equal ones in the order given."""
    feasible = [i for i, each in enumerate(results) if each.is_feasible and is_usable(each)]
    broken = [i for i, each in enumerate(results) if is_usable(each) and not each.is_feasible]
    rest = [i for i, each in enumerate(results) if not is_usable(each)]
    broken.sort(key=lambda i: sum(max(0.0, by) for by in results[i].broken))
    return _by_losses(results, feasible) + broken + rest


def _by_losses(results: Sequence[Result], places: list[int]) -> list[int]:
    if not places or len(results[places[0]].losses) == 1:
        return sorted(places, key=lambda i: results[i].losses[0])
    losses = np.array([results[i].losses for i in places])
    ranked: list[int] = []
    for front in _fronts(losses):
        lonely = np.argsort(-_room(losses[front]), kind="stable")
        ranked += [places[front[i]] for i in lonely]
    return ranked


def _fronts(losses: Floats) -> list[list[int]]:
    """Points (n, objectives) by non-domination: the best front first."""
    covers = np.all(losses[:, None] <= losses[None], axis=2)
    dominates = covers & np.any(losses[:, None] < losses[None], axis=2)
    above = dominates.sum(axis=0)
    fronts = []
    left = np.ones(len(losses), dtype=bool)
    while left.any():
        front = np.flatnonzero(left & (above == 0))
        fronts.append(front.tolist())
        left[front] = False
        above = above - dominates[front].sum(axis=0)
    return fronts


def _room(losses: Floats) -> Floats:
    """The crowding distance of each point of a front (n, objectives); infinite at its ends."""
    room = np.zeros(len(losses))
    for values in losses.T:
        places = np.argsort(values, kind="stable")
        extent = float(values[places[-1]] - values[places[0]])
        room[places[[0, -1]]] = np.inf
        if extent > 0:
            room[places[1:-1]] += (values[places[2:]] - values[places[:-2]]) / extent
    return room
