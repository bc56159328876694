"""What no request may hold, whatever its kind: values that a store or a clock cannot keep.

Protobuf lets them through: text with NUL, which databases refuse, and times and durations outside
of what their types stand for, which overflow when they are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from keeptune.runtime.errors import Violation

_TEXT, _MESSAGE = FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE
_TIMES = {
    # Years 1 to 9999, and 10,000 years either way.
    "google.protobuf.Timestamp": (-62_135_596_800, 253_402_300_799, 0),
    "google.protobuf.Duration": (-315_576_000_000, 315_576_000_000, -999_999_999),
}


def problems(message: Message, path: str = "") -> Iterator[Violation]:
    """Each malformed value, by its path in the message."""
    for field, value in message.ListFields():
        kind = field.type
        if kind == _TEXT:
            values = value if field.is_repeated else (value,)
            for text in values:
                if "\0" in text:
                    yield Violation(f"{path}{field.name}", "has a NUL character", "leave it out")
        elif kind == _MESSAGE:
            yield from _nested(field, value, f"{path}{field.name}")


def _nested(field: FieldDescriptor, value: Any, path: str) -> Iterator[Violation]:
    kind = field.message_type
    assert kind is not None
    limits = _TIMES.get(kind.full_name)
    if not field.is_repeated:
        if limits is None:
            yield from problems(value, f"{path}.")
        elif not _is_time(value, *limits):
            yield Violation(
                path,
                f"is {value.seconds} s and {value.nanos} ns, which is no {kind.name}",
                "give one within the years 1 to 9999" if limits[2] == 0 else "give a shorter one",
            )
    elif kind.GetOptions().map_entry:
        for key, entry in value.items():
            shown = f"{path}[{key!r}]"
            if isinstance(key, str) and "\0" in key:
                yield Violation(shown, "has a NUL character in its key", "leave it out")
            if isinstance(entry, str):
                if "\0" in entry:
                    yield Violation(shown, "has a NUL character", "leave it out")
            elif isinstance(entry, Message):
                yield from problems(entry, f"{shown}.")
    else:
        for index, item in enumerate(value):
            yield from problems(item, f"{path}[{index}].")


def _is_time(value: Timestamp | Duration, first: int, last: int, least_nanos: int) -> bool:
    return first <= value.seconds <= last and least_nanos <= value.nanos <= 999_999_999
