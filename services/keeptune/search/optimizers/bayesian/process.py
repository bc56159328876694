"""A Gaussian process whose hyper-parameters are sampled instead of fitted.

Matern 5/2 over distances scaled by one length a parameter (ARD), Gaussian noise, and a signal
variance that is integrated out (Rasmussen and Williams, Gaussian Processes for Machine Learning,
2006, sections 4.2 and 5.4). With few observations many hyper-parameters explain them equally well;
what the best of them says is too sure of itself, so that predictions average over samples (Snoek et
al., Practical Bayesian Optimization, NeurIPS 2012), drawn by elliptical slice sampling (Murray et
al., AISTATS 2010) from the most probable on. Length scales are expected to grow with the root of
the dimension (Hvarfner et al., Vanilla Bayesian Optimization Performs Great in High Dimensions,
ICML 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from keeptune.search.optimizers.bayesian.encoding import Floats, Ints

_ROOT5 = math.sqrt(5.0)
_JITTER = 1e-8
# What is drawn jointly at places that lie close together needs more.
_DRAW_JITTER = 1e-6


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


class _Evidence:
    """The posterior density of hyper-parameters (logarithms of P lengths and of the noise)."""

    def __init__(self, places: Floats, owner: Ints, targets: Floats, prior: Prior) -> None:
        dimension = int(owner[-1]) + 1 if len(owner) else 0
        squares = (places[:, None, :] - places[None, :, :]) ** 2
        self._squares = np.zeros((dimension, len(places), len(places)))
        for column, parameter in enumerate(owner):
            self._squares[int(parameter)] += squares[:, :, column]
        self._flat = self._squares.reshape(dimension, -1)
        self._targets = targets
        self._weight = prior.signal_weight
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
        covariance, decay, factor, weights = self._covariance(at)
        try:
            lower = cholesky(covariance, lower=True, check_finite=False)
        except LinAlgError:
            return 1e10, np.zeros_like(at)
        inverse = cho_solve((lower, True), np.eye(len(lower)), check_finite=False)
        alpha = inverse @ self._targets
        n = len(self._targets) + self._weight
        quadratic = float(self._targets @ alpha) + self._weight
        slope = (n / quadratic) * np.outer(alpha, alpha) - inverse
        by_square = (5 / 3) * (slope * factor * decay).ravel()
        gradient = np.empty_like(at)
        gradient[:-1] = 0.5 * weights * (self._flat @ by_square)
        gradient[-1] = 0.5 * math.exp(at[-1]) * float(np.trace(slope))
        likelihood = -0.5 * n * math.log(quadratic / n) - float(np.log(np.diag(lower)).sum())
        off = (at - self.mean) / self.deviation
        return -likelihood + 0.5 * float(off @ off), off / self.deviation - gradient

    def _covariance(self, at: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """The covariance of the targets, and the parts of its gradient."""
        weights = np.exp(-2.0 * at[:-1])
        n = len(self._targets)
        square = (weights @ self._flat).reshape(n, n)
        root = _ROOT5 * np.sqrt(square)
        decay = np.exp(-root)
        factor = 1.0 + root
        covariance = (factor + (5 / 3) * square) * decay
        covariance[np.diag_indices(n)] += math.exp(at[-1]) + _JITTER
        return covariance, decay, factor, weights

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


@dataclass(frozen=True)
class Process:
    """Posterior of the function under S hyper-parameters, given n observations at `places` (n, E).

    targets (S, n), lengths (S, E), noise and scale (S,), alpha (S, n), whitening (S, n, n).
    """

    places: Floats
    targets: Floats
    lengths: Floats
    noise: Floats
    scale: Floats
    alpha: Floats
    whitening: Floats

    def predict(self, places: Floats) -> tuple[Floats, Floats]:
        """Mean and deviation of the function, each (S, m), at places (m, E)."""
        means, deviations = [], []
        for s in range(len(self.lengths)):
            cross = matern(places / self.lengths[s], self.places / self.lengths[s])
            means.append(cross @ self.alpha[s])
            white = cross @ self.whitening[s].T
            left = 1.0 - np.einsum("ij,ij->i", white, white)
            deviations.append(np.sqrt(self.scale[s] * np.maximum(left, 1e-10)))
        return np.array(means), np.array(deviations)

    def draw(self, places: Floats, rng: np.random.Generator) -> Floats:
        """The function (S, m) at places (m, E), drawn jointly, once for each hyper-parameters."""
        drawn = []
        for s, (length, alpha) in enumerate(zip(self.lengths, self.alpha, strict=True)):
            scaled = places / length
            cross = matern(scaled, self.places / length)
            white = cross @ self.whitening[s].T
            covariance = matern(scaled, scaled) - white @ white.T
            covariance[np.diag_indices(len(places))] += _DRAW_JITTER
            lower = cholesky(covariance, lower=True, check_finite=False, overwrite_a=True)
            chance = lower @ rng.standard_normal(len(places))
            drawn.append(cross @ alpha + math.sqrt(self.scale[s]) * chance)
        return np.array(drawn)

    def believe(self, places: Floats) -> Process:
        """As if at `places` had been observed what is expected there.

        Kriging believer (Ginsbourger et al., Kriging is well-suited to parallelize optimization,
        2010): the targets, not the hyper-parameters nor the scale, take it in.
        """
        means, _ = self.predict(places)
        targets = np.concatenate([self.targets, means], axis=1)
        return condition(
            np.concatenate([self.places, places]), targets, self.lengths, self.noise, self.scale
        )


def fit(
    places: Floats,
    owner: Ints,
    targets: Floats,
    rng: np.random.Generator,
    *,
    samples: int,
    thin: int = 2,
    prior: Prior = NARROW,
) -> Process:
    """The process after `targets` (n,), of mean 0 and variance about 1, at `places` (n, E)."""
    evidence = _Evidence(places, owner, targets, prior)
    hyper = evidence.samples(samples, rng, thin=thin)
    lengths, noise = np.exp(hyper[:, :-1])[:, owner], np.exp(hyper[:, -1])
    process = condition(places, np.tile(targets, (samples, 1)), lengths, noise, np.ones(samples))
    fits = np.einsum("si,si->s", process.targets, process.alpha)
    scale = (fits + prior.signal_weight) / (len(targets) + prior.signal_weight)
    return replace(process, scale=scale)


def condition(
    places: Floats, targets: Floats, lengths: Floats, noise: Floats, scale: Floats
) -> Process:
    """The process under given hyper-parameters; `targets` (S, n) may differ between them."""
    alphas, whitenings = [], []
    for s in range(len(lengths)):
        scaled = places / lengths[s]
        covariance = matern(scaled, scaled)
        covariance[np.diag_indices(len(places))] += noise[s] + _JITTER
        lower = cholesky(covariance, lower=True, check_finite=False, overwrite_a=True)
        whitening = solve_triangular(lower, np.eye(len(places)), lower=True, check_finite=False)
        whitenings.append(whitening)
        alphas.append(whitening.T @ (whitening @ targets[s]))
    return Process(places, targets, lengths, noise, scale, np.array(alphas), np.array(whitenings))


def matern(a: Floats, b: Floats) -> Floats:
    """Matern 5/2 between scaled places (m, E) and (n, E): (m, n)."""
    square = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2.0 * (a @ b.T)
    square = np.maximum(square, 0.0)
    root = _ROOT5 * np.sqrt(square)
    return np.asarray((1.0 + root + (5 / 3) * square) * np.exp(-root))
