"""Trials as points of the unit cube, one axis a free parameter.

A parameter that is inactive in a trial has no coordinate there (NaN). The functions that are fitted
on the cube live on all of it, as if every parameter always had a value that does not matter while
it is inactive: then the parameters are independent, which functional ANOVA needs, and what is due
to a parameter being active is counted for its parents, who decide it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from keeptune.search.domains import Categories, FloatRange, IntRange, Value
from keeptune.search.graphs.values import Graph
from keeptune.search.space import Assignment, GraphSpace, Parameter, SearchSpace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cube:
    """The axes of a space; `graphs` are those that stand for graphs, by their sizes."""

    space: SearchSpace
    graphs: tuple[str, ...] = ()

    @classmethod
    def of(cls, space: SearchSpace) -> Cube:
        """Graphs have no order of their own; their sizes do."""
        parameters = (
            replace(p, domain=IntRange(p.domain.min_nodes, p.domain.max_nodes))
            if isinstance(p.domain, GraphSpace)
            else p
            for p in space.parameters
        )
        return cls(SearchSpace(tuple(parameters)), space.graphs)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(
            parameter
            for parameter in self.space.free
            if isinstance(parameter.domain, FloatRange | IntRange | Categories)
        )

    @cached_property
    def axes(self) -> dict[str, int]:
        return {parameter.name: axis for axis, parameter in enumerate(self.parameters)}

    @cached_property
    def levels(self) -> Ints:
        """(d,): into how many equal cells an axis is divided; 0 = a continuum.

        A domain of several values that is even in the logarithm has cells of unequal size: it is
        taken as a continuum.
        """
        return np.array([_levels(parameter) for parameter in self.parameters], dtype=np.int64)

    @cached_property
    def unordered(self) -> tuple[int, ...]:
        """The axes whose cells have no order."""
        return tuple(
            axis
            for axis, parameter in enumerate(self.parameters)
            if isinstance(parameter.domain, Categories)
        )

    def points(self, assignments: Sequence[Assignment]) -> Floats:
        """(n, d): coordinates in [0, 1], NaN where a parameter is inactive."""
        found = np.full((len(assignments), len(self.parameters)), np.nan)
        for axis, parameter in enumerate(self.parameters):
            known: dict[tuple[type, Value], float] = {}
            for row, assignment in enumerate(assignments):
                value = assignment.get(parameter.name)
                if value is None:
                    continue
                if isinstance(value, Graph):
                    value = len(value)
                key = type(value), value
                if key not in known:
                    known[key] = parameter.domain.to_unit(value)
                found[row, axis] = known[key]
        return found


def _levels(parameter: Parameter) -> int:
    domain = parameter.domain
    if isinstance(domain, Categories):
        return domain.cardinality
    assert isinstance(domain, FloatRange | IntRange)
    return 0 if domain.log else domain.cardinality or 0
