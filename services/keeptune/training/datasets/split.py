"""Which rows are held out to measure every epoch. Deterministic by seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def stratified(labels: NDArray[Any], fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Training and validation rows; every class gives `fraction` of its rows, to the nearest.

    A class keeps at least one row for training, and each with two rows or more gives one away.
    """
    rng = np.random.default_rng(seed)
    held_out = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        count = min(max(round(len(rows) * fraction), 1), len(rows) - 1)
        held_out.append(rows[:count])
    return _sides(np.concatenate(held_out), len(labels))


def shuffled(count: int, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Training and validation rows of `count` >= 2, at least one on either side."""
    rows = np.random.default_rng(seed).permutation(count)
    return _sides(rows[: min(max(round(count * fraction), 1), count - 1)], count)


def _sides(held_out: Indices, count: int) -> tuple[Indices, Indices]:
    validation = np.zeros(count, dtype=bool)
    validation[held_out] = True
    return np.flatnonzero(~validation), np.flatnonzero(validation)
