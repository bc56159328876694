"""The engine at scale: a pool of connections, serializable transactions, retried when they race.

SERIALIZABLE makes the same store code right on both engines: what a transaction read still holds
when it commits, or it runs again. Functions must therefore be free of effects outside their
connection.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import URL

from keeptune.runtime import events
from keeptune.runtime.errors import Unavailable
from keeptune.runtime.sql_errors import is_duplicate, is_lost_connection, is_race, translated

T = TypeVar("T")

_ATTEMPTS = 20
_DUPLICATE_ATTEMPTS = 3
_RECONNECT_SECONDS = 5.0
_MAX_WAIT = 0.25


class PostgresEngine:
    """Runs functions of a connection side by side on `connections` threads."""

    def __init__(self, url: URL, *, options: dict[str, Any], connections: int = 8) -> None:
        engine = create_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            connect_args={"connect_timeout": 5},
        )
        self._write = engine.execution_options(isolation_level="SERIALIZABLE", **options)
        self._read = engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True, **options
        )
        # A transaction that waits for a lock must then see what the holder before it did.
        self._in_turn = engine.execution_options(isolation_level="READ COMMITTED", **options)
        self._engine = engine
        host = url.host or url.query.get("host") or "localhost"
        self.server = f"{host}:{url.port or 5432}/{url.database or ''}"
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="keeptune-postgres")
        self._closed = False
        self._random = random.Random()

    async def run(self, fn: Callable[[Connection], T]) -> T:
        return await self._on_a_thread(partial(self._attempt_write, self._write), fn)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        return await self._on_a_thread(self._attempt_read, fn)

    async def run_in_turn(self, fn: Callable[[Connection], T]) -> T:
        return await self._on_a_thread(partial(self._attempt_write, self._in_turn), fn)

    async def _on_a_thread(
        self,
        work: Callable[[Callable[[Connection], T]], T],
        fn: Callable[[Connection], T],
    ) -> T:
        if self._closed:
            raise Unavailable("the database is closed", retry_after=1.0)
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: context.run(self._retry, work, fn)
        )

    async def close(self) -> None:
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        self._engine.dispose()

    def _retry(
        self,
        work: Callable[[Callable[[Connection], T]], T],
        fn: Callable[[Connection], T],
    ) -> T:
        give_up = time.monotonic() + _RECONNECT_SECONDS
        attempt = 0
        while True:
            attempt += 1
            try:
                return work(fn)
            except _CommitUnknownError as error:
                raise Unavailable(
                    "the connection to the database broke while committing",
                    retry_after=0.5,
                ) from error.__cause__
            except Exception as error:
                again = (
                    (is_race(error) and attempt < _ATTEMPTS)
                    or (is_duplicate(error) and attempt < _DUPLICATE_ATTEMPTS)
                    or (is_lost_connection(error) and time.monotonic() < give_up)
                )
                if not again:
                    changed = translated(error)
                    if changed is error:
                        raise
                    raise changed from error
            time.sleep(min(_MAX_WAIT, 0.005 * 2**attempt) * self._random.random())

    def _attempt_write(self, engine: Engine, fn: Callable[[Connection], T]) -> T:
        with engine.connect() as connection:
            events.begin(connection)
            result = fn(connection)
            try:
                connection.commit()
            except Exception as error:
                if is_lost_connection(error):
                    raise _CommitUnknownError from error
                raise
            return result

    def _attempt_read(self, fn: Callable[[Connection], T]) -> T:
        with self._read.connect() as connection:
            return fn(connection)


class _CommitUnknownError(Exception):
    """Whether the commit took effect is unknown; only the caller's request_id can tell."""
