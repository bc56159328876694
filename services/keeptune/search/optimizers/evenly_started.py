"""What some learning optimisers have in common: an even start, and then what they have learnt."""

from __future__ import annotations

from abc import ABC, abstractmethod

from keeptune.search.optimizers.base import Problem, Result, Suggestion
from keeptune.search.optimizers.trials import Start, Trials
from keeptune.search.space import Assignment


class EvenlyStarted(ABC):
    """`start` points, a quarter of the budget at most; `least` usable results to learn from."""

    name: str

    def __init__(self, problem: Problem, start: int, *, least: int) -> None:
        if problem.trials is not None:
            start = max(2, min(start, problem.trials // 4))
        self._problem = problem
        self._trials = Trials(problem.space)
        self._start = Start(problem, start)
        self._least = least

    @abstractmethod
    def _learnt(self, number: int) -> tuple[Assignment, str]:
        """What the results suggest for this trial, and why."""

    def ask(self, number: int) -> Suggestion:
        trials = self._trials
        known = trials.standing.count + len(trials.pending)
        if known < self._start.points or len(trials.standing.usable) < self._least:
            parameters, because = self._start.at(trials, number), "explore: an even start"
        else:
            parameters, because = self._learnt(number)
        self.adopt(number, parameters)
        return Suggestion(parameters, self.name, because)

    def adopt(self, number: int, parameters: Assignment) -> None:
        self._trials.ask(number, parameters)

    def tell(self, result: Result) -> None:
        self._trials.tell(result)
