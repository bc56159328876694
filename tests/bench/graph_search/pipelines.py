"""Classification pipelines as typed trees: columns in, guesses out, evaluated with scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectPercentile, f_classif
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from keeptune.search.domains import Categories, FloatRange, IntRange
from keeptune.search.graphs.values import Graph, Scalar
from keeptune.search.space import GraphSpace, Kind, Parameter, SearchSpace, Shape

Array = np.ndarray[Any, np.dtype[Any]]
# Of the training half and of the other one.
Halves = tuple[Array, Array]

_COLUMNS, _GUESS = "columns", "guess"
_SCALERS = {"standard": StandardScaler, "minmax": MinMaxScaler, "robust": RobustScaler}
# What guesses are surest of; a wrong one costs as much.
_SUREST = 0.999


def _space(**domains: Any) -> SearchSpace:
    return SearchSpace(tuple(Parameter(name, domain) for name, domain in domains.items()))


def _classifier(name: str, **domains: Any) -> Kind:
    return Kind(name, _space(**domains), (_COLUMNS,), _GUESS)


SPACE = GraphSpace(
    (
        Kind("scale", _space(how=Categories(tuple(_SCALERS))), (_COLUMNS,), _COLUMNS),
        Kind("pca", _space(part=FloatRange(0.1, 1.0)), (_COLUMNS,), _COLUMNS),
        Kind("select", _space(part=FloatRange(0.1, 1.0)), (_COLUMNS,), _COLUMNS),
        Kind(
            "kernel",
            _space(gamma=FloatRange(1e-3, 1.0, log=True), size=IntRange(10, 60)),
            (_COLUMNS,),
            _COLUMNS,
        ),
        Kind("union", _space(), (_COLUMNS, _COLUMNS), _COLUMNS, most_inputs=3),
        Kind("stack", _space(), (_GUESS,), _COLUMNS),
        _classifier("logistic", c=FloatRange(1e-3, 1e2, log=True)),
        _classifier("tree", depth=IntRange(1, 12), leaf=IntRange(1, 20, log=True)),
        _classifier("neighbours", k=IntRange(1, 30, log=True), near=Categories((True, False))),
        _classifier("bayes", smooth=FloatRange(1e-9, 1.0, log=True)),
        _classifier("discriminant", shrinkage=FloatRange(0.0, 1.0)),
        Kind("vote", _space(), (_GUESS, _GUESS), _GUESS, most_inputs=4),
    ),
    Shape.TREE,
    max_nodes=10,
    max_depth=6,
    input=_COLUMNS,
    output=_GUESS,
)


def loss(graph: Graph, x: Array, y: Array) -> float:
    """The mean log loss of either half under a pipeline fitted to the other one.

    A pipeline that scikit-learn refuses, say for columns of which nothing is left, is as bad as one
    that is always sure of what is wrong.
    """
    half = len(x) // 2
    one, other = slice(None, half), slice(half, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            losses = [
                log_loss(y[test], _guesses(graph, x[train], y[train], x[test]))
                for train, test in ((one, other), (other, one))
            ]
        except ValueError:
            return float(-np.log(1 - _SUREST))
    return float(np.mean(losses))


def _guesses(graph: Graph, x: Array, y: Array, unseen: Array) -> Array:
    """The last node's probabilities (n, classes) on what was not seen."""
    made: list[Halves] = [(x, unseen)]
    for node in graph.nodes:
        made.append(_MAKE[node.kind](node.settings, [made[i] for i in node.inputs], y))
    classes = made[-1][1].shape[1]
    return made[-1][1] * _SUREST + (1 - _SUREST) / classes


def _transformed(transformer: Any, halves: Halves, y: Array) -> Halves:
    fitted = transformer.fit(halves[0], y)
    return fitted.transform(halves[0]), fitted.transform(halves[1])


def _classified(classifier: Any, halves: Halves, y: Array) -> Halves:
    fitted = classifier.fit(halves[0], y)
    return fitted.predict_proba(halves[0]), fitted.predict_proba(halves[1])


def _joined(inputs: list[Halves]) -> Halves:
    return np.hstack([each[0] for each in inputs]), np.hstack([each[1] for each in inputs])


def _averaged(inputs: list[Halves]) -> Halves:
    return np.mean([each[0] for each in inputs], 0), np.mean([each[1] for each in inputs], 0)


def _components(part: float, halves: Halves) -> int:
    return max(1, round(part * min(halves[0].shape)))


_Settings = dict[str, Scalar]
_MAKE: dict[str, Callable[[_Settings, list[Halves], Array], Halves]] = {
    "scale": lambda s, i, y: _transformed(_SCALERS[str(s["how"])](), i[0], y),
    "pca": lambda s, i, y: _transformed(
        PCA(_components(float(s["part"]), i[0]), svd_solver="full"), i[0], y
    ),
    "select": lambda s, i, y: _transformed(
        SelectPercentile(f_classif, percentile=100 * float(s["part"])), i[0], y
    ),
    "kernel": lambda s, i, y: _transformed(
        Nystroem(gamma=float(s["gamma"]), n_components=int(s["size"]), random_state=0), i[0], y
    ),
    "union": lambda s, i, y: _joined(i),
    "stack": lambda s, i, y: i[0],
    "logistic": lambda s, i, y: _classified(
        LogisticRegression(C=float(s["c"]), max_iter=60), i[0], y
    ),
    "tree": lambda s, i, y: _classified(
        DecisionTreeClassifier(
            max_depth=int(s["depth"]), min_samples_leaf=int(s["leaf"]), random_state=0
        ),
        i[0],
        y,
    ),
    "neighbours": lambda s, i, y: _classified(
        KNeighborsClassifier(int(s["k"]), weights="distance" if s["near"] else "uniform"), i[0], y
    ),
    "bayes": lambda s, i, y: _classified(GaussianNB(var_smoothing=float(s["smooth"])), i[0], y),
    "discriminant": lambda s, i, y: _classified(
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage=float(s["shrinkage"])), i[0], y
    ),
    "vote": lambda s, i, y: _averaged(i),
}
