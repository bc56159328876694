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
with it. Losses within a span are averaged, since neighbours tell the same; of the newest span,
which has just begun, the first counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
_EVEN_CURVES = 8.0
_FEW_CURVES = 2.0
_MOST_CURVES = 50


def span_of(step: int, last: int) -> int:
    """How many spans lie between the step and the last one."""
    return math.floor(math.log(max(1.0, last / max(step, 1))) / math.log(_GROWTH) + 1e-9)


# A time between 0 and 1, the last step, and the loss there.
Reading = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """The first reading, and the mean of all, in each span that has reports."""

    firsts: Mapping[int, Reading]
    means: Mapping[int, Reading]

    @classmethod
    def of(cls, points: Mapping[int, float], last: int) -> Curve:
        """Of losses by step."""
        gathered: dict[int, list[Reading]] = {}
        for step in sorted(points):
            reading = max(step, 1) / last, points[step]
            gathered.setdefault(span_of(step, last), []).append(reading)
        return cls(
            {span: readings[0] for span, readings in gathered.items()},
            {span: _mean(readings) for span, readings in gathered.items()},
        )

    def until(self, newest: int) -> Curve:
        """As it was when span `newest` began."""
        return Curve(
            {span: reading for span, reading in self.firsts.items() if span >= newest},
            {span: reading for span, reading in self.means.items() if span >= newest},
        )


def _mean(readings: Sequence[Reading]) -> Reading:
    times, losses = zip(*readings, strict=True)
    return math.fsum(times) / len(times), math.fsum(losses) / len(losses)


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
    """Learns from whole curves, and foretells the ends of others."""

    def __init__(self, last: int) -> None:
        self._spans = np.arange(span_of(1, last) + 1)
        self._credit = np.zeros(len(_WEIGHTS))
        # Of each curve the firsts and the means of all spans, above its result.
        self._curves: list[tuple[Array, Array]] = []
        self._heights: list[float] = []

    def learn(self, curve: Curve, result: float) -> None:
        """A curve that ran to its end, and what it came to."""
        if len(self._curves) < _MOST_CURVES:
            # Later ones would tell little more, and a long history must be read in no time.
            self._learn_shapes(curve, result)
        firsts, means = self._filled(curve.firsts), self._filled(curve.means)
        self._curves = [*self._curves, (firsts - result, means - result)][-_MOST_CURVES:]
        self._heights = [*self._heights, float(np.ptp(means))][-_MOST_CURVES:]

    def _filled(self, readings: Mapping[int, Reading]) -> Array:
        """Losses of all spans, in between by interpolation."""
        spans = sorted(readings)
        return np.interp(self._spans, spans, [readings[span][1] for span in spans])

    def _learn_shapes(self, curve: Curve, result: float) -> None:
        """Credits shapes of the family that foretold it, from wherever they did."""
        if not self._curves:
            return
        shares = []
        for newest in sorted(curve.means, reverse=True)[1:-1]:
            forecast = self.forecast(curve.until(newest))
            n = len(_WEIGHTS)
            z = (result - forecast.means[:n]) / forecast.scales[:n]
            f = forecast.freedom
            density = forecast.weights[:n] / forecast.scales[:n] * (1 + z * z / f) ** (-(f + 1) / 2)
            if density.sum() > 0:
                shares.append(density / density.sum())
        if shares:
            self._credit += np.mean(shares, axis=0)

    def forecast(self, curve: Curve) -> Forecast:
        """Of a curve whose newest span has just begun."""
        spans = np.array(sorted(curve.means, reverse=True))
        readings = [curve.means[span] for span in spans[:-1]] + [curve.firsts[spans[-1]]]
        times, losses = np.array(readings).T
        height = self._height(losses)
        shapes, steepness, spread, prior = self._shapes(spans, times, height)

        # The past tells less of the end than the present does.
        octaves = (spans - spans[-1]) * math.log2(_GROWTH)
        weight = 1.0 / (1.0 + octaves)
        total = weight.sum()
        shape_mean, loss_mean = shapes @ weight / total, losses @ weight / total
        x, y = shapes - shape_mean[:, None], losses - loss_mean
        xx, xy, yy = (x * x) @ weight, x @ (weight * y), weight @ (y * y)

        assumed = _NOISE_WEIGHT * (_NOISE * height) ** 2
        freedom = _NOISE_WEIGHT + max(0.0, total - 1)
        free_fit = np.maximum(yy - xy * (xy / np.maximum(xx, 1e-300)), 0.0)
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
        return max(height, 1e-9 * float(np.abs(losses).max()), 1e-150)

    def _shapes(
        self, spans: npt.NDArray[np.integer[Any]], times: Array, height: float
    ) -> tuple[Array, Array, Array, Array]:
        """Shapes at the readings, the mean and deviation of their steepness, and their weights."""
        n = len(self._curves)
        share = n / (n + _EVEN_CURVES)
        family = _EVEN_CURVES * _WEIGHTS + self._credit
        prior = np.concatenate([(1 - share) * family / family.sum(), np.full(n, share / max(n, 1))])
        shapes = _family(times)
        if n:
            means = np.array([means for _, means in self._curves])[:, spans]
            means[:, -1] = [firsts[spans[-1]] for firsts, _ in self._curves]
            shapes = np.vstack([shapes, means])
        steepness = np.concatenate([np.zeros(len(_WEIGHTS)), np.ones(n)])
        # A few curves hardly tell how high curves can be.
        widest = height * (1 + _FEW_CURVES / max(n, 1))
        spread = np.concatenate([np.full(len(_WEIGHTS), widest), np.full(n, _STEEPNESS)])
        return shapes, steepness, spread, prior


_POWERS = (-1.0, -0.5, 0.05, 0.25, 0.5, 1.0, 2.0)
_DECAYS = (0.02, 0.05, 0.1, 0.2, 0.4)
_DROPS = (0.05, 0.1, 0.2, 0.4, 0.7)
_TURNS = tuple((decay, rise) for decay in (0.02, 0.05, 0.1, 0.2) for rise in (0.1, 0.3, 1.0))


def _raw(t: Array) -> Array:
    rows = [(t**-power - 1) / (0.01**-power - 1) for power in _POWERS]
    rows += [np.exp(-t / decay) for decay in _DECAYS]
    rows += [np.exp(-((t / drop) ** 4)) for drop in _DROPS]
    rows += [np.exp(-t / decay) + rise * t for decay, rise in _TURNS]
    return np.array(rows)


_AT_END = _raw(np.ones(1))
_WEIGHTS = np.repeat([1.0, 0.5], [len(_POWERS) + len(_DECAYS), len(_DROPS) + len(_TURNS)])
_WEIGHTS /= _WEIGHTS.sum()


def _family(times: Array) -> Array:
    """Shapes at times between 0 and 1: 0 at time 1, and about 1 high."""
    return _raw(times) - _AT_END
