"""What a learning curve will come to: a distribution of its last loss, from its beginning.

A curve is taken for a + b * shape, with noise, where b is above 0 and the shape falls to 0 at the
last step, so that a is the last loss. Shapes are a fixed family (powers from linear to steep,
exponentials, late drops, and falls that turn into a rise), and the curves of the study's trials
that ran to their end. For one shape Bayesian linear regression gives the distribution of a in
closed form, a Student t; these are averaged by how well each shape explains what was seen, and by
how well it foretold the ends of earlier curves.

Averages of parametric curves: Domhan, Springenberg, Hutter, Speeding Up Automatic Hyperparameter
Optimization of Deep Neural Networks by Extrapolation of Learning Curves (IJCAI 2015), there by
Markov chains. Earlier curves as shapes: Chandrashekaran, Lane (ECML PKDD 2017).

Time is cut into spans that grow by a quarter, counted backwards from the last step: span 0 ends
with it. Losses within a span are averaged, since neighbours tell the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.floating[Any]]

_GROWTH = 1.25
# Noise as a part of the curves' height that is assumed before any is seen, and how many squared
# residuals that assumption weighs.
_NOISE = 0.02
_NOISE_WEIGHT = 2.0
# Standard deviation of how much steeper or flatter than an earlier curve a new one may be.
_STEEPNESS = 0.5
# So many earlier curves weigh as much as the fixed family.
_EVEN_CURVES = 5.0
_MOST_CURVES = 50


def span_of(step: int, last: int) -> int:
    """How many spans lie between the step and the last one."""
    return math.floor(math.log(max(1.0, last / max(step, 1))) / math.log(_GROWTH) + 1e-9)


@dataclass(frozen=True)
class Forecast:
    """A mixture of Student t distributions of the last loss."""

    weights: Array
    means: Array
    scales: Array
    freedom: float

    def probability_below(self, loss: float) -> float:
        parts = special.stdtr(self.freedom, (loss - self.means) / self.scales)
        return float(self.weights @ parts)


class Extrapolation:
    """Learns from whole curves, and foretells the ends of others.

    Curves are given as their mean loss in each span that they have reports in.
    """

    def __init__(self, last: int) -> None:
        self._times = _GROWTH ** -(np.arange(span_of(1, last) + 1) + 0.5)
        self._times[0] = 1.0
        self._family, self._prior = _family(self._times)
        self._credit = np.zeros(len(self._family))
        self._curves: list[Array] = []
        self._heights: list[float] = []

    def learn(self, curve: Mapping[int, float], result: float) -> None:
        """A curve that ran to its end, and what it came to."""
        spans = np.array(sorted(curve))
        known = np.interp(np.arange(len(self._times)), spans, [curve[s] for s in spans])
        self._learn_shapes(curve, result)
        self._curves = [*self._curves, known - result][-_MOST_CURVES:]
        self._heights = [*self._heights, float(np.ptp(known))][-_MOST_CURVES:]

    def _learn_shapes(self, curve: Mapping[int, float], result: float) -> None:
        """Credits shapes of the family that foretold it, from wherever they did."""
        if not self._curves:
            return
        spans = sorted(curve, reverse=True)
        shares = []
        for i in range(2, len(spans)):
            seen = {span: curve[span] for span in spans[:i]}
            forecast = self.forecast(seen)
            n = len(self._family)
            z = (result - forecast.means[:n]) / forecast.scales[:n]
            f = forecast.freedom
            density = forecast.weights[:n] / forecast.scales[:n] * (1 + z * z / f) ** (-(f + 1) / 2)
            if density.sum() > 0:
                shares.append(density / density.sum())
        if shares:
            self._credit += np.mean(shares, axis=0)

    def forecast(self, curve: Mapping[int, float]) -> Forecast:
        """Of a curve that is known in some spans, at least one."""
        spans = np.array(sorted(curve, reverse=True))
        losses = np.array([curve[span] for span in spans])
        height = self._height(losses)
        shapes, steepness, spread, prior = self._shapes(spans, height)

        # The past tells less of the end than the present does.
        octaves = (spans - spans[-1]) * math.log2(_GROWTH)
        weight = 1.0 / (1.0 + octaves)
        total = weight.sum()
        shape_mean, loss_mean = shapes @ weight / total, losses @ weight / total
        x, y = shapes - shape_mean[:, None], losses - loss_mean
        xx, xy, yy = (x * x) @ weight, x @ (weight * y), weight @ (y * y)

        assumed = _NOISE_WEIGHT * (_NOISE * height) ** 2
        freedom = _NOISE_WEIGHT + max(0.0, total - 1)
        free_fit = np.maximum(yy - xy**2 / np.maximum(xx, 1e-300), 0.0)
        noise = (assumed + free_fit) / freedom
        precision = xx / noise + 1 / spread**2
        slope = (xy / noise + steepness / spread**2) / precision
        residual = np.maximum(yy - 2 * slope * xy + slope**2 * xx, 0.0)
        residual += noise * ((slope - steepness) / spread) ** 2
        evidence = -0.5 * np.log(precision * spread**2)
        evidence -= 0.5 * freedom * np.log(assumed + residual)
        evidence += special.log_ndtr(slope * np.sqrt(precision))
        weights = prior * np.exp(evidence - evidence.max())

        noise = (assumed + residual) / freedom
        wander = 0.25 * spans[-1] * math.log2(_GROWTH)
        variance = noise * (1 + 1 / total + wander) + shape_mean**2 / precision
        return Forecast(
            weights / weights.sum(), loss_mean - slope * shape_mean, np.sqrt(variance), freedom
        )

    def _height(self, losses: Array) -> float:
        """From top to bottom of a usual curve."""
        height = float(np.median(self._heights)) if self._heights else float(np.ptp(losses))
        return max(height, 1e-9 * max(1.0, float(np.abs(losses).max())))

    def _shapes(self, spans: Array, height: float) -> tuple[Array, Array, Array, Array]:
        """Shapes at the spans, the mean and deviation of their steepness, and their weights."""
        n = len(self._curves)
        share = n / (n + _EVEN_CURVES)
        family = _EVEN_CURVES * self._prior + self._credit
        prior = np.concatenate([(1 - share) * family / family.sum(), np.full(n, share / max(n, 1))])
        shapes = self._family[:, spans]
        if n:
            shapes = np.vstack([shapes, np.array(self._curves)[:, spans]])
        steepness = np.concatenate([np.zeros(len(self._family)), np.ones(n)])
        spread = np.concatenate([np.full(len(self._family), height), np.full(n, _STEEPNESS)])
        return shapes, steepness, spread, prior


def _family(times: Array) -> tuple[Array, Array]:
    """Shapes at times in (0, 1], 0 at time 1 and about 1 high; and their weights."""
    powers = (-1.0, -0.5, 0.05, 0.25, 0.5, 1.0, 2.0)
    falls = [(times**-power - 1) / (0.01**-power - 1) for power in powers]
    falls += [np.exp(-times / decay) for decay in (0.02, 0.05, 0.1, 0.2, 0.4)]
    rest = [np.exp(-((times / drop) ** 4)) for drop in (0.05, 0.1, 0.2, 0.4, 0.7)]
    rest += [
        np.exp(-times / decay) + rise * times
        for decay in (0.02, 0.05, 0.1, 0.2)
        for rise in (0.1, 0.3, 1.0)
    ]
    shapes = np.array([row - row[0] for row in (*falls, *rest)])
    weights = np.array([1.0] * len(falls) + [0.5] * len(rest))
    return shapes, weights / weights.sum()
