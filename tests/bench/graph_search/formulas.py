"""Symbolic regression: formulas as trees, fitted with linear scaling.

Koza's classic. The formula's values are scaled and shifted to the targets by least squares
(Keijzer, Improving Symbolic Regression with Interval Arithmetic and Linear Scaling, 2003).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keeptune.search.domains import FloatRange, IntRange
from keeptune.search.graphs.values import Graph
from keeptune.search.space import GraphSpace, Kind, Parameter, SearchSpace, Shape

Array = np.ndarray[Any, np.dtype[np.float64]]

_NOTHING = SearchSpace(())
_TWO: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": lambda a, b: a / np.where(np.abs(b) < 1e-6, 1e-6, b),
}
_ONE: dict[str, Callable[[Array], Array]] = {
    "sine": np.sin,
    "exp": lambda a: np.exp(np.clip(a, -20.0, 20.0)),
    "log": lambda a: np.log(np.abs(a) + 1e-6),
}


def space_of(columns: int) -> GraphSpace:
    """Over so many columns."""
    return GraphSpace(
        (
            *(Kind(name, _NOTHING, ("", "")) for name in _TWO),
            *(Kind(name, _NOTHING) for name in _ONE),
            Kind("column", SearchSpace((Parameter("which", IntRange(0, columns - 1)),)), ()),
            Kind("number", SearchSpace((Parameter("value", FloatRange(-3.0, 3.0)),)), ()),
        ),
        Shape.TREE,
        max_nodes=25,
        max_depth=10,
        input="table",
    )


def loss(graph: Graph, x: Array, y: Array) -> float:
    """The part of the variance of y that is not explained: 0 to 1."""
    given: list[Array] = [x]
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            inputs = [given[i] for i in node.inputs]
            if node.kind == "column":
                found = x[:, int(node.settings["which"])]
            elif node.kind == "number":
                found = np.full(len(x), float(node.settings["value"]))
            elif node.kind in _ONE:
                found = _ONE[node.kind](inputs[0])
            else:
                found = _TWO[node.kind](inputs[0], inputs[1])
            given.append(found)
        values = given[-1] - given[-1].mean()
        power = float(values @ values)
        if not np.isfinite(power) or power < 1e-12:
            return 1.0
        target = y - y.mean()
        return max(0.0, 1.0 - float(values @ target) ** 2 / (power * float(target @ target)))
