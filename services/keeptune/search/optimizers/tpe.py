"""`tpe`: where good results are dense and others are not.

The results are split into the best few and the rest; suggested is the most promising of points
drawn from the density of the best: where its ratio to the density of the rest is greatest, which
stands for the expected improvement. Trials under way count among the rest, so that others keep off
them; so does what is infeasible. See `parzen` for the densities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import Algorithm, Problem
from keeptune.search.optimizers.coordinates import Coordinates
from keeptune.search.optimizers.evenly_started import EvenlyStarted
from keeptune.search.optimizers.parzen import BANDWIDTHS, Bandwidths, Parzen
from keeptune.search.space import Assignment

ALGORITHM = Algorithm(
    name="tpe",
    description=(
        "Tree-structured Parzen estimator: draws from the density of the best results, away from "
        "the rest. Cheap, at home in conditional and mixed spaces."
    ),
    source=(
        "Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011; "
        "multivariate as in Watanabe, Tree-Structured Parzen Estimator, 2023, "
        "https://arxiv.org/abs/2304.11127"
    ),
    multi_objective=True,
    constraints=True,
)


@dataclass(frozen=True)
class Settings:
    start: int = 10
    # The best are this part of the results, and at most so many.
    good_share: float = 0.15
    most_good: int = 25
    candidates: int = 64
    bandwidths: Bandwidths = BANDWIDTHS


class TreeParzenSearch(EvenlyStarted):
    name = ALGORITHM.name

    def __init__(self, problem: Problem, settings: Settings = Settings()) -> None:
        super().__init__(problem, settings.start, least=2)
        self._settings = settings
        self._coordinates = Coordinates(problem.space)

    def _learnt(self, number: int) -> tuple[Assignment, str]:
        rng = seeds.generator(self._problem.seed, number)
        ranked = self._trials.standing.ranked
        good = min(
            math.ceil(self._settings.good_share * len(ranked)),
            self._settings.most_good,
            len(self._trials.standing.usable),
        )
        best = [result.parameters for result in ranked[:good]]
        rest = [result.parameters for result in ranked[good:]]
        dense = self._density(best)
        sparse = self._density([*rest, *self._trials.pending.values()])
        candidates = [
            self._coordinates.values(row) for row in dense.sample(self._settings.candidates, rng)
        ]
        rows = self._coordinates.rows(candidates)
        promise = dense.log_density(rows) - sparse.log_density(rows)
        order = np.argsort(-promise, kind="stable").tolist()
        new = (i for i in order if self._trials.is_new(candidates[i]))
        chosen = next(new, order[0])
        return candidates[chosen], (
            f"exploit: {math.exp(min(float(promise[chosen]), 50.0)):.3g} times as dense in the "
            f"{good} best results as in the rest"
        )

    def _density(self, points: Sequence[Assignment]) -> Parzen:
        rows = self._coordinates.rows(points)
        return Parzen(self._coordinates, rows, self._settings.bandwidths)
