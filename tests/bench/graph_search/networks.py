"""Neural networks as graphs of layers, trained for real: Adam on small batches, in NumPy.

A node takes all that its inputs give side by side. What the graph gives goes through a linear layer
to the targets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from keeptune.search.domains import Categories, FloatRange, IntRange
from keeptune.search.graphs.values import Graph
from keeptune.search.space import (
    Assignment,
    GraphSpace,
    Kind,
    Parameter,
    SearchSpace,
    Shape,
)

Array = np.ndarray[Any, np.dtype[np.float64]]

_BATCH = 32
_WIDEST = 1e3
_LAYERS = (
    Kind(
        "dense",
        SearchSpace(
            (
                Parameter("units", IntRange(2, 64, log=True)),
                Parameter("act", Categories(("relu", "tanh", "sine", "linear"))),
            )
        ),
    ),
    Kind("dropout", SearchSpace((Parameter("rate", FloatRange(0.0, 0.6)),))),
    Kind("norm", SearchSpace(())),
    Kind("square", SearchSpace(())),
)
CHAIN = GraphSpace(_LAYERS, Shape.CHAIN, max_nodes=8)
DAG = GraphSpace(
    tuple(Kind(kind.name, kind.parameters, most_inputs=3) for kind in _LAYERS),
    Shape.DAG,
    max_nodes=9,
    max_width=4,
    allow_skips=True,
)


def space_of(graph: GraphSpace) -> SearchSpace:
    """A network beside how it is trained."""
    return SearchSpace(
        (
            Parameter("net", graph),
            Parameter("rate", FloatRange(1e-4, 1e-1, log=True)),
            Parameter("decay", FloatRange(1e-6, 1e-1, log=True)),
        )
    )


def loss(
    parameters: Assignment, train: tuple[Array, Array], test: tuple[Array, Array], epochs: int
) -> float:
    """On `test` after training on `train`: x (n, d) and targets (n, k).

    Cross entropy where the targets are one-hot (k > 1), the squared error else.
    """
    graph = parameters["net"]
    assert isinstance(graph, Graph)
    rng = np.random.default_rng(0)
    net = _Network(graph, train[0].shape[1], train[1].shape[1], rng)
    optimizer = _Adam(float(str(parameters["rate"])), float(str(parameters["decay"])))
    x, y = train
    with np.errstate(all="ignore"):
        for _ in range(epochs):
            order = rng.permutation(len(x))
            for start in range(0, len(x), _BATCH):
                batch = order[start : start + _BATCH]
                given = net.forward(x[batch], rng)
                net.backward((_guess(given) - y[batch]) / len(batch))
                optimizer.step(net.weights)
        found = _cost(_guess(net.forward(test[0], None)), test[1])
    return found if np.isfinite(found) and found < _WIDEST else _WIDEST


def _guess(outputs: Array) -> Array:
    if outputs.shape[1] == 1:
        return outputs
    shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _cost(guess: Array, y: Array) -> float:
    if y.shape[1] == 1:
        return float(np.mean((guess - y) ** 2))
    return float(-np.mean(np.log(np.clip((guess * y).sum(axis=1), 1e-6, 1.0))))


@dataclass
class _Weight:
    value: Array
    slope: Array = field(init=False)
    first: Array = field(init=False)
    second: Array = field(init=False)

    def __post_init__(self) -> None:
        self.slope = np.zeros_like(self.value)
        self.first, self.second = np.zeros_like(self.value), np.zeros_like(self.value)


class _Adam:
    """With decoupled decay of the weights."""

    def __init__(self, rate: float, decay: float) -> None:
        self._rate, self._decay, self._steps = rate, decay, 0

    def step(self, weights: list[_Weight]) -> None:
        self._steps += 1
        rate = self._rate * np.sqrt(1 - 0.999**self._steps) / (1 - 0.9**self._steps)
        for weight in weights:
            weight.first += 0.1 * (weight.slope - weight.first)
            weight.second += 0.001 * (weight.slope**2 - weight.second)
            weight.value *= 1 - self._rate * self._decay
            weight.value -= rate * weight.first / (np.sqrt(weight.second) + 1e-8)


class _Dense:
    def __init__(self, width: int, units: int, act: str, rng: np.random.Generator) -> None:
        self.width, self._act = units, act
        self.w = _Weight(rng.standard_normal((width, units)) * np.sqrt(1.5 / width))
        self.b = _Weight(np.zeros((1, units)))
        self.weights = [self.w, self.b]

    def forward(self, x: Array, rng: np.random.Generator | None) -> Array:
        self._x = x
        self._z = x @ self.w.value + self.b.value
        match self._act:
            case "relu":
                return np.maximum(self._z, 0.0)
            case "tanh":
                self._t = np.tanh(self._z)
                return self._t
            case "sine":
                return np.sin(self._z)
            case _:
                return self._z

    def backward(self, slope: Array) -> Array:
        match self._act:
            case "relu":
                slope = slope * (self._z > 0)
            case "tanh":
                slope = slope * (1 - self._t**2)
            case "sine":
                slope = slope * np.cos(self._z)
        self.w.slope = self._x.T @ slope
        self.b.slope = slope.sum(axis=0, keepdims=True)
        return np.asarray(slope @ self.w.value.T)


class _Dropout:
    weights: ClassVar[list[_Weight]] = []

    def __init__(self, width: int, rate: float) -> None:
        self.width, self._rate = width, rate

    def forward(self, x: Array, rng: np.random.Generator | None) -> Array:
        self._mask = np.ones_like(x)
        if rng is not None:
            self._mask = (rng.random(x.shape) >= self._rate) / (1 - self._rate)
        return x * self._mask

    def backward(self, slope: Array) -> Array:
        return slope * self._mask


class _Norm:
    """Each row to mean 0 and variance 1 (layer normalisation)."""

    weights: ClassVar[list[_Weight]] = []

    def __init__(self, width: int) -> None:
        self.width = width

    def forward(self, x: Array, rng: np.random.Generator | None) -> Array:
        self._scale = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        self._n = (x - x.mean(axis=1, keepdims=True)) / self._scale
        return self._n

    def backward(self, slope: Array) -> Array:
        mean = slope.mean(axis=1, keepdims=True)
        along = (slope * self._n).mean(axis=1, keepdims=True)
        return np.asarray((slope - mean - self._n * along) / self._scale)


class _Square:
    weights: ClassVar[list[_Weight]] = []

    def __init__(self, width: int) -> None:
        self.width = width

    def forward(self, x: Array, rng: np.random.Generator | None) -> Array:
        self._x = np.clip(x, -4.0, 4.0)
        self._inside = np.abs(x) < 4.0
        return self._x**2 / 2

    def backward(self, slope: Array) -> Array:
        return slope * self._x * self._inside


_Layer = _Dense | _Dropout | _Norm | _Square


class _Network:
    def __init__(self, graph: Graph, width: int, targets: int, rng: np.random.Generator) -> None:
        self._graph = graph
        self._widths = [width]
        self._layers: list[_Layer] = []
        for node in graph.nodes:
            taken = sum(self._widths[i] for i in node.inputs)
            settings = node.settings
            layer: _Layer
            match node.kind:
                case "dense":
                    layer = _Dense(taken, int(settings["units"]), str(settings["act"]), rng)
                case "dropout":
                    layer = _Dropout(taken, float(settings["rate"]))
                case "norm":
                    layer = _Norm(taken)
                case _:
                    layer = _Square(taken)
            self._layers.append(layer)
            self._widths.append(layer.width)
        self._head = _Dense(self._widths[-1], targets, "linear", rng)
        layers: list[_Layer] = [*self._layers, self._head]
        self.weights = [weight for layer in layers for weight in layer.weights]

    def forward(self, x: Array, rng: np.random.Generator | None) -> Array:
        given = [x]
        for node, layer in zip(self._graph.nodes, self._layers, strict=True):
            inputs = [given[i] for i in node.inputs]
            joined = inputs[0] if len(inputs) == 1 else np.hstack(inputs)
            given.append(layer.forward(joined, rng))
        return self._head.forward(given[-1], rng)

    def backward(self, slope: Array) -> None:
        slopes: list[Array | None] = [None] * (len(self._layers) + 1)
        slopes[-1] = self._head.backward(slope)
        for place in range(len(self._layers), 0, -1):
            own = slopes[place]
            assert own is not None
            taken = self._layers[place - 1].backward(own)
            start = 0
            for i in self._graph.nodes[place - 1].inputs:
                part = taken[:, start : start + self._widths[i]]
                start += self._widths[i]
                before = slopes[i]
                slopes[i] = part if before is None else before + part
