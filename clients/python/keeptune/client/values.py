"""Parameter values: Python's own on one side, messages on the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from google.protobuf import json_format

from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import types_pb2

Value: TypeAlias = bool | int | float | str


def to_message(value: Value, *, field: str = "value") -> types_pb2.ParameterValue:
    """Raises InvalidInput, naming `field`, for anything but a bool, a number or a string."""
    # A bool is an int too, so it comes first.
    if isinstance(value, bool):
        return types_pb2.ParameterValue(bool_value=value)
    if isinstance(value, int):
        return types_pb2.ParameterValue(int_value=value)
    if isinstance(value, float):
        return types_pb2.ParameterValue(double_value=value)
    if isinstance(value, str):
        return types_pb2.ParameterValue(string_value=value)
    raise InvalidInput(field=field, problem=f"is {value!r}", fix="give a number, text or a bool")


def from_message(message: types_pb2.ParameterValue) -> Any:
    """The value; an architecture graph becomes plain lists and dicts."""
    kind = message.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(message, kind)
    if kind == "graph_value":
        return json_format.MessageToDict(found, preserving_proto_field_name=True)
    return found


def parameters(messages: Mapping[str, types_pb2.ParameterValue]) -> dict[str, Any]:
    """Parameters by name, in alphabetical order."""
    return {name: from_message(messages[name]) for name in sorted(messages)}
