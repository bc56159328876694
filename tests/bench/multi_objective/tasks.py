"""The tasks: how well a model does, and what it costs.

Each serves three ways: all measures as objectives; the first as the objective and limits on the
others; and, where `noisy`, the first alone, each time on another split of the data.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from keeptune.search.space import Assignment, SearchSpace
from tests.bench.multi_objective import measures as m
from tests.bench.search_quality import data
from tests.bench.search_quality import families as f
from tests.bench.search_quality import spaces as s
from tests.bench.search_quality.tasks import _DIVERGED, SCALING, Make, Measure, _branches, _families

# Splits that stand for all of them, and how much of the data each leaves to test on.
TRUE_SPLITS = 40
_TEST = 0.3


@dataclass(frozen=True)
class Task:
    """`limits` are of the measures after the first; a new `revision` forgets what was evaluated."""

    name: str
    dataset: str
    measures: tuple[Measure, ...]
    space: SearchSpace
    make: Make
    limits: tuple[float, ...] = ()
    noisy: bool = False
    revision: int = 1

    def values(self, parameters: Assignment) -> tuple[float, ...]:
        """The mean of each measure over the folds; less is better."""
        chosen = dict(parameters)
        scaling = str(chosen.pop("scaling", "standard"))
        found = [self._on(fold, chosen) for fold in data.folds(self.dataset, scaling)]
        return tuple(np.mean(found, axis=0).tolist())

    def on_split(self, parameters: Assignment, split: int) -> float:
        """The first measure on a random split of the data."""
        chosen = dict(parameters)
        scaling = str(chosen.pop("scaling", "standard"))
        return self._on(_split(self.dataset, scaling, split), chosen)[0]

    def truth(self, parameters: Assignment) -> float:
        """The mean over many splits, none of which a search has seen."""
        splits = range(-TRUE_SPLITS, 0)
        return float(np.mean([self.on_split(parameters, split) for split in splits]))

    def _on(self, fold: data.Fold, parameters: Assignment) -> list[float]:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                model = self.make(parameters).fit(fold.x_train, fold.y_train)
            except ValueError as broken:
                if not any(sign in str(broken) for sign in _DIVERGED):
                    raise
                return [
                    data.WORST.get(each.__name__, _WORST[each.__name__]) for each in self.measures
                ]
            return [measure(model, fold) for measure in self.measures]


_WORST = {"support": 1.0, "features": 1.0, "size": 6.0, "training": 9.0}


@cache
def _split(dataset: str, scaling: str, split: int) -> data.Fold:
    from sklearn import preprocessing
    from sklearn.model_selection import train_test_split

    x, y = data.load(dataset)
    labels = None if data.is_regression(dataset) else y
    train, test = train_test_split(
        np.arange(len(y)), test_size=_TEST, stratify=labels, random_state=split % 2**32
    )
    scalers: dict[str, Callable[[], Any]] = {
        "none": preprocessing.FunctionTransformer,
        "standard": preprocessing.StandardScaler,
        "minmax": preprocessing.MinMaxScaler,
        "robust": partial(preprocessing.RobustScaler, unit_variance=True),
        "quantile": partial(
            preprocessing.QuantileTransformer,
            n_quantiles=50,
            output_distribution="normal",
            random_state=0,
        ),
    }
    scaler = scalers[scaling]().fit(x[train])
    return data.Fold(scaler.transform(x[train]), y[train], scaler.transform(x[test]), y[test])


_ALL = (
    Task(
        "svm-cancer",
        "breast_cancer",
        (data.ranking_loss, m.support),
        s.space(*f.RBF_SVM, SCALING),
        f.svm,
        limits=(0.1,),
    ),
    Task("mlp-wine", "wine", (data.log_loss, m.size), s.space(*f.MLP), f.mlp, limits=(2.2,)),
    Task(
        "forest-wine",
        "wine",
        (data.log_loss, m.size),
        s.space(*f.FOREST, *f.BOOTSTRAP, f.CRITERION),
        f.forest,
        limits=(2.2,),
    ),
    Task(
        "gradient-diabetes",
        "diabetes",
        (data.squared_error, m.size),
        s.space(*f.EXACT_BOOSTING),
        partial(f.exact_boosting, regression=True),
        limits=(2.1,),
    ),
    Task(
        "sgd-cancer",
        "breast_cancer",
        (data.ranking_loss, m.features),
        s.space(*f.SGD, SCALING),
        f.sgd,
        limits=(0.6,),
    ),
    Task(
        "pipeline-cancer",
        "breast_cancer",
        (data.ranking_loss, m.size),
        *_branches(_families("svm", "mlp", "forest", "boosting"), SCALING),
        limits=(2.2,),
    ),
    Task(
        "mlp-cost",
        "iris",
        (data.log_loss, m.size, m.training),
        s.space(*f.MLP),
        f.mlp,
        limits=(2.1, 5.2),
    ),
    Task(
        "svm-alarms",
        "breast_cancer",
        (m.missed, m.false_alarms, m.support),
        s.space(*f.SVM, SCALING),
        f.svm,
        limits=(0.03, 0.25),
    ),
    # Alone, and noisy.
    Task("svm-iris", "iris", (data.ranking_loss,), s.space(*f.SVM), f.svm, noisy=True),
    Task("knn-wine", "wine", (data.brier,), s.space(*f.KNN, SCALING), f.knn, noisy=True),
    Task(
        "forest-iris",
        "iris",
        (data.log_loss,),
        s.space(*f.FOREST, *f.BOOTSTRAP),
        f.forest,
        noisy=True,
    ),
    Task(
        "svr-diabetes",
        "diabetes",
        (data.squared_error,),
        s.space(*f.RBF_SVM, f.EPSILON),
        partial(f.svm, regression=True),
        noisy=True,
    ),
    Task("mlp-iris", "iris", (data.log_loss,), s.space(*f.MLP), f.mlp, noisy=True),
    Task(
        "boosting-diabetes",
        "diabetes",
        (data.squared_error,),
        s.space(*f.BOOSTING),
        partial(f.boosting, regression=True),
        noisy=True,
    ),
)
TASKS = {task.name: task for task in _ALL}
