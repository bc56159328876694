"""The points of a study as rows: the even start, those under way, what came of the others.

What is asked for follows from it, a model and the trial's number alone, so that a history is taken
over without being computed again.
"""

from __future__ import annotations

import numpy as np

from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import Outcome, Problem, Result
from keeptune.search.optimizers.bayesian import proposals
from keeptune.search.optimizers.bayesian.encoding import Encoding, Floats, unseen
from keeptune.search.space import Assignment

# A stream of random numbers beside those of the trials' own numbers.
_START = 2**40
_MAX_GRID = 20_000


class Visited:
    """`rows` and `results` are those a model may learn from, in the order in which they came."""

    def __init__(self, problem: Problem) -> None:
        self._space = problem.space
        self.encoding = Encoding(problem.space)
        self._start = proposals.even_start(
            self.encoding, start_points(problem), seeds.generator(problem.seed, _START)
        )
        self.asked = 0
        self.seen: set[bytes] = set()
        self.pending: dict[int, Floats] = {}
        self.rows: list[Floats] = []
        self.results: list[Result] = []

    def ask(self, number: int, parameters: Assignment) -> None:
        """These parameters are those of trial `number`."""
        row = self.encoding.encode(parameters)
        self.asked += 1
        self.pending[number] = row
        self.seen.update(self.encoding.keys(row[None]))

    def tell(self, result: Result, *, learn: bool) -> None:
        self.pending.pop(result.number, None)
        row = self.encoding.encode(result.parameters)
        self.seen.update(self.encoding.keys(row[None]))
        if learn:
            self.rows.append(row)
            self.results.append(result)

    @property
    def start(self) -> int:
        """How many points the even start has."""
        return len(self._start)

    @property
    def at_start(self) -> bool:
        """Whether there is too little yet for a model."""
        measured = sum(result.outcome is Outcome.MEASURED for result in self.results)
        return measured < 2 or measured + len(self.pending) < len(self._start)

    def opening(self, rng: np.random.Generator) -> tuple[Floats | None, str]:
        """The next point of the start, and why; None when all have been tried."""
        if self.asked < len(self._start):
            row = self._start[self.asked]
            if unseen(self.encoding.keys(row[None]), self.seen):
                return row, "explore: an even start"
        return self.any_new(rng), "explore: a random point of the start"

    def any_new(self, rng: np.random.Generator) -> Floats | None:
        """A point not tried yet; None when there is none."""
        for count in (1, 64, 1024):
            rows = proposals.anywhere(self.encoding, count, rng)
            new = unseen(self.encoding.keys(rows), self.seen)
            if new:
                return np.asarray(rows[new[0]])
        if self._space.size(_MAX_GRID) is None:
            return np.asarray(proposals.anywhere(self.encoding, 1, rng)[0])
        left = [
            row
            for row in map(self.encoding.encode, self._space.grid(1))
            if unseen(self.encoding.keys(row[None]), self.seen)
        ]
        return left[rng.integers(len(left))] if left else None


def start_points(problem: Problem) -> int:
    """How many points cover the space at first: 6 to 12, at most a quarter of the budget."""
    wanted = min(max(6, len(problem.space.free) + 2), 12)
    most = (problem.trials or 100) // 4
    return max(2, min(wanted, most))
