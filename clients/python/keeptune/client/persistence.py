"""Outlasting a service that is away: calls that are made again, and streams that resume."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

from keeptune.runtime.backoff import Backoff
from keeptune.runtime.errors import KeeptuneError

T = TypeVar("T")

_STANDS_SECONDS = 20.0


class HasRevision(Protocol):
    """An event that a Watch call sends."""

    @property
    def revision(self) -> int: ...


E = TypeVar("E", bound=HasRevision)


async def persist(call: Callable[[], Awaitable[T]], *, patience: float) -> T:
    """Makes the call until it is answered.

    A temporary error is raised only after `patience` seconds of them; others at once. The call
    must be idempotent.
    """
    backoff = Backoff(maximum=5.0)
    started = time.monotonic()
    while True:
        try:
            return await call()
        except KeeptuneError as error:
            if not error.retryable or time.monotonic() - started > patience:
                raise
            await asyncio.sleep(backoff.next(error.retry_after or 0.0))


async def resume(
    watch: Callable[[int], AsyncIterable[E]], *, revision: int = 0, patience: float
) -> AsyncIterator[E]:
    """The events after `revision`, each once, across restarts of the service.

    `watch` opens the stream after a revision. Ends only when the caller stops, or with the error
    that is permanent or has lasted `patience` seconds.
    """
    backoff = Backoff(maximum=5.0)
    troubled = time.monotonic()
    while True:
        opened, at_least = time.monotonic(), 0.0
        try:
            async for event in watch(revision):
                revision = event.revision
                yield event
                backoff.reset()
                opened = troubled = time.monotonic()
        except KeeptuneError as error:
            # A stream may be silent for hours; that it stood for a while says it was well.
            if time.monotonic() - opened > _STANDS_SECONDS:
                backoff.reset()
                troubled = time.monotonic()
            if not error.retryable or time.monotonic() - troubled > patience:
                raise
            at_least = error.retry_after or 0.0
        await asyncio.sleep(backoff.next(at_least))
