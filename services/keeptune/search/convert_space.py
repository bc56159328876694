"""Search spaces to protobuf and back."""

from __future__ import annotations

from typing import assert_never

from keeptune.runtime.errors import InvalidInput, NotImplementedYet
from keeptune.search.domains import Categories, Domain, Fixed, FloatRange, IntRange, Value
from keeptune.search.space import Condition, Parameter, SearchSpace
from keeptune.v1 import types_pb2


def space_from_proto(message: types_pb2.SearchSpace, field: str) -> SearchSpace:
    """The space as it is written, right or wrong (see `space_rules`).

    Raises InvalidInput for a value or a domain that is not set, NotImplementedYet for graphs.
    """
    return SearchSpace(
        tuple(
            Parameter(
                parameter.name,
                _domain_from_proto(parameter, f"{field}.parameters[{i}]"),
                tuple(
                    _condition_from_proto(condition, f"{field}.parameters[{i}].conditions[{j}]")
                    for j, condition in enumerate(parameter.conditions)
                ),
            )
            for i, parameter in enumerate(message.parameters)
        )
    )


def space_to_proto(space: SearchSpace) -> types_pb2.SearchSpace:
    return types_pb2.SearchSpace(parameters=[_parameter_to_proto(p) for p in space.parameters])


def value_from_proto(message: types_pb2.ParameterValue, field: str) -> Value:
    match message.WhichOneof("value"):
        case "double_value":
            return message.double_value
        case "int_value":
            return message.int_value
        case "string_value":
            return message.string_value
        case "bool_value":
            return message.bool_value
        case "graph_value":
            raise _no_graphs(field)
        case _:
            raise InvalidInput(
                field=field,
                problem="is not set",
                fix="set double_value, int_value, string_value or bool_value",
            )


def value_to_proto(value: Value) -> types_pb2.ParameterValue:
    if isinstance(value, bool):
        return types_pb2.ParameterValue(bool_value=value)
    if isinstance(value, int):
        return types_pb2.ParameterValue(int_value=value)
    if isinstance(value, float):
        return types_pb2.ParameterValue(double_value=value)
    return types_pb2.ParameterValue(string_value=value)


def _domain_from_proto(message: types_pb2.ParameterSpec, field: str) -> Domain:
    match message.WhichOneof("domain"):
        case "float_range":
            floats = message.float_range
            return FloatRange(
                floats.min, floats.max, floats.scale == types_pb2.SCALE_LOG, floats.step
            )
        case "int_range":
            ints = message.int_range
            return IntRange(ints.min, ints.max, ints.scale == types_pb2.SCALE_LOG, ints.step or 1)
        case "categories":
            return Categories(_values(message.categories, f"{field}.categories"))
        case "fixed":
            return Fixed(value_from_proto(message.fixed, f"{field}.fixed"))
        case "graph":
            raise _no_graphs(f"{field}.graph")
        case _:
            raise InvalidInput(
                field=field,
                problem="has no domain",
                fix="set float_range, int_range, categories or fixed",
            )


def _condition_from_proto(message: types_pb2.Condition, field: str) -> Condition:
    if message.WhichOneof("when") == "range":
        return Condition(message.parent, low=message.range.min, high=message.range.max)
    return Condition(message.parent, values=_values(message.values, f"{field}.values"))


def _values(message: types_pb2.Categories, field: str) -> tuple[Value, ...]:
    return tuple(
        value_from_proto(value, f"{field}.values[{i}]") for i, value in enumerate(message.values)
    )


def _no_graphs(field: str) -> NotImplementedYet:
    return NotImplementedYet(
        "graph parameters are not searched yet: no algorithm here evolves architectures",
        field=field,
        fix="describe the architecture by categories and integers under conditions",
        reason="GRAPHS_NOT_IMPLEMENTED",
    )


def _parameter_to_proto(parameter: Parameter) -> types_pb2.ParameterSpec:
    message = types_pb2.ParameterSpec(
        name=parameter.name,
        conditions=[_condition_to_proto(condition) for condition in parameter.conditions],
    )
    domain = parameter.domain
    match domain:
        case FloatRange():
            message.float_range.CopyFrom(
                types_pb2.FloatRange(
                    min=domain.min, max=domain.max, scale=_scale(domain), step=domain.step
                )
            )
        case IntRange():
            message.int_range.CopyFrom(
                types_pb2.IntRange(
                    min=domain.min, max=domain.max, scale=_scale(domain), step=domain.step
                )
            )
        case Categories():
            message.categories.CopyFrom(_categories(domain.options))
        case Fixed():
            message.fixed.CopyFrom(value_to_proto(domain.value))
        case _:
            assert_never(domain)
    return message


def _condition_to_proto(condition: Condition) -> types_pb2.Condition:
    if condition.low is not None and condition.high is not None:
        bounds = types_pb2.NumberRange(min=condition.low, max=condition.high)
        return types_pb2.Condition(parent=condition.parent, range=bounds)
    return types_pb2.Condition(parent=condition.parent, values=_categories(condition.values))


def _categories(values: tuple[Value, ...]) -> types_pb2.Categories:
    return types_pb2.Categories(values=[value_to_proto(value) for value in values])


def _scale(domain: FloatRange | IntRange) -> types_pb2.Scale.ValueType:
    return types_pb2.SCALE_LOG if domain.log else types_pb2.SCALE_LINEAR
