"""Every error keeptune raises on purpose: one root, one class a canonical gRPC code.

The class says whether trying again can help (`Temporary` or `Permanent`), the `reason` is
stable and made for programs, the message names the thing and the way out and is made for people.
Interceptors turn these into `google.rpc.Status` with details (`to_status`), and clients get the
same classes back (`from_rpc_error`).
"""

# ruff: noqa: N818  (the names are those of the canonical codes)

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Self, cast

import google.rpc.error_details_pb2 as error_details_pb2
import google.rpc.status_pb2 as status_pb2
import grpc
from google.protobuf.any_pb2 import Any as AnyProto

DOMAIN = "keeptune"
_STATUS_TRAILER = "grpc-status-details-bin"
_FIX_MARK = "; fix: "


@dataclass(frozen=True)
class Violation:
    """What is wrong with one field: its path in the request, the problem, and the way out."""

    field: str
    problem: str
    fix: str = ""

    def __str__(self) -> str:
        sentence = f"{self.field} {self.problem}" if self.field else self.problem
        return f"{sentence}{_FIX_MARK}{self.fix}" if self.fix else sentence


class Temporary:
    """Trying the same call again can help."""


class Permanent:
    """Trying the same call again gives the same answer."""


class KeeptuneError(Exception):
    """The root. `retry_after` is in seconds; `metadata` holds short facts for programs."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    default_reason: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str | None = None,
        fix: str | None = None,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[Violation] = (),
    ) -> None:
        self.violations = tuple(violations)
        if field is not None and not self.violations:
            self.violations = (Violation(field, message, fix or ""),)
        if fix and _FIX_MARK not in message:
            message = f"{message}{_FIX_MARK}{fix}"
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.fix = fix or ""
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})

    @property
    def retryable(self) -> bool:
        return isinstance(self, Temporary)

    @property
    def field(self) -> str:
        """The first field that is wrong; empty when the error is about none."""
        return self.violations[0].field if self.violations else ""


class InvalidInput(KeeptuneError, Permanent):
    """The request is wrong whatever the state of the system; nothing was changed."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = "INVALID_INPUT"

    def __init__(
        self,
        message: str | None = None,
        *,
        field: str | None = None,
        problem: str | None = None,
        fix: str | None = None,
        reason: str | None = None,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[Violation] = (),
    ) -> None:
        found = tuple(violations)
        if problem is not None or (field is not None and not found):
            found = (Violation(field or "", problem or message or "is invalid", fix or ""), *found)
        super().__init__(
            message or "; ".join(str(v) for v in found) or "the request is invalid",
            reason=reason,
            fix=fix,
            retry_after=retry_after,
            metadata=metadata,
            violations=found,
        )

    @classmethod
    def many(cls, violations: Iterable[Violation], *, reason: str | None = None) -> Self:
        """One error for all that is wrong, so that it can be mended in one go."""
        return cls(violations=tuple(violations), reason=reason)


class NotFound(KeeptuneError, Permanent):
    code = grpc.StatusCode.NOT_FOUND
    default_reason = "NOT_FOUND"


class AlreadyExists(KeeptuneError, Permanent):
    code = grpc.StatusCode.ALREADY_EXISTS
    default_reason = "ALREADY_EXISTS"


class FailedPrecondition(KeeptuneError, Permanent):
    """Right in itself, but not in the present state; something else must happen first."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = "FAILED_PRECONDITION"


class Conflict(KeeptuneError, Permanent):
    """The resource changed since it was read (stale etag): read it again, then decide."""

    code = grpc.StatusCode.ABORTED
    default_reason = "CONFLICT"


class ResourceExhausted(KeeptuneError, Temporary):
    """A full disk or a used-up quota; nothing was changed."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = "RESOURCE_EXHAUSTED"


class PermissionDenied(KeeptuneError, Permanent):
    code = grpc.StatusCode.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"


class Unauthenticated(KeeptuneError, Permanent):
    code = grpc.StatusCode.UNAUTHENTICATED
    default_reason = "UNAUTHENTICATED"


class NotImplementedYet(KeeptuneError, Permanent):
    """A capability that comes later; says why and what to use meanwhile."""

    code = grpc.StatusCode.UNIMPLEMENTED
    default_reason = "NOT_IMPLEMENTED_YET"


