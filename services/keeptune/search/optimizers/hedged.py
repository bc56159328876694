"""`bayesian+tpe`: the Bayesian optimiser, and every fourth suggestion from another kind of model.

A Gaussian process that is wrong about a space, say about which branch of it is best, is wrong with
confidence. Where that happens, suggestions of a method that errs otherwise find it out.
"""

from __future__ import annotations

from keeptune.search.optimizers import bayesian
from keeptune.search.optimizers.base import (
    Algorithm,
    Nothing,
    Problem,
    Result,
    Suggestion,
)
from keeptune.search.optimizers.tpe import TreeParzenSearch
from keeptune.search.space import Assignment

ALGORITHM = Algorithm(
    name="bayesian+tpe",
    description=(
        "The Bayesian optimiser, with every fourth suggestion from a tree-structured Parzen "
        "estimator as a hedge; what `auto` takes for some hundred trials."
    ),
    source="Snoek et al., NeurIPS 2012, and Bergstra et al., NeurIPS 2011",
    multi_objective=True,
    constraints=True,
)

_EVERY = 4
# Until then both have too little to learn from for a choice between them to matter.
_FROM = 12


class HedgedSearch:
    def __init__(self, problem: Problem) -> None:
        self._main = bayesian.make(problem)
        self._other = TreeParzenSearch(problem)
        self._asked = 0

    def ask(self, number: int) -> Suggestion | Nothing:
        turn = self._asked + 1
        first, second = self._main, self._other
        if turn > _FROM and turn % _EVERY == 0:
            first, second = second, first
        answer = first.ask(number)
        if isinstance(answer, Suggestion):
            second.adopt(number, answer.parameters)
            self._asked += 1
        return answer

    def adopt(self, number: int, parameters: Assignment) -> None:
        self._asked += 1
        self._main.adopt(number, parameters)
        self._other.adopt(number, parameters)

    def tell(self, result: Result) -> None:
        self._main.tell(result)
        self._other.tell(result)
