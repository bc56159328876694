"""keeptune's algorithms, asked and told as the service does."""

from __future__ import annotations

from collections.abc import Sequence

from keeptune.search.optimizers import registry
from keeptune.search.optimizers.base import Nothing, Outcome, Problem, Result
from keeptune.search.space import Assignment
from tests.bench.search_quality.peers import Settings


class KeeptunePeer:
    def __init__(self, name: str, settings: Settings) -> None:
        problem = Problem(settings.space, settings.seed, trials=settings.trials)
        chosen = registry.choose(name, problem, "algorithm")
        self._optimizer = registry.make(chosen.algorithm, problem)
        self._number = 0
        self._asked: list[tuple[int, Assignment]] = []

    def ask(self, count: int) -> Sequence[Assignment]:
        self._asked = []
        for number in range(self._number + 1, self._number + count + 1):
            answer = self._optimizer.ask(number)
            if isinstance(answer, Nothing):
                break
            self._asked.append((number, answer.parameters))
            self._number = number
        return [parameters for _, parameters in self._asked]

    def tell(self, losses: Sequence[float]) -> None:
        for (number, parameters), loss in zip(self._asked, losses, strict=True):
            self._optimizer.tell(Result(number, parameters, Outcome.MEASURED, (loss,)))


def make(variant: str, settings: Settings) -> KeeptunePeer:
    return KeeptunePeer(variant, settings)
