"""A study that was interrupted suggests what the uninterrupted one would have: all families."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keeptune.search.optimizers import registry
from keeptune.search.optimizers.base import (
    Adopting,
    Nothing,
    Outcome,
    Problem,
    Result,
    Suggestion,
)
from keeptune.search.replay import Asked, Follower
from keeptune.search.space import Assignment
from tests.unit.search.spaces import MIXED, loss

pytestmark = pytest.mark.filterwarnings("ignore")

FAMILIES = [
    "random",
    "grid",
    "quasi-random",
    "tpe",
    "regularized-evolution",
    "q-learning",
    "actor-critic",
    "quasi-random+nevergrad/OnePlusOne",
    "quasi-random+nevergrad/TwoPointsDE",
    "nevergrad/OnePlusOne",
    "nevergrad/CMA",
    "nevergrad/PSO",
    "nevergrad/TBPSA",
    "nevergrad/NGOpt",
    "nevergrad/DiscreteOnePlusOne",
    # Draws from numpy's global state.
    "nevergrad/LognormalDiscreteOnePlusOne",
    # Plans all points at once.
    "nevergrad/ScrHammersleySearch",
    # Wrap optimisers that run on threads of their own, the last of them several.
    "nevergrad/Cobyla",
    "nevergrad/CmaFmin2",
    "nevergrad/MultiCobyla",
]


@dataclass
class Study:
    """What the store keeps of a study: enough to rebuild its optimiser."""

    problem: Problem
    algorithm: str
    asked: list[Asked] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    running: list[tuple[int, Assignment]] = field(default_factory=list)

    def follower(self) -> Follower:
        follower = Follower(registry.make(self.algorithm, self.problem))
        follower.catch_up(self.asked, self.results)
        return follower

    def suggest(self, follower: Follower) -> Nothing | None:
        follower.catch_up(self.asked[follower.trials :], self.results[follower.told :])
        suggested, nothing = follower.suggest(1)
        for each in suggested:
            parameters = each.suggestion.parameters
            self.asked.append(Asked(each.number, each.told, parameters))
            self.running.append((each.number, parameters))
        return nothing

    def end(self, which: int, outcome: Outcome) -> None:
        number, parameters = self.running.pop(which % len(self.running))
        losses = (loss(parameters),) if outcome is Outcome.MEASURED else ()
        self.results.append(Result(number, parameters, outcome, losses))

    def add(self, parameters: Assignment) -> None:
        number = len(self.asked) + 1
        self.asked.append(Asked(number, None, parameters))
        self.results.append(Result(number, parameters, Outcome.MEASURED, (loss(parameters),)))


# What happens next: a suggestion, the end of one of the running trials, or an import.
EVENTS = st.lists(
    st.one_of(
        st.just("suggest"),
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(
                [Outcome.MEASURED, Outcome.MEASURED, Outcome.INFEASIBLE, Outcome.FAILED]
            ),
        ),
        st.just("import"),
    ),
    min_size=8,
    max_size=24,
)


def play(
    algorithm: str, seed: int, events: list[object], interruptions: set[int]
) -> list[Assignment]:
    """What is suggested when the optimiser is thrown away at some of the events."""
    study = Study(Problem(MIXED, seed, trials=8), algorithm)
    follower = study.follower()
    for i, event in enumerate(events):
        if i in interruptions:
            follower = study.follower()
            # What others do with the global random states must not matter.
            np.random.seed(i)
        if event == "suggest":
            study.suggest(follower)
        elif event == "import":
            study.add(MIXED.at({"x": i / 40, "kind": 0.5}))
        elif study.running:
            study.end(*event)  # type: ignore[misc]
    return [trial.parameters for trial in study.asked]


@pytest.mark.parametrize("algorithm", FAMILIES)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(seed=st.integers(-(2**63), 2**63 - 1), events=EVENTS, data=st.data())
def test_interrupted_anywhere_it_suggests_the_same(
    algorithm: str, seed: int, events: list[object], data: st.DataObject
) -> None:
    at = data.draw(st.sets(st.integers(0, len(events) - 1), min_size=1, max_size=4))
    assert play(algorithm, seed, events, at) == play(algorithm, seed, events, set())


@pytest.mark.parametrize("algorithm", FAMILIES)
def test_one_at_a_time_it_suggests_the_same(algorithm: str) -> None:
    events = ["suggest", (0, Outcome.MEASURED)] * 11
    undisturbed = play(algorithm, 11, events, set())
    assert len(undisturbed) >= 10
    assert play(algorithm, 11, events, {2, 13, 14, 21}) == undisturbed
    if algorithm != "grid":
        assert play(algorithm, 12, events, set()) != undisturbed


def test_a_history_that_does_not_repeat_still_stands() -> None:
    study = Study(Problem(MIXED, 1, trials=20), "nevergrad/OnePlusOne")
    elsewhere = MIXED.at({"x": 0.9, "kind": 0.0, "bias": 0.9})
    study.asked = [Asked(1, 0, elsewhere), Asked(2, 0, elsewhere)]
    study.results = [Result(1, elsewhere, Outcome.MEASURED, (0.0,))]
    follower = study.follower()
    assert (follower.trials, follower.told) == (2, 1)
    study.suggest(follower)
    assert study.asked[2].number == 3
    assert MIXED.problem_with(study.asked[2].parameters) is None


class Costly:
    """Suggests by what it was told and what is pending; counts how often it computes."""

    def __init__(self, problem: Problem) -> None:
        self._space = problem.space
        self._told: list[Result] = []
        self._pending: dict[int, Assignment] = {}
        self.computed = 0

    def ask(self, number: int) -> Suggestion:
        self.computed += 1
        unit = (number + 3 * len(self._told) + 7 * len(self._pending)) % 41 / 41
        parameters = self._space.at({"x": unit})
        self._pending[number] = parameters
        return Suggestion(parameters, "costly")

    def adopt(self, number: int, parameters: Assignment) -> None:
        self._pending[number] = parameters

    def tell(self, result: Result) -> None:
        self._pending.pop(result.number, None)
        self._told.append(result)


def test_an_adopting_optimizer_computes_nothing_again() -> None:
    def follower() -> tuple[Follower, Costly]:
        optimizer = Costly(Problem(MIXED, 1))
        return Follower(optimizer), optimizer

    study = Study(Problem(MIXED, 1), "costly")
    undisturbed, _ = follower()
    for end in (0, 0, 1, 0, 1):
        study.suggest(undisturbed)
        study.suggest(undisturbed)
        study.end(end, Outcome.MEASURED)
    study.add(MIXED.at({"x": 0.5}))
    undisturbed.catch_up(study.asked[undisturbed.trials :], study.results[undisturbed.told :])
    rebuilt, optimizer = follower()
    rebuilt.catch_up(study.asked, study.results)
    assert optimizer.computed == 0
    assert (rebuilt.trials, rebuilt.told) == (undisturbed.trials, undisturbed.told)
    assert rebuilt.suggest(4) == undisturbed.suggest(4)
    assert optimizer.computed == 4


def test_only_those_that_can_adopt() -> None:
    for name in ("random", "tpe", "regularized-evolution", "q-learning", "actor-critic"):
        assert isinstance(registry.make(name, Problem(MIXED, 1)), Adopting)
    assert not isinstance(registry.make("quasi-random", Problem(MIXED, 1)), Adopting)
