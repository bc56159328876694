"""Channels that mend themselves: retries, reconnection, deadlines, a token, and carried ids.

A mutation carries a request_id, so every call may be repeated when the server was unavailable;
gRPC does it by the service config below. A stream that has delivered messages is never retried:
watchers resume from their last revision.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from keeptune.runtime import propagation
from keeptune.runtime.addresses import parse_address
from keeptune.runtime.auth import ClientCredentials, bearer
from keeptune.runtime.errors import InvalidInput, typed_errors
from keeptune.runtime.logging import carried

DEFAULT_TIMEOUT = 30.0
MAX_MESSAGE_BYTES = 4 << 20
_RAW_CAUSE = "Failed to connect to remote host: "

T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint:
    """Where a service listens, and what is shown to it."""

    target: str
    credentials: ClientCredentials


def open_channel(
    target: str,
    *,
    credentials: ClientCredentials,
    timeout: float = DEFAULT_TIMEOUT,
    wait_for_ready: bool = True,
) -> grpc.aio.Channel:
    """A channel to `host:port`.

    Unary calls get `timeout` seconds unless the call says otherwise; streams have no deadline.
    With `wait_for_ready` a call waits, within its deadline, for a server that is away; without,
    it fails at once with UNAVAILABLE when no connection can be made.
    """
    options = _options(wait_for_ready=wait_for_ready)
    tls = _tls(target, credentials)
    inner = (
        grpc.aio.secure_channel(target, tls, options=options)
        if tls
        else grpc.aio.insecure_channel(target, options=options)
    )
    return _AsyncChannel(inner, _Preparation(credentials, timeout))


def open_sync_channel(
    target: str,
    *,
    credentials: ClientCredentials,
    timeout: float = DEFAULT_TIMEOUT,
    wait_for_ready: bool = True,
) -> grpc.Channel:
    """`open_channel` for programs without an event loop."""
    options = _options(wait_for_ready=wait_for_ready)
    tls = _tls(target, credentials)
    inner = (
        grpc.secure_channel(target, tls, options=options)
        if tls
        else grpc.insecure_channel(target, options=options)
    )
    return _SyncChannel(inner, _Preparation(credentials, timeout))


def in_plain_words(raw: str) -> str:
    """The cause within what gRPC says of a connection that failed, e.g. connection refused."""
    cause = raw.rpartition(_RAW_CAUSE)[2] if _RAW_CAUSE in raw else raw
    return cause[:1].lower() + cause[1:]


async def calling(call: Awaitable[T]) -> T:
    """Awaits a call of a stub; what fails is one of keeptune's own errors."""
    with typed_errors():
        return await call


def _options(*, wait_for_ready: bool) -> Sequence[tuple[str, Any]]:
    config = {
        "methodConfig": [
            {
                "name": [{}],
                "waitForReady": wait_for_ready,
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
    return (
        ("grpc.service_config", json.dumps(config)),
        ("grpc.enable_retries", 1),
        ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    )


def _tls(target: str, credentials: ClientCredentials) -> grpc.ChannelCredentials | None:
    if not credentials.encrypted:
        if credentials.token and not parse_address(target, field="address").is_loopback:
            raise InvalidInput(
                field="address",
                problem=f"is {target}: the token would cross the network in the clear",
                fix="give the server's certificate authority (ca), or tls",
                reason="TLS_REQUIRED",
            )
        return None
    try:
        return grpc.ssl_channel_credentials(
            credentials.ca.read_bytes() if credentials.ca else None,
            credentials.key.read_bytes() if credentials.key else None,
            credentials.cert.read_bytes() if credentials.cert else None,
        )
    except OSError as error:
        of_the_authority = credentials.ca is not None and error.filename == str(credentials.ca)
        raise InvalidInput(
            field="ca" if of_the_authority else "tls",
            problem=f"names {error.filename}, which cannot be read: {error.strerror}",
            fix="give the PEM file of the authority that signed the server's certificate: "
            "services.ca (agent.ca on a serving host), KEEPTUNE_CA or --ca"
            if of_the_authority
            else "give PEM files that this program may read",
        ) from error


class _Preparation:
    """What is added to every call of a channel."""

    def __init__(self, credentials: ClientCredentials, timeout: float) -> None:
        self._fixed = (bearer(credentials.token),) if credentials.token else ()
        self._timeout = timeout
        self._traced = propagation.tracing_is_wanted()

    def metadata(self, given: Any) -> tuple[tuple[str, str | bytes], ...]:
        ids = {f"x-keeptune-{name.replace('_', '-')}": value for name, value in carried().items()}
        if self._traced:
            propagation.inject(ids)
        return (*self._fixed, *ids.items(), *(tuple(entry) for entry in given or ()))

    def unary(self, call: Any) -> Any:
        def prepared(request: Any, *, timeout: float | None = None, **rest: Any) -> Any:
            rest["metadata"] = self.metadata(rest.get("metadata"))
            return call(request, timeout=self._timeout if timeout is None else timeout, **rest)

        return prepared

    def streaming(self, call: Any) -> Any:
        def prepared(*request: Any, **rest: Any) -> Any:
            rest["metadata"] = self.metadata(rest.get("metadata"))
            return call(*request, **rest)

        return prepared


# Interceptors of grpc.aio cost a task for each call; wrapping what the stubs ask the channel for
# costs next to nothing, and does the same.


class _AsyncChannel(grpc.aio.Channel):
    def __init__(self, inner: grpc.aio.Channel, preparation: _Preparation) -> None:
        self._inner = inner
        self._preparation = preparation

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._preparation.unary(self._inner.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._preparation.streaming(self._inner.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._preparation.streaming(self._inner.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._preparation.streaming(self._inner.stream_stream(*args, **kwargs))

    async def __aenter__(self) -> _AsyncChannel:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *details: Any) -> Any:
        return await self._inner.__aexit__(*details)

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()


class _SyncMethod:
    """A method of a synchronous channel, called plainly or for a future."""

    def __init__(self, method: Any, prepare: Any) -> None:
        self._call = prepare(method)
        self._with_call = prepare(method.with_call) if hasattr(method, "with_call") else None
        self._future = prepare(method.future) if hasattr(method, "future") else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def with_call(self, *args: Any, **kwargs: Any) -> Any:
        assert self._with_call is not None
        return self._with_call(*args, **kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:
        assert self._future is not None
        return self._future(*args, **kwargs)


class _SyncChannel(grpc.Channel):
    def __init__(self, inner: grpc.Channel, preparation: _Preparation) -> None:
        self._inner = inner
        self._preparation = preparation

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _SyncMethod(self._inner.unary_unary(*args, **kwargs), self._preparation.unary)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _SyncMethod(self._inner.unary_stream(*args, **kwargs), self._preparation.streaming)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _SyncMethod(self._inner.stream_unary(*args, **kwargs), self._preparation.streaming)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _SyncMethod(self._inner.stream_stream(*args, **kwargs), self._preparation.streaming)

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        self._inner.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        self._inner.unsubscribe(callback)

    def __enter__(self) -> _SyncChannel:
        self._inner.__enter__()
        return self

    def __exit__(self, *details: Any) -> Any:
        return self._inner.__exit__(*details)

    def close(self) -> None:
        self._inner.close()
