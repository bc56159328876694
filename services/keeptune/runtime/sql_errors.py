"""What the database engines say when they fail, in keeptune's words."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from keeptune.runtime.errors import (
    FailedPrecondition,
    Internal,
    KeeptuneError,
    ResourceExhausted,
    Unavailable,
)

_SQLITE_FULL = 13
_SQLITE_IOERR = 10
_SQLITE_CORRUPT = 11
# Read-only, cannot be opened, not a database.
_SQLITE_UNUSABLE = (8, 14, 26)
_SERIALIZATION_FAILURE = "40001"
_DEADLOCK = "40P01"
_UNIQUE_VIOLATION = "23505"
_PG_DISK_FULL = "53100"
_ENOUGH_BYTES = 1 << 20
UNREACHABLE = "DATABASE_UNREACHABLE"


def translated(error: BaseException, path: Path | None = None) -> BaseException:
    """The error as callers should see it; unknown ones pass unchanged."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        return _from_sqlite(cause, path) or error
    if isinstance(error, DBAPIError):
        return _from_postgres(error) or error
    return error


def sqlstate(error: BaseException) -> str:
    """PostgreSQL's five-character code; empty when there is none."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlstate", None) or ""


def is_race(error: BaseException) -> bool:
    """Whether another transaction got in the way, so that the same one may now succeed."""
    return sqlstate(error) in (_SERIALIZATION_FAILURE, _DEADLOCK)


def is_duplicate(error: BaseException) -> bool:
    """A key was there already: a defect, or another transaction that was faster by a moment."""
    return sqlstate(error) == _UNIQUE_VIOLATION


def is_lost_connection(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and (
        error.connection_invalidated
        or sqlstate(error)[:2] in ("08", "57")
        or (not sqlstate(error) and type(error.orig).__name__ == "OperationalError")
    )


def _from_sqlite(error: sqlite3.Error, path: Path | None) -> KeeptuneError | None:
    primary = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if primary == _SQLITE_FULL or (primary == _SQLITE_IOERR and _is_full(path)):
        return disk_full(path)
    if primary == _SQLITE_IOERR:
        return Unavailable(f"the disk under {path} failed: {error}", retry_after=5.0)
    if primary in _SQLITE_UNUSABLE:
        return FailedPrecondition(
            f"database {path} cannot be used: {error}",
            fix="give the path of a keeptune database, or of none to begin a new one",
            reason="DATABASE_UNUSABLE",
        )
    if primary == _SQLITE_CORRUPT:
        return Internal(f"database {path} is damaged: {error}", reason="DATABASE_DAMAGED")
    return None


def _from_postgres(error: DBAPIError) -> KeeptuneError | None:
    if sqlstate(error) == _PG_DISK_FULL:
        return disk_full(None)
    if is_race(error):
        return Unavailable("the database is busy with the same rows", retry_after=0.2)
    if is_lost_connection(error) or sqlstate(error).startswith("53"):
        return Unavailable(
            f"the database cannot be reached: {_first_line(error)}",
            reason=UNREACHABLE,
            retry_after=1.0,
        )
    return None


def _first_line(error: DBAPIError) -> str:
    """What the driver says of it; the rest is advice."""
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__


def disk_full(path: Path | None) -> ResourceExhausted:
    where = f"the disk that holds {path}" if path else "the database's disk"
    return ResourceExhausted(
        f"{where} is full; nothing was changed",
        fix="free some space, then repeat the call",
        reason="DISK_FULL",
        retry_after=10.0,
    )


def _is_full(path: Path | None) -> bool:
    if path is None:
        return False
    try:
        stat = os.statvfs(path.parent)
    except OSError:
        return False
    return stat.f_bavail * stat.f_frsize < _ENOUGH_BYTES
