"""Spaces of several kinds, and an objective on all of them."""

from __future__ import annotations

from keeptune.search.domains import Categories, Fixed, FloatRange, IntRange
from keeptune.search.graphs.values import Graph
from keeptune.search.space import (
    Assignment,
    Condition,
    GraphSpace,
    Kind,
    Parameter,
    SearchSpace,
    Shape,
)

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
_UNITS = SearchSpace((Parameter("units", IntRange(4, 64, log=True)),))
_RATE = SearchSpace((Parameter("rate", FloatRange(0.0, 0.9)),))
_NOTHING = SearchSpace(())

# Layers: nothing convolutional follows what is flat.
CHAIN = GraphSpace(
    (
        Kind("conv", _UNITS, ("image",), "image"),
        Kind("pool", _NOTHING, ("image",), "image"),
        Kind("flatten", _NOTHING, ("image",), "flat"),
        Kind("dropout", _RATE, ("flat",), "flat"),
        Kind("fc", _UNITS, ("flat",), "flat"),
    ),
    Shape.CHAIN,
    max_nodes=7,
    input="image",
    output="flat",
)
DAG = GraphSpace(
    (Kind("dense", _UNITS, most_inputs=3), Kind("dropout", _RATE)),
    Shape.DAG,
    max_nodes=8,
    max_width=3,
    allow_skips=True,
)
LAYERED = GraphSpace((Kind("dense", _UNITS, most_inputs=3),), Shape.DAG, max_nodes=8, min_depth=2)
TREE = GraphSpace(
    (
        Kind("scale", _NOTHING, ("table",), "table"),
        Kind("select", _RATE, ("table",), "table"),
        Kind("classify", _UNITS, ("table",), "guess"),
        Kind("always", _RATE, (), "guess"),
        Kind("vote", _NOTHING, ("guess", "guess"), "guess", most_inputs=4),
    ),
    Shape.TREE,
    max_nodes=9,
    max_depth=5,
    input="table",
    output="guess",
)
# Each beside ordinary parameters, one of them with conditions.
GRAPHS = {
    name: SearchSpace((Parameter("net", graph), *MIXED.parameters))
    for name, graph in {"chain": CHAIN, "dag": DAG, "layered": LAYERED, "tree": TREE}.items()
} | {"alone": SearchSpace((Parameter("net", DAG),))}
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
        if isinstance(value, Graph):
            total += _graph_loss(value)
        elif isinstance(value, bool | str):
            total += (sum(map(ord, f"{name}{value}")) % 7) / 7
        else:
            total += abs(float(value) - 3.0) ** 0.5
    return total


def _graph_loss(graph: Graph) -> float:
    """Best at four nodes, of few kinds."""
    return abs(len(graph) - 4.0) + sum(
        loss(node.settings) / 10 + 0.1 * len(node.inputs) for node in graph.nodes
    )
