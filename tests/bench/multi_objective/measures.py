"""What a fitted model costs: deterministic figures that a user would rather keep small."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.bench.search_quality.data import Fold

_NOTHING = 1.0


def support(model: Any, fold: Fold) -> float:
    """Support vectors, as a share of the training rows."""
    return float(len(model.support_) / len(fold.x_train))


def features(model: Any, fold: Fold) -> float:
    """Share of the features that a linear model looks at."""
    return float(np.mean(np.abs(np.atleast_2d(model.coef_)).max(axis=0) > 1e-8))


def size(model: Any, fold: Fold) -> float:
    """Decimal logarithm of the numbers that the fitted model keeps."""
    return math.log10(max(_numbers(model, fold), _NOTHING))


def training(model: Any, fold: Fold) -> float:
    """Decimal logarithm of the multiplications that training a network takes."""
    weights = sum(matrix.size for matrix in model.coefs_)
    return math.log10(3.0 * weights * model.n_iter_ * len(fold.x_train))


def missed(model: Any, fold: Fold) -> float:
    """Share of the first class that is taken for the second."""
    return _wrong(model, fold, model.classes_[0])


def false_alarms(model: Any, fold: Fold) -> float:
    """Share of the second class that is taken for the first."""
    return _wrong(model, fold, model.classes_[1])


def _wrong(model: Any, fold: Fold, of: Any) -> float:
    own = fold.y_test == of
    return float(np.mean(model.predict(fold.x_test[own]) != of))


def _numbers(model: Any, fold: Fold) -> float:
    if hasattr(model, "coefs_"):
        return float(sum(m.size for m in (*model.coefs_, *model.intercepts_)))
    if hasattr(model, "support_"):
        return float(model.support_vectors_.size + model.dual_coef_.size)
    if hasattr(model, "_fit_X"):
        return float(model._fit_X.size)
    if hasattr(model, "_predictors"):
        return float(sum(4 * len(tree.nodes) for stage in model._predictors for tree in stage))
    if hasattr(model, "estimators_"):
        # A split has a feature, a threshold and two children; a leaf its value.
        return float(sum(4 * tree.tree_.node_count for tree in np.ravel(model.estimators_)))
    return float(np.sum(np.abs(model.coef_) > 1e-8))
