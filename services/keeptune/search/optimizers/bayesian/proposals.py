"""Where to look: an even start, random points, and mutations of good ones."""

from __future__ import annotations

import numpy as np
from scipy.stats import qmc

from keeptune.search.optimizers.bayesian.encoding import Encoding, Floats


def even_start(encoding: Encoding, count: int, rng: np.random.Generator) -> Floats:
    """Rows (count, P): Sobol points, with every category as often as another."""
    size = 2 ** max(0, int(np.ceil(np.log2(max(count, 1)))))
    sobol = qmc.Sobol(max(1, encoding.dimension), scramble=True, rng=rng)
    rows = encoding.from_units(sobol.random(size)[:count, : encoding.dimension])
    for i, column in enumerate(encoding.columns):
        if column.is_category:
            turns = np.concatenate(
                [rng.permutation(column.size) for _ in range(count // column.size + 1)]
            )
            rows[:, i] = turns[:count]
    return rows


def anywhere(encoding: Encoding, count: int, rng: np.random.Generator) -> Floats:
    """Rows (count, P), each independent and uniform."""
    return encoding.from_units(rng.random((count, encoding.dimension)))


def mutated(
    encoding: Encoding,
    parents: Floats,
    count: int,
    rng: np.random.Generator,
    *,
    scale: float,
    changes: float,
) -> Floats:
    """Rows (count, P): each a parent (of n, P) with about `changes` active parameters changed.

    Numbers move by about `scale` of their range, or to a near value; categories to another one.
    """
    dimension = encoding.dimension
    rows = parents[rng.integers(len(parents), size=count)].copy()
    active = encoding.active(rows)
    chance = np.minimum(changes / np.maximum(active.sum(1, keepdims=True), 1), 1.0)
    change = rng.random((count, dimension)) < chance
    # What is not active must not use up the one change that there may be.
    forced = (rng.random((count, dimension)) * active).argmax(1)
    change[np.arange(count), forced] |= ~(change & active).any(1)
    # Steps of many sizes: the right one is never known.
    sizes = scale * np.exp(rng.normal(0.0, 1.0, (count, 1)))
    steps = rng.normal(0.0, 1.0, (count, dimension)) * sizes
    for i, column in enumerate(encoding.columns):
        who = np.flatnonzero(change[:, i])
        old = rows[who, i]
        if column.is_category:
            rows[who, i] = (old + rng.integers(1, max(column.size, 2), len(who))) % column.size
        elif column.options is None:
            rows[who, i] = _reflected(old + steps[who, i])
        else:
            at = column.units[old.astype(int)]
            new = column.from_unit(_reflected(at + steps[who, i]))
            stuck = new == old
            new[stuck] += np.where(steps[who, i][stuck] < 0, -1.0, 1.0)
            rows[who, i] = np.where(new < 0, 1.0, np.where(new >= column.size, old - 1.0, new))
    return rows


def _reflected(units: Floats) -> Floats:
    units = np.abs(units) % 2.0
    return np.where(units > 1.0, 2.0 - units, units)
