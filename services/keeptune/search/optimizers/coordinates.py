"""Assignments as rows of numbers, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keeptune.search.domains import Categories, Value
from keeptune.search.space import Assignment, SearchSpace

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Coordinates:
    """Of a space with P free parameters.

    A row (P,) has of each the unit coordinate, the index of a category, or NaN if it is not active.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.names = [parameter.name for parameter in space.free]
        self.domains = [parameter.domain for parameter in space.free]
        self.categories = np.array(
            [d.cardinality if isinstance(d, Categories) else 0 for d in self.domains], dtype=int
        )
        self.cell = np.array([1.0 / d.cardinality if d.cardinality else 0.0 for d in self.domains])
        """The share of the unit interval that a value has; 0 on a continuum."""
        self._index = {name: i for i, name in enumerate(self.names)}

    def row(self, values: Assignment) -> Floats:
        return np.array(
            [
                self._number(i, values[name]) if name in values else math.nan
                for i, name in enumerate(self.names)
            ]
        )

    def values(self, row: Floats) -> dict[str, Value]:
        """The assignment whose active parameters have these numbers."""
        choices: dict[str, Value] = {}
        for name, domain, number in zip(self.names, self.domains, row.tolist(), strict=True):
            if isinstance(domain, Categories):
                choices[name] = domain.options[int(number)]
            else:
                choices[name] = domain.from_unit(min(max(number, 0.0), 1.0))
        return self.space.assign(choices)

    def _number(self, i: int, value: Value) -> float:
        domain = self.domains[i]
        if isinstance(domain, Categories):
            return float(domain.index(value))
        return min(max(float(domain.to_unit(value)), 0.0), 1.0)

    def rows(self, points: Sequence[Assignment]) -> Floats:
        """Rows (n, P), also for n = 0."""
        rows = np.empty((len(points), len(self.names)))
        for i, point in enumerate(points):
            rows[i] = self.row(point)
        return rows
