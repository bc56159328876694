"""Random generators from a study's seed, which is any 64-bit integer."""

from __future__ import annotations

import numpy as np

_MASK = 2**64 - 1


def generator(seed: int, *path: int) -> np.random.Generator:
    """Independent for each path."""
    return np.random.default_rng([seed & _MASK, *path])


def legacy(seed: int, *path: int) -> np.random.RandomState:
    """The same for libraries that ask for numpy's older kind."""
    words = np.random.SeedSequence([seed & _MASK, *path]).generate_state(8)
    return np.random.RandomState(words)
