"""What every optimiser keeps to, whatever its method."""

from __future__ import annotations

import functools

import pytest

from keeptune.runtime.errors import InvalidInput
from keeptune.search import conformance
from keeptune.search.optimizers import auto, registry
from keeptune.search.optimizers.base import (
    Algorithm,
    Method,
    Nothing,
    Outcome,
    Problem,
    Result,
    Suggestion,
)
from keeptune.search.space import Assignment, SearchSpace
from tests.unit.search.spaces import CATEGORICAL, INTEGERS, MIXED, NUMERIC, loss

pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = [
    "random",
    "grid",
    "quasi-random",
    "bayesian",
    "bayesian+tpe",
    "nsga-ii",
    "tpe",
    "regularized-evolution",
    "q-learning",
    "actor-critic",
    "pbt",
    "quasi-random+nevergrad/OnePlusOne",
    "nevergrad/OnePlusOne",
    "nevergrad/CMA",
    "nevergrad/TwoPointsDE",
    "nevergrad/PSO",
    "nevergrad/NGOpt",
    "nevergrad/Cobyla",
]
LEARNING = [
    "bayesian",
    "bayesian+tpe",
    "quasi-random+nevergrad/OnePlusOne",
    "nevergrad/CMA",
    "nevergrad/TwoPointsDE",
]


def suggestions(algorithm: str, problem: Problem, count: int) -> list[Assignment]:
    """One at a time, each told."""
    optimizer = registry.make(algorithm, problem)
    found = []
    for number in range(1, count + 1):
        answer = optimizer.ask(number)
        if answer is Nothing.LEFT:
            break
        assert isinstance(answer, Suggestion)
        found.append(answer.parameters)
        optimizer.tell(Result(number, answer.parameters, Outcome.MEASURED, (loss(found[-1]),)))
    return found


def method_of(name: str) -> Method:
    algorithm = Algorithm(name, "", "", multi_objective=True, constraints=True)
    return Method(algorithm, functools.partial(registry.make, name))


@pytest.mark.parametrize("check", conformance.CHECKS, ids=conformance.name_of)
@pytest.mark.parametrize("name", NAMES)
def test_every_method_conforms(name: str, check: conformance.Check) -> None:
    if name == "grid" and check is conformance.checks.another_seed_gives_others:
        pytest.skip("a grid knows no chance")
    check(method_of(name))


@pytest.mark.parametrize(
    "check",
    [
        conformance.checks.several_objectives_and_constraints,
        conformance.checks.objectives_of_any_number,
    ],
    ids=conformance.name_of,
)
def test_hypervolume_conforms_where_it_is_not_bayesian(check: conformance.Check) -> None:
    """For one objective, and for more than three, it is, and that conforms."""
    check(method_of("hypervolume"))


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_on_beyond_what_was_planned(name: str) -> None:
    found = suggestions(name, Problem(NUMERIC, 1, trials=6), 10)
    assert len(found) == (4 if name == "grid" else 10)


def test_a_grid_ends_with_its_last_point() -> None:
    assert len(suggestions("grid", Problem(CATEGORICAL, 1), 20)) == 9


def test_all_own_methods_are_listed_with_their_sources() -> None:
    listed = {algorithm.name: algorithm for algorithm in registry.algorithms()}
    own = [name for name in NAMES if "nevergrad" not in name]
    assert {"auto", "bayesian", *own} <= set(listed)
    assert all(listed[name].source and listed[name].description for name in own)


@pytest.mark.parametrize("algorithm", LEARNING)
def test_learning_beats_chance(algorithm: str) -> None:
    def best(name: str) -> float:
        return sum(
            min(map(loss, suggestions(name, Problem(NUMERIC, seed, trials=60), 60)))
            for seed in range(3)
        )

    assert best(algorithm) < best("random") + 0.02


def test_quasi_random_points_are_even() -> None:
    found = suggestions("quasi-random", Problem(NUMERIC, 5, trials=64), 64)
    for part in range(8):
        inside = [p for p in found if part / 8 <= float(p["x"]) < (part + 1) / 8]
        assert len(inside) == 8


def test_a_start_is_part_of_the_budget() -> None:
    problem = Problem(MIXED, 1, trials=20)
    assert auto.start_points(problem) == 4
    optimizer = registry.make("quasi-random+nevergrad/OnePlusOne", problem)
    sources = []
    for number in range(1, 8):
        answer = optimizer.ask(number)
        assert isinstance(answer, Suggestion)
        sources.append(answer.source)
    assert sources == ["quasi-random"] * 4 + ["nevergrad/OnePlusOne"] * 3


@pytest.mark.parametrize(
    ("space", "trials", "objectives", "chosen"),
    [
        (CATEGORICAL, 100, 1, "grid"),
        (CATEGORICAL, None, 1, "grid"),
        (CATEGORICAL, 5, 1, "bayesian+tpe"),
        (INTEGERS, None, 1, "bayesian+tpe"),
        (MIXED, 40, 1, "bayesian+tpe"),
        (MIXED, 1000, 1, "quasi-random+nevergrad/TwoPointsDE"),
        (NUMERIC, 1000, 1, "quasi-random+nevergrad/CMA"),
        (NUMERIC, 1000, 2, "nsga-ii"),
        (MIXED, 50, 2, "hypervolume"),
        (MIXED, None, 3, "hypervolume"),
        (MIXED, 50, 4, "bayesian+tpe"),
    ],
)
def test_auto_chooses_by_space_and_budget(
    space: SearchSpace, trials: int | None, objectives: int, chosen: str
) -> None:
    choice = registry.choose("auto", Problem(space, 1, trials, objectives), "field")
    assert choice.algorithm == chosen
    assert choice.because


def test_a_grid_is_not_enough_where_measurements_are_noisy() -> None:
    choice = registry.choose("auto", Problem(CATEGORICAL, 1, 100, noisy=True), "field")
    assert choice.algorithm == "bayesian+tpe"


def test_any_optimizer_of_nevergrad_is_tried_out_before_a_study_begins() -> None:
    problem = Problem(MIXED, 1, trials=20)
    assert registry.choose("nevergrad/PSO", problem, "f").algorithm == "nevergrad/PSO"
    with pytest.raises(InvalidInput, match="not installed") as caught:
        registry.choose("nevergrad/BayesOptimBO", problem, "f")
    assert caught.value.field == "f"
    with pytest.raises(InvalidInput, match="did you mean nevergrad/"):
        registry.choose("nevergrad/PS", problem, "f")


def test_a_space_without_a_choice_needs_no_optimizer() -> None:
    fixed = SearchSpace(tuple(p for p in MIXED.parameters if p.name == "version"))
    assert registry.choose("auto", Problem(fixed, 1, 10), "f").algorithm == "grid"
    assert suggestions("random", Problem(fixed, 1, 10), 2) == [{"version": 2}] * 2
    for name in ("quasi-random", "tpe", "regularized-evolution", "q-learning", "actor-critic"):
        found = suggestions(name, Problem(fixed, 1, 40), 12)
        assert found == [{"version": 2}] * 12
    with pytest.raises(InvalidInput, match="nothing to choose"):
        registry.choose("nevergrad/PSO", Problem(fixed, 1, 10), "f")
