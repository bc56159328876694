"""Search spaces, as they are written in Python.

space = {
    "learning_rate": Float(1e-5, 1e-1, log=True),
    "layers": Int(1, 4),
    "optimizer": Choice(["sgd", "adam"]),
    "momentum": Float(0.0, 0.99, when={"optimizer": "sgd"}),
    "epochs": 20,
    "layers": Graph({"conv": {"filters": Int(8, 64)}, "pool": {}}, max_nodes=6),
}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from keeptune.client import values
from keeptune.client.values import GraphValue, Value
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


@dataclass(frozen=True)
class Kind:
    """A kind of node: its parameters, the types it takes and the type it gives.

    Types are names of your own, and may all stay empty. No `inputs` at all: it takes nothing. Up
    to `max_inputs` it may take more than these, of the last type.
    """

    parameters: Space = field(default_factory=dict)
    inputs: Sequence[str] = ("",)
    output: str = ""
    max_inputs: int = 0


@dataclass(frozen=True)
class Graph:
    """An architecture or a pipeline of at most `max_nodes` nodes of these kinds.

    A "chain" is a list; in a "dag" a node may take what any earlier one gives, with `skips` over
    any distance; in a "tree" what a node gives is taken once. `input` and `output` are the types
    of what goes into the graph and comes out of it. Values are GraphValue.
    """

    kinds: Mapping[str, Kind | Space]
    max_nodes: int
    shape: Literal["chain", "dag", "tree"] = "chain"
    min_nodes: int = 1
    min_depth: int = 0
    max_depth: int = 0
    max_width: int = 0
    skips: bool = False
    input: str = ""
    output: str = ""
    when: When = field(default_factory=dict, kw_only=True)


Domain: TypeAlias = Float | Int | Choice | Fixed | Graph | Value
Space: TypeAlias = Mapping[str, Domain]

_SHAPES = {
    "chain": types_pb2.GRAPH_SHAPE_CHAIN,
    "dag": types_pb2.GRAPH_SHAPE_DAG,
    "tree": types_pb2.GRAPH_SHAPE_TREE,
}


def to_message(space: Space) -> types_pb2.SearchSpace:
    """Raises InvalidInput, naming the parameter, for what is no domain."""
    return types_pb2.SearchSpace(
        parameters=[_parameter(name, domain, f"space.{name}") for name, domain in space.items()]
    )


def _parameter(name: str, domain: Domain, place: str) -> types_pb2.ParameterSpec:
    spec = types_pb2.ParameterSpec(name=name)
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
        case Graph():
            spec.graph.CopyFrom(_graph(domain, place))
        case bool() | int() | float() | str() | GraphValue():
            spec.fixed.CopyFrom(values.to_message(domain))
            return spec
        case _:
            raise InvalidInput(
                field=place,
                problem=f"is {domain!r}",
                fix="give Float(min, max), Int(min, max), Choice([...]), Graph(...) or a value",
            )
    spec.conditions.extend(_condition(parent, when, place) for parent, when in domain.when.items())
    return spec


def _graph(domain: Graph, place: str) -> types_pb2.GraphSpace:
    if domain.shape not in _SHAPES:
        raise InvalidInput(
            field=f"{place}.shape", problem=f"is {domain.shape!r}", fix="give chain, dag or tree"
        )
    return types_pb2.GraphSpace(
        kinds=[
            _kind(name, kind if isinstance(kind, Kind) else Kind(kind), f"{place}.kinds.{name}")
            for name, kind in domain.kinds.items()
        ],
        shape=_SHAPES[domain.shape],
        min_nodes=domain.min_nodes,
        max_nodes=domain.max_nodes,
        min_depth=domain.min_depth,
        max_depth=domain.max_depth,
        max_width=domain.max_width,
        allow_skips=domain.skips,
        input=domain.input,
        output=domain.output,
    )


def _kind(name: str, kind: Kind, place: str) -> types_pb2.LayerKind:
    if isinstance(kind.inputs, str):
        raise InvalidInput(
            field=f"{place}.inputs", problem=f"is {kind.inputs!r}", fix="give a list of types"
        )
    return types_pb2.LayerKind(
        kind=name,
        parameters=[
            _parameter(each, domain, f"{place}.{each}") for each, domain in kind.parameters.items()
        ],
        inputs=kind.inputs,
        output=kind.output,
        max_inputs=kind.max_inputs,
        terminal=not kind.inputs,
    )


def _condition(
    parent: str, when: Value | Sequence[Value] | Between, place: str
) -> types_pb2.Condition:
    if isinstance(when, Between):
        bounds = types_pb2.NumberRange(min=when.min, max=when.max)
        return types_pb2.Condition(parent=parent, range=bounds)
    allowed = [when] if isinstance(when, bool | int | float | str | GraphValue) else when
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
