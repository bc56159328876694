"""What `hypervolume` and `nsga-ii` are made of, and that they pursue all objectives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.search.domains import FloatRange
from keeptune.search.optimizers import registry
from keeptune.search.optimizers.base import Outcome, Problem, Result, Suggestion
from keeptune.search.optimizers.hypervolume.boxes import (
    boxes,
    log_expected_below,
    log_expected_gain,
)
from keeptune.search.optimizers.nsga2 import GeneticSearch
from keeptune.search.pareto import hypervolume
from keeptune.search.space import Parameter, SearchSpace
from tests.unit.search.spaces import MIXED

CUBE = SearchSpace(tuple(Parameter(name, FloatRange(0.0, 1.0)) for name in "abcd"))


def gain(front: np.ndarray, reference: np.ndarray, point: np.ndarray) -> float:
    both = np.concatenate([front, point[None]])
    return hypervolume(both, reference) - hypervolume(front, reference)


@pytest.mark.parametrize("objectives", [2, 3])
@given(data=st.data())
def test_boxes_hold_what_a_point_would_add(objectives: int, data: st.DataObject) -> None:
    point = st.tuples(*[st.integers(0, 8).map(float)] * objectives)
    front = np.array(data.draw(st.lists(point, max_size=12))).reshape(-1, objectives)
    new = np.array(data.draw(point))
    reference = np.full(objectives, 7.0)
    found = boxes(front, reference)
    sides = np.maximum(found.high - np.maximum(found.low, new), 0.0)
    assert sides.prod(axis=1).sum() == pytest.approx(gain(front, reference, new), abs=1e-9)


@pytest.mark.parametrize("objectives", [2, 3])
def test_the_expected_gain_is_that_of_many_draws(objectives: int) -> None:
    rng = np.random.default_rng(0)
    front, reference = rng.random((8, objectives)), np.ones(objectives)
    means, deviations = rng.random((objectives, 3)), 0.3 * rng.random((objectives, 3)) + 0.05
    found = np.exp(log_expected_gain(boxes(front, reference), means, deviations))
    for i in range(3):
        draws = means[:, i] + deviations[:, i] * rng.standard_normal((800, objectives))
        gains = [gain(front, reference, draw) for draw in draws]
        error = np.std(gains) / np.sqrt(len(gains))
        assert found[i] == pytest.approx(np.mean(gains), abs=4 * error + 1e-6)


def test_the_expected_gain_is_told_apart_where_it_is_tiny() -> None:
    edges = np.array([-np.inf, -60.0, -40.0, -5.0, 0.0, 5.0, 1e9])
    found = log_expected_below(np.zeros(7), np.ones(7), edges)
    assert found[0] == -np.inf
    assert np.isfinite(found[1:]).all()
    assert (np.diff(found[1:]) > 0).all()
    assert np.exp(found[-1]) == pytest.approx(1e9)


@pytest.mark.parametrize(
    ("algorithm", "objectives", "trials"),
    [("hypervolume", 2, 24), ("hypervolume", 3, 24), ("hypervolume", 4, 24), ("nsga-ii", 2, 90)],
)
def test_all_objectives_are_pursued(algorithm: str, objectives: int, trials: int) -> None:
    """Each has an aim of its own in one or two parameters; the others have one for all."""

    def dominated(name: str) -> float:
        optimizer = registry.make(name, Problem(CUBE, 3, trials, objectives))
        losses = []
        for number in range(1, trials + 1):
            answer = optimizer.ask(number)
            assert isinstance(answer, Suggestion)
            a, b, *others = (float(value) for value in answer.parameters.values())
            far = sum((value - 0.6) ** 2 for value in others)
            aims = ((0.0, 0.3), (1.0, 0.3), (0.5, 1.0), (0.3, 0.0))[:objectives]
            losses.append(tuple(far + (a - x) ** 2 + (b - y) ** 2 for x, y in aims))
            optimizer.tell(Result(number, answer.parameters, Outcome.MEASURED, losses[-1]))
        return hypervolume(np.array(losses), np.full(objectives, 1.2))

    assert dominated(algorithm) > 1.05 * dominated("random")


@pytest.mark.parametrize("algorithm", ["hypervolume", "nsga-ii"])
def test_both_turn_to_what_is_feasible(algorithm: str) -> None:
    """A quarter of the space keeps to the constraint, and none of the first trials may."""
    trials = 80 if algorithm == "nsga-ii" else 24
    optimizer = registry.make(algorithm, Problem(CUBE, 4, trials, objectives=2, constraints=1))
    feasible = []
    for number in range(1, trials + 1):
        answer = optimizer.ask(number)
        assert isinstance(answer, Suggestion)
        a, b, c, d = (float(value) for value in answer.parameters.values())
        result = Result(number, answer.parameters, Outcome.MEASURED, (c, 1 - c + d), (a + b - 0.7,))
        feasible.append(result.is_feasible)
        optimizer.tell(result)
    assert sum(feasible[-10:]) >= 6


def test_children_lie_between_and_near_their_parents() -> None:
    """Simulated binary crossover keeps the mean of the parents; mutation moves little."""
    search = GeneticSearch(Problem(CUBE, 1, 50, objectives=2))
    mother, father = (CUBE.at(dict.fromkeys("abcd", unit)) for unit in (0.4, 0.6))
    rng = np.random.default_rng(0)
    found = np.array(
        [[*search._of(mother, father, rng).values()] for _ in range(2000)], dtype=float
    )
    assert found.min() >= 0 and found.max() <= 1
    # Half of the numbers and a tenth of the children are the mother's.
    assert found.mean() == pytest.approx(0.4 + 0.9 * 0.5 * 0.1, abs=0.01)
    assert np.quantile(np.abs(found - 0.5), 0.95) < 0.2


def test_children_of_any_parents_lie_in_the_space() -> None:
    search = GeneticSearch(Problem(MIXED, 1, 50, objectives=2))
    rng = np.random.default_rng(0)
    for _ in range(300):
        one, other = (MIXED.at({p.name: rng.random() for p in MIXED.free}) for _ in range(2))
        assert MIXED.problem_with(search._of(one, other, rng)) is None
