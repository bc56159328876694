"""Points of a search space as rows of numbers, and as places whose distances mean something.

A point is a row with one number for each free parameter: a coordinate in [0, 1] for a continuum,
else the index of the value. Rows are complete; which parameters are active follows from the row.

A place is a point in Euclidean space, so that any kernel of the distance between places is positive
definite: numbers along a line, categories at the corners of a simplex with sides of length 1, a
parameter that is not active in the middle of its values, a step aside from all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keeptune.search.domains import Categories, Value
from keeptune.search.space import Assignment, Condition, Domain, SearchSpace

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

# Domains with more values than this are as good as continua.
_MAX_TABLE = 4096
# How far aside inactive parameters lie.
_ASIDE = 0.5


@dataclass(frozen=True)
class Column:
    """A free parameter. `options` = its values by index; None for a continuum."""

    name: str
    domain: Domain
    options: tuple[Value, ...] | None

    @classmethod
    def of(cls, name: str, domain: Domain) -> Column:
        size = domain.cardinality
        tabled = isinstance(domain, Categories) or (size is not None and size <= _MAX_TABLE)
        return cls(name, domain, tuple(domain.values(1)) if tabled else None)

    @cached_property
    def is_category(self) -> bool:
        return isinstance(self.domain, Categories)

    @property
    def size(self) -> int:
        """How many values it has; 0 for a continuum."""
        return len(self.options) if self.options is not None else 0

    @cached_property
    def units(self) -> Floats:
        """The coordinate of every value of an ordered finite domain, ascending."""
        return np.array([self.domain.to_unit(value) for value in self.options or ()])

    def encode(self, value: Value) -> float:
        if self.options is None:
            return min(max(float(self.domain.to_unit(value)), 0.0), 1.0)
        if isinstance(self.domain, Categories):
            return float(self.domain.index(value))
        return float(np.abs(self.units - self.domain.to_unit(value)).argmin())

    def decode(self, number: float) -> Value:
        if self.options is None:
            return self.domain.from_unit(float(number))
        return self.options[int(number)]

    def from_unit(self, units: Floats) -> Floats:
        """The numbers at coordinates in [0, 1]."""
        if self.options is None:
            return units
        if self.is_category:
            return np.minimum(np.floor(units * self.size), self.size - 1)
        return np.asarray(np.abs(units[..., None] - self.units).argmin(axis=-1).astype(float))

    def holds(self, condition: Condition, numbers: Floats) -> Bools:
        """Where this parameter, with these numbers, fulfils a condition on it."""
        if self.options is not None:
            table = np.array([condition.holds(option) for option in self.options])
            return np.asarray(table[numbers.astype(int)], dtype=bool)
        return np.array([condition.holds(self.decode(number)) for number in numbers], dtype=bool)


class Encoding:
    """Of one space with P free parameters. Rows have the shape (n, P), places (n, E)."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.columns = tuple(Column.of(p.name, p.domain) for p in space.free)
        self._index = {column.name: i for i, column in enumerate(self.columns)}
        self._conditional = [bool(p.conditions) for p in space.free]
        widths = [
            (column.size if column.is_category else 1) + conditional
            for column, conditional in zip(self.columns, self._conditional, strict=True)
        ]
        self.owner: Ints = np.repeat(np.arange(len(self.columns), dtype=np.int64), widths)
        """Whose parameter each of the E coordinates of a place is."""
        self._starts = np.concatenate(([0], np.cumsum(widths))).astype(int)

    @property
    def dimension(self) -> int:
        return len(self.columns)

    def encode(self, values: Assignment) -> Floats:
        """One row (P,); parameters that are not active get the middle of their domain."""
        return np.array(
            [
                column.encode(values[column.name])
                if column.name in values
                else float(column.from_unit(np.array([0.5]))[0])
                for column in self.columns
            ]
        )

    def decode(self, row: Floats) -> dict[str, Value]:
        return self.space.assign(
            {c.name: c.decode(float(x)) for c, x in zip(self.columns, row, strict=True)}
        )

    def from_units(self, units: Floats) -> Floats:
        """Rows (n, P) at points of the unit cube (n, P)."""
        columns = [c.from_unit(units[:, i]) for i, c in enumerate(self.columns)]
        return np.stack(columns, axis=1) if columns else units

    def active(self, rows: Floats) -> Bools:
        """Which parameters exist at each row (n, P)."""
        exists: dict[str, Bools] = {}
        n = len(rows)
        for parameter in self.space.ordered:
            here = np.ones(n, dtype=bool)
            for condition in parameter.conditions:
                here &= exists[condition.parent] & self._holds(condition, rows)
            exists[parameter.name] = here
        return np.stack([exists[c.name] for c in self.columns], axis=1)

    def _holds(self, condition: Condition, rows: Floats) -> Bools:
        index = self._index.get(condition.parent)
        if index is not None:
            return self.columns[index].holds(condition, rows[:, index])
        only = next(iter(self.space.by_name[condition.parent].domain.values(1)))
        return np.full(len(rows), condition.holds(only))

    def places(self, rows: Floats) -> Floats:
        """Where the rows lie, (n, E)."""
        active = self.active(rows) if self.space.is_conditional else None
        places = np.zeros((len(rows), len(self.owner)))
        for i, column in enumerate(self.columns):
            start = self._starts[i]
            numbers = rows[:, i]
            if column.is_category:
                corners = np.zeros((len(rows), column.size))
                corners[np.arange(len(rows)), numbers.astype(int)] = np.sqrt(0.5)
                places[:, start : start + column.size] = corners
            elif column.options is not None:
                places[:, start] = column.units[numbers.astype(int)] - 0.5
            else:
                places[:, start] = numbers - 0.5
            if active is not None and self._conditional[i]:
                end = self._starts[i + 1]
                places[:, end - 1] = _ASIDE
                places[:, start:end] *= active[:, i : i + 1]
        return places

    def keys(self, rows: Floats) -> list[bytes]:
        """Equal for rows that are the same point."""
        rows = np.round(rows, 9) + 0.0
        if self.space.is_conditional:
            rows = np.where(self.active(rows), rows, -1.0)
        return [row.tobytes() for row in np.ascontiguousarray(rows)]


def unseen(keys: Sequence[bytes], seen: set[bytes]) -> list[int]:
    """The first of each key that is not among `seen`."""
    found: dict[bytes, int] = {}
    for i, key in enumerate(keys):
        if key not in seen:
            found.setdefault(key, i)
    return list(found.values())
