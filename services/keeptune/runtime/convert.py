"""Protobuf values to Python values and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from keeptune.runtime.errors import InvalidInput, Violation
from keeptune.v1 import types_pb2

if TYPE_CHECKING:
    from collections.abc import Collection

    from keeptune.runtime.records import Record

M = TypeVar("M", bound=Message)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_timestamp(value: datetime | None) -> Timestamp | None:
    """None stays None, so that it can be passed straight to a message's constructor."""
    if value is None:
        return None
    since = value - _EPOCH
    # Not FromDatetime, which takes ten times as long.
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def from_timestamp(value: Timestamp) -> datetime | None:
    """Aware, in UTC, to the microsecond; None for the unset (zero) value."""
    if not value.seconds and not value.nanos:
        return None
    return value.ToDatetime(tzinfo=UTC)


def to_duration(value: timedelta | None) -> Duration | None:
    if value is None:
        return None
    duration = Duration()
    duration.FromTimedelta(value)
    return duration


def from_duration(value: Duration) -> timedelta | None:
    """None for the unset (zero) value."""
    if not value.seconds and not value.nanos:
        return None
    return value.ToTimedelta()


def metadata(record: Record[Any]) -> types_pb2.Metadata:
    """What every resource says of its times, revision and etag."""
    return types_pb2.Metadata(
        create_time=to_timestamp(record.create_time),
        update_time=to_timestamp(record.update_time),
        revision=record.revision,
        etag=record.etag,
    )


def apply_update_mask(
    target: M, source: M, mask: FieldMask, allowed: Collection[str], *, field: str = "update_mask"
) -> M:
    """A copy of `target` with the masked top-level fields of `source`.

    A masked field that is unset in `source` is cleared. Raises InvalidInput for an empty mask
    and for paths that are not `allowed`.
    """
    choice = ", ".join(sorted(allowed))
    if not mask.paths:
        raise InvalidInput(field=field, problem="is empty", fix=f"name some of {choice}")
    wrong = [path for path in mask.paths if path not in allowed]
    if wrong:
        raise InvalidInput.many(
            Violation(field, f"has {path!r}, which cannot be updated", f"name some of {choice}")
            for path in wrong
        )
    partial = type(source)()
    partial.CopyFrom(source)
    for descriptor, _ in source.ListFields():
        if descriptor.name not in mask.paths:
            partial.ClearField(descriptor.name)
    result = type(target)()
    result.CopyFrom(target)
    for path in mask.paths:
        result.ClearField(path)
    result.MergeFrom(partial)
    return result
