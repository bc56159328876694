"""`nsga-ii`: the best half survive by fronts and room, and have children by crossover and mutation.

Parents are drawn from the best of all results, by non-dominated sorting and crowding, feasible ones
first; two at a time compete. Deb's algorithm waits for a whole generation; here every result counts
at once, so that no worker waits, and what was best never dies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import Algorithm, Problem, Result, Suggestion
from keeptune.search.optimizers.coordinates import Coordinates, Floats
from keeptune.search.optimizers.standing import Standing
from keeptune.search.optimizers.trials import Start, Trials, anywhere_new
from keeptune.search.space import Assignment

ALGORITHM = Algorithm(
    name="nsga-ii",
    description=(
        "Evolution for several objectives: non-dominated sorting with crowding, simulated binary "
        "crossover and polynomial mutation. For many cheap trials and many workers."
    ),
    source=(
        "Deb, Pratap, Agarwal, Meyarivan, A Fast and Elitist Multiobjective Genetic Algorithm: "
        "NSGA-II, IEEE Transactions on Evolutionary Computation, 2002"
    ),
    multi_objective=True,
    constraints=True,
)

_ASSUMED_TRIALS = 100
_TRIES = 32


@dataclass(frozen=True)
class Settings:
    """As in the paper, save that populations fit the budget (None = a tenth of it, 10 to 100).

    `crossover` is the probability of a child of two, `eta_...` how near to its parents it lies.
    """

    population: int | None = None
    crossover: float = 0.9
    eta_crossover: float = 20.0
    eta_mutation: float = 20.0


class GeneticSearch:
    def __init__(self, problem: Problem, settings: Settings = Settings()) -> None:
        planned = problem.trials or _ASSUMED_TRIALS
        self._problem = problem
        self._settings = settings
        self._population = settings.population or min(max(planned // 10, 10), 100)
        self._coordinates = Coordinates(problem.space)
        self._trials = Trials(problem.space)
        # Whoever is not among the best is of no more use.
        self._trials.standing = Standing(limit=4 * self._population)
        self._start = Start(problem, min(self._population, max(2, planned // 2)))

    def ask(self, number: int) -> Suggestion:
        trials = self._trials
        usable = trials.standing.usable
        if len(usable) < 2 or trials.standing.count + len(trials.pending) < self._start.points:
            parameters, because = self._start.at(trials, number), "explore: an even start"
        else:
            parameters, because = self._child(usable[: self._population], number)
        trials.ask(number, parameters)
        return Suggestion(parameters, ALGORITHM.name, because)

    def adopt(self, number: int, parameters: Assignment) -> None:
        self._trials.ask(number, parameters)

    def tell(self, result: Result) -> None:
        self._trials.tell(result)

    def _child(self, ranked: Sequence[Result], number: int) -> tuple[Assignment, str]:
        rng = seeds.generator(self._problem.seed, number)
        for _ in range(_TRIES):
            one, other = (ranked[rng.integers(len(ranked), size=2).min()] for _ in range(2))
            parameters = self._of(one.parameters, other.parameters, rng)
            if parameters != one.parameters and self._trials.is_new(parameters):
                names = [f"{each.number}" for each in (one, other) if each.number > 0]
                return parameters, f"exploit: a child of {' and '.join(names) or 'known results'}"
        space = self._problem.space
        return anywhere_new(self._trials, space, rng), "explore: no child of the best is new"

    def _of(self, one: Assignment, other: Assignment, rng: np.random.Generator) -> Assignment:
        """A child; what begins to exist by it is drawn anew."""
        mother, father = (self._coordinates.row(each) for each in (one, other))
        chance = rng.random(len(mother))
        sizes = self._coordinates.categories
        anew = np.where(sizes > 0, np.floor(chance * np.maximum(sizes, 1)), chance)
        mother = np.where(np.isnan(mother), np.where(np.isnan(father), anew, father), mother)
        father = np.where(np.isnan(father), mother, father)
        row = mother
        if rng.random() < self._settings.crossover:
            row = self._crossed(mother, father, rng)
        return self._coordinates.values(self._mutated(row, rng))

    def _crossed(self, mother: Floats, father: Floats, rng: np.random.Generator) -> Floats:
        """Simulated binary crossover of half of the numbers; categories from either.

        Deb and Agrawal, Simulated Binary Crossover for Continuous Search Space, 1995.
        """
        spread = rng.random(len(mother))
        power = 1.0 / (self._settings.eta_crossover + 1.0)
        beta = np.where(spread < 0.5, 2 * spread, 0.5 / (1.0 - spread)) ** power
        side = rng.choice((-1.0, 1.0), len(mother))
        numbers = 0.5 * ((mother + father) + side * beta * (father - mother))
        numbers = np.where(rng.random(len(mother)) < 0.5, numbers, mother)
        categories = np.where(side > 0, mother, father)
        return np.where(self._coordinates.categories > 0, categories, np.clip(numbers, 0.0, 1.0))

    def _mutated(self, row: Floats, rng: np.random.Generator) -> Floats:
        """Polynomial mutation of one number in so many as there are, within the bounds; another
        category.

        Deb and Goyal, A Combined Genetic Adaptive Search, 1996.
        """
        count = len(row)
        sizes = self._coordinates.categories
        chosen = rng.random(count) < 1.0 / max(count, 1)
        chance = rng.random(count)
        power = self._settings.eta_mutation + 1.0
        low, high = np.minimum(chance, 0.5), np.maximum(chance, 0.5)
        unit = np.clip(row, 0.0, 1.0)
        # To the lower bound lies `unit`, to the upper one the rest.
        down = (2 * low + (1 - 2 * low) * (1 - unit) ** power) ** (1 / power) - 1.0
        up = 1.0 - (2 * (1 - high) + (2 * high - 1) * unit**power) ** (1 / power)
        numbers = np.clip(row + np.where(chance < 0.5, down, up), 0.0, 1.0)
        others = (row + 1 + np.floor(chance * np.maximum(sizes - 1, 1))) % np.maximum(sizes, 1)
        return np.where(chosen, np.where(sizes > 0, others, numbers), row)
