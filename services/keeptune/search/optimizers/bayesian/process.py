"""A Gaussian process whose hyper-parameters are sampled instead of fitted.

Matern 5/2 over distances scaled by one length a parameter (ARD), and Gaussian noise. With few
observations many hyper-parameters explain them equally well; what the best of them says is too sure
of itself, so that predictions average over samples (Snoek et al., Practical Bayesian Optimization,
NeurIPS 2012).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from keeptune.search.optimizers.bayesian.encoding import Floats, Ints
from keeptune.search.optimizers.bayesian.evidence import NARROW, Evidence, Prior
from keeptune.search.optimizers.bayesian.kernel import JITTER, matern

# What is drawn jointly at places that lie close together needs more.
_DRAW_JITTER = 1e-6


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
        for s, alpha in enumerate(self.alpha):
            scaled = places / self.lengths[s]
            cross = matern(scaled, self.places / self.lengths[s])
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
        return replace(self, places=np.concatenate([self.places, places]), targets=targets).solved()

    def solved(self) -> Process:
        """With alpha and whitening as follow from all else."""
        alphas, whitenings = [], []
        for s, noise in enumerate(self.noise):
            scaled = self.places / self.lengths[s]
            covariance = matern(scaled, scaled)
            covariance[np.diag_indices(len(scaled))] += noise + JITTER
            lower = cholesky(covariance, lower=True, check_finite=False, overwrite_a=True)
            whitening = solve_triangular(lower, np.eye(len(scaled)), lower=True, check_finite=False)
            whitenings.append(whitening)
            alphas.append(whitening.T @ (whitening @ self.targets[s]))
        return replace(self, alpha=np.array(alphas), whitening=np.array(whitenings))


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
    evidence = Evidence(places, owner, targets, prior)
    hyper = evidence.samples(samples, rng, thin=thin)
    lengths, noise = np.exp(hyper[:, :-1])[:, owner], np.exp(hyper[:, -1])
    process = condition(places, np.tile(targets, (samples, 1)), lengths, noise, np.ones(samples))
    fits = np.einsum("si,si->s", process.targets, process.alpha)
    scale = (fits + prior.signal_weight) / (len(targets) + prior.signal_weight)
    return replace(process, scale=scale)


def condition(
    places: Floats,
    targets: Floats,
    lengths: Floats,
    noise: Floats,
    scale: Floats,
) -> Process:
    """The process under given hyper-parameters; `targets` (S, n) may differ between them."""
    unsolved = np.zeros(0)
    return Process(places, targets, lengths, noise, scale, unsolved, unsolved).solved()