class Unavailable(KeeptuneError, Temporary):
    """The other side cannot answer now; waiting `retry_after` seconds helps."""

    code = grpc.StatusCode.UNAVAILABLE
    default_reason = "UNAVAILABLE"


class DeadlineExceeded(KeeptuneError, Temporary):
    """No answer in time; whether the call took effect is unknown, a repeated one is safe."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"


class Cancelled(KeeptuneError, Permanent):
    """The caller gave the call up."""

    code = grpc.StatusCode.CANCELLED
    default_reason = "CANCELLED"


class Internal(KeeptuneError, Permanent):
    """A defect in keeptune."""

    code = grpc.StatusCode.INTERNAL
    default_reason = "INTERNAL"


class DataLoss(KeeptuneError, Permanent):
    """Stored data is damaged, e.g. a checksum does not match."""

    code = grpc.StatusCode.DATA_LOSS
    default_reason = "DATA_LOSS"


_KINDS: tuple[type[KeeptuneError], ...] = (
    InvalidInput,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    Conflict,
    ResourceExhausted,
    PermissionDenied,
    Unauthenticated,
    NotImplementedYet,
    Unavailable,
    DeadlineExceeded,
    Cancelled,
    Internal,
    DataLoss,
)
_BY_CODE: dict[grpc.StatusCode, type[KeeptuneError]] = {
    **{kind.code: kind for kind in _KINDS},
    grpc.StatusCode.OUT_OF_RANGE: InvalidInput,
    grpc.StatusCode.UNKNOWN: Internal,
}

_CODE_NUMBERS: dict[grpc.StatusCode, int] = {code: code.value[0] for code in grpc.StatusCode}
_CODES: dict[int, grpc.StatusCode] = {number: code for code, number in _CODE_NUMBERS.items()}


def to_status(error: KeeptuneError) -> status_pb2.Status:
    """The error as a `google.rpc.Status`: ErrorInfo always, BadRequest and RetryInfo if known."""
    metadata = dict(error.metadata)
    if error.fix:
        metadata.setdefault("fix", error.fix)
    details: list[AnyProto] = [
        _pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    ]
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            description = str(Violation("", violation.problem, violation.fix))
            bad.field_violations.add(field=violation.field, description=description)
        details.append(_pack(bad))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(timedelta(seconds=error.retry_after))
        details.append(_pack(retry))
    return status_pb2.Status(code=_CODE_NUMBERS[error.code], message=error.message, details=details)


def from_status(status: status_pb2.Status) -> KeeptuneError:
    """The typed error that a `google.rpc.Status` stands for."""
    reason: str | None = None
    metadata: dict[str, str] = {}
    violations: list[Violation] = []
    retry_after: float | None = None
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            for entry in bad.field_violations:
                problem, _, fix = entry.description.partition(_FIX_MARK)
                violations.append(Violation(entry.field, problem, fix))
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    fix = metadata.pop("fix", "")
    kind = _BY_CODE.get(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), Internal)
    error = kind(
        status.message,
        reason=reason,
        retry_after=retry_after,
        metadata=metadata,
        violations=violations,
    )
    error.fix = fix
    return error


def from_rpc_error(error: grpc.RpcError) -> KeeptuneError:
    """The typed error behind a failed call, with its details decoded.

    Works for errors of `grpc` and of `grpc.aio`, with or without `google.rpc` details.
    """
    code = error.code() if hasattr(error, "code") else grpc.StatusCode.UNKNOWN
    message = (error.details() if hasattr(error, "details") else None) or str(code)
    trailers = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    for entry in cast("Iterable[tuple[str, str | bytes]]", trailers or ()):
        key, value = entry
        if key == _STATUS_TRAILER and isinstance(value, bytes):
            return from_status(status_pb2.Status.FromString(value))
    return from_status(status_pb2.Status(code=_CODE_NUMBERS[code], message=message))


@contextmanager
def typed_errors() -> Iterator[None]:
    """Turns the gRPC errors of the calls inside the block into keeptune's own."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error


def status_trailers(status: status_pb2.Status) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries a status with its details."""
    return ((_STATUS_TRAILER, status.SerializeToString()),)


def _pack(
    message: error_details_pb2.ErrorInfo
    | error_details_pb2.BadRequest
    | error_details_pb2.RetryInfo,
) -> AnyProto:
    packed = AnyProto()
    packed.Pack(message)
    return packed
