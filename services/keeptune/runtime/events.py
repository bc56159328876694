"""The log of events: appended in the transaction that causes them, followed by watchers.

An event belongs to a stream, which is the name of a resource; who watches `studies/x` also sees
`studies/x/trials/3`, and the empty stream is all of them. Revisions grow over the whole database,
and a watcher that comes back with the last revision it saw misses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
    update,
)

from keeptune.runtime import micros
from keeptune.runtime.bulk import Bulk
from keeptune.runtime.errors import ResourceExhausted
from keeptune.runtime.notify import touch
from keeptune.runtime.tables import event_epoch, events

if TYPE_CHECKING:
    from keeptune.runtime.db import Database

KEPT = timedelta(days=7)
_PAGE = 500
_CHUNK = 1000
_POLL_SECONDS = 1.0
_SETTLE_SECONDS = 0.02


@dataclass(frozen=True)
class Event:
    """Something that happened to `stream`; `kind` is e.g. `study.created`."""

    revision: int
    stream: str
    kind: str
    time: datetime
    payload: bytes


# SQLite has one writer, so that counting is enough. On PostgreSQL transactions commit in another
# order than they count in, and a watcher that has seen 6 would miss a 5 committed later. There a
# revision is its transaction's id and a number within it, and watchers read only below the oldest
# transaction still running: nothing can appear there any more.
_WITHIN_BITS = 20
_ORDINAL = "keeptune_event_ordinal"


def _shifted(transaction_id: ColumnElement[Any]) -> ColumnElement[int]:
    lifted = (
        cast(cast(transaction_id, Text), BigInteger) + select(event_epoch.c.shift).scalar_subquery()
    )
    return lifted * literal_column(str(1 << _WITHIN_BITS), BigInteger)


_append = insert(events).returning(events.c.revision)
_append_numbered = (
    insert(events)
    .values(revision=_shifted(func.pg_current_xact_id()) + bindparam("ordinal"))
    .returning(events.c.revision)
)
_add = Bulk(insert(events))
_base = select(_shifted(func.pg_current_xact_id()))
# What AUTOINCREMENT counts by.
_COUNTED = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
_settled = events.c.revision < _shifted(func.pg_snapshot_xmin(func.pg_current_snapshot()))


def begin(connection: Connection) -> None:
    """On PostgreSQL, at the start of each transaction: its events are numbered from 0."""
    connection.info[_ORDINAL] = 0


def append_event(connection: Connection, stream: str, kind: str, payload: bytes) -> int:
    """Adds an event and tells its revision; watchers see it once the transaction is committed."""
    values = {"stream": stream, "kind": kind, "time": micros.now(connection), "payload": payload}
    touch(stream)
    if connection.dialect.name == "sqlite":
        counted: int = connection.execute(_append, values).scalar_one()
        return counted
    ordinal = _next_ordinal(connection)
    revision: int = connection.execute(_append_numbered, values | {"ordinal": ordinal}).scalar_one()
    return revision


class NewEvents:
    """Events of one transaction, written together; their revisions are known before.

    Between the first `append` and `write` nobody else may add events to the transaction.
    """

    def __init__(self, connection: Connection, now: datetime) -> None:
        self._connection = connection
        self._time = micros.of(now)
        self._rows: list[tuple[int, str, str, int, bytes]] = []
        # The revision before the next; None = to be found out.
        self._base: int | None = None

    def next_revision(self) -> int:
        """The revision of the event that is appended next."""
        if self._connection.dialect.name == "sqlite":
            if self._base is None:
                self._base = self._connection.exec_driver_sql(_COUNTED).scalar_one_or_none() or 0
            return self._base + 1
        if self._base is None:
            self._base = self._connection.execute(_base).scalar_one()
        ordinal: int = self._connection.info[_ORDINAL]
        return self._base + ordinal

    def append(self, stream: str, kind: str, payload: bytes) -> int:
        """Tells the event's revision; watchers see it once the transaction is committed."""
        revision = self.next_revision()
        if self._connection.dialect.name == "sqlite":
            self._base = revision
        else:
            _next_ordinal(self._connection)
        self._rows.append((revision, stream, kind, self._time, payload))
        touch(stream)
        return revision

    def write(self) -> None:
        _add(self._connection, self._rows)
        self._rows = []
        if self._connection.dialect.name == "sqlite":
            self._base = None


