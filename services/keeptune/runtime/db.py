"""A service's database: run a function of a connection in one durable transaction.

    study = await database.run(lambda c: studies.get(c, name).doc)

The function is plain synchronous SQLAlchemy Core, the same on SQLite and PostgreSQL. It may run
more than once (a race, a lost batch), so it must touch nothing but its connection, and it must
not commit, roll back or keep the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Self, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from keeptune.runtime import events, ledger
from keeptune.runtime.clock import Clock, SystemClock
from keeptune.runtime.errors import InvalidInput, KeeptuneError
from keeptune.runtime.migrations import migrate
from keeptune.runtime.notify import Notifier
from keeptune.runtime.postgres import PostgresEngine
from keeptune.runtime.sqlite import SqliteEngine
from keeptune.runtime.tables import base_metadata

__all__ = ["Database", "base_metadata", "migrate"]

T = TypeVar("T")

log = structlog.get_logger()

_HOUSEKEEPING_SECONDS = 3600.0


class Database:
    """An open database. Make one with `Database.open`; `migrate` it before first use."""

    def __init__(self, engine: SqliteEngine | PostgresEngine, clock: Clock, notifier: Notifier):
        self._engine = engine
        self.clock = clock
        self.notifier = notifier
        self._housekeeping: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str, *, clock: Clock | None = None, connections: int = 8) -> Self:
        """Opens `sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://...`.

        `connections` bounds the PostgreSQL pool; SQLite always has one. Raises InvalidInput for
        another URL and FailedPrecondition when another process holds the SQLite file.
        """
        clock = clock or SystemClock()
        parsed = _parse(url)
        notifier = Notifier()
        options = {"keeptune_clock": clock}
        engine: SqliteEngine | PostgresEngine
        if parsed.get_backend_name() == "sqlite":
            engine = SqliteEngine(parsed, options=options)
        else:
            engine = PostgresEngine(parsed, options=options, connections=connections)
        return cls(engine, clock, notifier)

    @property
    def server(self) -> str:
        """host:port/name of a PostgreSQL server; empty for SQLite."""
        return self._engine.server if isinstance(self._engine, PostgresEngine) else ""

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return "sqlite" if isinstance(self._engine, SqliteEngine) else "postgresql"

    async def run(self, fn: Callable[[Connection], T]) -> T:
        """The result of `fn`, once its transaction is on the disk.

        An exception of `fn` undoes its work and is raised here. A full disk is ResourceExhausted,
        an unreachable server Unavailable; nothing was changed.
        """
        with self.notifier.collecting():
            return await self._engine.run(fn)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Like `run`, for functions that only read: on PostgreSQL cheaper and never in the way."""
        if isinstance(self._engine, PostgresEngine):
            return await self._engine.read(fn)
        return await self._engine.run(fn)

    async def rehearse(self, fn: Callable[[Connection], T]) -> T:
        """What `run` would give; all that `fn` did is undone."""

        def undone(connection: Connection) -> T:
            raise _RehearsedError(fn(connection))

        try:
            return await self.run(undone)
        except _RehearsedError as rehearsed:
            result: T = rehearsed.result
            return result

    async def run_in_turn(self, fn: Callable[[Connection], T]) -> T:
        """Like `run`, for functions that first lock all that they read or write.

        On PostgreSQL those that want the same lock wait for each other, and see what the one before
        did, where in `run` all but one would fail and be tried again.
        """
        with self.notifier.collecting():
            if isinstance(self._engine, PostgresEngine):
                return await self._engine.run_in_turn(fn)
            return await self._engine.run(fn)

    def start_housekeeping(self) -> None:
        """Drops what is kept for 7 days, now and every hour, in small steps.

        Answers of the request ledger, and events that later ones have overtaken.
        """
        if self._housekeeping is None:
            self._housekeeping = asyncio.create_task(self._keep_house(), name="housekeeping")

    async def close(self) -> None:
        """Finishes the transactions under way; later ones get Unavailable."""
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            await asyncio.gather(self._housekeeping, return_exceptions=True)
        await self._engine.close()

    async def _keep_house(self) -> None:
        while True:
            try:
                while await self.run(ledger.expire):
                    pass
                seen: int | None = 0
                while seen is not None:
                    seen = await self.run(partial(events.compact, after=seen))
            except KeeptuneError as error:
                log.warning("housekeeping failed", error=str(error))
            await self.clock.sleep(_HOUSEKEEPING_SECONDS)


class _RehearsedError(Exception):
    """Takes a result out of a transaction that is undone."""

    def __init__(self, result: Any) -> None:
        super().__init__("a rehearsal is undone")
        self.result = result


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise _wrong_url(url) from None
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        return parsed.set(drivername="sqlite")
    raise _wrong_url(url)


def _wrong_url(url: str) -> InvalidInput:
    return InvalidInput(
        field="database",
        problem=f"is {url.split('@')[-1]!r}, which is no database URL",
        fix="give sqlite:////absolute/path.db or postgresql://user@host/name",
    )
