"""What values a parameter can take, and how they lie on the unit interval.

Optimisers search the unit cube: every numeric domain maps a coordinate in [0, 1] to a value and
back, evenly on its scale, so that no optimiser knows of logarithms, steps or integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeGuard

from keeptune.search.graphs.values import Graph, Scalar

# Integers and floats are told apart, and True is not 1 (see `same`).
Value = Scalar | Graph


def same(a: Value, b: Value) -> bool:
    """Equal and of one type; an integer equals the float of the same value."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, str) or isinstance(b, str):
        return isinstance(a, str) and isinstance(b, str) and a == b
    return a == b


def is_number(value: Value) -> TypeGuard[int | float]:
    """True is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class FloatRange:
    """From `min` to `max`, both included; `step` 0 = continuous. `log` needs min > 0."""

    field: ClassVar[str] = "float_range"

    min: float
    max: float
    log: bool = False
    step: float = 0.0

    @property
    def cardinality(self) -> int | None:
        """How many values there are; None = a continuum."""
        if self.min == self.max:
            return 1
        return self._levels if self.step else None

    @property
    def _levels(self) -> int:
        # The margin forgives a range such as 0 to 0.3 by 0.1, which divides to 2.9999999999999996.
        return int((self.max - self.min) / self.step * (1 + 1e-12) + 1e-9) + 1

    def contains(self, value: Value) -> bool:
        if not is_number(value) or not self.min <= value <= self.max:
            return False
        if not self.step:
            return True
        steps = (value - self.min) / self.step
        return abs(steps - round(steps)) <= 1e-6

    def from_unit(self, unit: float) -> float:
        """The value at a coordinate in [0, 1]."""
        if self.min == self.max:
            return self.min
        if self.step and not self.log:
            return self._level(min(int(unit * self._levels), self._levels - 1))
        if unit in (0.0, 1.0):
            value = self.max if unit else self.min
        elif self.log:
            low, high = math.log(self.min), math.log(self.max)
            value = math.exp(low + unit * (high - low))
        else:
            value = self.min + unit * (self.max - self.min)
        value = min(max(value, self.min), self.max)
        if self.step:
            return self._level(min(round((value - self.min) / self.step), self._levels - 1))
        return value

    def to_unit(self, value: Value) -> float:
        """The middle of the coordinates that give the value."""
        assert not isinstance(value, str | Graph)
        if self.min == self.max:
            return 0.5
        if self.log:
            low, high = math.log(self.min), math.log(self.max)
            return (math.log(value) - low) / (high - low)
        if self.step:
            return (round((value - self.min) / self.step) + 0.5) / self._levels
        return (value - self.min) / (self.max - self.min)

    def values(self, levels: int) -> Iterator[float]:
        """All values, or `levels` of a continuum, both ends included, in growing order."""
        if self.step or self.min == self.max:
            yield from (self._level(i) for i in range(self.cardinality or 0))
        elif levels == 1:
            yield self.from_unit(0.5)
        else:
            yield from (self.from_unit(i / (levels - 1)) for i in range(levels))

    def _level(self, index: int) -> float:
        if not index:
            return self.min
        # 12 digits, so that people see 0.3 and not 0.30000000000000004.
        return min(float(f"{self.min + index * self.step:.12g}"), self.max)


@dataclass(frozen=True)
class IntRange:
    """From `min` to `max`, both included, by `step` >= 1. `log` needs min > 0."""

    field: ClassVar[str] = "int_range"

    min: int
    max: int
    log: bool = False
    step: int = 1

    @property
    def cardinality(self) -> int:
        return (self.max - self.min) // self.step + 1

    def contains(self, value: Value) -> bool:
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return self.min <= value <= self.max and (value - self.min) % self.step == 0

    def from_unit(self, unit: float) -> int:
        """The value at a coordinate in [0, 1]."""
        if self.log:
            low, high = self._log_bounds()
            nearest = round(math.exp(low + unit * (high - low)))
            index = round((nearest - self.min) / self.step)
        else:
            index = int(unit * self.cardinality)
        return self.min + self.step * min(max(index, 0), self.cardinality - 1)

    def to_unit(self, value: Value) -> float:
        """The middle of the coordinates that give the value."""
        assert not isinstance(value, str | Graph)
        if self.log:
            low, high = self._log_bounds()
            return (math.log(value) - low) / (high - low)
        return ((value - self.min) / self.step + 0.5) / self.cardinality

    def values(self, levels: int) -> Iterator[int]:
        """All values, in growing order."""
        yield from range(self.min, self.max + 1, self.step)

    def _log_bounds(self) -> tuple[float, float]:
        # Half a step beyond either end, so that the ends get their full share.
        return math.log(self.min - 0.5), math.log(self.max + 0.5)


@dataclass(frozen=True)
class Categories:
    """One of some values without an order."""

    field: ClassVar[str] = "categories"

    options: tuple[Value, ...]

    @property
    def cardinality(self) -> int:
        return len(self.options)

    def contains(self, value: Value) -> bool:
        return any(type(value) is type(option) and value == option for option in self.options)

    def index(self, value: Value) -> int:
        """Where the value stands among the options."""
        for i, option in enumerate(self.options):
            if type(value) is type(option) and value == option:
                return i
        raise ValueError(f"{value!r} is not among {self.options!r}")

    def from_unit(self, unit: float) -> Value:
        return self.options[min(int(unit * len(self.options)), len(self.options) - 1)]

    def to_unit(self, value: Value) -> float:
        return (self.index(value) + 0.5) / len(self.options)

    def values(self, levels: int) -> Iterator[Value]:
        yield from self.options


@dataclass(frozen=True)
class Fixed:
    """Always the same value."""

    field: ClassVar[str] = "fixed"

    value: Value

    @property
    def cardinality(self) -> int:
        return 1

    def contains(self, value: Value) -> bool:
        return same(value, self.value)

    def from_unit(self, unit: float) -> Value:
        return self.value

    def to_unit(self, value: Value) -> float:
        return 0.5

    def values(self, levels: int) -> Iterator[Value]:
        yield self.value
