"""Requests with one field made hostile at a time, whatever their type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as F
from google.protobuf.message import Message

from tests.contract.protos import is_map, is_message

NAN, INF = float("nan"), float("inf")
_INT32, _INT64 = 2**31 - 1, 2**63 - 1
_TEXTS = (
    "",
    "\0",
    "../../etc/passwd",
    "studies/../x",
    "ü" * 70,
    "x" * 5000,
    "' OR 1=1 --",
    "{{7}}",
)
_VALUES: dict[int, tuple[Any, ...]] = {
    F.TYPE_STRING: _TEXTS,
    F.TYPE_DOUBLE: (NAN, INF, -INF, 0.0, -1.0, 1e308, 5e-324),
    F.TYPE_INT32: (-1, 0, _INT32, -(2**31)),
    F.TYPE_INT64: (-1, 0, _INT64, -(2**63)),
    F.TYPE_BYTES: (b"", b"\x80\x04."),
}
_UNKNOWN_ENUM = 99
_TIMES = ((_INT64, 0), (-_INT64, 0), (0, _INT32), (253402300799, 999999999), (-62135596800, 0))


def variants(request: Message) -> Iterator[tuple[str, Message]]:
    """The path of what is hostile, and the request with that."""
    for path, values in _places(request, ()):
        for value in values:
            made = type(request)()
            made.CopyFrom(request)
            _put(made, path, value)
            yield f"{'.'.join(map(str, path))}={_shown(value)}", made


def _places(message: Message, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for field in message.DESCRIPTOR.fields:
        here = (*path, field.name)
        if is_map(field):
            yield here, (_Entry("Bad Key/"), _Entry("x" * 5000))
        elif is_message(field) and field.message_type.full_name in _WELL_KNOWN:
            yield here, tuple(_Time(*time) for time in _TIMES)
        elif field.is_repeated:
            if is_message(field):
                yield here, (_Added(),)
                for index, item in enumerate(getattr(message, field.name)):
                    yield from _places(item, (*here, index))
            elif field.type == F.TYPE_STRING:
                yield here, tuple(_Added(text) for text in _TEXTS[:3])
        elif is_message(field):
            if message.HasField(field.name):
                yield from _places(getattr(message, field.name), here)
            elif field.message_type.file.package == "keeptune.v1":
                yield here, (_Set(),)
        elif field.type == F.TYPE_ENUM:
            yield here, (_UNKNOWN_ENUM, -1)
        else:
            yield here, _VALUES.get(field.type, ())


_WELL_KNOWN = {"google.protobuf.Timestamp", "google.protobuf.Duration"}


@dataclass(frozen=True)
class _Entry:
    """A key that a map gets."""

    key: str


@dataclass(frozen=True)
class _Time:
    seconds: int
    nanos: int


@dataclass(frozen=True)
class _Set:
    """An empty message."""


@dataclass(frozen=True)
class _Added:
    """One more item; None = an empty message."""

    value: Any = None


def _put(message: Any, path: tuple[Any, ...], value: Any) -> None:
    for step in path[:-1]:
        message = message[step] if isinstance(step, int) else getattr(message, step)
    name = path[-1]
    if isinstance(value, _Time):
        time = getattr(message, name)
        time.seconds, time.nanos = value.seconds, value.nanos
    elif isinstance(value, _Entry):
        entries = getattr(message, name)
        (kind,) = (each for each in message.DESCRIPTOR.fields if each.name == name)
        of = kind.message_type.fields_by_name["value"]
        if is_message(of):
            entries[value.key].SetInParent()
        else:
            entries[value.key] = "x" if of.type == F.TYPE_STRING else NAN
    elif isinstance(value, _Set):
        getattr(message, name).SetInParent()
    elif isinstance(value, _Added):
        items = getattr(message, name)
        if value.value is None:
            items.add()
        else:
            items.append(value.value)
    else:
        setattr(message, name, value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 30 else text[:27] + "..."
