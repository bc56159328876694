"""`genetic-programming`: pipelines and programs as typed trees, bred by crossover and mutation.

The best results so far are the population. Parents win tournaments, in which of results that are
as good as equal the smaller graph wins, so that nothing grows without a gain. A child has a part
of one parent in the place of a part of the other, of the same type, or one small change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keeptune.search.domains import Value
from keeptune.search.graphs import crossover
from keeptune.search.graphs.values import Graph
from keeptune.search.mutations import mutated, replaced
from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import Algorithm, Problem, Result, Suggestion
from keeptune.search.optimizers.trials import Start, Trials
from keeptune.search.space import Assignment, GraphSpace

ALGORITHM = Algorithm(
    name="genetic-programming",
    description=(
        "Strongly typed genetic programming: the best graphs exchange parts of the same type, and "
        "change a little; of equals the smaller wins. For graph parameters, trees above all."
    ),
    source=(
        "Koza, Genetic Programming, MIT Press 1992; Montana, Strongly Typed Genetic Programming, "
        "Evolutionary Computation 3(2), 1995, https://doi.org/10.1162/evco.1995.3.2.199"
    ),
    multi_objective=True,
    constraints=True,
    graphs=True,
)

_ASSUMED_TRIALS = 100
_TRIES = 32


@dataclass(frozen=True)
class Settings:
    """`start` and `population` None = by the number of trials planned.

    `equal` is the part of the population's spread of losses within which two are as good as equal.
    """

    start: int | None = None
    population: int | None = None
    tournament: int = 3
    crossed: float = 0.5
    # That a child of two is changed as well.
    changed_too: float = 0.3
    equal: float = 0.01


class GeneticProgramming:
    def __init__(self, problem: Problem, settings: Settings = Settings()) -> None:
        planned = problem.trials or _ASSUMED_TRIALS
        self._problem = problem
        self._settings = settings
        self._first = settings.start or min(max(planned // 5, 4), 50)
        self._population = settings.population or min(max(planned // 20, 6), 50)
        self._trials = Trials(problem.space)
        self._start = Start(problem, self._first)

    def ask(self, number: int) -> Suggestion:
        trials = self._trials
        parents = trials.standing.usable[: self._population]
        if not parents or trials.standing.count + len(trials.pending) < self._first:
            parameters, because = self._start.at(trials, number), "explore: an even start"
        else:
            parameters, because = self._child(parents, number)
        trials.ask(number, parameters)
        return Suggestion(parameters, ALGORITHM.name, because)

    def adopt(self, number: int, parameters: Assignment) -> None:
        self._trials.ask(number, parameters)

    def tell(self, result: Result) -> None:
        self._trials.tell(result)

    def _child(self, parents: Sequence[Result], number: int) -> tuple[Assignment, str]:
        rng = seeds.generator(self._problem.seed, number)
        one = self._winner(parents, rng)
        child: Assignment | None = None
        because = ""
        if rng.random() < self._settings.crossed:
            other = self._winner(parents, rng)
            child = self._crossed(one.parameters, other.parameters, rng)
            because = f"exploit: {_named(one)} with a part of {_named(other)}"
        if child is None or rng.random() < self._settings.changed_too:
            name, child = mutated(self._problem.space, child or one.parameters, rng)
            because = because or f"exploit: {_named(one)} with another {name}"
        for _ in range(_TRIES):
            if self._trials.is_new(child):
                break
            _, child = mutated(self._problem.space, child, rng)
        return child, because

    def _winner(self, parents: Sequence[Result], rng: np.random.Generator) -> Result:
        """Of a tournament. The parents are ranked, so that the lowest place is the best."""
        size = min(self._settings.tournament, len(parents))
        drawn = sorted(rng.choice(len(parents), size, replace=False).tolist())
        best: Result = parents[drawn[0]]
        if len(best.losses) > 1 or not best.is_feasible:
            return best
        spread = parents[-1].losses[0] - parents[0].losses[0]
        close: list[Result] = [
            parents[i]
            for i in drawn
            if parents[i].is_feasible
            and parents[i].losses[0] - best.losses[0] <= self._settings.equal * spread
        ]
        return min(close, key=lambda result: _size(result.parameters))

    def _crossed(
        self, one: Assignment, other: Assignment, rng: np.random.Generator
    ) -> Assignment | None:
        """Parts of graphs exchanged, and half of the ordinary parameters; None: the same again."""
        space = self._problem.space
        values: dict[str, Value] = {}
        for parameter in space.free:
            name = parameter.name
            if name not in one or name not in other:
                continue
            mine, theirs = one[name], other[name]
            if isinstance(parameter.domain, GraphSpace):
                assert isinstance(mine, Graph)
                assert isinstance(theirs, Graph)
                found = crossover.crossed(parameter.domain, mine, theirs, rng)
                values[name] = mine if found is None else found
            elif rng.random() < 0.5:
                values[name] = theirs
        child = replaced(space, one, values, rng)
        return None if child in (one, other) else child


def _size(parameters: Assignment) -> int:
    return sum(len(value) for value in parameters.values() if isinstance(value, Graph))


def _named(result: Result) -> str:
    return f"{result.number}" if result.number > 0 else "a known result"
