"""From losses to scores, as in the NeurIPS 2020 black-box optimisation challenge.

score = (loss - best known) / (median final loss of random search - best known): 0 is the best that
anybody has ever seen on the task, 1 the median of random search with the same number of trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import lgamma
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

_RESAMPLES = 4000


@dataclass(frozen=True)
class Scale:
    """Of a task at a number of trials."""

    best: float
    random: float

    def __post_init__(self) -> None:
        if not self.best < self.random:
            raise ValueError(
                f"random search reaches the best known loss of {self.best}: the task tells nothing"
            )

    def score(self, loss: float) -> float:
        return (loss - self.best) / (self.random - self.best)


@dataclass(frozen=True)
class Summary:
    """Of a method over tasks and seeds; `low` to `high` is the 95 % interval of the mean."""

    mean: float
    low: float
    high: float
    rank: float


def random_median(losses: Sequence[float], trials: int) -> float:
    """The median of random search's final loss after `trials`, from many losses at random points.

    Exact over all ways to draw `trials` of them without replacement.
    """
    pool = sorted(losses)
    if not 0 < trials <= len(pool):
        raise ValueError(f"{trials} trials cannot be drawn of {len(pool)} losses")
    for i, loss in enumerate(pool):
        # The best of a draw is above pool[i] if all of it comes from what follows.
        left = len(pool) - i - 1
        above = np.exp(_log_choose(left, trials) - _log_choose(len(pool), trials))
        if left < trials or above <= 0.5:
            return loss
    raise AssertionError("the last loss is never exceeded")


def _log_choose(n: int, k: int) -> float:
    if k > n:
        return -np.inf
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def summaries(scores: Mapping[str, Array], seed: int = 0) -> dict[str, Summary]:
    """By method, from arrays of (tasks, seeds), the same tasks and seeds for each.

    The interval is of a bootstrap over tasks and, within each, over seeds.
    """
    methods = list(scores)
    table = np.stack([scores[method] for method in methods])
    ranks = ranked(table).mean(axis=(1, 2))
    rng = np.random.default_rng(seed)
    _, tasks, seeds = table.shape
    chosen = rng.integers(tasks, size=(_RESAMPLES, tasks, 1))
    drawn = rng.integers(seeds, size=(_RESAMPLES, tasks, seeds))
    found = {}
    for method, own, rank in zip(methods, table, ranks, strict=True):
        low, high = np.quantile(own[chosen, drawn].mean(axis=(1, 2)), [0.025, 0.975])
        found[method] = Summary(float(own.mean()), float(low), float(high), float(rank))
    return found


def ranked(table: Array) -> Array:
    """Ranks along the first axis, 1 the lowest; ties share the mean of their ranks."""
    below = (table[None] < table[:, None]).sum(axis=1)
    equal = (table[None] == table[:, None]).sum(axis=1)
    ranks: Array = below + (equal + 1) / 2
    return ranks
