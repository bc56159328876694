"""Outgoing calls that fail with our own errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

import grpc

from keeptune.runtime.errors import from_rpc_error

T = TypeVar("T")


async def calling(call: Awaitable[T]) -> T:
    """The answer of a unary call of `grpc.aio`. Raises KeeptuneError, typed as by the server."""
    try:
        return await call
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None


async def streaming(call: AsyncIterator[T]) -> AsyncIterator[T]:
    """The messages of a stream. Raises KeeptuneError, typed as by the server."""
    try:
        async for message in call:
            yield message
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
