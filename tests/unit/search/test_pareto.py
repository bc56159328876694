from __future__ import annotations

import itertools
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.search.pareto import Front, hypervolume, reference_point

POINTS = st.lists(st.tuples(*[st.integers(0, 5).map(float)] * 2), max_size=30)


def test_one_objective_has_one_best() -> None:
    front = Front()
    for number, loss in enumerate((3.0, 1.0, 1.0, 2.0), start=1):
        front.add(number, (loss,))
    assert front.numbers == [2]


@given(points=POINTS)
def test_the_front_is_what_nobody_beats(points: list[tuple[float, float]]) -> None:
    front = Front()
    for number, point in enumerate(points):
        front.add(number, point)
    expected = {
        number
        for number, (x, y) in enumerate(points)
        if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)
        and points.index((x, y)) == number
    }
    assert set(front.numbers) == expected
    assert [points[n] for n in front.numbers] == sorted(points[n] for n in expected)


def grid_volume(points: list[tuple[float, ...]], side: int) -> float:
    """By counting the unit cubes below `side` that some point dominates; whole numbers only."""
    cubes = itertools.product(range(side), repeat=len(points[0]))
    return float(sum(any(all(map(operator.le, p, cube)) for p in points) for cube in cubes))


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@given(data=st.data())
def test_the_hypervolume_is_that_of_the_cubes_dominated(
    objectives: int, data: st.DataObject
) -> None:
    point = st.tuples(*[st.integers(0, 6).map(float)] * objectives)
    points = data.draw(st.lists(point, min_size=1, max_size=12))
    found = hypervolume(np.array(points), np.full(objectives, 5.0))
    assert found == pytest.approx(grid_volume(points, 5))


def test_the_reference_lies_behind_the_front_only() -> None:
    losses = np.array([(0.0, 10.0), (1.0, 0.0), (50.0, 50.0)])
    assert reference_point(losses).tolist() == pytest.approx([1.1, 11.0])
    # A single best point: the others tell the scale.
    assert (reference_point(np.array([(1.0, 2.0), (2.0, 2.0)])) > (1.0, 2.0)).all()
    assert (reference_point(np.array([(0.0, -3.0)])) > (0.0, -3.0)).all()
