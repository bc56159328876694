"""Densities over a search space: a mixture with one kernel a point, each a product over parameters.

On a continuum or a range the kernel is a Gaussian on the unit coordinate, truncated to [0, 1]; on
categories it is the point's own category, smoothed. A parameter that does not exist at a point has
the uniform density there, so that only points where it does say anything about it. One more kernel,
uniform everywhere, is the prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from keeptune.search.optimizers.coordinates import Coordinates, Floats

_SQRT_2_PI = math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Bandwidths:
    """How wide kernels are. `widest` = the deviation of a single point's, as part of the range."""

    widest: float = 0.2
    # The narrowest: this part of the range, and less by how many points there are.
    narrowest: float = 0.01
    # How many points a category must have been seen in to outweigh the smoothing.
    smoothing: float = 1.0


BANDWIDTHS = Bandwidths()


class Parzen:
    """Of rows (n, P), each of which weighs as much as the prior."""

    def __init__(
        self, coordinates: Coordinates, rows: Floats, bandwidths: Bandwidths = BANDWIDTHS
    ) -> None:
        # It takes a while to load.
        from scipy.special import ndtr

        self._coordinates = coordinates
        dimension = len(coordinates.names)
        # The last kernel is the prior: it knows no parameter.
        self._centres = np.vstack([rows, np.full((1, dimension), math.nan)])
        self._known = ~np.isnan(self._centres)
        seen = np.maximum(self._known.sum(axis=0), 1)
        scott = bandwidths.widest * seen ** (-1.0 / (dimension + 4))
        floor = np.maximum(bandwidths.narrowest, 1.0 / (1.0 + np.minimum(seen, 100)) / 5.0)
        self._deviation: Floats = np.maximum(np.maximum(scott, floor), coordinates.cell / 2)
        self._smoothing: Floats = bandwidths.smoothing / (seen + bandwidths.smoothing)
        centres = np.where(self._known, self._centres, 0.5)
        self._below: Floats = ndtr((0.0 - centres) / self._deviation)
        self._inside: Floats = ndtr((1.0 - centres) / self._deviation) - self._below

    def sample(self, count: int, rng: np.random.Generator) -> Floats:
        """Rows (count, P); every parameter has a number, whether it exists there or not."""
        from scipy.special import ndtri

        kernels = rng.integers(len(self._centres), size=count)
        draws = rng.random((count, self._centres.shape[1]))
        rows = np.empty_like(draws)
        for i, options in enumerate(self._coordinates.categories):
            known = self._known[kernels, i]
            centres = np.where(known, self._centres[kernels, i], 0.0)
            if options:
                kept = known & (draws[:, i] >= self._smoothing[i])
                anew = np.minimum(np.floor(rng.random(count) * options), options - 1)
                rows[:, i] = np.where(kept, centres, anew)
            else:
                at = self._below[kernels, i] + draws[:, i] * self._inside[kernels, i]
                near = centres + self._deviation[i] * ndtri(np.clip(at, 1e-300, 1 - 1e-16))
                rows[:, i] = np.where(known, np.clip(near, 0.0, 1.0), draws[:, i])
        return rows

    def log_density(self, rows: Floats) -> Floats:
        """At rows (m, P), over the parameters that exist there."""
        logs = np.zeros((len(rows), len(self._centres)))
        for i, options in enumerate(self._coordinates.categories):
            here = rows[:, i][:, None]
            centres, known = self._centres[:, i][None], self._known[:, i][None]
            with np.errstate(invalid="ignore"):
                if options:
                    anew = self._smoothing[i] / options
                    same = (here == centres) * (1 - self._smoothing[i])
                    density = np.where(known, np.log(anew + same), -math.log(options))
                else:
                    steps = (here - centres) / self._deviation[i]
                    normal = -0.5 * steps**2 - math.log(self._deviation[i] * _SQRT_2_PI)
                    density = np.where(known, normal - np.log(self._inside[:, i]), 0.0)
            logs += np.where(np.isnan(here), 0.0, density)
        top = logs.max(axis=1, keepdims=True)
        return np.asarray(top[:, 0] + np.log(np.exp(logs - top).mean(axis=1)))
