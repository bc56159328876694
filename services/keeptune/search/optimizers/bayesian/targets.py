"""Losses made fit for a Gaussian process: of mean 0 and variance 1, without far outliers.

Losses of hyper-parameters have a long bad tail (a diverged training) that says nothing about where
the best is, and differences among the good ones that are small. No one transform is best for all
tasks, so they take turns.
"""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from keeptune.search.optimizers.bayesian.encoding import Floats


def standardized(values: Floats) -> Floats:
    """Of mean 0 and variance 1; zeros when all are equal."""
    deviation = float(values.std())
    return (values - values.mean()) / deviation if deviation > 0 else np.zeros_like(values)


def winsorized(losses: Floats) -> Floats:
    """The bad side cut off where it is further from the median than twice the good side is."""
    middle, best = float(np.median(losses)), float(losses.min())
    limit = middle + 2.0 * max(middle - best, float(np.quantile(losses, 0.75)) - middle)
    return np.minimum(losses, limit)


def powered(losses: Floats) -> Floats:
    """Yeo-Johnson's power transform (Biometrika 2000) of the winsorized losses."""
    values = standardized(winsorized(losses))
    if not values.any():
        return values
    exponent = stats.yeojohnson_normmax(values)
    return standardized(stats.yeojohnson(values, lmbda=float(np.clip(exponent, -2.0, 4.0))))


def ranked(losses: Floats) -> Floats:
    """The quantiles of a normal distribution at the losses' ranks; equal losses stay equal."""
    ranks = stats.rankdata(losses)
    return standardized(special.ndtri((ranks - 0.5) / len(losses)))


def mixed(losses: Floats) -> Floats:
    return standardized(powered(losses) + ranked(losses))


def logged_regret(losses: Floats, offset: float) -> Floats:
    """The logarithm of what a loss lacks to the best, and to a bit more than that.

    `offset` says how much more, as a part of the distance from the best to the median: a small one
    tells the best from the second best, a large one good from bad.
    """
    best = float(losses.min())
    reach = float(np.median(losses)) - best
    if reach <= 0:
        return standardized(losses)
    return standardized(np.log(losses - best + offset * reach))


def near_regret(losses: Floats) -> Floats:
    return logged_regret(losses, 0.1)


def regret(losses: Floats) -> Floats:
    return logged_regret(losses, 0.3)


def far_regret(losses: Floats) -> Floats:
    return logged_regret(losses, 1.0)
