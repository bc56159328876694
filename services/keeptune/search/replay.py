"""An optimiser with its place in its study's history.

The history of a study is its trials in the order of their numbers, each with how many results the
optimiser knew when it was suggested, and the results in the order they were told. Repeating it
gives an optimiser in the very state it had, so that a study that was interrupted goes on as if it
had not been. An optimiser that is `Adopting` is told its suggestions instead of asked for them
again, so that a long history of a costly one is read in no time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from keeptune.search.optimizers.base import Adopting, Nothing, Optimizer, Result, Suggestion
from keeptune.search.space import Assignment

log = structlog.get_logger()


@dataclass(frozen=True)
class Asked:
    """A trial in the history; `told` = results known when it was suggested, None = imported."""

    number: int
    told: int | None
    parameters: Assignment


@dataclass(frozen=True)
class Suggested:
    """A suggestion on its way to become trial `number`."""

    number: int
    told: int
    suggestion: Suggestion


class Follower:
    """Follows one study; not to be used by two threads at once."""

    def __init__(self, optimizer: Optimizer, warm_start: Iterable[Result] = ()) -> None:
        self._optimizer = optimizer
        # The number of the last trial, and the sequence of the last result, that it knows.
        self.trials = 0
        self.told = 0
        self._diverged = False
        for result in warm_start:
            optimizer.tell(result)

    @property
    def learns(self) -> bool:
        """Whether its suggestions depend on results."""
        return getattr(self._optimizer, "learns", True)

    @property
    def adopts(self) -> bool:
        """Whether it can be told its suggestions instead of asked for them."""
        return isinstance(self._optimizer, Adopting)

    @property
    def repeats(self) -> bool:
        """Whether it suggests the same for a number, whatever became of the others."""
        return self.adopts and not self.learns

    def catch_up(self, asked: Sequence[Asked], results: Sequence[Result]) -> None:
        """Repeats what happened since: trials above `trials`, results after `told`, in order.

        Results that no trial has been suggested with are told as well.
        """
        pending = iter(results)
        for trial in asked:
            if trial.told is not None:
                while self.told < trial.told:
                    self._tell(next(pending))
                self._repeat(trial)
            self.trials = trial.number
        for result in pending:
            self._tell(result)

    def suggest(self, count: int) -> tuple[list[Suggested], Nothing | None]:
        """Up to `count` suggestions for the trials that come next, and why there are no more."""
        suggested: list[Suggested] = []
        while len(suggested) < count:
            number = self.trials + 1
            answer = self._optimizer.ask(number)
            if isinstance(answer, Nothing):
                return suggested, answer
            self.trials = number
            suggested.append(Suggested(number, self.told, answer))
        return suggested, None

    def _tell(self, result: Result) -> None:
        self._optimizer.tell(result)
        self.told += 1

    def _repeat(self, trial: Asked) -> None:
        if isinstance(self._optimizer, Adopting):
            self._optimizer.adopt(trial.number, trial.parameters)
            return
        answer = self._optimizer.ask(trial.number)
        same = isinstance(answer, Suggestion) and answer.parameters == trial.parameters
        if not same and not self._diverged:
            # After an upgrade of a library, say. What was suggested stands; results are told for
            # the parameters they were measured with.
            log.warning("the optimiser repeats its history differently", trial=trial.number)
            self._diverged = True
