"""What a front leaves to be won, cut into boxes, and how much of it is expected of a point.

The part of the space of losses that is better than the reference and not dominated by the front is
cut into boxes that do not overlap. A point wins of each box the part that it dominates, so that the
expectation over independent normal losses is a sum over boxes of products over objectives (Yang et
al., Efficient Computation of Expected Hypervolume Improvement Using Box Decomposition Algorithms,
Journal of Global Optimization, 2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from keeptune.search.optimizers.bayesian.encoding import Floats
from keeptune.search.optimizers.bayesian.improvement import log_expected_improvement
from keeptune.search.pareto import is_optimal


@dataclass(frozen=True)
class Boxes:
    """`low` (may be minus infinity) and `high`, each (boxes, objectives)."""

    low: Floats
    high: Floats

    def hold(self, losses: Floats) -> bool:
        """Whether losses (objectives,) lie in one of them: neither dominated nor too bad."""
        return bool(((self.low <= losses) & (losses < self.high)).all(axis=1).any())


@dataclass(frozen=True)
class _Strip:
    """From `left` to `right` in the first objective, below `top` in the second; not closed yet in
    the third, in which it begins at `begin`."""

    left: float
    right: float
    top: float
    begin: float


def boxes(losses: Floats, reference: Floats) -> Boxes:
    """Of the front of `losses` (n, objectives); 2 or 3 objectives.

    One box more than the front has points for two objectives, about twice as many for three: a
    sweep along the third through staircases of the first two.
    """
    inside = losses[(losses < reference).all(axis=1)]
    front = np.unique(inside[is_optimal(inside)], axis=0)
    if front.shape[1] == 2:
        rights = np.append(front[:, 0], reference[0])
        tops = np.append(reference[1], front[:, 1])
        lefts = np.append(-math.inf, front[:, 0])
        low = np.stack([lefts, np.full(len(lefts), -math.inf)], axis=1)
        return Boxes(low, np.stack([rights, tops], axis=1))
    strips = [_Strip(-math.inf, float(reference[0]), float(reference[1]), -math.inf)]
    closed: list[tuple[_Strip, float]] = []
    for a, b, c in front[np.argsort(front[:, 2], kind="stable")].tolist():
        strips = _cut(strips, a, b, c, closed)
    closed += [(strip, float(reference[2])) for strip in strips]
    closed = [(strip, end) for strip, end in closed if strip.begin < end]
    low = np.array([(strip.left, -math.inf, strip.begin) for strip, _ in closed])
    return Boxes(low, np.array([(strip.right, strip.top, end) for strip, end in closed]))


def _cut(
    strips: list[_Strip], a: float, b: float, c: float, closed: list[tuple[_Strip, float]]
) -> list[_Strip]:
    """The strips once a point at (a, b) dominates a part of them from `c` on."""
    kept: list[_Strip] = []
    lost: list[_Strip] = []
    for strip in strips:
        if strip.right <= a or strip.top <= b:
            kept.append(strip)
            continue
        if strip.left < a:
            kept.append(replace(strip, right=a))
            strip = replace(strip, left=a)
        lost.append(strip)
    closed += [(strip, c) for strip in lost]
    if lost:
        # Those that are cut lie side by side, and what is left of them is equally high.
        kept.append(_Strip(lost[0].left, lost[-1].right, b, c))
    return sorted(kept, key=lambda strip: strip.left)


def log_expected_gain(found: Boxes, means: Floats, deviations: Floats) -> Floats:
    """The logarithm of the expected hypervolume gain, (m,), of normal losses (objectives, m)."""
    total = np.zeros((means.shape[1], len(found.low)))
    for objective, (mean, deviation) in enumerate(zip(means, deviations, strict=True)):
        edges, place = np.unique(
            np.concatenate([found.low[:, objective], found.high[:, objective]]),
            return_inverse=True,
        )
        log_below = log_expected_below(mean[:, None], deviation[:, None], edges[None, :])
        low, high = np.split(log_below[:, place], 2, axis=1)
        # log(exp(high) - exp(low)), and high > low.
        total += high + np.log(-np.expm1(np.minimum(low - high, -1e-15)))
    return np.asarray(special.logsumexp(total, axis=1))


def log_expected_below(mean: Floats, deviation: Floats, edge: Floats) -> Floats:
    """The logarithm of what a normal variable is expected to stay below an edge; minus infinity
    for the edge minus infinity."""
    endless = np.isneginf(edge)
    found = log_expected_improvement(mean, deviation, np.where(endless, 0.0, edge))
    return np.where(endless, -math.inf, found)
