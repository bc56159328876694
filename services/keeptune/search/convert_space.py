"""Search spaces to protobuf and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from keeptune.runtime.errors import InvalidInput
from keeptune.search import convert_graph
from keeptune.search.domains import Categories, Fixed, FloatRange, IntRange, Value
from keeptune.search.graphs.values import Graph
from keeptune.search.space import Condition, Domain, GraphSpace, Parameter, SearchSpace
from keeptune.v1 import types_pb2


def space_from_proto(message: types_pb2.SearchSpace, field: str) -> SearchSpace:
    """The space as it is written, right or wrong (see `space_rules`).

    Raises InvalidInput for a value or a domain that is not set.
    """
    return _parameters_from_proto(message.parameters, f"{field}.parameters")


def space_to_proto(space: SearchSpace) -> types_pb2.SearchSpace:
    return types_pb2.SearchSpace(parameters=_parameters_to_proto(space))


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
            return convert_graph.graph_from_proto(message.graph_value, field, value_from_proto)
        case _:
            raise InvalidInput(
                field=field,
                problem="is not set",
                fix="set double_value, int_value, string_value, bool_value or graph_value",
            )


def value_to_proto(value: Value) -> types_pb2.ParameterValue:
    if isinstance(value, bool):
        return types_pb2.ParameterValue(bool_value=value)
    if isinstance(value, int):
        return types_pb2.ParameterValue(int_value=value)
    if isinstance(value, float):
        return types_pb2.ParameterValue(double_value=value)
    if isinstance(value, Graph):
        graph = convert_graph.graph_to_proto(value, value_to_proto)
        return types_pb2.ParameterValue(graph_value=graph)
    return types_pb2.ParameterValue(string_value=value)


def _parameters_from_proto(messages: Iterable[types_pb2.ParameterSpec], field: str) -> SearchSpace:
    return SearchSpace(
        tuple(
            Parameter(
                message.name,
                _domain_from_proto(message, f"{field}[{i}]"),
                tuple(
                    _condition_from_proto(condition, f"{field}[{i}].conditions[{j}]")
                    for j, condition in enumerate(message.conditions)
                ),
            )
            for i, message in enumerate(messages)
        )
    )


def _parameters_to_proto(space: SearchSpace) -> list[types_pb2.ParameterSpec]:
    return [_parameter_to_proto(parameter) for parameter in space.parameters]


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
            return convert_graph.space_from_proto(
                message.graph, f"{field}.graph", _parameters_from_proto
            )
        case _:
            raise InvalidInput(
                field=field,
                problem="has no domain",
                fix="set float_range, int_range, categories, fixed or graph",
            )


def _condition_from_proto(message: types_pb2.Condition, field: str) -> Condition:
    if message.WhichOneof("when") == "range":
        return Condition(message.parent, low=message.range.min, high=message.range.max)
    return Condition(message.parent, values=_values(message.values, f"{field}.values"))


def _values(message: types_pb2.Categories, field: str) -> tuple[Value, ...]:
    return tuple(
        value_from_proto(value, f"{field}.values[{i}]") for i, value in enumerate(message.values)
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
        case GraphSpace():
            message.graph.CopyFrom(convert_graph.space_to_proto(domain, _parameters_to_proto))
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