def _next_ordinal(connection: Connection) -> int:
    ordinal: int = connection.info[_ORDINAL]
    if ordinal >> _WITHIN_BITS:
        raise ResourceExhausted(f"more than {1 << _WITHIN_BITS} events in one transaction")
    connection.info[_ORDINAL] = ordinal + 1
    return ordinal


def lift_epoch(connection: Connection) -> None:
    """Makes sure that new revisions are above all there are, whatever server the data came from."""
    if connection.dialect.name == "sqlite":
        return
    latest = connection.execute(select(func.max(events.c.revision))).scalar_one() or 0
    current = cast(cast(func.pg_current_xact_id(), Text), BigInteger)
    missing = (latest >> _WITHIN_BITS) + 1 - current
    connection.execute(
        update(event_epoch).values(shift=func.greatest(event_epoch.c.shift, missing))
    )


def read_events(connection: Connection, stream: str, after: int, limit: int = _PAGE) -> list[Event]:
    """Events of the stream and those below it with a revision above `after`, in order."""
    query = (
        select(events.c.revision, events.c.stream, events.c.kind, events.c.time, events.c.payload)
        .where(events.c.revision > after, _within(stream), _readable(connection))
        .order_by(events.c.revision)
        .limit(limit)
    )
    return [
        Event(row.revision, row.stream, row.kind, micros.to_datetime(row.time), row.payload)
        for row in connection.execute(query)
    ]


def latest_revision(connection: Connection) -> int:
    """The revision of the newest event; 0 when there is none."""
    newest = select(func.max(events.c.revision)).where(_readable(connection))
    return connection.execute(newest).scalar_one() or 0


def compact(connection: Connection, after: int) -> int | None:
    """Drops old states of records among the next 1000 events above `after`.

    Those older than 7 days that a later event of their stream has overtaken: who watches from the
    beginning still sees all there is as it is. Tells where to go on; None at the end.
    """
    before = micros.now(connection) - micros.of_duration(KEPT)
    found = connection.execute(
        select(events.c.revision, events.c.time)
        .where(events.c.revision > after)
        .order_by(events.c.revision)
        .limit(_CHUNK)
    ).all()
    old = [row.revision for row in found if row.time < before]
    if not old:
        return None
    later = events.alias()
    overtaken = exists().where(
        later.c.stream == events.c.stream, later.c.revision > events.c.revision
    )
    connection.execute(
        delete(events).where(
            events.c.revision > after,
            events.c.revision <= old[-1],
            events.c.time < before,
            or_(events.c.kind.endswith(".created"), events.c.kind.endswith(".updated")),
            overtaken,
        )
    )
    return old[-1] if len(old) == _CHUNK else None


class Events:
    """Following streams."""

    @staticmethod
    async def watch(database: Database, stream: str, after: int = 0) -> AsyncIterator[Event]:
        """Replays what came after `after`, then goes on live, for ever.

        Own commits arrive at once, those of other replicas within a second.
        """
        with database.notifier.subscribe(stream) as news:
            patience = _POLL_SECONDS
            while True:
                news.clear()
                found = await database.read(partial(read_events, stream=stream, after=after))
                for event in found:
                    yield event
                    after = event.revision
                if found:
                    patience = _POLL_SECONDS
                if len(found) < _PAGE and await _woken(news, patience):
                    # What woke us may still be hidden behind an older transaction.
                    patience = _SETTLE_SECONDS
                else:
                    patience = min(_POLL_SECONDS, patience * 2)


async def _woken(news: asyncio.Event, patience: float) -> bool:
    try:
        await asyncio.wait_for(news.wait(), patience)
    except TimeoutError:
        return False
    return True


def _readable(connection: Connection) -> ColumnElement[bool]:
    return true() if connection.dialect.name == "sqlite" else _settled


def _within(stream: str) -> ColumnElement[bool]:
    if not stream:
        return true()
    # "0" is the character after "/".
    below = and_(events.c.stream > stream + "/", events.c.stream < stream + "0")
    return or_(events.c.stream == stream, below)
