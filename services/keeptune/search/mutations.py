"""Small changes of an assignment: one parameter takes another value near by."""

from __future__ import annotations

import numpy as np

from keeptune.search.domains import Categories, Value
from keeptune.search.graphs import mutation
from keeptune.search.graphs.values import Graph
from keeptune.search.space import Assignment, Domain, GraphSpace, SearchSpace

_TRIES = 32
# Steps of many sizes, as parts of the range: the right one is never known.
_SMALLEST_STEP, _LARGEST_STEP = 0.01, 0.3


def mutated(
    space: SearchSpace, parent: Assignment, rng: np.random.Generator
) -> tuple[str, Assignment]:
    """What was changed, and the point; what begins to exist by it is drawn anew."""
    # A graph is many choices: it has a share for each node.
    active = [
        parameter
        for parameter in space.free
        if parameter.name in parent
        for _ in range(_shares(parent[parameter.name]))
    ]
    if not active:
        return "nothing", parent
    chosen = active[rng.integers(len(active))]
    drawn = {p.name: p.domain.from_unit(rng.random()) for p in space.free}
    value = changed(chosen.domain, parent[chosen.name], rng)
    return chosen.name, space.assign({**drawn, **parent, chosen.name: value})


def replaced(
    space: SearchSpace, parent: Assignment, values: Assignment, rng: np.random.Generator
) -> dict[str, Value]:
    """The point with these values; what begins to exist by them is drawn anew."""
    drawn = {p.name: p.domain.from_unit(rng.random()) for p in space.free}
    return space.assign({**drawn, **parent, **values})


def changed(domain: Domain, value: Value, rng: np.random.Generator) -> Value:
    """Another value: any category, a number a Gaussian step away, a graph one change away."""
    if isinstance(domain, GraphSpace):
        assert isinstance(value, Graph)
        return mutation.mutated(domain, value, rng, mutated)
    if isinstance(domain, Categories):
        others = [option for option in domain.options if not _is(option, value)]
        return others[rng.integers(len(others))]
    scale = _SMALLEST_STEP * (_LARGEST_STEP / _SMALLEST_STEP) ** rng.random()
    if domain.cardinality is not None:
        scale = max(scale, 1.0 / domain.cardinality)
    at = domain.to_unit(value)
    for _ in range(_TRIES):
        new = domain.from_unit(_reflected(at + scale * rng.standard_normal()))
        if new != value:
            return new
        scale *= 1.5
    return value


def _shares(value: Value) -> int:
    return len(value) + 1 if isinstance(value, Graph) else 1


def _is(option: Value, value: Value) -> bool:
    return type(option) is type(value) and option == value


def _reflected(unit: float) -> float:
    unit = abs(unit) % 2.0
    return 2.0 - unit if unit > 1.0 else unit
