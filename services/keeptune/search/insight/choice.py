"""Which of the configurations tried is the best, where the best value measured may be luck.

A Gaussian process of all results tells noise from what the parameters do, and the lowest of its
means is the choice (see `optimizers.bayesian.incumbents`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keeptune.search.optimizers.base import Result
from keeptune.search.space import SearchSpace

_SAMPLES = 8
_DRAWS = 64
# Of a normal distribution: 80 % lie within so many deviations.
_WITHIN = 1.2816


@dataclass(frozen=True)
class Choice:
    """In losses: less is better. Intervals are of 80 %.

    `number` is the latest trial of the configuration, `measured` how many there are; `noise` the
    deviation of one measurement. `probability` is that of being better on average than the trial
    with the lowest loss, `lowest`; 0 where they are the same.
    """

    number: int
    measured: int
    expected: float
    low: float
    high: float
    noise: float
    probability: float
    lowest: int


def choose(
    space: SearchSpace, results: Sequence[Result], rng: np.random.Generator
) -> Choice | None:
    """By the first objective; None where there is nothing to compare."""
    if space.graphs or not space.free:
        return None
    # What it needs of scipy takes a while to load.
    from keeptune.search.optimizers.bayesian.encoding import Encoding
    from keeptune.search.optimizers.bayesian.incumbents import Incumbents

    encoding = Encoding(space)
    known = Incumbents.of(encoding, results, rng, _SAMPLES)
    if known is None:
        return None
    best = known.best
    lucky = min((r for r in results if r.is_feasible), key=lambda r: (r.losses[0], r.number))
    pair = np.stack([known.rows[best], encoding.encode(lucky.parameters)])
    same = len(set(encoding.keys(pair))) == 1
    drawn = [known.process.draw(encoding.places(pair), rng) for _ in range(0 if same else _DRAWS)]
    probability = float(np.mean([each[:, 0] < each[:, 1] for each in drawn])) if drawn else 0.0
    expected = known.middle + known.unit * float(known.means[best])
    doubt = known.unit * float(known.deviations[best]) * _WITHIN
    return Choice(
        number=known.latest[best],
        measured=int(known.measured[best]),
        expected=expected,
        low=expected - doubt,
        high=expected + doubt,
        noise=known.noise,
        probability=probability,
        lowest=lucky.number,
    )
