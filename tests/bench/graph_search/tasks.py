"""What graphs are searched for: each task a space, and the loss of its points."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import datasets

from keeptune.search.graphs.values import Graph
from keeptune.search.space import Assignment, Parameter, SearchSpace
from tests.bench.graph_search import formulas, networks, pipelines

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Task:
    """`revision` grows with every change of what `loss` means."""

    name: str
    space: SearchSpace
    loss: Callable[[Assignment], float]
    revision: int = 1


@functools.cache
def _data(name: str) -> tuple[Array, Array]:
    """x (n, d) and y (n,), in one shuffled order for ever."""
    if name == "friedman":
        x, y = datasets.make_friedman1(400, 8, noise=1.0, random_state=0)
    elif name == "nguyen":
        rng = np.random.default_rng(0)
        x = rng.uniform(0.0, 2.0, (60, 2))
        y = np.log(x[:, 0] + 1) + np.log(x[:, 0] ** 2 + 1) + np.sin(x[:, 1] ** 2)
    else:
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], y[order]


def _pipeline(name: str, rows: int) -> Task:
    def loss(parameters: Assignment) -> float:
        x, y = _data(name)
        return pipelines.loss(_graph(parameters), x[:rows], y[:rows])

    space = SearchSpace((Parameter("pipeline", pipelines.SPACE),))
    return Task(f"pipeline-{name.replace('_', '-')}", space, loss)


def _network(name: str, shape: str, rows: int, epochs: int) -> Task:
    def loss(parameters: Assignment) -> float:
        x, y = _data(name)
        scaled = (x - x[:rows].mean(axis=0)) / (x[:rows].std(axis=0) + 1e-6)
        targets = (
            np.eye(y.max() + 1)[y]
            if y.dtype.kind == "i"
            else ((y - y[:rows].mean()) / y[:rows].std())[:, None]
        )
        train, test = slice(None, rows), slice(rows, 3 * rows)
        return networks.loss(
            parameters, (scaled[train], targets[train]), (scaled[test], targets[test]), epochs
        )

    graph = networks.CHAIN if shape == "layers" else networks.DAG
    return Task(f"{shape}-{name}", networks.space_of(graph), loss)


def _formula(name: str) -> Task:
    x, y = _data(name)
    if name != "nguyen":
        x = (x - x.mean(axis=0)) / x.std(axis=0)

    def loss(parameters: Assignment) -> float:
        return formulas.loss(_graph(parameters), x, y)

    space = SearchSpace((Parameter("formula", formulas.space_of(x.shape[1])),))
    return Task(f"formula-{name}", space, loss)


def _graph(parameters: Assignment) -> Graph:
    (graph,) = parameters.values()
    assert isinstance(graph, Graph)
    return graph


TASKS = {
    task.name: task
    for task in (
        _pipeline("digits", 500),
        _pipeline("breast_cancer", 400),
        _network("digits", "layers", 200, 15),
        _network("friedman", "layers", 130, 25),
        _network("digits", "dag", 200, 15),
        _network("friedman", "dag", 130, 25),
        _formula("diabetes"),
        _formula("nguyen"),
    )
}
