"""What every optimiser keeps to, whatever its method."""

from __future__ import annotations

import pytest

from keeptune.runtime.errors import InvalidInput
from keeptune.search.optimizers import auto, registry
from keeptune.search.optimizers.base import Nothing, Outcome, Problem, Result, Suggestion
from keeptune.search.space import Assignment, SearchSpace
from tests.unit.search.spaces import CATEGORICAL, INTEGERS, MIXED, NUMERIC, SPACES, loss

pytestmark = pytest.mark.filterwarnings("ignore")

ALGORITHMS = [
    "random",
    "grid",
    "quasi-random",
    "quasi-random+nevergrad/OnePlusOne",
    "nevergrad/OnePlusOne",
    "nevergrad/CMA",
    "nevergrad/TwoPointsDE",
    "nevergrad/PSO",
    "nevergrad/NGOpt",
    "nevergrad/Cobyla",
]
LEARNING = ["quasi-random+nevergrad/OnePlusOne", "nevergrad/CMA", "nevergrad/TwoPointsDE"]


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


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("space", SPACES)
def test_suggestions_lie_in_the_space(algorithm: str, space: str) -> None:
    found = suggestions(algorithm, Problem(SPACES[space], 3, trials=10), 10)
    assert found
    assert all(SPACES[space].problem_with(each) is None for each in found)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_seeds_decide(algorithm: str) -> None:
    one = suggestions(algorithm, Problem(MIXED, 1, trials=10), 10)
    assert suggestions(algorithm, Problem(MIXED, 1, trials=10), 10) == one
    if algorithm != "grid":
        assert suggestions(algorithm, Problem(MIXED, 2, trials=10), 10) != one


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_trials_under_way_do_not_stop_it_for_ever(algorithm: str) -> None:
    optimizer = registry.make(algorithm, Problem(MIXED, 1, trials=30))
    waiting: list[tuple[int, Assignment]] = []
    number = 1
    while number <= 20:
        answer = optimizer.ask(number)
        if answer is Nothing.YET:
            assert waiting, "it waits for results, but nothing is under way"
        else:
            assert isinstance(answer, Suggestion)
            waiting.append((number, answer.parameters))
            number += 1
        if answer is Nothing.YET or len(waiting) == 8:
            at, parameters = waiting.pop(0)
            optimizer.tell(Result(at, parameters, Outcome.MEASURED, (loss(parameters),)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_broken_and_infeasible_trials_do_not_break_it(algorithm: str) -> None:
    optimizer = registry.make(algorithm, Problem(MIXED, 1, trials=30))
    outcomes = [Outcome.INFEASIBLE, Outcome.FAILED, Outcome.MEASURED]
    for number in range(1, 16):
        answer = optimizer.ask(number)
        assert isinstance(answer, Suggestion)
        outcome = outcomes[number % 3]
        losses = (loss(answer.parameters),) if outcome is Outcome.MEASURED else ()
        optimizer.tell(Result(number, answer.parameters, outcome, losses))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_takes_several_objectives_and_constraints(algorithm: str) -> None:
    optimizer = registry.make(algorithm, Problem(MIXED, 1, trials=20, objectives=2, constraints=1))
    for number in range(1, 13):
        answer = optimizer.ask(number)
        assert isinstance(answer, Suggestion)
        found = loss(answer.parameters)
        optimizer.tell(
            Result(number, answer.parameters, Outcome.MEASURED, (found, -found), (found - 2,))
        )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_goes_on_beyond_what_was_planned(algorithm: str) -> None:
    found = suggestions(algorithm, Problem(NUMERIC, 1, trials=6), 10)
    assert len(found) == (4 if algorithm == "grid" else 10)


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
        (CATEGORICAL, 5, 1, "quasi-random+nevergrad/OnePlusOne"),
        (INTEGERS, None, 1, "quasi-random+nevergrad/OnePlusOne"),
        (MIXED, 40, 1, "quasi-random+nevergrad/OnePlusOne"),
        (MIXED, 1000, 1, "quasi-random+nevergrad/TwoPointsDE"),
        (NUMERIC, 1000, 1, "quasi-random+nevergrad/CMA"),
        (NUMERIC, 1000, 2, "quasi-random+nevergrad/TwoPointsDE"),
    ],
)
def test_auto_chooses_by_space_and_budget(
    space: SearchSpace, trials: int | None, objectives: int, chosen: str
) -> None:
    choice = registry.choose("auto", Problem(space, 1, trials, objectives), "field")
    assert choice.algorithm == chosen
    assert choice.because


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
    assert suggestions("quasi-random", Problem(fixed, 1, 10), 2) == [{"version": 2}] * 2
    with pytest.raises(InvalidInput, match="nothing to choose"):
        registry.choose("nevergrad/PSO", Problem(fixed, 1, 10), "f")
