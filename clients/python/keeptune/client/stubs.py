"""The raw RPCs, made pleasant: typed errors, and a request id where a mutation lacks one.

The stubs keep the types that the protos give them. An id is added to a copy, so that a request
may be sent again and means a new one then; retries within a call repeat the id, which makes them
safe.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from keeptune.client.reach import Reach
from keeptune.runtime.channel import in_plain_words
from keeptune.runtime.errors import (
    DeadlineExceeded,
    KeeptuneError,
    NotImplementedYet,
    Unavailable,
    from_rpc_error,
)

S = TypeVar("S")
T = TypeVar("T")

# Doing these twice does them once by their own rules; remembering each would only cost.
_IDEMPOTENT_BY_THEMSELVES = ("SuggestTrialsRequest", "ReportMeasurementsRequest")
_DETAILS = "grpc-status-details-bin"


def typed(stub: S, reach: Reach, *, asynchronous: bool) -> S:
    """The same stub, whose calls raise KeeptuneError."""
    wrap: Callable[[Any, Reach], Any] = _AsyncMethod if asynchronous else _SyncMethod
    for name, method in vars(stub).items():
        setattr(stub, name, wrap(method, reach))
    return stub


async def typed_call(call: Awaitable[T], reach: Reach) -> T:
    """The answer of a call that is under way. Raises KeeptuneError."""
    try:
        with reach.waiting():
            return await call
    except grpc.RpcError as error:
        out_of_time = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        raise _typed_error(error, reach, await reach.obstacle() if out_of_time else "") from None


class _AsyncMethod:
    def __init__(self, method: Any, reach: Reach) -> None:
        self._method = method
        self._reach = reach

    def __call__(self, request: Any = None, **options: Any) -> Any:
        call = self._method(_identified(request), **options)
        if isinstance(call, Awaitable):
            return typed_call(call, self._reach)
        return self._stream(call)

    async def _stream(self, call: Any) -> AsyncIterator[Any]:
        try:
            async for message in call:
                yield message
        except grpc.RpcError as error:
            raise _typed_error(error, self._reach) from None
        finally:
            call.cancel()


class _SyncMethod:
    """Also has `with_call` and `future`; those are gRPC's own."""

    def __init__(self, method: Any, reach: Reach) -> None:
        self._method = method
        self._reach = reach

    def __call__(self, request: Any = None, **options: Any) -> Any:
        try:
            answer = self._method(_identified(request), **options)
        except grpc.RpcError as error:
            out_of_time = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            obstacle = self._reach.obstacle_now() if out_of_time else ""
            raise _typed_error(error, self._reach, obstacle) from None
        return self._stream(answer) if isinstance(answer, Iterator) else answer

    def _stream(self, call: Any) -> Iterator[Any]:
        try:
            yield from call
        except grpc.RpcError as error:
            raise _typed_error(error, self._reach) from None
        finally:
            call.cancel()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)


def _typed_error(error: grpc.RpcError, reach: Reach, obstacle: str = "") -> KeeptuneError:
    """As the server said it; where it is gRPC that speaks, in words that help.

    `obstacle`: why a connection cannot be made, where the call waited for one in vain.
    """
    found = from_rpc_error(error)
    if any(entry[0] == _DETAILS for entry in _trailers(error)):
        return found
    where = f"{reach.service} at {reach.address}"
    if isinstance(found, Unavailable) or obstacle:
        return Unavailable(
            f"{where} cannot be reached: {obstacle or in_plain_words(found.message)}",
            fix="start `keeptune dev`, or give the address of a server that runs; "
            "`keeptune doctor` tells more",
        )
    if isinstance(found, DeadlineExceeded):
        return DeadlineExceeded(
            f"{where} did not answer in time",
            fix="try again, allow more time, or see what `keeptune doctor` tells",
        )
    if isinstance(found, NotImplementedYet):
        return NotImplementedYet(
            f"the server at {reach.address} does not have {reach.service}",
            fix=f"give the address of the {reach.service} service, e.g. in section services of "
            "a config file",
            reason="NO_SUCH_SERVICE",
        )
    return found


def _trailers(error: Any) -> Any:
    return error.trailing_metadata() or ()


def _identified(request: Any) -> Any:
    if not isinstance(request, Message):
        return request
    fields = request.DESCRIPTOR.fields_by_name
    if "request_id" not in fields or request.DESCRIPTOR.name in _IDEMPOTENT_BY_THEMSELVES:
        return request
    if getattr(request, "request_id"):  # noqa: B009  (not every message has one)
        return request
    copy = type(request)()
    copy.CopyFrom(request)
    setattr(copy, "request_id", str(uuid.uuid4()))  # noqa: B010
    return copy
