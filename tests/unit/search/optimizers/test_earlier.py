"""What is left of an earlier study's results in a space that has changed."""

from __future__ import annotations

import pytest

from keeptune.runtime import documents
from keeptune.search.domains import Categories, Fixed, FloatRange, IntRange, Value
from keeptune.search.optimizers.base import Outcome, Result
from keeptune.search.optimizers.earlier import MOST_RESULTS, Earlier, taken_over
from keeptune.search.space import Assignment, Condition, Parameter, SearchSpace

SPACE = SearchSpace(
    (
        Parameter("rate", FloatRange(1e-3, 1e-1, log=True)),
        Parameter("units", IntRange(8, 64, step=8)),
        Parameter("kind", Categories(("a", "b", 32))),
        Parameter("beta", FloatRange(0.0, 1.0), (Condition("kind", ("a",)),)),
        Parameter("version", Fixed(2)),
        Parameter("mode", Fixed("fast")),
    )
)


def taken(**parameters: Value) -> Assignment | None:
    found = taken_over(SPACE, 0, [Result(7, parameters, Outcome.MEASURED, (1.0,))])
    return found[0].parameters if found else None


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"rate": 0.01, "gone": 1.0}, {"rate": 0.01}),
        ({"rate": 0.01, "units": 16}, {"rate": 0.01, "units": 16}),
        # From whole numbers and floats to the other, and onto the steps.
        ({"units": 16.0}, {"units": 16}),
        ({"units": 21}, {"units": 24}),
        ({"beta": 1, "kind": "a"}, {"kind": "a", "beta": 1.0}),
        ({"kind": 32.0}, {"kind": 32}),
        # A little outside is as good as at the end, on the parameter's own scale.
        ({"rate": 0.2}, {"rate": 0.1}),
        ({"units": 4}, {"units": 8}),
        # What cannot be active beside the others goes.
        ({"kind": "b", "beta": 0.5}, {"kind": "b"}),
        (
            {"rate": 0.01, "version": 1, "mode": "fast"},
            {"rate": 0.01, "version": 2, "mode": "fast"},
        ),
        # Another language for the same name.
        ({"rate": "slow", "units": 16}, {"units": 16}),
    ],
)
def test_what_means_something_here_stays(given: Assignment, left: Assignment) -> None:
    assert taken(**given) == left
    assert {name: type(value) for name, value in (taken(**given) or {}).items()} == {
        name: type(value) for name, value in left.items()
    }


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "c", "rate": 0.01},
        {"rate": 10.0, "units": 16},
        {"rate": -0.01, "units": 16},
        {"rate": 0.01, "mode": "slow"},
        {"gone": 1.0},
        {"version": 2},
    ],
)
def test_what_is_no_point_of_the_space_is_left_out(given: Assignment) -> None:
    assert taken(**given) is None


def test_of_many_results_the_best_and_a_spread_are_kept() -> None:
    results = [
        Result(i, {"rate": 0.01}, Outcome.MEASURED, (float((7 * i) % 1000),))
        for i in range(1, 1000)
    ]
    found = taken_over(SPACE, 3, results)
    losses = sorted(each.losses[0] for each in found)
    assert len(found) == MOST_RESULTS
    assert losses[: MOST_RESULTS // 2] == sorted(r.losses[0] for r in results)[: MOST_RESULTS // 2]
    assert losses[-1] > 950
    assert [each.number for each in found] == [-i for i in range(1, MOST_RESULTS + 1)]
    assert {each.source for each in found} == {3}


def test_what_was_kept_before_sources_were_told_apart_is_read() -> None:
    old = Result(-1, {"rate": 0.01}, Outcome.MEASURED, (1.0,), (0.5,))
    assert documents.decode(documents.encode(old), Earlier) == Earlier(
        -1, {"rate": 0.01}, Outcome.MEASURED, (1.0,), (0.5,)
    )
