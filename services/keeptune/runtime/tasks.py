"""Named loops that live and die together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog

from keeptune.runtime.backoff import Backoff
from keeptune.runtime.clock import Clock
from keeptune.runtime.errors import KeeptuneError

Loop = Callable[[], Awaitable[None]]

log = structlog.get_logger()


async def run_all(loops: Mapping[str, Loop]) -> None:
    """Runs the loops side by side until all have returned.

    The first that fails cancels its siblings; when they have ended, its error is raised as it is.
    """
    running = {asyncio.ensure_future(start()): name for name, start in loops.items()}
    failure: BaseException | None = None
    pending = set(running)
    try:
        while pending and failure is None:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = None if task.cancelled() else task.exception()
                if error is not None:
                    error.add_note(f"in the loop {running[task]}")
                    failure = failure or error
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    if failure is not None:
        raise failure


async def rest(
    clock: Clock, seconds: float, news: asyncio.Event, work: Iterable[asyncio.Task[None]] = ()
) -> None:
    """Returns at `news`, when any of `work` has ended, or after `seconds`."""
    waiting = [asyncio.ensure_future(clock.sleep(seconds)), asyncio.ensure_future(news.wait())]
    try:
        await asyncio.wait([*waiting, *work], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def every(
    clock: Clock, seconds: float, fn: Callable[[], Awaitable[object]], *, name: str = ""
) -> None:
    """Calls `fn`, then sleeps, for ever.

    Temporary errors are logged and followed by growing pauses, from `seconds` to a minute (or
    `seconds`, if that is more); any other error is raised.
    """
    backoff = Backoff(initial=max(seconds, 0.1), maximum=max(seconds, 60.0))
    while True:
        try:
            await fn()
        except KeeptuneError as error:
            if not error.retryable:
                raise
            pause = backoff.next(at_least=error.retry_after or 0.0)
            log.warning("will try again", loop=name, error=str(error), seconds=round(pause, 3))
            await clock.sleep(pause)
        else:
            backoff.reset()
            await clock.sleep(seconds)
