"""A study as the service runs it, in memory: what an optimiser meets there, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from keeptune.search import assignments
from keeptune.search.conformance.spaces import loss
from keeptune.search.graphs.values import Graph
from keeptune.search.optimizers.base import (
    Method,
    Nothing,
    Outcome,
    Problem,
    Result,
)
from keeptune.search.replay import Asked, Follower, Suggested
from keeptune.search.space import Assignment

# As the service keeps it.
_LONGEST_SOURCE = 127


class ConformanceError(AssertionError):
    """The optimiser does not keep to the interface; the message says where."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ConformanceError(message)


class Session:
    """Keeps the history, from which the optimiser is rebuilt at every interruption."""

    def __init__(self, method: Method, problem: Problem, warm_start: Sequence[Result] = ()) -> None:
        self.problem = problem
        self._method = method
        self._warm_start = warm_start
        self._asked: list[Asked] = []
        self._results: list[Result] = []
        self.running: list[tuple[int, Assignment]] = []
        self._follower = self._rebuilt()

    @property
    def suggested(self) -> list[Assignment]:
        """All suggestions so far."""
        return [trial.parameters for trial in self._asked if trial.told is not None]

    def ask(self) -> bool:
        """One more trial begins; False when the optimiser has nothing left.

        While it wants results first, the trials under way are measured, oldest first.
        """
        while True:
            self._follower.catch_up(
                self._asked[self._follower.trials :], self._results[self._follower.told :]
            )
            suggested, nothing = self._follower.suggest(1)
            if suggested:
                self._begin(suggested[0])
                return True
            if nothing is Nothing.LEFT:
                return False
            require(bool(self.running), "it waits for results, but nothing is under way")
            self.end()

    def end(self, which: int = 0, outcome: Outcome = Outcome.MEASURED) -> None:
        """The trial at this place among those under way ends, at the parameters suggested."""
        number, parameters = self.running.pop(which)
        self._results.append(self._result(number, parameters, outcome))

    def end_elsewhere(self, parameters: Assignment) -> None:
        """The oldest trial turns out to have been measured with other parameters."""
        number, _ = self.running.pop(0)
        self._results.append(self._result(number, parameters, Outcome.MEASURED))

    def add(self, parameters: Assignment) -> None:
        """A known result becomes a trial, which was never asked for."""
        number = len(self._asked) + 1
        self._asked.append(Asked(number, None, parameters))
        self._results.append(self._result(number, parameters, Outcome.MEASURED))

    def interrupt(self) -> None:
        """The optimiser is lost, and rebuilt from the history."""
        self._follower = self._rebuilt()

    def measured(self, trials: int) -> list[Assignment]:
        """Up to so many trials one at a time, each measured; their parameters."""
        before = len(self.suggested)
        for _ in range(trials):
            if not self.ask():
                break
            self.end()
        return self.suggested[before:]

    def _begin(self, suggested: Suggested) -> None:
        suggestion = suggested.suggestion
        where = f"trial {suggested.number} is suggested with {dict(suggestion.parameters)!r}"
        wrong = self.problem.space.problem_with(suggestion.parameters)
        require(wrong is None, f"{where}, outside of the space: {wrong}")
        for name, value in suggestion.parameters.items():
            plain = type(value) in (bool, int, float, str, Graph)
            require(plain, f"{where}: {name!r} is a {type(value).__name__}")
        named = 0 < len(suggestion.source) <= _LONGEST_SOURCE
        require(named, f"{where}: its source is {suggestion.source!r}")
        parameters: Assignment = assignments.decode(assignments.encode(suggestion.parameters))
        self._asked.append(Asked(suggested.number, suggested.told, parameters))
        self.running.append((suggested.number, parameters))

    def _result(self, number: int, parameters: Assignment, outcome: Outcome) -> Result:
        if outcome is not Outcome.MEASURED:
            return Result(number, parameters, outcome)
        value = loss(parameters)
        losses = (value, *(-value for _ in range(1, self.problem.objectives)))
        return Result(number, parameters, outcome, losses, (value - 2,) * self.problem.constraints)

    def _rebuilt(self) -> Follower:
        follower = Follower(self._method.make(self.problem), self._warm_start)
        follower.catch_up(self._asked, self._results)
        return follower
