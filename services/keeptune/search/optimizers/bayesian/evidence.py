"""What results say of the hyper-parameters of a Gaussian process, and samples of them.

The signal variance is integrated out (Rasmussen and Williams, Gaussian Processes for Machine
Learning, 2006, section 5.4), the others are drawn by elliptical slice sampling (Murray et al.,
AISTATS 2010) from the most probable on. Length scales are expected to grow with the root of the
dimension (Hvarfner et al., Vanilla Bayesian Optimization Performs Great in High Dimensions, ICML
2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from keeptune.search.optimizers.bayesian.encoding import Floats, Ints
from keeptune.search.optimizers.bayesian.kernel import JITTER, covariance_and_fall, squares


@dataclass(frozen=True)
class Prior:
    """Of the logarithms: normal, by mean and deviation. Lengths for one dimension."""

    length: float = -0.5
    length_deviation: float = 1.0
    noise: float = -5.0
    noise_deviation: float = 2.0
    # Of the inverse-gamma prior of the signal variance: how many observations it is worth.
    signal_weight: float = 2.0


# Trusts in structure, and doubts it: what one misses the other finds.
NARROW = Prior()
WIDE = Prior(length=0.0, length_deviation=1.7)


class Evidence:
    """The posterior density of hyper-parameters (logarithms of P lengths and of the noise)."""

    def __init__(self, places: Floats, owner: Ints, targets: Floats, prior: Prior) -> None:
        self._places = places
        self._owner = owner
        self._targets = targets
        self._weight = prior.signal_weight
        dimension = int(owner[-1]) + 1 if len(owner) else 0
        self.mean = np.full(dimension + 1, prior.length + 0.5 * math.log(max(dimension, 1)))
        self.mean[-1] = prior.noise
        self.deviation = np.full(dimension + 1, prior.length_deviation)
        self.deviation[-1] = prior.noise_deviation

    def likelihood(self, at: Floats) -> float:
        """The logarithm of the likelihood, up to a constant."""
        try:
            lower = cholesky(
                self._covariance(at)[0], lower=True, check_finite=False, overwrite_a=True
            )
        except LinAlgError:
            return -math.inf
        white = solve_triangular(lower, self._targets, lower=True, check_finite=False)
        n = len(self._targets) + self._weight
        quadratic = float(white @ white) + self._weight
        return -0.5 * n * math.log(quadratic / n) - float(np.log(np.diag(lower)).sum())

    def loss_and_gradient(self, at: Floats) -> tuple[float, Floats]:
        """The negative logarithm of the posterior density, and its gradient."""
        covariance, scaled, fall = self._covariance(at)
        try:
            lower = cholesky(covariance, lower=True, check_finite=False)
        except LinAlgError:
            return 1e10, np.zeros_like(at)
        inverse = cho_solve((lower, True), np.eye(len(lower)), check_finite=False)
        alpha = inverse @ self._targets
        n = len(self._targets) + self._weight
        quadratic = float(self._targets @ alpha) + self._weight
        slope = (n / quadratic) * np.outer(alpha, alpha) - inverse
        # By the squared distances; of their sum the gradient by a coordinate is what follows.
        by_square = -0.5 * (5 / 6) * slope * fall
        total = by_square.sum(axis=1)
        pull = total[:, None] * scaled - by_square @ scaled
        gradient = np.empty_like(at)
        gradient[:-1] = -4.0 * np.bincount(
            self._owner, weights=(scaled * pull).sum(axis=0), minlength=len(at) - 1
        )
        gradient[-1] = 0.5 * math.exp(at[-1]) * float(np.trace(slope))
        likelihood = -0.5 * n * math.log(quadratic / n) - float(np.log(np.diag(lower)).sum())
        off = (at - self.mean) / self.deviation
        return -likelihood + 0.5 * float(off @ off), off / self.deviation - gradient

    def _covariance(self, at: Floats) -> tuple[Floats, Floats, Floats]:
        """The covariance of the targets, the scaled places, and how it falls with distance."""
        scaled = self._places * np.exp(-at[:-1])[self._owner]
        covariance, fall = covariance_and_fall(squares(scaled, scaled))
        covariance[np.diag_indices(len(scaled))] += math.exp(at[-1]) + JITTER
        return covariance, scaled, fall

    def mode(self) -> Floats:
        bounds = [(m - 4 * d, m + 4 * d) for m, d in zip(self.mean, self.deviation, strict=True)]
        found = minimize(
            self.loss_and_gradient,
            self.mean,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 30},
        )
        return np.asarray(found.x)

    def samples(self, count: int, rng: np.random.Generator, *, thin: int) -> Floats:
        """`count` hyper-parameters (count, P + 1), `thin` steps apart, from the mode on."""
        state = self.mode() - self.mean
        likelihood = self.likelihood(state + self.mean)
        kept = []
        for _ in range(count):
            for _ in range(thin):
                state, likelihood = self._slice(state, likelihood, rng)
            kept.append(state + self.mean)
        return np.array(kept)

    def _slice(
        self, state: Floats, likelihood: float, rng: np.random.Generator
    ) -> tuple[Floats, float]:
        """One step of elliptical slice sampling."""
        other = rng.standard_normal(len(state)) * self.deviation
        level = likelihood + math.log(1.0 - rng.random())
        angle = rng.uniform(0.0, 2 * math.pi)
        low, high = angle - 2 * math.pi, angle
        while high - low > 1e-6:
            there = state * math.cos(angle) + other * math.sin(angle)
            found = self.likelihood(there + self.mean)
            if found > level:
                return there, found
            if angle < 0:
                low = angle
            else:
                high = angle
            angle = rng.uniform(low, high)
        return state, likelihood
