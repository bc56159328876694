"""`auto`: which algorithm suits a space and a budget, and why; and the one that starts evenly.

The rules are few and their reasons are given to the user. With some hundred trials or fewer, the
Bayesian optimiser, hedged by TPE, learns most from each, and the expected hypervolume from those
with two or three objectives; with more, CMA-ES overtakes it on numeric spaces, differential
evolution on those with categories, and NSGA-II for several objectives, at a fraction of its cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from keeptune.search.domains import Categories
from keeptune.search.optimizers import genetic_programming, hedged, hypervolume, neat, nsga2
from keeptune.search.optimizers.base import (
    Algorithm,
    Nothing,
    Optimizer,
    Problem,
    Result,
    Suggestion,
)
from keeptune.search.optimizers.nevergrad import NevergradSearch
from keeptune.search.optimizers.quasi_random import QuasiRandomSearch
from keeptune.search.space import GraphSpace, Shape

ALGORITHM = Algorithm(
    name="auto",
    description=(
        "Chooses by space, budget and objectives, and says why: the grid where it fits the budget, "
        "Bayesian optimisation for a few hundred trials, of the hypervolume for two or three "
        "objectives, for more trials a quasi-random start and then an evolution strategy."
    ),
    source="The rules in keeptune's optimizers/auto.py",
    multi_objective=True,
    constraints=True,
    graphs=True,
)
START_PREFIX = "quasi-random+"

_SMALL_BUDGET = 300
_ASSUMED_TRIALS = 100
# Without a limit of trials the grid is taken only if it is soon done.
_SMALL_GRID = 64
# Of more the expected hypervolume is not computed.
_FEW_OBJECTIVES = 3


@dataclass(frozen=True)
class Choice:
    """An algorithm's name, and why it was chosen."""

    algorithm: str
    because: str


def choose(problem: Problem) -> Choice:
    if problem.space.graphs:
        return _for_graphs(problem)
    budget = problem.trials
    size = problem.space.size(budget or _SMALL_GRID)
    # Where measurements are noisy, once is not enough.
    if size is not None and not problem.noisy:
        within = f"within the budget of {budget} trials" if budget else "soon tried one by one"
        return Choice("grid", f"the space has {size} points in all, {within}")
    dimension = len(problem.space.free)
    planned = budget or _ASSUMED_TRIALS
    trials = f"{budget} trials" if budget else "a budget of unknown size"
    if problem.objectives > 1:
        return _for_several(problem, planned <= _SMALL_BUDGET, trials)
    if planned <= _SMALL_BUDGET:
        return Choice(
            hedged.ALGORITHM.name,
            f"{trials} for {dimension} parameters: models of the results make the most of each",
        )
    has_categories = any(isinstance(p.domain, Categories) for p in problem.space.free)
    if has_categories:
        return _started("TwoPointsDE", f"{trials} allow for evolution, which deals with categories")
    return _started("CMA", f"{trials} are enough to learn how {dimension} numbers interact")


def _for_several(problem: Problem, few_trials: bool, trials: str) -> Choice:
    """What tests/bench/multi_objective found best."""
    if not few_trials:
        because = f"{trials} allow for evolution, which keeps a whole front of compromises"
        return Choice(nsga2.ALGORITHM.name, because)
    if problem.objectives <= _FEW_OBJECTIVES:
        because = (
            f"{trials} for {problem.objectives} objectives: a model of each tells where the "
            "hypervolume will grow most"
        )
        return Choice(hypervolume.ALGORITHM.name, because)
    because = f"{trials}: models of {problem.objectives} objectives, weighted at random in turn"
    return Choice(hedged.ALGORITHM.name, because)


def _for_graphs(problem: Problem) -> Choice:
    """What tests/bench/graph_search found best, by the shape of the first graph."""
    name = problem.space.graphs[0]
    domain = problem.space.by_name[name].domain
    if isinstance(domain, GraphSpace) and domain.shape is Shape.TREE:
        because = f"{name} is a graph, a typed tree: the best ones exchange parts"
        return Choice(genetic_programming.ALGORITHM.name, because)
    because = f"{name} is a graph of layers: small ones grow, and species shelter what is new"
    return Choice(neat.ALGORITHM.name, because)


class StartedSearch:
    """Quasi-random points first, then one of Nevergrad's optimisers, which learns from them."""

    def __init__(self, name: str, problem: Problem) -> None:
        self._left_at_start = start_points(problem)
        self._start: Optimizer = QuasiRandomSearch(problem)
        self._main: Optimizer = NevergradSearch(name, problem)

    def ask(self, number: int) -> Suggestion | Nothing:
        if self._left_at_start:
            self._left_at_start -= 1
            return self._start.ask(number)
        return self._main.ask(number)

    def tell(self, result: Result) -> None:
        self._main.tell(result)


def start_points(problem: Problem) -> int:
    """How many points cover the space at first: a power of two, at most a quarter of the budget."""
    planned = problem.trials or _ASSUMED_TRIALS
    wanted = min(2 * (len(problem.space.free) + 1), planned // 4)
    return 2 ** int(math.log2(wanted)) if wanted >= 1 else 0


def _started(name: str, because: str) -> Choice:
    return Choice(f"{START_PREFIX}nevergrad/{name}", because)
