"""Parameters of a trainer: what it recommends to search, what it accepts, what it defaults to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keeptune.runtime.errors import InvalidInput, Violation
from keeptune.training.model import Scalar


@dataclass(frozen=True)
class FloatParameter:
    """Recommended between `min` and `max`, inclusive; accepted between `lowest` and `highest`."""

    name: str
    min: float
    max: float
    default: float
    log: bool = False
    lowest: float = -math.inf
    highest: float = math.inf

    @property
    def wanted(self) -> str:
        return f"give a number, e.g. {self.default:g}{_within(self.lowest, self.highest)}"

    def problem(self, value: Scalar) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"is {value!r}, not a number"
        return _outside(value, self.lowest, self.highest)

    def convert(self, value: Scalar) -> Scalar:
        return float(value)


@dataclass(frozen=True)
class IntParameter:
    """Recommended between `min` and `max`, inclusive; accepted between `lowest` and `highest`."""

    name: str
    min: int
    max: int
    default: int
    log: bool = False
    lowest: int = 1
    highest: int = 1_000_000

    @property
    def wanted(self) -> str:
        return f"give a whole number, e.g. {self.default}{_within(self.lowest, self.highest)}"

    def problem(self, value: Scalar) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            return f"is {value!r}, not a whole number"
        return _outside(value, self.lowest, self.highest)

    def convert(self, value: Scalar) -> Scalar:
        return int(value)


@dataclass(frozen=True)
class ChoiceParameter:
    """One of `values`, all of one type."""

    name: str
    values: tuple[Scalar, ...]
    default: Scalar

    @property
    def wanted(self) -> str:
        return f"give one of {', '.join(map(repr, self.values))}"

    def problem(self, value: Scalar) -> str:
        if value in self.values and isinstance(value, bool) == isinstance(self.default, bool):
            return ""
        return f"is {value!r}, none of {', '.join(map(repr, self.values))}"

    def convert(self, value: Scalar) -> Scalar:
        return type(self.default)(value)


Parameter = FloatParameter | IntParameter | ChoiceParameter


def complete(
    parameters: Sequence[Parameter], given: Mapping[str, Scalar], *, field: str
) -> dict[str, Scalar]:
    """`given` with the defaults filled in. Raises InvalidInput for all that is wrong at once."""
    known = {parameter.name: parameter for parameter in parameters}
    violations = [
        Violation(f"{field}[{name!r}]", "is unknown to the trainer", _names(parameters))
        for name in given
        if name not in known
    ]
    for name, value in given.items():
        if name in known and (problem := known[name].problem(value)):
            violations.append(Violation(f"{field}[{name!r}]", problem, known[name].wanted))
    if violations:
        raise InvalidInput.many(violations)
    return {
        name: parameter.convert(given.get(name, parameter.default))
        for name, parameter in known.items()
    }


def _names(parameters: Sequence[Parameter]) -> str:
    return "use some of " + ", ".join(parameter.name for parameter in parameters)


def _within(lowest: float, highest: float) -> str:
    if math.isinf(lowest) and math.isinf(highest):
        return ""
    return f", from {lowest:g} to {highest:g}"


def _outside(value: float, lowest: float, highest: float) -> str:
    if not math.isfinite(value):
        return f"is {value}, not a finite number"
    if not lowest <= value <= highest:
        return f"is {value:g}, outside {lowest:g} to {highest:g}"
    return ""
