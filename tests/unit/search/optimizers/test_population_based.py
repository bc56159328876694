"""`pbt` on a problem whose best parameters change while it trains."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from keeptune.search.domains import Categories, FloatRange, IntRange
from keeptune.search.optimizers.base import Nothing, Outcome, Problem, Result, Suggestion
from keeptune.search.optimizers.population_based import PopulationBasedTraining
from keeptune.search.optimizers.random_search import RandomSearch
from keeptune.search.space import Parameter, SearchSpace

RATES = SearchSpace((Parameter("rate", FloatRange(1e-4, 1.0, log=True)),))
STEPS = 10


def train(weights: np.ndarray, rate: float, steps: int, seed: int) -> np.ndarray:
    """Noisy gradient descent on a bowl: a large rate comes near soon, only a small one arrives."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        weights = weights - rate * (weights + 0.5 * rng.standard_normal(weights.shape))
    return weights


def fresh() -> np.ndarray:
    return np.full(50, 10.0)


def loss(weights: np.ndarray) -> float:
    return float(np.mean(weights**2))


def by_population(seed: int, trials: int, workers: int) -> float:
    """The best loss after so many intervals, of which some are always under way."""
    optimizer = PopulationBasedTraining(Problem(RATES, seed, trials))
    kept: dict[int, np.ndarray] = {}
    running: list[tuple[int, Suggestion]] = []
    number, best = 0, float("inf")
    while number < trials or running:
        answer = Nothing.YET if number >= trials else optimizer.ask(number + 1)
        if isinstance(answer, Suggestion):
            number += 1
            running.append((number, answer))
            if len(running) < workers:
                continue
        ended, suggestion = running.pop(0)
        start = kept[suggestion.continue_from] if suggestion.continue_from else fresh()
        kept[ended] = train(start, float(suggestion.parameters["rate"]), STEPS, ended)
        came_to = loss(kept[ended])
        best = min(best, came_to)
        result = Result(ended, suggestion.parameters, Outcome.MEASURED, (came_to,))
        optimizer.tell(result)
    return best


def by_chance(seed: int, intervals: int, length: int) -> float:
    """The best of whole trainings at one rate each, of as many steps in all."""
    optimizer = RandomSearch(Problem(RATES, seed))
    rates = [float(optimizer.ask(n).parameters["rate"]) for n in range(1, intervals // length + 1)]
    return min(loss(train(fresh(), rate, STEPS * length, i)) for i, rate in enumerate(rates))


@pytest.mark.parametrize("workers", [1, 6])
def test_it_finds_a_schedule_that_no_fixed_rate_matches(workers: int) -> None:
    ours = [by_population(seed, 100, workers) for seed in range(8)]
    chance = [by_chance(seed, 100, 10) for seed in range(8)]
    assert np.median(ours) < 0.5 * np.median(chance)
    # Nor the best fixed rate there is.
    fixed = min(loss(train(fresh(), rate, 100, 1)) for rate in np.geomspace(1e-4, 1.0, 60))
    assert np.median(ours) < fixed


def told(optimizer: PopulationBasedTraining, number: int, value: float) -> Suggestion:
    answer = optimizer.ask(number)
    assert isinstance(answer, Suggestion)
    optimizer.tell(Result(number, answer.parameters, Outcome.MEASURED, (value,)))
    return answer


def test_the_poor_continue_from_the_good_and_the_others_go_on() -> None:
    optimizer = PopulationBasedTraining(Problem(RATES, 3, trials=80))
    first = [told(optimizer, number, float(number)) for number in range(1, 9)]
    assert all(each.continue_from == 0 for each in first)
    second = [optimizer.ask(number) for number in range(9, 17)]
    origins = [each.continue_from for each in second if isinstance(each, Suggestion)]
    assert origins[:6] == [1, 2, 3, 4, 5, 6]
    # The worst two of eight copy one of the best two.
    assert set(origins[6:]) <= {1, 2}
    for number, each in enumerate(second[:6]):
        assert isinstance(each, Suggestion)
        assert each.parameters == first[number].parameters
    for each in second[6:]:
        assert isinstance(each, Suggestion)
        assert each.parameters != first[each.continue_from - 1].parameters
    # All are under way.
    assert optimizer.ask(17) is Nothing.YET


def test_members_that_break_begin_again_from_the_best() -> None:
    optimizer = PopulationBasedTraining(Problem(RATES, 3, trials=40))
    asked = [optimizer.ask(number) for number in range(1, 5)]
    outcomes = (Outcome.FAILED, Outcome.MEASURED, Outcome.INFEASIBLE, Outcome.MEASURED)
    for number, (each, outcome) in enumerate(zip(asked, outcomes, strict=True), start=1):
        assert isinstance(each, Suggestion)
        losses = (float(number),) if outcome is Outcome.MEASURED else ()
        optimizer.tell(Result(number, each.parameters, outcome, losses))
    origins = Counter(
        each.continue_from
        for each in map(optimizer.ask, range(5, 9))
        if isinstance(each, Suggestion)
    )
    assert origins == {2: 3, 4: 1}


def test_nobody_waits_for_the_slowest() -> None:
    optimizer = PopulationBasedTraining(Problem(RATES, 3, trials=40))
    slow = optimizer.ask(1)
    assert isinstance(slow, Suggestion)
    for number in range(2, 20):
        told(optimizer, number, float(number))
    optimizer.tell(Result(1, slow.parameters, Outcome.MEASURED, (0.5,)))
    late = optimizer.ask(20)
    # It has had the fewest intervals, and goes on from its own.
    assert isinstance(late, Suggestion) and late.continue_from == 1


def test_changes_stay_in_the_space() -> None:
    space = SearchSpace(
        (
            Parameter("kind", Categories(("a", "b", "c"))),
            Parameter("depth", IntRange(1, 3)),
            Parameter("rate", FloatRange(0.5, 0.5)),
        )
    )
    optimizer = PopulationBasedTraining(Problem(space, 1, trials=100))
    seen = [told(optimizer, number, -float(number)) for number in range(1, 60)]
    assert all(space.problem_with(each.parameters) is None for each in seen)
    assert len({each.parameters["kind"] for each in seen}) == 3
