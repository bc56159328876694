"""Frozen dataclasses to JSON and back, for keeping.

Times are ISO 8601, durations seconds, enums their values, bytes base85, protobuf messages their
JSON form. A union of dataclasses carries the class's name under `_type`, so that members with
equal fields are told apart. A new field needs a default, so that older documents still read.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from dataclasses import is_dataclass
from datetime import timedelta
from typing import Any, TypeVar, Union, get_args, get_origin

from cattrs.preconf.json import JsonConverter, make_converter
from google.protobuf import json_format
from google.protobuf.message import Message

T = TypeVar("T")

_TAG = "_type"


def encode(document: object, type_: Any = None) -> str:
    """The JSON text of a document; give `type_` when it is a union."""
    return json.dumps(unstructure(document, type_), separators=(",", ":"))


def decode(text: str | bytes, type_: type[T]) -> T:
    return structure(json.loads(text), type_)


def unstructure(document: object, type_: Any = None) -> Any:
    """The document as dicts, lists and plain values."""
    return _converter.unstructure(document, unstructure_as=type_)


def structure(values: Any, type_: type[T]) -> T:
    return _converter.structure(values, type_)


def _is_union_of_dataclasses(type_: Any) -> bool:
    if get_origin(type_) not in (Union, types.UnionType):
        return False
    return sum(is_dataclass(member) for member in get_args(type_)) > 1


def _unstructure_union(type_: Any) -> Callable[[Any], Any]:
    members = {member for member in get_args(type_) if is_dataclass(member)}

    def unstructure(value: Any) -> Any:
        kind = type(value)
        if kind not in members:
            return _converter.unstructure(value)
        return {_TAG: kind.__name__, **_converter.unstructure(value, unstructure_as=kind)}

    return unstructure


def _structure_union(type_: Any) -> Callable[[Any, Any], Any]:
    members: dict[str, Any] = {
        member.__name__: member
        for member in get_args(type_)
        if isinstance(member, type) and is_dataclass(member)
    }
    others: Any = Union[  # noqa: UP007  (built at run time)
        tuple(member for member in get_args(type_) if not is_dataclass(member)) or (None,)
    ]

    def structure(value: Any, _: Any) -> Any:
        if isinstance(value, dict) and _TAG in value:
            fields = {key: each for key, each in value.items() if key != _TAG}
            return _converter.structure(fields, members[value[_TAG]])
        if value is None and type(None) in get_args(type_):
            return None
        return _converter.structure(value, others)

    return structure


def _is_message(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, Message)


def _make_converter() -> JsonConverter:
    converter = make_converter()
    converter.register_unstructure_hook(timedelta, lambda value: value.total_seconds())
    converter.register_structure_hook(timedelta, lambda value, _: timedelta(seconds=value))
    converter.register_unstructure_hook_factory(_is_union_of_dataclasses, _unstructure_union)
    converter.register_structure_hook_factory(_is_union_of_dataclasses, _structure_union)
    converter.register_unstructure_hook_func(
        _is_message,
        lambda value: json_format.MessageToDict(value, preserving_proto_field_name=True),
    )
    converter.register_structure_hook_func(
        _is_message,
        lambda value, type_: json_format.ParseDict(value, type_(), ignore_unknown_fields=True),
    )
    return converter


_converter = _make_converter()
