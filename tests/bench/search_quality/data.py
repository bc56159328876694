"""scikit-learn's bundled datasets, cut into fixed folds, and how predictions are measured.

scikit-learn is imported when it is needed: a run whose evaluations are all known never loads it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FOLDS = 3
# Enough to tell configurations apart, few enough for milliseconds.
_MOST_ROWS = {"digits": 450, "more_digits": 900, "breast_cancer": 450}


@dataclass(frozen=True)
class Fold:
    """Rows are samples; the scaler has seen the training rows only."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array


@functools.cache
def load(dataset: str) -> tuple[Array, Array]:
    """Features and targets; the targets of a regression have mean 0 and variance 1."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    x, y = getattr(datasets, f"load_{dataset.removeprefix('more_')}")(return_X_y=True)
    if is_regression(dataset):
        y = (y - y.mean()) / y.std()
    if dataset in _MOST_ROWS:
        x, _, y, _ = train_test_split(
            x, y, train_size=_MOST_ROWS[dataset], stratify=y, random_state=0
        )
    return x, y


def is_regression(dataset: str) -> bool:
    return dataset == "diabetes"


@functools.cache
def folds(dataset: str, scaling: str) -> tuple[Fold, ...]:
    """The folds are the same for every scaling: none, standard, minmax, robust, or quantile."""
    from sklearn import preprocessing
    from sklearn.model_selection import KFold, StratifiedKFold

    scalers: dict[str, Callable[[], Any]] = {
        "none": lambda: preprocessing.FunctionTransformer(),
        "standard": preprocessing.StandardScaler,
        "minmax": preprocessing.MinMaxScaler,
        "robust": lambda: preprocessing.RobustScaler(unit_variance=True),
        "quantile": lambda: preprocessing.QuantileTransformer(
            n_quantiles=50, output_distribution="normal", random_state=0
        ),
    }
    x, y = load(dataset)
    kind = KFold if is_regression(dataset) else StratifiedKFold
    cut = []
    for train, test in kind(FOLDS, shuffle=True, random_state=0).split(x, y):
        scaler = scalers[scaling]().fit(x[train])
        cut.append(Fold(scaler.transform(x[train]), y[train], scaler.transform(x[test]), y[test]))
    return tuple(cut)


def error(model: Any, fold: Fold) -> float:
    """Share of wrong classes."""
    return float(np.mean(model.predict(fold.x_test) != fold.y_test))


def log_loss(model: Any, fold: Fold) -> float:
    """Mean negative log-likelihood in nats, a probability never below 1e-4."""
    right = _probabilities(model, fold)
    return float(-np.log(np.clip(np.nan_to_num(right), 1e-4, 1.0)).mean())


def brier(model: Any, fold: Fold) -> float:
    """Mean squared distance of the probabilities from the truth, 0 to 2."""
    truth = fold.y_test[:, None] == model.classes_[None, :]
    return float(((model.predict_proba(fold.x_test) - truth) ** 2).sum(axis=1).mean())


def ranking_loss(model: Any, fold: Fold) -> float:
    """One minus the area under the ROC curve, the mean over classes against the others."""
    from scipy.stats import rankdata

    if hasattr(model, "decision_function"):
        scores = model.decision_function(fold.x_test)
    else:
        scores = model.predict_proba(fold.x_test)
    if scores.ndim == 1:
        scores = np.stack([-scores, scores], axis=1)
    truth = fold.y_test[:, None] == model.classes_[None, :]
    positive = truth.sum(axis=0)
    pairs = positive * (len(truth) - positive)
    above = (rankdata(np.nan_to_num(scores), axis=0) * truth).sum(axis=0)
    return float(np.mean(1.0 - (above - positive * (positive + 1) / 2) / pairs))


def squared_error(model: Any, fold: Fold) -> float:
    """Mean squared error in units of the target's variance, at most 2: it may diverge."""
    errors = model.predict(fold.x_test).ravel() - fold.y_test
    return float(np.nan_to_num(np.minimum(np.mean(np.clip(errors, -1e6, 1e6) ** 2), 2.0), nan=2.0))


# What a model gets that diverged while it was trained, by the measure's name.
WORST = {
    "error": 1.0,
    "log_loss": float(-np.log(1e-4)),
    "brier": 2.0,
    "squared_error": 2.0,
    "ranking_loss": 1.0,
}


def _probabilities(model: Any, fold: Fold) -> Array:
    """What each sample's own class was given."""
    given = model.predict_proba(fold.x_test)
    probabilities: Array = given[
        np.arange(len(given)), np.searchsorted(model.classes_, fold.y_test)
    ]
    return probabilities
