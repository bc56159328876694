"""How far apart two histograms are, corrected for how few rows they were made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def total_variation(reference: Floats, current: Floats, *, deviations: float = 0.0) -> Floats:
    """[C] total variation distances, 0 to 1, of the count histograms [C, G] and [C, G].

    Sampling alone separates two histograms of the same source; what it is expected to add
    (half the sum of the mean absolute deviations, in the normal approximation) is taken off in
    quadrature. With `deviations` the answer is that many standard deviations on the safe side.
    0 where either side is empty.
    """
    m = reference.sum(axis=1, keepdims=True)
    n = current.sum(axis=1, keepdims=True)
    known = ((m > 0) & (n > 0))[:, 0]
    m, n = np.maximum(m, 1.0), np.maximum(n, 1.0)
    distance = 0.5 * np.abs(reference / m - current / n).sum(axis=1)
    pooled = (reference + current) / (m + n)
    variance = pooled * (1.0 - pooled) * (1.0 / m + 1.0 / n)
    noise = 0.5 * np.sqrt(2.0 / np.pi * variance).sum(axis=1)
    spread = 0.5 * np.sqrt((1.0 - 2.0 / np.pi) * variance.sum(axis=1))
    sure = np.maximum(distance - deviations * spread, 0.0)
    return np.where(known, np.sqrt(np.maximum(sure**2 - noise**2, 0.0)), 0.0)


def histograms(bins: NDArray[np.int16], width: int) -> Floats:
    """[C, width] counts of the bins [rows, C]; negative bins are left out."""
    channels = bins.shape[1]
    flat = bins + np.arange(channels) * width
    counted = np.bincount(flat[bins >= 0], minlength=channels * width)
    return counted.reshape(channels, width).astype(np.float64)


def regroup(counts: Floats, groups: NDArray[np.int64]) -> Floats:
    """[C, G] sums of the counts [C, K] over the groups [C, K] that each bin belongs to."""
    width = int(groups.max()) + 1
    channels = counts.shape[0]
    flat = (groups + np.arange(channels)[:, None] * width).ravel()
    summed: Floats = np.bincount(flat, weights=counts.ravel(), minlength=channels * width).astype(
        np.float64
    )
    return summed.reshape(channels, width)
