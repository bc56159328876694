"""Successive halving without waiting, and several such races side by side."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Sequence

from keeptune.search.pruning.settings import AshaPruning, HyperbandPruning, Point

_GOLDEN = (math.sqrt(5) - 1) / 2


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

    def finish(self, trial: int, *, completed: bool, loss: float | None = None) -> None:
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

    def finish(self, trial: int, *, completed: bool, loss: float | None = None) -> None:
        self._brackets[self.bracket(trial)].finish(trial, completed=completed)

    def verdict(self, trial: int, fresh: Sequence[Point]) -> str:
        bracket = self.bracket(trial)
        why = self._brackets[bracket].verdict(trial, fresh)
        return f"{why} of bracket {bracket + 1}" if why else ""
