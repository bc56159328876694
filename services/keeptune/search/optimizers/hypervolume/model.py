"""A Gaussian process an objective and one a constraint, and what they say of a point.

Expected hypervolume improvement over samples (Daulton, Balandat, Bakshy, NeurIPS 2021): for each
sample of the hyper-parameters the objectives are drawn jointly at the trials under way, and where
measurements are noisy at the others too, which gives a front that may be and processes that pass
through it. What a point would add to that front is expected in closed form, and averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from keeptune.search.optimizers.bayesian import process
from keeptune.search.optimizers.bayesian.encoding import Bools, Floats
from keeptune.search.optimizers.bayesian.feasibility import Limit
from keeptune.search.optimizers.bayesian.process import Process
from keeptune.search.optimizers.hypervolume.boxes import Boxes, boxes, log_expected_gain
from keeptune.search.pareto import reference_point

# What is drawn is known but for rounding.
_DRAWN_NOISE = 1e-6


@dataclass(frozen=True)
class Hyper:
    """Hyper-parameters of one objective's process: lengths (S, E), noise and scale (S,)."""

    lengths: Floats
    noise: Floats
    scale: Floats

    @classmethod
    def of(cls, fitted: Process) -> Hyper:
        return cls(fitted.lengths, fitted.noise, fitted.scale)

    def condition(self, places: Floats, goals: Floats, *, drawn: bool = False) -> Process:
        """The process of goals (S, n); `drawn` ones have no noise."""
        noise = np.full_like(self.noise, _DRAWN_NOISE) if drawn else self.noise
        return process.condition(places, goals, self.lengths, noise, self.scale)


@dataclass(frozen=True)
class Model:
    """`fronts` has one for each sample; none while nothing is feasible. `parents` (k, P) are good
    rows."""

    objectives: tuple[Process, ...]
    fronts: tuple[Boxes, ...]
    limits: tuple[Limit, ...]
    parents: Floats

    def score(self, places: Floats) -> Floats:
        """The logarithm of the expected gain, weighed by feasibility, (m,)."""
        score = np.zeros(len(places))
        if self.fronts:
            means, deviations = self._predict(places)
            gains = [
                log_expected_gain(front, means[:, s], deviations[:, s])
                for s, front in enumerate(self.fronts)
            ]
            score = special.logsumexp(gains, axis=0) - math.log(len(gains))
        for limit in self.limits:
            score = score + limit.log_chance(places)
        return np.asarray(score)

    def reason(self, places: Floats) -> str:
        """For one place (1, E)."""
        if not self.fronts:
            return "explore: where the constraints probably hold"
        means, _ = self._predict(places)
        beyond = [front.hold(means[:, s, 0]) for s, front in enumerate(self.fronts)]
        if 2 * sum(beyond) >= len(beyond):
            return "exploit: expected to lie beyond the front"
        return "explore: may lie beyond the front"

    def _predict(self, places: Floats) -> tuple[Floats, Floats]:
        """Means and deviations, each (objectives, S, m)."""
        predicted = [objective.predict(places) for objective in self.objectives]
        return np.stack([mean for mean, _ in predicted]), np.stack([dev for _, dev in predicted])


def believed(
    hypers: Sequence[Hyper],
    places: Floats,
    goals: Sequence[Floats],
    feasible: Bools,
    pending: Floats,
    rng: np.random.Generator,
    *,
    limit: Floats,
    noisy: bool,
) -> tuple[tuple[Process, ...], tuple[Boxes, ...]]:
    """Processes and fronts, of goals (n,) an objective at places (n, E); `feasible` says which of
    them a front is made of. Pending (p, E) are drawn. What is worse than the limit (objectives,)
    in one objective is worth nothing."""
    processes: list[Process] = []
    losses: list[Floats] = []
    everywhere = np.concatenate([places, pending])
    for hyper, goal in zip(hypers, goals, strict=True):
        told = np.tile(goal, (len(hyper.noise), 1))
        found = hyper.condition(places, told)
        if noisy:
            told = found.draw(everywhere, rng)
            found = hyper.condition(everywhere, told, drawn=True)
        elif len(pending):
            told = np.concatenate([told, found.draw(pending, rng)], axis=1)
            found = hyper.condition(everywhere, told)
        processes.append(found)
        losses.append(told)
    if not feasible.any():
        return tuple(processes), ()
    counted = np.concatenate([feasible, np.ones(len(pending), dtype=bool)])
    fronts = []
    # Of shape (S, n, objectives), a sample at a time.
    for drawn in np.stack(losses, axis=-1):
        known = drawn[: len(places)][feasible]
        fronts.append(boxes(drawn[counted], np.minimum(reference_point(known), limit)))
    return tuple(processes), tuple(fronts)
