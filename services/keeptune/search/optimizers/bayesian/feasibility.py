"""How probably a point keeps to a constraint: a process of by how much it is broken.

Gardner et al., Bayesian Optimization with Inequality Constraints, ICML 2014.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from keeptune.search.optimizers.bayesian import process
from keeptune.search.optimizers.bayesian.encoding import Floats, Ints
from keeptune.search.optimizers.bayesian.process import Process


@dataclass(frozen=True)
class Limit:
    """A process of by how much a constraint is broken; not above `zero` is feasible."""

    process: Process
    zero: float

    @classmethod
    def fit(cls, places: Floats, owner: Ints, broken: Floats, rng: np.random.Generator) -> Limit:
        # Sizes and times span orders of magnitude; what counts is near the limit.
        broken = np.arcsinh(broken / (float(np.median(np.abs(broken))) or 1.0))
        deviation = float(broken.std()) or 1.0
        middle = float(broken.mean())
        fitted = process.fit(places, owner, (broken - middle) / deviation, rng, samples=1)
        return cls(fitted, -middle / deviation)

    def log_chance(self, places: Floats) -> Floats:
        """The logarithm of the probability that the constraint holds, (m,)."""
        means, deviations = self.process.predict(places)
        spread = np.sqrt(deviations[0] ** 2 + self.process.noise[0] * self.process.scale[0])
        return np.asarray(special.log_ndtr((self.zero - means[0]) / spread))
