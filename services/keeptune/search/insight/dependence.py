"""How a metric follows one parameter, or two, all others averaged over the space.

Partial dependence (Friedman, Annals of Statistics 29, 2001, section 8.2), which for trees is a
weighted count of boxes. A parameter that exists only under conditions is averaged over the part of
the space in which it is active.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keeptune.search.domains import Categories, Value
from keeptune.search.insight.cube import Bools, Cube, Floats
from keeptune.search.insight.forest import SAMPLES, Forest, Leaves
from keeptune.search.insight.importance import QUANTILES
from keeptune.search.space import Condition

# Places that stand for a continuum when its conditioned part is measured.
_PLACES = 128


@dataclass(frozen=True)
class Axis:
    """A parameter and the values of it that were looked at, in order."""

    parameter: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Dependence:
    """The metric's mean and the 80 % band of that mean, each of the shape of the axes' values.

    The band comes of the bootstrap samples: where the mean may lie, not where a trial may.
    """

    axes: tuple[Axis, ...]
    mean: Floats
    low: Floats
    high: Floats


def dependence(cube: Cube, forest: Forest, parameters: Sequence[str], points: int) -> Dependence:
    """On one parameter of the cube or two, each at up to `points` values; all of a few."""
    axes = tuple(_axis(cube, name, points) for name in parameters)
    indices = [cube.axes[name] for name in parameters]
    leaves = forest.leaves
    size = leaves.size
    for index, allowed in _conditioned(cube, indices).items():
        size[:, index] = leaves.covers(index, allowed).mean(axis=1)
    mass = leaves.value * np.delete(size, indices, axis=1).prod(axis=1)
    covers = [_covers(cube, leaves, axis) for axis in axes]
    curves = []
    for ensemble in range(SAMPLES):
        mine = leaves.ensemble == ensemble
        first = covers[0][mine] * mass[mine, None]
        sums = first.sum(axis=0) if len(axes) == 1 else first.T @ covers[1][mine].astype(float)
        curves.append(forest.offset + forest.scale * sums)
    found = np.stack(curves)
    low, high = np.quantile(found, QUANTILES, axis=0)
    return Dependence(axes, found.mean(axis=0), low, high)


def _axis(cube: Cube, name: str, points: int) -> Axis:
    domain = cube.space.by_name[name].domain
    count = domain.cardinality
    if isinstance(domain, Categories) or (count is not None and count <= points):
        return Axis(name, tuple(domain.values(1)))
    values = [domain.from_unit(place) for place in np.linspace(0.0, 1.0, points).tolist()]
    return Axis(name, tuple(dict.fromkeys(values)))


def _covers(cube: Cube, leaves: Leaves, axis: Axis) -> Bools:
    domain = cube.space.by_name[axis.parameter].domain
    units = np.array([domain.to_unit(value) for value in axis.values])
    return leaves.covers(cube.axes[axis.parameter], units)


def _conditioned(cube: Cube, indices: Sequence[int]) -> dict[int, Floats]:
    """The coordinates of ancestors at which the parameters of these axes can be active.

    Ancestors that are axes themselves are left free.
    """
    conditions: dict[str, list[Condition]] = {}
    waiting = [cube.parameters[index].name for index in indices]
    seen = set(waiting)
    while waiting:
        for condition in cube.space.by_name[waiting.pop()].conditions:
            conditions.setdefault(condition.parent, []).append(condition)
            if condition.parent not in seen:
                seen.add(condition.parent)
                waiting.append(condition.parent)
    allowed = {}
    for parent, all_of in conditions.items():
        index = cube.axes.get(parent)
        if index is None or index in indices:
            continue
        domain = cube.space.by_name[parent].domain
        cells = int(cube.levels[index]) or _PLACES
        middles = (np.arange(cells) + 0.5) / cells
        values = [domain.from_unit(middle) for middle in middles.tolist()]
        active = np.array([all(each.holds(value) for each in all_of) for value in values])
        if active.any():
            allowed[index] = middles[active]
    return allowed
