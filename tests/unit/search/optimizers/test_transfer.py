"""Learning from earlier studies: with any method, replay holds, and what misleads is dropped."""

from __future__ import annotations

import pytest

from keeptune.search import conformance
from keeptune.search.optimizers import registry
from keeptune.search.optimizers.base import (
    Algorithm,
    Method,
    Optimizer,
    Outcome,
    Problem,
    Result,
    Suggestion,
)
from keeptune.search.optimizers.earlier import Earlier, taken_over
from keeptune.search.optimizers.random_search import RandomSearch
from keeptune.search.optimizers.transfer import SOURCE, AdoptingTransferSearch, taught
from keeptune.search.space import SearchSpace
from tests.unit.search.spaces import MIXED, NUMERIC, loss

pytestmark = pytest.mark.filterwarnings("ignore")


def study(space: SearchSpace, source: int = 0, sign: float = 1.0, count: int = 20) -> list[Earlier]:
    """Of random points, with losses on a scale of its own."""
    search = RandomSearch(Problem(space, seed=source))
    points = [search.ask(number).parameters for number in range(1, count + 1)]
    results = [
        Result(i, point, Outcome.MEASURED, (1e6 * sign * loss(point),))
        for i, point in enumerate(points)
    ]
    return taken_over(space, source, results)


def best_first(earlier: list[Earlier]) -> list[Earlier]:
    return sorted(earlier, key=lambda each: each.losses)


def warm(name: str) -> Method:
    def make(problem: Problem) -> Optimizer:
        return registry.make(name, problem, study(problem.space) + study(problem.space, 1, -1.0))

    return Method(Algorithm(name, "with earlier studies", ""), make)


@pytest.mark.parametrize("check", conformance.CHECKS, ids=conformance.name_of)
@pytest.mark.parametrize("name", ["tpe", "nevergrad/OnePlusOne"])
def test_every_method_still_conforms(name: str, check: conformance.Check) -> None:
    check(warm(name))


class Alone:
    """An optimiser of which is seen what it was told, and when."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._search = RandomSearch(Problem(NUMERIC, seed=9))

    def ask(self, number: int) -> Suggestion:
        self.heard.append(f"ask {number}")
        return self._search.ask(number)

    def adopt(self, number: int, parameters: object) -> None:
        self.heard.append(f"adopt {number}")

    def tell(self, result: Result) -> None:
        self.heard.append(f"tell {result.number}")


def played(search: Optimizer, trials: int, sign: float = 1.0) -> list[Suggestion]:
    found = []
    for number in range(1, trials + 1):
        answer = search.ask(number)
        assert isinstance(answer, Suggestion)
        found.append(answer)
        losses = (sign * loss(answer.parameters),)
        search.tell(Result(number, answer.parameters, Outcome.MEASURED, losses))
    return found


def test_the_best_comes_first_and_the_others_are_unlike_it() -> None:
    earlier = study(NUMERIC)
    found = played(taught(Alone(), Problem(NUMERIC, 1, trials=40), earlier), 12)
    shots = [each.parameters for each in found if each.source == SOURCE]
    ranked = [dict(each.parameters) for each in best_first(earlier)]
    assert shots[0] == ranked[0]
    assert all(shot in ranked[:4] for shot in shots)
    assert len({tuple(shot.items()) for shot in shots}) == len(shots) > 1


def test_a_study_that_misleads_costs_a_trial() -> None:
    earlier = study(NUMERIC, sign=-1.0, count=60)
    found = played(taught(Alone(), Problem(NUMERIC, 1, trials=40), earlier), 12)
    assert [each.source for each in found].count(SOURCE) == 1


def test_of_two_studies_the_one_that_helps_goes_on() -> None:
    earlier = study(NUMERIC, 0, sign=-1.0, count=60) + study(NUMERIC, 1, count=60)
    found = played(taught(Alone(), Problem(NUMERIC, 1, trials=40), earlier), 16)
    shots = [dict(each.parameters) for each in found if each.source == SOURCE]
    helping = [dict(each.parameters) for each in earlier if each.source == 1]
    assert [shot in helping for shot in shots] == [False] + [True] * (len(shots) - 1)
    assert len(shots) == 4


def test_scales_do_not_matter() -> None:
    """A thousand times the losses, and any increasing function of them, teach the same."""
    one = study(MIXED)
    other = [
        Earlier(e.number, e.parameters, e.outcome, (e.losses[0] ** 3 + 7,), (), e.source)
        for e in one
    ]
    found = [
        [
            each.parameters
            for each in played(registry.make("tpe", Problem(MIXED, 3, 30), earlier), 10)
        ]
        for earlier in (one, other)
    ]
    assert found[0] == found[1]


def test_the_optimiser_starts_as_it_would_alone_and_hears_of_it_then() -> None:
    alone = Alone()
    search = taught(alone, Problem(NUMERIC, 1, trials=20), study(NUMERIC))
    assert isinstance(search, AdoptingTransferSearch)
    played(search, 16)
    shots = [number for number in range(1, 17) if f"ask {number}" not in alone.heard]
    first = alone.heard.index(f"adopt {shots[0]}")
    assert sum(each.startswith("ask") for each in alone.heard[:first]) == 10
    for number in shots:
        assert alone.heard.count(f"adopt {number}") == alone.heard.count(f"tell {number}") == 1


def test_what_learns_nothing_is_left_alone() -> None:
    problem = Problem(NUMERIC, 1, trials=10)
    assert isinstance(registry.make("random", problem, study(NUMERIC)), RandomSearch)
