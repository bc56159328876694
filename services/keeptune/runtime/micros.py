"""Times as they are stored: whole microseconds since 1970 UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from keeptune.runtime.clock import Clock

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE = timedelta(microseconds=1)


def now(connection: Connection) -> int:
    """The present, by the clock of the connection's database."""
    return of(clock_of(connection).now())


def clock_of(connection: Connection) -> Clock:
    """The clock of the database that a connection belongs to."""
    clock: Clock = connection.get_execution_options()["keeptune_clock"]
    return clock


def of(moment: datetime) -> int:
    return (moment - _EPOCH) // _ONE


def to_datetime(micros: int) -> datetime:
    """Aware, in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def of_duration(duration: timedelta) -> int:
    return duration // _ONE
