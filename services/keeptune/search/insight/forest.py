"""Regression trees on the unit cube, bagged and boosted, and the boxes of their leaves.

Each of several bootstrap samples of the trials gets an ensemble of its own: small extremely
randomised trees (Geurts, Ernst, Wehenkel, Machine Learning 63, 2006: one random cut an axis, the
best is taken), each fitted to what those before it left over (Friedman, Annals of Statistics 29,
2001). Boosting keeps weak effects beside strong ones, which a plain forest loses; it stops where
the error on the trials outside of the samples is least. The trees of all samples grow at once,
level by level, as array operations.

A cut is made along an axis only where every trial of the node has a coordinate, that is where the
parameter is active. The cells of an unordered axis stand in another random order in each tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keeptune.search.insight.cube import Bools, Cube, Floats, Ints

SAMPLES = 16
_STAGES = 50
_PATIENCE = 8
_RATE = 0.2
_DEPTH = 3
_SMALLEST_LEAF = 3.0
_SMALLEST_SPLIT = 6.0


@dataclass(frozen=True)
class Leaves:
    """Leaves of the trees of several ensembles, whose function is the sum over their boxes.

    A box is `low` to `high` (both (L, d)); on an unordered axis it is the cells `cells[axis]`
    (L, k), and `low` and `high` only tell how many they are.
    """

    ensemble: Ints
    value: Floats
    low: Floats
    high: Floats
    cells: dict[int, Bools]

    @property
    def size(self) -> Floats:
        """(L, d): which part of each axis a box covers."""
        return self.high - self.low

    def of(self, ensemble: int) -> Leaves:
        mine = self.ensemble == ensemble
        cells = {axis: cells[mine] for axis, cells in self.cells.items()}
        return Leaves(self.ensemble[mine], self.value[mine], self.low[mine], self.high[mine], cells)

    def covers(self, axis: int, units: Floats) -> Bools:
        """(L, len(units)): which boxes have these coordinates of one axis within them."""
        if axis in self.cells:
            cells = self.cells[axis]
            levels = cells.shape[1]
            return cells[:, np.minimum((units * levels).astype(np.int64), levels - 1)]
        low, high = self.low[:, axis, None], self.high[:, axis, None]
        return (units >= low) & ((units < high) | (high >= 1.0))


@dataclass(frozen=True)
class Forest:
    """`SAMPLES` ensembles fitted to the same trials.

    `r_squared` is the part of the variance that is explained for trials outside of the samples,
    at most 1; below 0 the mean would have been the better guess. `fitted` (SAMPLES, n) are the
    ensembles' values at the trials, `errors` what is left of those outside of the samples.
    """

    leaves: Leaves
    offset: float
    scale: float
    trials: int
    stages: int
    r_squared: float
    fitted: Floats
    errors: Floats
    # The axes that stand for graphs (see Cube).
    graphs: tuple[str, ...] = ()

    @property
    def trees(self) -> int:
        return self.stages * SAMPLES


def fit(cube: Cube, points: Floats, values: Floats, rng: np.random.Generator) -> Forest:
    """Fits (n, d) `points` to (n,) `values`, which must not be all the same."""
    offset, scale = float(values.mean()), float(values.std())
    wanted = (values - offset) / scale
    weights = draw(len(values), rng)
    outside = np.where(weights == 0, 1.0, 0.0)
    seen = outside.sum(axis=0) > 0
    fitted = np.zeros_like(weights)
    stages: list[Leaves] = []
    best, best_error, best_fitted = 0, np.inf, fitted
    while len(stages) < _STAGES and len(stages) - best < _PATIENCE:
        leaves, gained = _grow(cube, points, wanted - fitted, weights, rng)
        stages.append(leaves)
        fitted = fitted + gained
        error = float(np.mean((wanted - _outside(fitted, outside))[seen] ** 2))
        if error < best_error:
            best, best_error, best_fitted = len(stages), error, fitted
    errors = (wanted - _outside(best_fitted, outside))[seen]
    return Forest(
        leaves=_together(stages[:best]),
        offset=offset,
        scale=scale,
        trials=len(values),
        stages=best,
        r_squared=1.0 - float(np.mean(errors**2) / np.var(wanted[seen])),
        fitted=best_fitted,
        errors=errors,
        graphs=cube.graphs,
    )


def refit(
    cube: Cube, points: Floats, wanted: Floats, stages: int, rng: np.random.Generator
) -> Leaves:
    """Ensembles of so many stages on new samples, each fitted to targets of its own.

    `wanted` is (SAMPLES, n).
    """
    weights = draw(wanted.shape[1], rng)
    fitted = np.zeros_like(wanted)
    grown = []
    for _ in range(stages):
        leaves, gained = _grow(cube, points, wanted - fitted, weights, rng)
        grown.append(leaves)
        fitted = fitted + gained
    return _together(grown)


def draw(trials: int, rng: np.random.Generator) -> Floats:
    """(SAMPLES, trials): how often each trial is in each bootstrap sample."""
    chosen = rng.integers(0, trials, (SAMPLES, trials))
    return np.stack([np.bincount(row, minlength=trials) for row in chosen]).astype(np.float64)


def _outside(fitted: Floats, outside: Floats) -> Floats:
    """(n,): the mean over the ensembles that have not seen a trial; 0 where all have."""
    return np.asarray((fitted * outside).sum(axis=0) / np.maximum(outside.sum(axis=0), 1.0))


def _together(stages: Sequence[Leaves]) -> Leaves:
    return Leaves(
        np.concatenate([each.ensemble for each in stages]),
        np.concatenate([each.value for each in stages]),
        np.concatenate([each.low for each in stages]),
        np.concatenate([each.high for each in stages]),
        {axis: np.concatenate([each.cells[axis] for each in stages]) for axis in stages[0].cells},
    )


def _grow(
    cube: Cube, points: Floats, wanted: Floats, weights: Floats, rng: np.random.Generator
) -> tuple[Leaves, Floats]:
    """One tree an ensemble; its leaves, and its values at the trials, both times the rate."""
    ensembles, n = wanted.shape
    places = {
        axis: np.argsort(rng.random((ensembles, int(cube.levels[axis]))), axis=1)
        for axis in cube.unordered
    }
    nodes = _Nodes(cube, points, wanted, weights, places)
    found: list[Leaves] = []
    gained = np.zeros(ensembles * n)
    for depth in range(_DEPTH + 1):
        split, axis, cut = nodes.best_cuts(rng) if depth < _DEPTH else nodes.no_cuts()
        done = ~split
        if done.any():
            value = _RATE * nodes.means()[done]
            found.append(nodes.leaves(done, value, places))
            rows = done[nodes.node]
            gained[nodes.trial[rows]] = np.repeat(value, nodes.count[done])
        if not split.any():
            break
        nodes.divide(split, axis, cut)
    return _together(found), gained.reshape(ensembles, n)


class _Nodes:
    """The nodes of one level of all trees, and the trials in them, node after node."""

    def __init__(
        self,
        cube: Cube,
        points: Floats,
        wanted: Floats,
        weights: Floats,
        places: dict[int, Ints],
    ) -> None:
        ensembles, n = wanted.shape
        self._levels = cube.levels[:, None].astype(np.float64)
        self._finite = self._levels > 0
        self._cells = np.where(self._finite, self._levels, 1.0)
        # (d, rows): an axis after the other, for the sums over nodes.
        self._points = np.tile(points.T, ensembles)
        for axis, place in places.items():
            levels = place.shape[1]
            inactive = np.isnan(points[:, axis])
            cell = (np.where(inactive, 0.0, points[:, axis]) * levels).astype(np.int64)
            moved = (place[:, cell] + 0.5) / levels
            moved[:, inactive] = np.nan
            self._points[axis] = moved.ravel()
        self._weight = weights.ravel()
        self._weighted = self._weight * wanted.ravel()
        self.trial = np.arange(ensembles * n)
        self.count = np.full(ensembles, n)
        self._ensemble = np.arange(ensembles)
        self._low = np.zeros((ensembles, len(points[0])))
        self._high = np.ones((ensembles, len(points[0])))
        self._index()

    def _index(self) -> None:
        self._start = np.concatenate([[0], np.cumsum(self.count)[:-1]])
        self.node = np.repeat(np.arange(len(self.count)), self.count)
        self._total = np.add.reduceat(self._weight, self._start)
        self._sum = np.add.reduceat(self._weighted, self._start)

    def means(self) -> Floats:
        return np.asarray(self._sum / np.maximum(self._total, 1e-12))

    def no_cuts(self) -> tuple[Bools, Ints, Floats]:
        nodes = len(self.count)
        return np.zeros(nodes, dtype=bool), np.zeros(nodes, dtype=np.int64), np.zeros(nodes)

    def best_cuts(self, rng: np.random.Generator) -> tuple[Bools, Ints, Floats]:
        """Which nodes are to be divided, along which axis, and where."""
        start, points = self._start, self._points
        # NaN where a trial of the node has no coordinate.
        low = np.minimum.reduceat(points, start, axis=1)
        high = np.maximum.reduceat(points, start, axis=1)
        chance = rng.random(low.shape)
        cut = low + chance * (high - low)
        # Between two cells, so that boxes have their true size.
        first, last = np.floor(low * self._cells), np.floor(high * self._cells)
        between = np.minimum(first + 1 + np.floor(chance * (last - first)), last) / self._cells
        cut = np.where(self._finite, between, cut)
        left = points < np.repeat(cut, self.count, axis=1)
        weight = np.add.reduceat(left * self._weight, start, axis=1)
        total = np.add.reduceat(left * self._weighted, start, axis=1)
        other_weight, other = self._total - weight, self._sum - total
        usable = (high > low) & (weight >= _SMALLEST_LEAF) & (other_weight >= _SMALLEST_LEAF)
        gain = np.full(low.shape, -np.inf)
        np.divide(total**2, weight, out=gain, where=usable)
        gain[usable] += other[usable] ** 2 / other_weight[usable]
        gain -= self._sum**2 / np.maximum(self._total, 1e-12)
        axis = gain.argmax(axis=0)
        nodes = np.arange(len(axis))
        split = (gain[axis, nodes] > 1e-12) & (self._total >= _SMALLEST_SPLIT)
        return split, axis, cut[axis, nodes]

    def divide(self, split: Bools, axis: Ints, cut: Floats) -> None:
        """Each of these nodes becomes two; the others, leaves by now, go."""
        kept = np.flatnonzero(split[self.node])
        node = self.node[kept]
        right = ~(self._points[axis[node], kept] < cut[node])
        child = 2 * (np.cumsum(split) - 1)[node] + right
        order = kept[np.argsort(child, kind="stable")]
        self._points = self._points[:, order]
        self._weight, self._weighted = self._weight[order], self._weighted[order]
        self.trial = self.trial[order]
        self._ensemble = np.repeat(self._ensemble[split], 2)
        parent = np.arange(int(split.sum()))
        self._low = np.repeat(self._low[split], 2, axis=0)
        self._high = np.repeat(self._high[split], 2, axis=0)
        self._high[2 * parent, axis[split]] = cut[split]
        self._low[2 * parent + 1, axis[split]] = cut[split]
        self.count = np.bincount(child, minlength=2 * len(parent))
        self._index()

    def leaves(self, done: Bools, value: Floats, places: dict[int, Ints]) -> Leaves:
        ensemble, low, high = self._ensemble[done], self._low[done], self._high[done]
        cells = {}
        for axis, place in places.items():
            middle = (place[ensemble] + 0.5) / place.shape[1]
            cells[axis] = (middle >= low[:, axis, None]) & (middle < high[:, axis, None])
        return Leaves(ensemble, value, low, high, cells)
