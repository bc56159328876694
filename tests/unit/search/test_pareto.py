from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keeptune.search.pareto import Front

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
