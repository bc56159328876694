"""What learning optimisers remember of a study: results, what is under way, what was tried."""

from __future__ import annotations

import math

import numpy as np

from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import Problem, Result
from keeptune.search.optimizers.standing import Standing
from keeptune.search.space import Assignment, GraphSpace, SearchSpace

# Tells the seed of the start from that of any trial.
_START = 2**40
_TRIES = 64


class Trials:
    """Follows from what was asked, adopted and told alone."""

    def __init__(self, space: SearchSpace) -> None:
        self.standing = Standing()
        self.pending: dict[int, Assignment] = {}
        self.asked = 0
        # In an endless space nothing is met twice.
        self._finite = not _is_endless(space)
        self._tried: set[str] = set()

    def ask(self, number: int, parameters: Assignment) -> None:
        self.asked += 1
        self.pending[number] = parameters
        self._remember(parameters)

    def tell(self, result: Result) -> bool:
        """Whether it is one more to learn from."""
        before = self.standing.count
        self.pending.pop(result.number, None)
        self.standing.add(result)
        self._remember(result.parameters)
        return self.standing.count > before

    def is_new(self, parameters: Assignment) -> bool:
        return not self._finite or _key(parameters) not in self._tried

    def _remember(self, parameters: Assignment) -> None:
        if self._finite:
            self._tried.add(_key(parameters))


class Start:
    """Points that cover the space, for as long as there is little to learn from."""

    def __init__(self, problem: Problem, points: int) -> None:
        # Half of what a server would need to start.
        from scipy.stats import qmc

        self._problem = problem
        self.points = points
        names = [parameter.name for parameter in problem.space.free]
        rng = seeds.generator(problem.seed, _START)
        sobol = qmc.Sobol(max(1, len(names)), scramble=True, rng=rng)
        # The sequence is even at powers of two.
        rows = sobol.random(2 ** math.ceil(math.log2(max(points, 1))))[:points].tolist()
        self._units = [dict(zip(names, row, strict=False)) for row in rows]

    def at(self, trials: Trials, number: int) -> Assignment:
        """A point not tried yet, unless none is found."""
        space = self._problem.space
        if trials.asked < len(self._units):
            parameters = space.at(self._units[trials.asked])
            if trials.is_new(parameters):
                return parameters
        return anywhere_new(trials, space, seeds.generator(self._problem.seed, number))


def anywhere(space: SearchSpace, rng: np.random.Generator) -> Assignment:
    """A uniformly random point."""
    units = rng.random(len(space.free)).tolist()
    return space.at(dict(zip((p.name for p in space.free), units, strict=True)))


def anywhere_new(trials: Trials, space: SearchSpace, rng: np.random.Generator) -> Assignment:
    """A random point not tried yet; any at all when none is soon found."""
    parameters = anywhere(space, rng)
    for _ in range(_TRIES):
        if trials.is_new(parameters):
            break
        parameters = anywhere(space, rng)
    return parameters


def _is_endless(space: SearchSpace) -> bool:
    """Whether a parameter, or one of a graph's nodes, is a continuum."""
    return any(
        any(_is_endless(kind.parameters) for kind in p.domain.kinds)
        if isinstance(p.domain, GraphSpace)
        else p.domain.cardinality is None
        for p in space.parameters
    )


def _key(parameters: Assignment) -> str:
    return repr(sorted(parameters.items()))
