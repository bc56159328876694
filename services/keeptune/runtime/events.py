"""The log of events: appended in the transaction that causes them, followed by watchers.

An event belongs to a stream, which is the name of a resource; who watches `studies/x` also sees
`studies/x/trials/3`, and the empty stream is all of them. Revisions grow over the whole database,
and a watcher that comes back with the last revision it saw misses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import ColumnElement, Connection, Select, and_, func, insert, or_, select, true

from keeptune.runtime import micros
from keeptune.runtime.db import Database
from keeptune.runtime.notify import touch
from keeptune.runtime.tables import events

_PAGE = 500
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Event:
    """Something that happened to `stream`; `kind` is e.g. `study.created`."""

    revision: int
    stream: str
    kind: str
    time: datetime
    payload: bytes


_append = insert(events).returning(events.c.revision)


def append_event(connection: Connection, stream: str, kind: str, payload: bytes) -> int:
    """Adds an event and tells its revision; watchers see it once the transaction is committed."""
    values = {"stream": stream, "kind": kind, "time": micros.now(connection), "payload": payload}
    revision: int = connection.execute(_append, values).scalar_one()
    touch(stream)
    return revision


def read_events(connection: Connection, stream: str, after: int, limit: int = _PAGE) -> list[Event]:
    """Events of the stream and those below it with a revision above `after`, in order."""
    rows = connection.execute(_after(stream, after).limit(limit))
    return [
        Event(row.revision, row.stream, row.kind, micros.to_datetime(row.time), row.payload)
        for row in rows
    ]


def latest_revision(connection: Connection) -> int:
    """The revision of the newest event; 0 when there is none."""
    return connection.execute(select(func.max(events.c.revision))).scalar_one() or 0


class Events:
    """Following streams."""

    @staticmethod
    async def watch(database: Database, stream: str, after: int = 0) -> AsyncIterator[Event]:
        """Replays what came after `after`, then goes on live, for ever.

        Own commits arrive at once, those of other replicas within a second.
        """
        with database.notifier.subscribe(stream) as news:
            while True:
                news.clear()
                found = await database.read(partial(read_events, stream=stream, after=after))
                for event in found:
                    yield event
                    after = event.revision
                if len(found) < _PAGE:
                    await _wait(news)


async def _wait(news: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(news.wait(), _POLL_SECONDS)
    except TimeoutError:
        return


def _after(stream: str, after: int) -> Select[tuple[int, str, str, int, bytes]]:
    return (
        select(events.c.revision, events.c.stream, events.c.kind, events.c.time, events.c.payload)
        .where(events.c.revision > after, _within(stream))
        .order_by(events.c.revision)
    )


def _within(stream: str) -> ColumnElement[bool]:
    if not stream:
        return true()
    # "0" is the character after "/".
    below = and_(events.c.stream > stream + "/", events.c.stream < stream + "0")
    return or_(events.c.stream == stream, below)
