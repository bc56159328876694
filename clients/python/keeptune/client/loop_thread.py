"""An event loop of its own for programs that have none."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from keeptune.runtime.errors import FailedPrecondition

T = TypeVar("T")

_END = object()


class LoopThread:
    """Runs coroutines in a thread in the background, for callers that wait for their results."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="keeptune-client", daemon=True
        )
        self._thread.start()
        # Also at the interpreter's end, so that nothing runs into the ruins of it.
        self._finalizer = weakref.finalize(self, _stop, self._loop, self._thread, self._pid)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result; an interrupt of the caller cancels the work."""
        try:
            self._check()
        except BaseException:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items, each fetched when it is asked for."""
        try:
            while True:
                item = self.run(_next(items))
                if item is _END:
                    return
                yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None and self._finalizer.alive:
                self.run(close())

    def close(self) -> None:
        """Stops the loop; what runs in it is cancelled."""
        self._finalizer()

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise FailedPrecondition(
                "the client was made before this process was forked",
                fix="make a client in each process",
            )
        if not self._finalizer.alive:
            raise FailedPrecondition("the client is closed", fix="make another")
        if threading.current_thread() is self._thread:
            raise FailedPrecondition(
                "the client is called from its own event loop", fix="use AsyncClient there"
            )


async def _next(items: AsyncIterator[T]) -> Any:
    return await anext(items, _END)


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, pid: int) -> None:
    async def cancel_all() -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await loop.shutdown_asyncgens()
        loop.stop()

    if pid == os.getpid():
        asyncio.run_coroutine_threadsafe(cancel_all(), loop)
        thread.join()
        loop.close()
