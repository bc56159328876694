"""Wakes the watchers of a stream, in this process, once its events are committed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_touched: ContextVar[set[str] | None] = ContextVar("keeptune_touched_streams", default=None)


def touch(stream: str) -> None:
    """Notes, inside a transaction, that a stream got an event."""
    streams = _touched.get()
    if streams is not None:
        streams.add(stream)


class Notifier:
    """Subscriptions of one event loop to streams and all that lies below them."""

    def __init__(self) -> None:
        self._subscribers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def subscribe(self, stream: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the stream, or one below it, may have news."""
        event = asyncio.Event()
        self._subscribers[stream].add(event)
        try:
            yield event
        finally:
            self._subscribers[stream].discard(event)
            if not self._subscribers[stream]:
                del self._subscribers[stream]

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Gathers what the transaction inside touches; wakes the subscribers when it is over."""
        streams: set[str] = set()
        token = _touched.set(streams)
        try:
            yield
        finally:
            _touched.reset(token)
            self._wake(streams)

    def _wake(self, streams: set[str]) -> None:
        if not self._subscribers:
            return
        for stream in streams:
            while True:
                for event in self._subscribers.get(stream, ()):
                    event.set()
                if not stream:
                    break
                stream = stream.rpartition("/")[0]
