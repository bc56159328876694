"""Search spaces, as they are written in Python.

space = {
    "learning_rate": Float(1e-5, 1e-1, log=True),
    "layers": Int(1, 4),
    "optimizer": Choice(["sgd", "adam"]),
    "momentum": Float(0.0, 0.99, when={"optimizer": "sgd"}),
    "epochs": 20,
}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from keeptune.client import values
from keeptune.client.values import Value
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import types_pb2


@dataclass(frozen=True)
class Between:
    """A condition: the parent is a number from `min` to `max`, both included."""

    min: float
    max: float


When: TypeAlias = Mapping[str, Value | Sequence[Value] | Between]
"""A parameter exists only while each parent named has the value, one of the values, or a number
within the range."""


@dataclass(frozen=True)
class Float:
    """A number from `min` to `max`, both included; `log` spreads it over orders of magnitude.

    `step` allows only min, min + step, ...; 0 = any.
    """

    min: float
    max: float
    log: bool = False
    step: float = 0.0
    when: When = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True)
class Int:
    """A whole number from `min` to `max`, both included."""

    min: int
    max: int
    log: bool = False
    step: int = 1
    when: When = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True)
class Choice:
    """One of these values, in no particular order."""

    values: Sequence[Value]
    when: When = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True)
class Fixed:
    """Always this value. Where there is no condition, the value alone does too."""

    value: Value
    when: When = field(default_factory=dict, kw_only=True)


Domain: TypeAlias = Float | Int | Choice | Fixed | Value
Space: TypeAlias = Mapping[str, Domain]


def to_message(space: Space) -> types_pb2.SearchSpace:
    """Raises InvalidInput, naming the parameter, for what is no domain."""
    return types_pb2.SearchSpace(
        parameters=[_parameter(name, domain) for name, domain in space.items()]
    )


def _parameter(name: str, domain: Domain) -> types_pb2.ParameterSpec:
    spec = types_pb2.ParameterSpec(name=name)
    place = f"space.{name}"
    match domain:
        case Float():
            spec.float_range.CopyFrom(
                types_pb2.FloatRange(
                    min=domain.min, max=domain.max, scale=_scale(domain.log), step=domain.step
                )
            )
        case Int():
            _whole(domain, place)
            spec.int_range.CopyFrom(
                types_pb2.IntRange(
                    min=domain.min, max=domain.max, scale=_scale(domain.log), step=domain.step
                )
            )
        case Choice():
            spec.categories.CopyFrom(_categories(domain.values, f"{place}.values"))
        case Fixed():
            spec.fixed.CopyFrom(values.to_message(domain.value, field=place))
        case bool() | int() | float() | str():
            spec.fixed.CopyFrom(values.to_message(domain))
            return spec
        case _:
            raise InvalidInput(
                field=place,
                problem=f"is {domain!r}",
                fix="give Float(min, max), Int(min, max), Choice([...]) or a fixed value",
            )
    spec.conditions.extend(_condition(parent, when, place) for parent, when in domain.when.items())
    return spec


def _condition(
    parent: str, when: Value | Sequence[Value] | Between, place: str
) -> types_pb2.Condition:
    if isinstance(when, Between):
        bounds = types_pb2.NumberRange(min=when.min, max=when.max)
        return types_pb2.Condition(parent=parent, range=bounds)
    allowed = [when] if isinstance(when, bool | int | float | str) else when
    return types_pb2.Condition(parent=parent, values=_categories(allowed, f"{place}.when.{parent}"))


def _categories(allowed: Sequence[Value], place: str) -> types_pb2.Categories:
    if isinstance(allowed, str) or not isinstance(allowed, Sequence):
        raise InvalidInput(field=place, problem=f"is {allowed!r}", fix="give a list of values")
    return types_pb2.Categories(
        values=[values.to_message(v, field=f"{place}[{i}]") for i, v in enumerate(allowed)]
    )


def _whole(domain: Int, place: str) -> None:
    for name in ("min", "max", "step"):
        value = getattr(domain, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidInput(
                field=f"{place}.{name}",
                problem=f"is {value!r}",
                fix="give a whole number, or use Float",
            )


def _scale(log: bool) -> types_pb2.Scale.ValueType:
    return types_pb2.SCALE_LOG if log else types_pb2.SCALE_LINEAR
