"""The embedded engine: one thread, one connection, one fsync for all that waits.

SQLite commits some hundred times a second when each commit is forced to the disk. So whatever is
waiting runs in one transaction, each call in a savepoint of its own, and all are acknowledged
after the one commit. One connection in one process is also what keeps SQLite before 3.51.3 safe:
its WAL-reset corruption needs two. A file lock, which the kernel releases however the process
ends, holds other processes off.
"""

# ruff: noqa: BLE001  (whatever a call raises belongs to its caller, not to this thread)

from __future__ import annotations

import asyncio
import contextvars
import fcntl
import os
import queue
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import StaticPool

from keeptune.runtime.errors import FailedPrecondition, Internal, Unavailable
from keeptune.runtime.sql_errors import translated

T = TypeVar("T")

# Bounds how long a short call can wait behind others of its batch.
_MAX_BATCH = 256

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-16384",
    "PRAGMA busy_timeout=2000",
    # 32 MB. A checkpoint costs two fsyncs more than a commit, and holds up all that wait for one.
    "PRAGMA wal_autocheckpoint=8000",
)


@dataclass
class _Job:
    fn: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    result: Any = None
    error: BaseException | None = None


class SqliteEngine:
    """Runs functions of one connection, in order, on a thread of its own."""

    def __init__(self, url: URL, *, options: dict[str, Any]) -> None:
        self._path = None if url.database in (None, "", ":memory:") else Path(str(url.database))
        self._lock = _FileLock(self._path) if self._path else None
        self._engine = _engine(url).execution_options(**options)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._failure: BaseException | None = None
        self._opened: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="keeptune-sqlite", daemon=True)
        self._thread.start()
        failure = self._opened.get()
        if failure is not None:
            self._thread.join()
            raise failure

    async def run(self, fn: Callable[[Connection], T]) -> T:
        if self._closed:
            raise Unavailable("the database is closed", retry_after=1.0)
        loop = asyncio.get_running_loop()
        job = _Job(fn, loop, loop.create_future())
        self._jobs.put(job)
        result: T = await job.future
        return result

    async def close(self) -> None:
        """Finishes what was asked for, then lets go of the file."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _main(self) -> None:
        try:
            connection = self._engine.connect()
            # So that SQLAlchemy and Alembic leave the real BEGIN and COMMIT to this thread.
            connection.begin()
        except BaseException as error:
            if self._lock:
                self._lock.release()
            self._opened.put(translated(error, self._path))
            return
        self._opened.put(None)
        try:
            while self._serve(connection):
                pass
        finally:
            self._closed = True
            self._reject_waiting()
            connection.detach()
            connection.close()
            self._engine.dispose()
            if self._lock:
                self._lock.release()

    def _serve(self, connection: Connection) -> bool:
        """One batch; False when it was the last."""
        batch: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            if len(batch) == _MAX_BATCH:
                break
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
        wanted = [each for each in batch if not each.future.cancelled()]
        try:
            self._commit_together(connection, wanted)
        except BaseException as error:
            for each in wanted:
                each.error = each.error or error
        _resolve(wanted)
        return job is not None

    def _commit_together(self, connection: Connection, batch: list[_Job]) -> None:
        if not batch:
            return
        if len(batch) == 1:
            self._commit_alone(connection, batch[0])
            return
        raw = _raw(connection)
        try:
            raw.execute("BEGIN IMMEDIATE")
            for job in batch:
                raw.execute("SAVEPOINT job")
                try:
                    job.result = job.context.run(job.fn, connection)
                except BaseException as error:
                    if not raw.in_transaction:
                        raise
                    job.error = translated(error, self._path)
                    raw.execute("ROLLBACK TO job")
                raw.execute("RELEASE job")
            raw.execute("COMMIT")
        except BaseException:
            # The transaction as a whole was lost, e.g. the disk is full: give each call its own,
            # so that those that fit still succeed and each gets its own answer.
            _roll_back(raw)
            for job in batch:
                job.error = None
                self._commit_alone(connection, job)

    def _commit_alone(self, connection: Connection, job: _Job) -> None:
        raw = _raw(connection)
        try:
            raw.execute("BEGIN IMMEDIATE")
            job.result = job.context.run(job.fn, connection)
            raw.execute("COMMIT")
        except BaseException as error:
            _roll_back(raw)
            job.error = translated(error, self._path)

    def _reject_waiting(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                job.error = Unavailable("the database is closed", retry_after=1.0)
                _resolve([job])


def _resolve(batch: list[_Job]) -> None:
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[_Job]] = defaultdict(list)
    for job in batch:
        by_loop[job.loop].append(job)
    for loop, jobs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, jobs)
        except RuntimeError:
            if not loop.is_closed():
                raise


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is None:
            job.future.set_result(job.result)
        elif isinstance(job.error, Exception):
            job.future.set_exception(job.error)
        else:
            job.future.set_exception(Internal(f"the transaction ended with {job.error!r}"))


def _raw(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def _roll_back(raw: sqlite3.Connection) -> None:
    if raw.in_transaction:
        raw.execute("ROLLBACK")


def _engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        poolclass=StaticPool,
        isolation_level="AUTOCOMMIT",
        connect_args={"check_same_thread": False, "cached_statements": 512},
    )

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, _: Any) -> None:
        for pragma in _PRAGMAS:
            raw.execute(pragma)

    return engine


class _FileLock:
    """`<database>.lock`, held while the database is open; says who holds it."""

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FailedPrecondition(
                f"database {database} cannot be opened: {error.strerror}",
                fix="give a path in a folder that this process may write to",
                reason="DATABASE_UNUSABLE",
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._descriptor, 32).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise FailedPrecondition(
                f"database {database} is in use by process {holder or 'unknown'}",
                fix="stop that process, or give this one a database of its own",
                reason="DATABASE_IN_USE",
                metadata={"pid": holder},
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._descriptor)
