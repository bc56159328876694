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

from keeptune.runtime.calls import calling
from keeptune.runtime.errors import from_rpc_error, typed_errors

S = TypeVar("S")

# Doing these twice does them once by their own rules; remembering each would only cost.
_IDEMPOTENT_BY_THEMSELVES = ("SuggestTrialsRequest", "ReportMeasurementsRequest")


def typed(stub: S, *, asynchronous: bool) -> S:
    """The same stub, whose calls raise KeeptuneError."""
    wrap: Callable[[Any], Any] = _AsyncMethod if asynchronous else _SyncMethod
    for name, method in vars(stub).items():
        setattr(stub, name, wrap(method))
    return stub


class _AsyncMethod:
    def __init__(self, method: Any) -> None:
        self._method = method

    def __call__(self, request: Any = None, **options: Any) -> Any:
        answer = self._method(_identified(request), **options)
        return calling(answer) if isinstance(answer, Awaitable) else _stream(answer)


class _SyncMethod:
    """Also has `with_call` and `future`; those are gRPC's own."""

    def __init__(self, method: Any) -> None:
        self._method = method

    def __call__(self, request: Any = None, **options: Any) -> Any:
        with typed_errors():
            answer = self._method(_identified(request), **options)
        return _sync_stream(answer) if isinstance(answer, Iterator) else answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)


async def _stream(call: Any) -> AsyncIterator[Any]:
    try:
        async for message in call:
            yield message
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
    finally:
        call.cancel()


def _sync_stream(call: Any) -> Iterator[Any]:
    try:
        with typed_errors():
            yield from call
    finally:
        call.cancel()


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
