"""Spaces of several kinds, and an objective on all of them."""

from __future__ import annotations

from keeptune.search.domains import Categories, Fixed, FloatRange, IntRange
from keeptune.search.space import Assignment, Condition, Parameter, SearchSpace

MIXED = SearchSpace(
    (
        Parameter("x", FloatRange(-5.0, 10.0)),
        Parameter("rate", FloatRange(1e-5, 1.0, log=True)),
        Parameter("depth", IntRange(1, 9)),
        Parameter("kind", Categories(("a", "b", "c"))),
        Parameter("bias", Categories((True, False))),
        Parameter("version", Fixed(2)),
        Parameter("width", IntRange(8, 64, step=8), (Condition("kind", ("b", "c")),)),
        Parameter(
            "dropout",
            FloatRange(0.0, 0.5, step=0.1),
            (Condition("width", low=24, high=64), Condition("bias", (True,))),
        ),
    )
)
NUMERIC = SearchSpace(
    (Parameter("x", FloatRange(0.0, 1.0)), Parameter("y", FloatRange(1.0, 100.0, log=True)))
)
INTEGERS = SearchSpace(
    (Parameter("m", IntRange(0, 7)), Parameter("n", IntRange(1, 1000, log=True)))
)
CATEGORICAL = SearchSpace(
    (Parameter("a", Categories(("x", "y", "z"))), Parameter("b", Categories((1, 2.5, False))))
)
SPACES = {
    "mixed": MIXED,
    "numeric": NUMERIC,
    "integers": INTEGERS,
    "categorical": CATEGORICAL,
}


def loss(parameters: Assignment) -> float:
    """Smooth in numbers, different for each category; lower for fewer parameters."""
    total = 0.0
    for name, value in parameters.items():
        if isinstance(value, bool | str):
            total += (sum(map(ord, f"{name}{value}")) % 7) / 7
        else:
            total += abs(float(value) - 3.0) ** 0.5
    return total
