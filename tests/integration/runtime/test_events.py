"""Watchers see every event, in order, whenever they come and however they come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import pytest
from sqlalchemy import Connection, text, update

from keeptune.runtime.db import Database, migrate
from keeptune.runtime.errors import InvalidInput
from keeptune.runtime.events import Event, Events, append_event, compact, latest_revision
from keeptune.runtime.records import Records
from keeptune.runtime.tables import events


@dataclass(frozen=True)
class Note:
    text: str


NOTES = Records("note", Note)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url)
    await migrate(database)
    yield database
    await database.close()


async def add(database: Database, stream: str, payload: bytes = b"") -> int:
    return await database.run(lambda c: append_event(c, stream, "test", payload))


async def take(
    database: Database, count: int, *, stream: str = "", after: int = 0, seconds: float = 5.0
) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(seconds):
        async for event in Events.watch(database, stream, after):
            found.append(event)
            if len(found) == count:
                break
    return found


async def nothing_more(database: Database, stream: str, after: int) -> bool:
    try:
        await take(database, 1, stream=stream, after=after, seconds=0.1)
    except TimeoutError:
        return True
    return False


async def test_old_states_that_were_overtaken_go_and_all_else_stays(database: Database) -> None:
    for name in ("notes/a", "notes/b"):
        await database.run(lambda c, name=name: NOTES.create(c, name, Note("0")))  # type: ignore[misc]
    for number in range(1200):
        await database.run(lambda c, n=str(number): NOTES.put(c, "notes/a", Note(n)))  # type: ignore[misc]
    said = await add(database, "notes/a", b"said once")
    week = 7 * 24 * 3600 * 1_000_000

    def grow_old(c: Connection) -> None:
        c.execute(update(events).values(time=events.c.time - week - 1))

    await database.run(grow_old)
    await database.run(lambda c: NOTES.put(c, "notes/a", Note("young")))
    await database.run(lambda c: NOTES.put(c, "notes/a", Note("newest")))
    seen: int | None = 0
    rounds = 0
    while seen is not None:
        seen = await database.run(partial(compact, after=seen))
        rounds += 1
    assert rounds == 2
    left = await take(database, 4)
    assert left[1].revision == said
    assert [(e.stream, e.kind) for e in left] == [
        ("notes/b", "note.created"),
        ("notes/a", "test"),
        ("notes/a", "note.updated"),
        ("notes/a", "note.updated"),
    ]
    assert NOTES.from_event(left[-1]).doc == Note("newest")
    assert await nothing_more(database, "", left[-1].revision)


async def test_what_was_missed_is_replayed_in_order(database: Database) -> None:
    revisions = [await add(database, "notes/x", str(i).encode()) for i in range(5)]
    assert revisions == sorted(set(revisions))
    found = await take(database, 5)
    assert [event.revision for event in found] == revisions
    assert [event.payload for event in found] == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_watch_resumes_after_the_last_revision_seen(database: Database) -> None:
    revisions = [await add(database, "notes/x") for _ in range(6)]
    assert [e.revision for e in await take(database, 3, after=revisions[2])] == revisions[3:]
    assert await nothing_more(database, "", revisions[-1])
    assert await database.read(latest_revision) == revisions[-1]


async def test_long_histories_are_replayed_whole(database: Database) -> None:
    def many(connection: Connection) -> None:
        for i in range(1203):
            append_event(connection, "notes/x", "test", str(i).encode())

    await database.run(many)
    found = await take(database, 1203)
    assert [int(event.payload) for event in found] == list(range(1203))


async def test_new_events_arrive_at_once(database: Database) -> None:
    watch = Events.watch(database, "notes/x", 0)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    began = time.monotonic()
    await add(database, "notes/x")
    await asyncio.wait_for(waiting, 5)
    assert time.monotonic() - began < 0.5
    await watch.aclose()  # type: ignore[attr-defined]


async def test_a_stream_has_its_own_events_and_those_below(database: Database) -> None:
    for stream in ("notes/x", "notes/xy", "notes/x/parts/1", "notes", "notes/x-1", "notes/X/a"):
        await add(database, stream)
    found = await take(database, 2, stream="notes/x")
    assert [event.stream for event in found] == ["notes/x", "notes/x/parts/1"]
    assert await nothing_more(database, "notes/x", found[-1].revision)
    assert len(await take(database, 6, stream="notes")) == 6


async def test_records_tell_their_history(database: Database) -> None:
    created = await database.run(
        lambda c: NOTES.create(c, "notes/x", Note("one"), parent="p", labels={"k": "v"})
    )
    changed = await database.run(lambda c: NOTES.put(c, "notes/x", Note("two"), state="DONE"))
    await database.run(lambda c: NOTES.delete(c, "notes/x"))
    history = await take(database, 3, stream="notes/x")
    assert [event.kind for event in history] == ["note.created", "note.updated", "note.deleted"]
    assert NOTES.from_event(history[0]) == created
    assert NOTES.from_event(history[1]) == changed
    assert NOTES.from_event(history[2]).doc == Note("two")


async def test_what_was_undone_is_never_seen(database: Database) -> None:
    def failing(connection: Connection) -> None:
        append_event(connection, "notes/x", "test", b"undone")
        raise InvalidInput(field="x", problem="is wrong")

    await add(database, "notes/x", b"first")
    with pytest.raises(InvalidInput):
        await database.run(failing)
    await add(database, "notes/x", b"second")
    assert [event.payload for event in await take(database, 2)] == [b"first", b"second"]


async def test_nothing_is_missed_while_many_write(database: Database) -> None:
    """Watchers follow from the start; each sees every event once, in growing order."""
    writers, each = 12, 15

    async def write(number: int) -> None:
        for i in range(each):
            await add(database, f"notes/{number}", str(i).encode())

    watchers = [asyncio.create_task(take(database, writers * each, seconds=30)) for _ in range(3)]
    await asyncio.gather(*(write(number) for number in range(writers)))
    for found in await asyncio.gather(*watchers):
        revisions = [event.revision for event in found]
        assert revisions == sorted(set(revisions))
        for number in range(writers):
            mine = [int(e.payload) for e in found if e.stream == f"notes/{number}"]
            assert mine == list(range(each))


@pytest.mark.postgres
async def test_an_event_committed_late_is_not_overtaken(postgres_url: str) -> None:
    """The transaction that began first commits last; its event must still be delivered."""
    database = await Database.open(postgres_url)
    await migrate(database)
    slow_began, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(connection: Connection) -> None:
        append_event(connection, "notes/slow", "test", b"")
        loop.call_soon_threadsafe(slow_began.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)

    late = asyncio.create_task(database.run(slow))
    await slow_began.wait()
    await add(database, "notes/fast")
    assert await nothing_more(database, "notes", 0)
    go_on.set()
    await late
    found = await take(database, 2, stream="notes")
    assert [event.stream for event in found] == ["notes/slow", "notes/fast"]
    await database.close()


@pytest.mark.postgres
async def test_replicas_see_each_other(postgres_url: str) -> None:
    one, other = await Database.open(postgres_url), await Database.open(postgres_url)
    await asyncio.gather(migrate(one), migrate(other))
    waiting = asyncio.create_task(take(other, 1, seconds=5))
    await asyncio.sleep(0.1)
    revision = await add(one, "notes/x")
    assert (await waiting)[0].revision == revision
    await one.close()
    await other.close()


@pytest.mark.postgres
async def test_revisions_grow_on_a_server_whose_transactions_count_from_less(
    postgres_url: str,
) -> None:
    """As when a backup of a busy server is restored on a fresh one."""
    database = await Database.open(postgres_url)
    await migrate(database)
    old = await add(database, "notes/x")

    def age(connection: Connection) -> None:
        connection.execute(update(events).values(revision=events.c.revision + (1 << 50)))
        connection.execute(text("SELECT 1"))

    await database.run(age)
    old += 1 << 50
    await migrate(database)
    new = await add(database, "notes/x")
    assert new > old
    assert [event.revision for event in await take(database, 1, after=old)] == [new]
    await database.close()
