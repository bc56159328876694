"""Which parameters matter: functional ANOVA on the boxes of trees, with uncertainty.

Hutter, Hoos, Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance"
(ICML 2014). A function that is a sum of values on boxes has variances in closed form: with
K_p(l, m) = |l_p and m_p| / (|l_p| |m_p|) for the sides of two boxes along axis p, and a = value
times volume,

    total = sum a_l a_m (prod_p K_p - 1)
    main effect of p = sum a_l a_m (K_p - 1)
    interaction of p and q = sum a_l a_m (K_p - 1)(K_q - 1)

and K_p is 1 unless both boxes are limited along p, so that few pairs count.

The intervals hold two errors. That other trials would have given other shares is seen in the spread
over the bootstrap samples. That the trees themselves make weak effects weaker, and see effects in
noise, is seen by fitting them again to targets whose shares are known: what each ensemble
predicts, with errors as large as were made (the parametric bootstrap: Efron, Tibshirani, 1993,
chapters 6 and 13). An interval covers both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from keeptune.search.insight.cube import Cube, Floats, Ints
from keeptune.search.insight.forest import SAMPLES, Forest, Leaves, refit

_PAIRED = 6
# The 80 % interval.
QUANTILES = (0.1, 0.9)


@dataclass(frozen=True)
class Share:
    """A part of the variance over the whole space, 0 to 1, with its 80 % interval."""

    parameters: tuple[str, ...]
    value: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True)
class Importance:
    """Main effects of all parameters and interactions of the first few, the largest first."""

    main: tuple[Share, ...]
    interactions: tuple[Share, ...]


def importance(cube: Cube, points: Floats, forest: Forest, rng: np.random.Generator) -> Importance:
    """Of the forest that was fitted to these points."""
    axes = [(axis,) for axis in range(len(cube.parameters))]
    main = _shares(forest.leaves, axes)
    first = sorted(range(len(axes)), key=lambda axis: (-main[:, axis].mean(), axis))[:_PAIRED]
    pairs = list(combinations(sorted(first), 2))
    terms = [*axes, *pairs]
    measured = np.hstack([main, _shares(forest.leaves, pairs)])
    targets = forest.fitted + rng.choice(
        forest.errors - forest.errors.mean(), (SAMPLES, forest.trials)
    )
    again = _shares(refit(cube, points, targets, forest.stages, rng), terms)
    found = [
        _share(tuple(cube.parameters[axis].name for axis in term), measured[:, i], again[:, i])
        for i, term in enumerate(terms)
    ]
    order = sorted(found, key=lambda share: -share.value)
    return Importance(
        main=tuple(share for share in order if len(share.parameters) == 1),
        interactions=tuple(share for share in order if len(share.parameters) == 2),
    )


def _share(parameters: tuple[str, ...], measured: Floats, again: Floats) -> Share:
    """From the shares over the samples, and those found again where `measured` is the truth."""
    value = float(measured.mean())
    # On the scale of standard deviations the error depends least on the share.
    error = np.sqrt(again) - np.sqrt(measured)
    low, high = np.quantile(measured, QUANTILES)
    low_error, high_error = np.quantile(error, QUANTILES)
    return Share(
        parameters,
        value,
        low=float(min(low, _squared(np.sqrt(value) - high_error), value)),
        high=float(max(high, _squared(np.sqrt(value) - low_error), value)),
        standard_error=float(np.sqrt(measured.var() + np.mean((again - measured) ** 2))),
    )


def _squared(deviation: float) -> float:
    return float(np.clip(deviation, 0.0, 1.0) ** 2)


def _shares(leaves: Leaves, terms: Sequence[tuple[int, ...]]) -> Floats:
    """(SAMPLES, terms): the share of each term in the variance of each ensemble."""
    shares = np.zeros((SAMPLES, len(terms)))
    for ensemble in range(SAMPLES):
        boxes = _Boxes(leaves.of(ensemble))
        total = boxes.variance()
        if total > 0:
            shares[ensemble] = [max(0.0, boxes.effect(term)) / total for term in terms]
    return np.minimum(shares, 1.0)


class _Boxes:
    """The variances of one ensemble."""

    def __init__(self, leaves: Leaves) -> None:
        self._leaves = leaves
        self._size = leaves.size
        self._limited = self._size < 1.0 - 1e-12
        self._mass = leaves.value * self._size.prod(axis=1)

    def variance(self) -> float:
        """Of the ensemble's function over the cube."""
        kernel = np.ones((len(self._mass), len(self._mass)))
        for axis in range(self._size.shape[1]):
            rows = np.flatnonzero(self._limited[:, axis])
            if len(rows):
                kernel[np.ix_(rows, rows)] *= self._overlap(axis, rows)
        return float(self._mass @ (kernel - 1.0) @ self._mass)

    def effect(self, term: tuple[int, ...]) -> float:
        """The variance of a main effect (one axis) or an interaction (several)."""
        rows = np.flatnonzero(self._limited[:, list(term)].all(axis=1))
        if not len(rows):
            return 0.0
        kernel = np.ones((len(rows), len(rows)))
        for axis in term:
            kernel *= self._overlap(axis, rows) - 1.0
        return float(self._mass[rows] @ kernel @ self._mass[rows])

    def _overlap(self, axis: int, rows: Ints) -> Floats:
        """K_p of all pairs of these boxes."""
        size = self._size[rows, axis]
        if axis in self._leaves.cells:
            cells = self._leaves.cells[axis][rows].astype(np.float64)
            common = cells @ cells.T / cells.shape[1]
        else:
            low, high = self._leaves.low[rows, axis], self._leaves.high[rows, axis]
            common = np.minimum.outer(high, high) - np.maximum.outer(low, low)
            np.maximum(common, 0.0, out=common)
        return np.asarray(common / np.outer(size, size))
