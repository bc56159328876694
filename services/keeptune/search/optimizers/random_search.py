"""Uniformly random points, each drawn from the seed and its own number."""

from __future__ import annotations

import numpy as np

from keeptune.search.optimizers.base import Algorithm, Problem, Result, Suggestion
from keeptune.search.optimizers.seeds import generator
from keeptune.search.space import Assignment

ALGORITHM = Algorithm(
    name="random",
    description="Uniformly random points on each parameter's scale.",
    source=(
        "Bergstra and Bengio, Random Search for Hyper-Parameter Optimization, 2012, "
        "https://jmlr.org/papers/v13/bergstra12a.html"
    ),
    multi_objective=True,
    constraints=True,
    graphs=True,
)


class RandomSearch:
    learns = False

    def __init__(self, problem: Problem) -> None:
        self._space = problem.space
        self._seed = problem.seed

    def ask(self, number: int) -> Suggestion:
        rng: np.random.Generator = generator(self._seed, number)
        free = self._space.free
        units = dict(zip((p.name for p in free), rng.random(len(free)).tolist(), strict=True))
        return Suggestion(self._space.at(units), ALGORITHM.name, "explore: drawn by chance")

    def tell(self, result: Result) -> None:
        """Learns nothing."""

    def adopt(self, number: int, parameters: Assignment) -> None:
        """Keeps nothing of what it suggested."""
