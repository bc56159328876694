"""The tasks: real hyper-parameter searches whose evaluations take milliseconds.

The `main` group is there to improve the search on; the `check` group, of other pairs of data and
model, to see whether what was improved holds elsewhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from keeptune.search.space import Assignment, Parameter, SearchSpace
from tests.bench.search_quality import data
from tests.bench.search_quality import families as f
from tests.bench.search_quality import spaces as s

Make = Callable[[Assignment], Any]
Measure = Callable[[Any, data.Fold], float]

SCALING = s.choice("scaling", ("none", "standard", "minmax", "robust", "quantile"))
_DIVERGED = ("overflow", "non-finite")


@dataclass(frozen=True)
class Task:
    """A loss (less is better, always finite) over a space.

    A parameter named `scaling` decides how the features are scaled; else they are standardised.
    A change of what it computes takes the next `revision`: what was evaluated before is forgotten.
    """

    name: str
    dataset: str
    measure: Measure
    space: SearchSpace
    make: Make
    group: str = "main"
    revision: int = 1

    def loss(self, parameters: Assignment) -> float:
        """The mean over the folds; the same for the same parameters at any time."""
        chosen = dict(parameters)
        scaling = str(chosen.pop("scaling", "standard"))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # A configuration may well be a bad one; its loss says so.
            warnings.simplefilter("ignore")
            losses = [self._on(fold, chosen) for fold in data.folds(self.dataset, scaling)]
        return float(np.mean(losses))

    def _on(self, fold: data.Fold, parameters: Assignment) -> float:
        try:
            model = self.make(parameters).fit(fold.x_train, fold.y_train)
        except ValueError as broken:
            if not any(sign in str(broken) for sign in _DIVERGED):
                raise
            return data.WORST[self.measure.__name__]
        return self.measure(model, fold)


def _branches(
    families: dict[str, tuple[Iterable[Parameter], Make]], *more: Parameter
) -> tuple[SearchSpace, Make]:
    """A choice between families, each with parameters of its own."""
    chosen = s.choice("family", families)
    parameters: list[Parameter] = [chosen, *more]
    for name, (own, _) in families.items():
        parameters += s.branch(own, f"{name}_", s.when("family", name))

    def make(p: Assignment) -> Any:
        family = str(p["family"])
        return families[family][1](s.without(f"{family}_", p))

    return SearchSpace(tuple(parameters)), make


def _families(*names: str, regression: bool = False) -> dict[str, tuple[Any, Make]]:
    all_of_them: dict[str, tuple[Any, Any]] = {
        "svm": ((*f.SVM, f.EPSILON) if regression else f.SVM, f.svm),
        "mlp": (f.MLP, f.mlp),
        "forest": ((*f.FOREST, *f.BOOTSTRAP), f.forest),
        "extra": (f.FOREST, partial(f.forest, extra=True)),
        "boosting": (f.BOOSTING, f.boosting),
        "knn": (f.KNN, f.knn),
        "logistic": (f.LOGISTIC, f.logistic),
        "sgd": (f.SGD_REGRESSION if regression else f.SGD, f.sgd),
    }
    return {
        name: (all_of_them[name][0], partial(all_of_them[name][1], regression=regression))
        for name in names
    }


def _weighted_knn(width: int, *, regression: bool = False) -> tuple[SearchSpace, Make]:
    weights = (s.real(f"w{i}", 0.0, 1.0) for i in range(width))
    space = SearchSpace((*f.KNN[:2], *weights))

    def make(p: Assignment) -> Any:
        return f.stretched(p, f.knn({**p, "metric": "euclidean"}, regression=regression), width)

    return space, make


def _projected_knn(most: int) -> tuple[SearchSpace, Make]:
    own = (s.whole("components", 2, most), s.choice("whiten", (True, False)), SCALING)
    return SearchSpace((*f.KNN, *own)), lambda p: f.projected(p, f.knn(p))


_regress = {
    made.__name__: partial(made, regression=True)
    for made in (f.svm, f.mlp, f.forest, f.boosting, f.exact_boosting, f.knn, f.sgd)
}
_ALL = (
    # Plain spaces.
    Task(
        "svm-digits", "digits", data.ranking_loss, s.space(*f.RBF_SVM, SCALING), f.svm, revision=2
    ),
    Task(
        "svr-diabetes",
        "diabetes",
        data.squared_error,
        s.space(*f.RBF_SVM, f.EPSILON),
        _regress["svm"],
    ),
    Task("mlp-iris", "iris", data.log_loss, s.space(*f.MLP), f.mlp),
    Task("mlp-digits", "digits", data.log_loss, s.space(*f.MLP), f.mlp),
    Task(
        "forest-wine",
        "wine",
        data.log_loss,
        s.space(*f.FOREST, *f.BOOTSTRAP, f.CRITERION),
        f.forest,
    ),
    Task(
        "forest-diabetes",
        "diabetes",
        data.squared_error,
        s.space(*f.FOREST, *f.BOOTSTRAP),
        _regress["forest"],
    ),
    Task("boosting-cancer", "breast_cancer", data.log_loss, s.space(*f.BOOSTING), f.boosting),
    Task(
        "boosting-diabetes",
        "diabetes",
        data.squared_error,
        s.space(*f.BOOSTING),
        _regress["boosting"],
    ),
    Task("knn-digits", "digits", data.brier, *_projected_knn(60), revision=2),
    Task(
        "logistic-cancer", "breast_cancer", data.log_loss, s.space(*f.LOGISTIC, SCALING), f.logistic
    ),
    Task(
        "elastic-diabetes",
        "diabetes",
        data.squared_error,
        s.space(*f.ELASTIC_NET, SCALING),
        f.elastic_net,
    ),
    # Conditional ones.
    Task("svm-cancer", "breast_cancer", data.ranking_loss, s.space(*f.SVM, SCALING), f.svm),
    Task("sgd-digits", "more_digits", data.error, s.space(*f.SGD, SCALING), f.sgd, revision=2),
    Task("mlp-diabetes", "diabetes", data.squared_error, s.space(*f.SOLVER_MLP), _regress["mlp"]),
    Task(
        "pipeline-cancer",
        "breast_cancer",
        data.ranking_loss,
        *_branches(_families("svm", "mlp", "forest", "boosting", "knn", "logistic"), SCALING),
    ),
    Task(
        "pipeline-diabetes",
        "diabetes",
        data.squared_error,
        *_branches(_families("svm", "mlp", "extra", "boosting", "knn", regression=True), SCALING),
    ),
    Task(
        "pipeline-digits",
        "digits",
        data.ranking_loss,
        *_branches(_families("svm", "mlp", "extra", "knn", "sgd"), SCALING),
        revision=2,
    ),
    # Wide ones.
    Task("gradient-wine", "wine", data.log_loss, s.space(*f.EXACT_BOOSTING), f.exact_boosting),
    Task("deep-digits", "digits", data.log_loss, s.space(*f.DEEP_MLP, SCALING), f.mlp),
    Task("weights-wine", "wine", data.brier, *_weighted_knn(13)),
    # To check on.
    Task(
        "svr-kernels",
        "diabetes",
        data.squared_error,
        s.space(*f.SVM, f.EPSILON, SCALING),
        _regress["svm"],
        "check",
    ),
    Task("mlp-cancer", "breast_cancer", data.log_loss, s.space(*f.SOLVER_MLP), f.mlp, "check"),
    Task(
        "extra-digits",
        "digits",
        data.brier,
        s.space(*f.FOREST, f.CRITERION),
        partial(f.forest, extra=True),
        "check",
    ),
    Task(
        "gradient-diabetes",
        "diabetes",
        data.squared_error,
        s.space(*f.EXACT_BOOSTING),
        _regress["exact_boosting"],
        "check",
    ),
    Task(
        "sgd-diabetes",
        "diabetes",
        data.squared_error,
        s.space(*f.SGD_REGRESSION, SCALING),
        _regress["sgd"],
        "check",
    ),
    Task(
        "kernel-diabetes",
        "diabetes",
        data.squared_error,
        s.space(*f.KERNEL_RIDGE, SCALING),
        f.kernel_ridge,
        "check",
    ),
    Task(
        "weights-diabetes",
        "diabetes",
        data.squared_error,
        *_weighted_knn(10, regression=True),
        "check",
    ),
    Task(
        "pipeline-wine",
        "wine",
        data.brier,
        *_branches(_families("mlp", "forest", "extra", "boosting", "knn", "logistic"), SCALING),
        "check",
    ),
)
TASKS = {task.name: task for task in _ALL}
