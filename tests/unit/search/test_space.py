from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.search import space_rules
from keeptune.search.domains import Categories, FloatRange, IntRange
from keeptune.search.space import Condition, Parameter, SearchSpace
from tests.unit.search.spaces import CATEGORICAL, MIXED, NUMERIC, SPACES


def units(space: SearchSpace) -> st.SearchStrategy[dict[str, float]]:
    return st.fixed_dictionaries({p.name: st.floats(0, 1) for p in space.free})


@pytest.mark.parametrize("name", SPACES)
@given(data=st.data())
def test_any_point_is_a_right_assignment(name: str, data: st.DataObject) -> None:
    space = SPACES[name]
    values = space.at(data.draw(units(space)))
    assert space.problem_with(values) is None
    assert list(values) == [p.name for p in space.parameters if p.name in values]


@given(data=st.data())
def test_conditions_hold_exactly_for_the_active(data: st.DataObject) -> None:
    values = MIXED.at(data.draw(units(MIXED)))
    assert ("width" in values) == (values["kind"] in ("b", "c"))
    wide = "width" in values and values["width"] >= 24  # type: ignore[operator]
    assert ("dropout" in values) == (wide and values["bias"] is True)
    assert values["version"] == 2


def test_conditions_may_stand_before_their_parents() -> None:
    child = Parameter("child", IntRange(1, 2), (Condition("parent", ("a",)),))
    parent = Parameter("parent", Categories(("a", "b")))
    space = SearchSpace((child, parent))
    assert [p.name for p in space.ordered] == ["parent", "child"]
    assert space.at({"parent": 0.0, "child": 0.9}) == {"child": 2, "parent": "a"}
    assert space.at({"parent": 0.9, "child": 0.9}) == {"parent": "b"}


def test_a_grid_has_every_assignment_once() -> None:
    space = SearchSpace(
        (
            Parameter("a", Categories(("x", "y"))),
            Parameter("b", IntRange(1, 3), (Condition("a", ("y",)),)),
            Parameter("c", Categories((True, False)), (Condition("b", low=2, high=3),)),
        )
    )
    assert list(space.grid(1)) == [
        {"a": "x"},
        {"a": "y", "b": 1},
        {"a": "y", "b": 2, "c": True},
        {"a": "y", "b": 2, "c": False},
        {"a": "y", "b": 3, "c": True},
        {"a": "y", "b": 3, "c": False},
    ]
    assert space.size(10) == 6
    assert space.size(6) == 6
    assert space.size(5) is None


def test_a_grid_of_a_thousand_parameters_is_lazy() -> None:
    space = SearchSpace(tuple(Parameter(f"p{i}", IntRange(0, 9)) for i in range(1000)))
    first, second = itertools.islice(space.grid(1), 2)
    assert sum(map(int, first.values())) == 0
    assert sum(map(int, second.values())) == 1
    assert second["p999"] == 1


def test_levels_keep_the_grid_within_the_budget() -> None:
    assert NUMERIC.grid_levels(30) == 5
    assert sum(1 for _ in NUMERIC.grid(NUMERIC.grid_levels(30))) == 25
    assert NUMERIC.grid_levels(1) == 2
    assert CATEGORICAL.grid_levels(1) == 1
    assert NUMERIC.size(10**6) is None


def test_what_is_wrong_with_an_assignment_is_named() -> None:
    right = MIXED.at({"x": 0.5, "kind": 0.0, "bias": 0.9})
    assert MIXED.problem_with(right) is None
    assert MIXED.problem_with({**right, "width": 8}) == (
        "width",
        "is given though its conditions do not hold",
    )
    assert MIXED.problem_with({**right, "kind": "b"}) == ("width", "is missing")
    assert MIXED.problem_with({**right, "depth": 10}) == (
        "depth",
        "is 10, which the integers 1 to 9 has not",
    )
    assert MIXED.problem_with({**right, "other": 1}) == ("other", "is no parameter of the space")


def test_right_spaces_have_no_violations() -> None:
    for space in SPACES.values():
        assert not list(space_rules.violations(space, "space"))


def test_whole_numbers_may_be_written_either_way_in_conditions() -> None:
    space = SearchSpace(
        (
            Parameter("n", IntRange(1, 3)),
            Parameter("x", FloatRange(0.0, 1.0), (Condition("n", (2.0,)),)),
        )
    )
    assert not list(space_rules.violations(space, "space"))
    assert "x" in space.at({"n": 0.5, "x": 0.5})
