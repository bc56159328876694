"""What a request is about, for the logs: its own id, and the study or retune that it names."""

from __future__ import annotations

from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from keeptune.runtime.logging import printable

_TELLING = ("request_id", "name", "parent", "study", "study_id", "trial")


def ids_of(request: Message) -> dict[str, str]:
    """Some of `logging.CARRIED`: request_id, study (`studies/x`) and retune (`retunes/x`)."""
    ids: dict[str, str] = {}
    for field in _fields(request.DESCRIPTOR):
        value: str = getattr(request, field)
        if not value:
            continue
        if field == "request_id":
            ids["request_id"] = printable(value)
        elif field == "study_id":
            ids["study"] = printable(f"studies/{value}")
        elif value.startswith("studies/"):
            ids["study"] = printable("/".join(value.split("/", 2)[:2]))
        elif value.startswith("retunes/"):
            ids["retune"] = printable(value)
    return ids


@cache
def _fields(descriptor: Descriptor) -> tuple[str, ...]:
    """The telling fields that requests of a kind have."""
    return tuple(
        name
        for name in _TELLING
        if (field := descriptor.fields_by_name.get(name)) is not None
        and field.type == FieldDescriptor.TYPE_STRING
        and not field.is_repeated
    )
