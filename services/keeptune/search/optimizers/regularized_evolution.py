"""`regularized-evolution`: the young replace the old, the best of a few have the next child.

The population is the latest results. A child is the best of some drawn from it, with one of its
parameters changed; whoever is old dies, however good, so that luck with a noisy result does not
last. Trials under way are no parents yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from keeptune.search.mutations import mutated
from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import Algorithm, Problem, Result, Suggestion
from keeptune.search.optimizers.standing import is_usable, order
from keeptune.search.optimizers.trials import Start, Trials
from keeptune.search.space import Assignment

ALGORITHM = Algorithm(
    name="regularized-evolution",
    description=(
        "Ageing evolution: the best of a few young trials gets a child with one parameter changed. "
        "Simple, robust to noise, at home in large discrete spaces and with many workers."
    ),
    source=(
        "Real et al., Regularized Evolution for Image Classifier Architecture Search, AAAI 2019, "
        "https://arxiv.org/abs/1802.01548"
    ),
    multi_objective=True,
    constraints=True,
    graphs=True,
)

_ASSUMED_TRIALS = 100
_TRIES = 32


@dataclass(frozen=True)
class Settings:
    """`population` and `tournament` None = by the number of trials planned."""

    population: int | None = None
    tournament: int | None = None


class RegularizedEvolution:
    def __init__(self, problem: Problem, settings: Settings = Settings()) -> None:
        planned = problem.trials or _ASSUMED_TRIALS
        self._problem = problem
        self._population = settings.population or min(max(planned // 5, 4), 100)
        self._tournament = settings.tournament or max(2, self._population // 2)
        self._trials = Trials(problem.space)
        self._start = Start(problem, self._population)

    def ask(self, number: int) -> Suggestion:
        trials = self._trials
        parents = [r for r in trials.standing.told[-self._population :] if is_usable(r)]
        if not parents or trials.standing.count + len(trials.pending) < self._population:
            parameters, because = self._start.at(trials, number), "explore: an even start"
        else:
            parameters, because = self._child(parents, number)
        trials.ask(number, parameters)
        return Suggestion(parameters, ALGORITHM.name, because)

    def adopt(self, number: int, parameters: Assignment) -> None:
        self._trials.ask(number, parameters)

    def tell(self, result: Result) -> None:
        self._trials.tell(result)

    def _child(self, parents: list[Result], number: int) -> tuple[Assignment, str]:
        rng = seeds.generator(self._problem.seed, number)
        size = min(self._tournament, len(parents))
        drawn = [parents[i] for i in sorted(rng.choice(len(parents), size, replace=False))]
        parent = drawn[order(drawn)[0]]
        name, parameters = mutated(self._problem.space, parent.parameters, rng)
        for _ in range(_TRIES):
            if self._trials.is_new(parameters):
                break
            name, parameters = mutated(self._problem.space, parameters, rng)
        where = f"of {parent.number}" if parent.number > 0 else "of a known result"
        return parameters, f"exploit: a child {where}, best of {size}, with another {name}"
