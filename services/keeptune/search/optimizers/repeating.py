"""Where measurements are noisy: any optimiser, with leading points measured again where that pays.

A repeat pays when it is expected to better the final choice by more than a measurement at any new
point would: where several lead by less than the noise, and what could be new promises little. A
study whose metrics are not declared noisy never gets here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keeptune.search.optimizers import seeds
from keeptune.search.optimizers.base import (
    Adopting,
    Nothing,
    Optimizer,
    Problem,
    Result,
    Suggestion,
)
from keeptune.search.space import Assignment

if TYPE_CHECKING:
    from keeptune.search.optimizers.bayesian.incumbents import Incumbents

SOURCE = "repeat"

# Paths of the seed beside those of the trials' own numbers.
_MODEL, _CANDIDATES = 2**42, 2**43


@dataclass(frozen=True)
class Settings:
    # Before so many results it is not known what leads.
    startup: int = 12
    samples: int = 3
    leading: int = 12
    candidates: int = 64
    # The latest so many results are learned from.
    observations: int = 200


class RepeatingSearch:
    """For one objective, and an optimiser that can be told what was suggested instead of it."""

    def __init__(
        self, optimizer: Adopting, problem: Problem, settings: Settings = Settings()
    ) -> None:
        # What it needs of scipy takes a while to load.
        from keeptune.search.optimizers.bayesian.encoding import Encoding

        self._optimizer = optimizer
        self._problem = problem
        self._settings = settings
        self._encoding = Encoding(problem.space)
        self._results: list[Result] = []
        self._pending: dict[int, Assignment] = {}

    def ask(self, number: int) -> Suggestion | Nothing:
        repeat = self._repeat(number)
        if repeat is not None:
            self.adopt(number, repeat.parameters)
            return repeat
        answer = self._optimizer.ask(number)
        if answer is Nothing.LEFT:
            # Every point was tried, but not often enough.
            answer = self._repeat(number, is_all_tried=True) or answer
            if isinstance(answer, Suggestion):
                self._optimizer.adopt(number, answer.parameters)
        if isinstance(answer, Suggestion):
            self._pending[number] = answer.parameters
        return answer

    def adopt(self, number: int, parameters: Assignment) -> None:
        self._pending[number] = parameters
        self._optimizer.adopt(number, parameters)

    def tell(self, result: Result) -> None:
        self._pending.pop(result.number, None)
        self._results.append(result)
        self._optimizer.tell(result)

    def _repeat(self, number: int, *, is_all_tried: bool = False) -> Suggestion | None:
        """The point to be measured again, if that pays."""
        from keeptune.search.optimizers.bayesian import proposals
        from keeptune.search.optimizers.bayesian.incumbents import Incumbents

        settings, encoding = self._settings, self._encoding
        if len(self._results) < settings.startup and not is_all_tried:
            return None
        pending = [encoding.encode(parameters) for parameters in self._pending.values()]
        known = Incumbents.of(
            encoding,
            self._results[-settings.observations :],
            seeds.generator(self._problem.seed, _MODEL, len(self._results)),
            settings.samples,
            np.array(pending) if pending else None,
        )
        if known is None:
            return None
        leading = np.argsort(known.means, kind="stable")[: settings.leading]
        again = known.gradient(known.rows[leading])
        best = int(leading[again.argmax()])
        if is_all_tried:
            return self._again(known, best)
        rng = seeds.generator(self._problem.seed, _CANDIDATES, number)
        parents = known.rows[leading[:5]]
        new = np.concatenate(
            [
                proposals.anywhere(encoding, settings.candidates, rng),
                *(
                    proposals.mutated(
                        encoding, parents, settings.candidates, rng, scale=scale, changes=changes
                    )
                    for scale, changes in ((0.05, 1.0), (0.15, 2.0))
                ),
            ]
        )
        return self._again(known, best) if again.max() > known.gradient(new).max() else None

    def _again(self, known: Incumbents, which: int) -> Suggestion:
        times = int(known.measured[which])
        return Suggestion(
            self._encoding.decode(known.rows[which]),
            SOURCE,
            f"repeat: of trial {known.latest[which]}, measured {times} time"
            f"{'' if times == 1 else 's'}, because one measurement is off by {known.noise:.2g}",
        )


def made_fit(optimizer: Optimizer, problem: Problem) -> Optimizer:
    """The optimiser for a problem that is noisy: with repeats, if it can be told of them."""
    simple = problem.objectives == 1 and not problem.space.graphs
    if simple and isinstance(optimizer, Adopting):
        return RepeatingSearch(optimizer, problem)
    return optimizer
