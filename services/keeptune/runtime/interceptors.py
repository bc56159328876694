"""What happens around every call that a server answers, in one place.

The caller's token is checked, its ids are bound for the logs, its messages are held against the
constraints of their protos, errors become canonical codes with details, and the call is counted,
timed and traced. All of it stands in one interceptor, prepared once a method, because each layer
of gRPC's own costs as much as all of this together.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
)
from contextlib import AbstractContextManager
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc
import structlog
from opentelemetry import trace
from structlog.contextvars import bind_contextvars, get_contextvars

from keeptune.runtime import propagation, telemetry
from keeptune.runtime.auth import HEADER, Grants, Tokens, allowed_roles, denied, note_caller
from keeptune.runtime.errors import (
    Internal,
    KeeptuneError,
    NotImplementedYet,
    Unavailable,
    from_rpc_error,
    status_trailers,
    to_status,
)
from keeptune.runtime.logging import CARRIED, carried
from keeptune.runtime.subject import ids_of
from keeptune.runtime.validation import validate

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
ServicerContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

log = structlog.get_logger()

# Probes come from machines that have no token.
_OPEN_SERVICE = "/grpc.health.v1.Health/"
_IDS = tuple((name, "x-keeptune-" + name.replace("_", "-")) for name in CARRIED)
_MAX_ID = 255
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Everything that surrounds a call.

    `grants` by full service name; `open_methods` are the full names of methods without a token.
    """

    def __init__(
        self,
        tokens: Tokens,
        grants: Mapping[str, Grants],
        open_methods: Collection[str] = (),
    ) -> None:
        self._tokens = tokens
        self._grants = grants
        self._open_methods = frozenset(open_methods)
        self._traced = propagation.tracing_is_wanted()
        self._handlers: dict[str, Handler] = {}
        self._streams: set[asyncio.Task[Any]] = set()
        self.draining = False

    def drain(self) -> None:
        """Ends the calls that would go on for ever; their callers resume elsewhere or later."""
        self.draining = True
        for task in self._streams:
            task.cancel()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        name = str(handler_call_details.method)
        wrapped = self._handlers.get(name)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return _refusal(name, self._grants)
            wrapped = self._handlers[name] = self._wrap(name, handler)
        return wrapped

    def _wrap(self, name: str, handler: Handler) -> Handler:
        is_open = name in self._open_methods or name.startswith(_OPEN_SERVICE)
        tokens = None if is_open else self._tokens
        method = _Method(name, handler, tokens, self._grants, traced=self._traced)
        prepare: Any = method.stream if handler.request_streaming else method.message
        inner: Any = (
            (handler.stream_stream if handler.request_streaming else handler.unary_stream)
            if handler.response_streaming
            else (handler.stream_unary if handler.request_streaming else handler.unary_unary)
        )

        async def answer(request: Any, context: ServicerContext) -> Any:
            async with _Call(method, context, self) as call:
                method.authorize(context)
                if not handler.request_streaming:
                    call.note(request)
                return await inner(prepare(request), context)

        async def answers(request: Any, context: ServicerContext) -> AsyncIterator[Any]:
            task = asyncio.current_task()
            assert task is not None
            self._streams.add(task)
            try:
                async with _Call(method, context, self) as call:
                    method.authorize(context)
                    if not handler.request_streaming:
                        call.note(request)
                    responses = inner(prepare(request), context)
                    if not hasattr(responses, "__aiter__"):  # it writes to the context itself
                        await responses
                        return
                    async for response in responses:
                        method.metrics.sent()
                        yield response
            finally:
                self._streams.discard(task)

        make: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[bool(handler.request_streaming), bool(handler.response_streaming)]
        wrapped: Handler = make(
            answers if handler.response_streaming else answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped


class _Method:
    """What is known of a method before any call."""

    def __init__(
        self,
        name: str,
        handler: Handler,
        tokens: Tokens | None,
        grants: Mapping[str, Grants],
        *,
        traced: bool,
    ) -> None:
        self.name = name
        self.traced = traced
        service = name.lstrip("/").partition("/")[0]
        kind = f"{_shape(handler.request_streaming)}_{_shape(handler.response_streaming)}"
        names = {
            "unary_unary": "unary",
            "unary_stream": "server_stream",
            "stream_unary": "client_stream",
            "stream_stream": "bidi_stream",
        }
        self.metrics = telemetry.MethodMetrics(name, names[kind])
        self._tokens = tokens
        self._allowed = allowed_roles(name, grants.get(service, {}))

    def authorize(self, context: ServicerContext) -> None:
        if self._tokens is None:
            return
        caller = self._tokens.caller_of(_first(context, HEADER))
        if caller.role not in self._allowed:
            raise denied(caller.role, self.name, self._allowed)
        note_caller(caller)

    def message(self, request: Any) -> Any:
        validate(request)
        return request

    async def stream(self, requests: AsyncIterable[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            self.metrics.received()
            validate(request)
            yield request


class _Call:
    """One call, from its first to its last moment."""

    __slots__ = ("_began", "_context", "_given", "_method", "_server", "_span", "_span_scope")

    def __init__(self, method: _Method, context: ServicerContext, server: CallInterceptor) -> None:
        self._method = method
        self._context = context
        self._server = server
        self._span_scope: AbstractContextManager[trace.Span] | None = None
        self._span: trace.Span | None = None

    async def __aenter__(self) -> Self:
        self._began = perf_counter()
        self._method.metrics.started()
        metadata = self._context.invocation_metadata() or ()
        if self._method.traced:
            self._span_scope = telemetry.server_span(self._method.name, metadata)
            self._span = self._span_scope.__enter__()
        found = dict(metadata)
        self._given = {name: str(found[key])[:_MAX_ID] for name, key in _IDS if key in found}
        bind_contextvars(**{"request_id": secrets.token_hex(8), **self._given})
        return self

    def note(self, request: Any) -> None:
        """Binds what the request says of itself, where its metadata said nothing."""
        ids = ids_of(request)
        if ids:
            bind_contextvars(**{key: ids[key][:_MAX_ID] for key in ids.keys() - self._given.keys()})

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        answer = None if error is None else self._answer(error)
        code = answer.code if answer else self._code(error)
        self._method.metrics.handled(code)
        seconds = perf_counter() - self._began
        self._method.metrics.took(seconds)
        log.debug("call ended", method=self._method.name, code=code.name, seconds=round(seconds, 6))
        if self._span is not None and self._span_scope is not None:
            telemetry.end_span(self._span, code, carried())
            self._span_scope.__exit__(None, None, None)
        if answer is not None:
            trailers = status_trailers(to_status(answer))
            await self._context.abort(answer.code, answer.message, trailers)

    def _answer(self, error: BaseException) -> KeeptuneError | None:
        """What the caller is told; None when it is being told already, or has gone."""
        if isinstance(error, KeeptuneError):
            if isinstance(error, Internal):
                log.error("call failed", method=self._method.name, exc_info=error)
            else:
                log.info(
                    "call refused",
                    method=self._method.name,
                    code=error.code.name,
                    reason=error.reason,
                    error=error.message,
                )
            return error
        if isinstance(error, asyncio.CancelledError):
            return self._answer_to_cancellation()
        if isinstance(error, grpc.aio.AbortError | GeneratorExit):
            return None
        if isinstance(error, grpc.RpcError):
            return self._answer(from_rpc_error(error))
        if isinstance(error, NotImplementedError):  # what the stubs' base classes raise
            return NotImplementedYet(
                f"{self._method.name} is not implemented in this version",
                fix="see the table of what works today in the README",
            )
        log.error("call failed", method=self._method.name, exc_info=error)
        reference = str(get_contextvars()["request_id"])
        return Internal(
            f"an internal error occurred; its reference in the server's log is {reference}",
            metadata={"reference": reference},
        )

    def _answer_to_cancellation(self) -> KeeptuneError | None:
        task = asyncio.current_task()
        if not self._server.draining or task is None:
            return None
        task.uncancel()
        return Unavailable(
            "the server is shutting down",
            fix="call again; a watch resumes after the last revision seen",
            reason="SHUTTING_DOWN",
            retry_after=0.5,
        )

    def _code(self, error: BaseException | None) -> grpc.StatusCode:
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            remaining = self._context.time_remaining()
            late = remaining is not None and remaining <= 0
            return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
        code: Any = self._context.code()
        if isinstance(code, grpc.StatusCode):
            return code
        return _CODES.get(code or 0, grpc.StatusCode.UNKNOWN)


def _refusal(name: str, services: Iterable[str]) -> Handler:
    """Answers calls of a method that no service here has, of whatever shape."""
    error = NotImplementedYet(
        f"{name} is not served here",
        fix=f"this server has {', '.join(sorted(services))}; section `services` of the config "
        "file says where the others listen",
        reason="UNKNOWN_METHOD",
    )

    async def refuse(_: Any, context: ServicerContext) -> None:
        await context.abort(error.code, error.message, status_trailers(to_status(error)))

    make: Any = grpc.stream_stream_rpc_method_handler
    handler: Handler = make(refuse)
    return handler


def _first(context: ServicerContext, wanted: str) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == wanted and isinstance(value, str):
            return value
    return None


def _shape(streaming: bool) -> str:
    return "stream" if streaming else "unary"
