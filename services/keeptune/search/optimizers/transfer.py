"""Warm start: any optimiser, with its first suggestions taken in part from earlier studies.

Every other of the first suggestions is one of an earlier study's best points, each unlike those
before. A study whose point does worse than what the optimiser tries by itself meanwhile is not
asked again, so that one that misleads costs a trial. The optimiser starts as it would alone, and
learns of these points when its start is over: they are more than its own first points, which cover
the space, and take the place of none. After a few it is on its own. Losses are compared within a
study only; on another study's data they are on another scale.

The start by the best of earlier studies: Feurer, Springenberg, Hutter, Initializing Bayesian
Hyperparameter Optimization via Meta-Learning, AAAI 2015; Wistuba, Schilling, Schmidt-Thieme,
Learning Hyperparameter Optimization Initializations, DSAA 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keeptune.search.domains import Categories
from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import (
    Adopting,
    Nothing,
    Optimizer,
    Problem,
    Result,
    Suggestion,
)
from keeptune.search.optimizers.earlier import Earlier
from keeptune.search.optimizers.standing import order
from keeptune.search.optimizers.trials import anywhere
from keeptune.search.space import Assignment, GraphSpace, SearchSpace

SOURCE = "warm-start"

_STREAM = 2**42
# So many times the suggestions that it may take: with many workers some of its turns pass unused.
_WINDOW = 8


@dataclass(frozen=True)
class Settings:
    # At most so many points of earlier studies, and at most this part of the budget.
    most: int = 4
    share: float = 0.2
    # While this many of them are under way there are no more: nothing is known of what they do.
    most_pending: int = 2
    # The part of an earlier study's points that count as its best; of few a little more.
    best: float = 0.2
    # The part of the budget, or else the trials, after which the optimiser hears of them.
    alone_share: float = 0.5
    alone: int = 15


class TransferSearch:
    """Not `Adopting`: for optimisers that are not."""

    def __init__(
        self,
        optimizer: Optimizer,
        problem: Problem,
        earlier: Sequence[Earlier],
        settings: Settings = Settings(),
    ) -> None:
        self._optimizer = optimizer
        self._problem = problem
        self._settings = settings
        self._most = settings.most
        self._alone = settings.alone
        if problem.trials is not None:
            self._most = max(1, min(self._most, int(settings.share * problem.trials)))
            self._alone = min(self._alone, int(settings.alone_share * problem.trials))
        sources = sorted({each.source for each in earlier})
        self._studies = [
            _Study(problem.space, [each for each in earlier if each.source == source], settings)
            for source in sources
        ]
        # Which study each point came from, by the number of its trial.
        self._shots: dict[int, int] = {}
        self._results: list[Result] = []
        # What the optimiser has not heard of yet: suggestions and results, as they came.
        self._held: list[tuple[int, Assignment] | Result] = []
        self._asked = 0

    def ask(self, number: int) -> Suggestion | Nothing:
        shot = self._shot(number)
        if shot is not None:
            study, parameters, because = shot
            self._note_shot(number, study, parameters)
            return Suggestion(parameters, SOURCE, because)
        answer = self._optimizer.ask(number)
        if isinstance(answer, Suggestion):
            self._note_own()
        return answer

    def tell(self, result: Result) -> None:
        if not self._is_over:
            self._results.append(result)
        if result.number in self._shots and self._is_holding:
            self._held.append(result)
        else:
            self._optimizer.tell(result)

    @property
    def _is_over(self) -> bool:
        return len(self._shots) >= self._most or self._asked >= _WINDOW * self._most

    @property
    def _is_holding(self) -> bool:
        own = self._asked - len(self._shots)
        return isinstance(self._optimizer, Adopting) and own < self._alone

    def _note_shot(self, number: int, study: int, parameters: Assignment) -> None:
        self._asked += 1
        holding = self._is_holding
        self._shots[number] = study
        self._studies[study].took(parameters)
        if holding:
            self._held.append((number, parameters))
        elif isinstance(self._optimizer, Adopting):
            self._optimizer.adopt(number, parameters)

    def _note_own(self) -> None:
        self._asked += 1
        if self._is_holding:
            return
        held, self._held = self._held, []
        for each in held:
            if isinstance(each, Result):
                self._optimizer.tell(each)
            elif isinstance(self._optimizer, Adopting):
                self._optimizer.adopt(*each)

    def _shot(self, number: int) -> tuple[int, Assignment, str] | None:
        """Changes nothing; the study, its point and why."""
        if self._asked % 2 or self._is_over:
            return None
        ended = {result.number for result in self._results}
        if sum(shot not in ended for shot in self._shots) >= self._settings.most_pending:
            return None
        taken = [*self._shots.values()]
        trusted = [i for i in range(len(self._studies)) if self._is_trusted(i)]
        for study in sorted(trusted, key=lambda i: (taken.count(i), i)):
            point = self._studies[study].next()
            if point is not None:
                rank, known = point
                rng = seeds.generator(self._problem.seed, _STREAM, number)
                parameters = self._problem.space.assign(
                    {**anywhere(self._problem.space, rng), **known}
                )
                count = self._studies[study].count
                return study, parameters, f"exploit: number {rank} of {count} in an earlier study"
        return None

    def _is_trusted(self, study: int) -> bool:
        """Whether its last point did as well as half of what the optimiser has tried itself."""
        last = next(
            (r for r in reversed(self._results) if self._shots.get(r.number) == study), None
        )
        own = [result for result in self._results if result.number not in self._shots]
        if last is None or not own:
            return True
        # Last of all among equal ones, so that equal is as good.
        place = order([last, *own]).index(0)
        return place <= len(own) / 2


class AdoptingTransferSearch(TransferSearch):
    def adopt(self, number: int, parameters: Assignment) -> None:
        shot = self._shot(number)
        if shot is not None:
            self._note_shot(number, shot[0], parameters)
            return
        if isinstance(self._optimizer, Adopting):
            self._optimizer.adopt(number, parameters)
        self._note_own()


def taught(optimizer: Optimizer, problem: Problem, earlier: Sequence[Earlier]) -> Optimizer:
    """The optimiser with what earlier studies have taught, `Adopting` if it is."""
    kind = AdoptingTransferSearch if isinstance(optimizer, Adopting) else TransferSearch
    return kind(optimizer, problem, earlier)


class _Study:
    """An earlier study's best points, and which of them were taken."""

    def __init__(self, space: SearchSpace, results: Sequence[Earlier], settings: Settings) -> None:
        self._space = space
        self.count = len(results)
        ranked = order(results)
        few = min(settings.most, len(results) // 2)
        best = ranked[: max(1, few, round(settings.best * len(results)))]
        self._best = [results[i].parameters for i in best]
        self._taken: list[Assignment] = []

    def took(self, parameters: Assignment) -> None:
        self._taken.append(parameters)

    def next(self) -> tuple[int, Assignment] | None:
        """Its rank from 1 and what it knows of it: the best, then who is least like those taken."""
        if not self._taken:
            return 1, self._best[0]
        far = [min(self._distance(point, other) for other in self._taken) for point in self._best]
        place = max(range(len(far)), key=lambda i: (far[i], -i))
        return (place + 1, self._best[place]) if far[place] > 0 else None

    def _distance(self, point: Assignment, other: Assignment) -> float:
        """Over what the point knows: numbers by their coordinates, others equal or not."""
        total = 0.0
        for parameter in self._space.free:
            name, domain = parameter.name, parameter.domain
            if name not in point:
                continue
            if name not in other:
                total += 1.0
            elif isinstance(domain, Categories | GraphSpace):
                total += point[name] != other[name]
            else:
                total += abs(domain.to_unit(point[name]) - domain.to_unit(other[name]))
        return total
