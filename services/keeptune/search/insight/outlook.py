"""Whether further trials will help: the statistics of records, extrapolated.

Among n independent draws each is as likely as another to be the best, so that draw t sets a record
with probability 1/t, whatever is drawn from (Renyi, 1962; Arnold, Balakrishnan, Nagaraja,
"Records", 1998, section 2.5). A search that learns sets records at another pace, and one that is
done sets none: here the probability is pace/t, and the pace has a gamma distribution that starts
near that of chance and learns from the study's own records, the later ones counting more. How much
a record gains follows from extreme-value theory (Pickands, Annals of Statistics 3, 1975): near the
optimum the share of draws below a loss is a power of its distance to the optimum, so that each
record multiplies the distance by a power of a uniform number. Optimum and power are unknown: they
are weighed on a grid by how well they explain the records so far. The future is drawn from all
this, many times.

As in Makarova et al., "Automatic Termination for Hyperparameter Optimization" (AutoML 2022), what
counts is not whether the search could improve at all but whether by more than is worth having;
there the bound comes of a Gaussian process, here of the records, which needs no model of the
parameters and holds for any algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from keeptune.search.insight.cube import Floats, Ints
from keeptune.search.insight.importance import QUANTILES

_DRAWS = 4000
# What is thought of the pace before it is seen: so many records, where so many were to be expected
# by chance. A search that does not learn keeps to chance; one that learns is faster, and for how
# long is unknown. These figures and those below were set so that the stated probabilities come
# true on average over what Bayesian, TPE, evolutionary and local searches do on smooth, wavy and
# stepped functions.
_CHANCE = (20.0, 20.0)
_LEARNING = (1.5, 0.5)
# A record counts for e to minus this when there are e times as many trials as when it was set.
_FORGETTING = 1.5
# Distances to the optimum, in units of the spread of the losses, and powers; each is thought to be
# near its middle, on a logarithmic scale.
_DISTANCES = np.geomspace(1e-4, 30.0, 60)
_POWERS = np.geomspace(0.2, 20.0, 30)
_PRIOR_DISTANCE = (np.log(0.45), 1.5)
_PRIOR_POWER = (np.log(1.5), 0.8)
STOP_BELOW = 0.05
CONTINUE_FROM = 0.25


class Advice(Enum):
    CONTINUE = auto()
    # Between the two others: up to what a trial costs.
    OPTIONAL = auto()
    STOP = auto()


@dataclass(frozen=True)
class Outlook:
    """In losses: less is better. Intervals are of 80 %.

    `best_trial` and `records` are places in the sequence of losses, from 0; `records` are those
    that were better than all before, the first included. `regret` is what lies between the best
    and the best possible.
    """

    trials: int
    further: int
    best: float
    best_trial: int
    records: tuple[int, ...]
    tolerance: float
    expected: float
    low: float
    high: float
    probability: float
    regret: float
    regret_low: float
    regret_high: float

    @property
    def advice(self) -> Advice:
        if self.probability < STOP_BELOW:
            return Advice.STOP
        return Advice.CONTINUE if self.probability >= CONTINUE_FROM else Advice.OPTIONAL


def outlook(
    losses: Floats,
    further: int,
    tolerance: float | None,
    rng: np.random.Generator,
    *,
    learns: bool = True,
) -> Outlook:
    """What `further` trials will bring after these losses, in the order in which they came.

    `learns` says whether the search follows its results, or draws as by chance all the time.
    A trial that has none, because it failed, say, counts as infinity; some are finite, and differ.
    `tolerance` None = a hundredth of the spread, the distance from the best to the median (or to
    the mean, where the median is the best).
    """
    finite = losses[np.isfinite(losses)]
    best = float(finite.min())
    # Where the best is no better than the median, the mean tells the scale.
    spread = float(np.median(finite)) - best or float(finite.mean()) - best
    spread = max(spread, 1e-9 * max(1.0, abs(best)))
    wanted = 0.01 * spread if tolerance is None else tolerance
    before = np.minimum.accumulate(np.concatenate([[np.inf], losses[:-1]]))
    records = np.flatnonzero(losses < before)
    trials = len(losses)
    pace = _paces(records, trials, _LEARNING if learns else _CHANCE, rng)
    distance, power = _tails(losses[records], spread, rng)
    exposure = float(np.sum(1.0 / np.arange(trials + 1, trials + further + 1)))
    future = rng.poisson(pace * exposure)
    gains = distance * -np.expm1(-rng.gamma(np.maximum(future, 1e-9)) / power)
    gains = np.where(future > 0, gains, 0.0)
    low, high = np.quantile(best - gains, QUANTILES)
    regret_low, regret, regret_high = np.quantile(distance, (QUANTILES[0], 0.5, QUANTILES[1]))
    return Outlook(
        trials=trials,
        further=further,
        best=best,
        best_trial=int(records[-1]),
        records=tuple(records.tolist()),
        tolerance=wanted,
        expected=best - float(gains.mean()),
        low=float(low),
        high=float(high),
        probability=float(np.mean(gains > wanted)),
        regret=float(regret),
        regret_low=float(regret_low),
        regret_high=float(regret_high),
    )


def _paces(
    records: Ints, trials: int, prior: tuple[float, float], rng: np.random.Generator
) -> Floats:
    """Draws of how often records come, 1 = as by chance."""
    number = np.arange(1, trials + 1)
    weight = (number / trials) ** _FORGETTING
    # The first trial is a record at any pace.
    seen = float(weight[records[1:]].sum())
    exposure = float((weight[1:] / number[1:]).sum())
    return rng.gamma(prior[0] + seen, 1.0 / (prior[1] + exposure), _DRAWS)


def _tails(records: Floats, spread: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draws of the distance from the best to the optimum, and of the power beside it."""
    distance, power = (each.ravel() for each in np.meshgrid(_DISTANCES, _POWERS, indexing="ij"))
    middle, width = _PRIOR_DISTANCE
    chance = -0.5 * ((np.log(distance) - middle) / width) ** 2
    middle, width = _PRIOR_POWER
    chance -= 0.5 * ((np.log(power) - middle) / width) ** 2
    # (records, grid): distances of the records to the optimum.
    above = (records[:, None] - records[-1]) / spread + distance
    chance += (np.log(power) + (power - 1.0) * np.log(above[1:]) - power * np.log(above[:-1])).sum(
        axis=0
    )
    weight = np.exp(chance - chance.max())
    drawn = rng.choice(len(weight), _DRAWS, p=weight / weight.sum())
    return distance[drawn] * spread, power[drawn]
