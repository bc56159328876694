"""The covariance between places: Matern 5/2 (Rasmussen and Williams, 2006, section 4.2)."""

from __future__ import annotations

import math

import numpy as np

from keeptune.search.optimizers.bayesian.encoding import Floats

_ROOT5 = math.sqrt(5.0)
JITTER = 1e-8


def squares(a: Floats, b: Floats) -> Floats:
    """Squared distances between places (m, E) and (n, E): (m, n)."""
    found = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2.0 * (a @ b.T)
    return np.asarray(np.maximum(found, 0.0))


def matern(a: Floats, b: Floats) -> Floats:
    """Between places (m, E) and (n, E), scaled by their lengths: (m, n)."""
    return covariance_and_fall(squares(a, b))[0]


def covariance_and_fall(square: Floats) -> tuple[Floats, Floats]:
    """At squared distances; the second is -6/5 of the slope of the first."""
    root = _ROOT5 * np.sqrt(square)
    decay = np.exp(-root)
    fall = (1.0 + root) * decay
    return fall + (5 / 3) * square * decay, fall
