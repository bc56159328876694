"""Records behave alike on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum

import pytest
from sqlalchemy import Connection

from keeptune.runtime.clock import ManualClock
from keeptune.runtime.db import Database, migrate
from keeptune.runtime.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from keeptune.runtime.records import Records

START = datetime(2026, 1, 1, tzinfo=UTC)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Paint:
    colour: Colour
    litres: float = 1.0
    shelf: int | None = None
    tags: tuple[str, ...] = field(default_factory=tuple)


PAINTS = Records(
    "paint",
    Paint,
    columns={
        "colour": lambda paint: paint.colour.value,
        "litres": lambda paint: paint.litres,
        "shelf": lambda paint: paint.shelf,
    },
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
async def database(database_url: str, clock: ManualClock) -> AsyncIterator[Database]:
    database = await Database.open(database_url, clock=clock)
    await migrate(database)
    yield database
    await database.close()


async def test_what_is_created_is_found(database: Database) -> None:
    paint = Paint(Colour.RED, 2.5, 3, ("a", "b"))
    created = await database.run(
        lambda c: PAINTS.create(c, "paints/x", paint, parent="s", state="OPEN", labels={"k": "v"})
    )
    found = await database.read(lambda c: PAINTS.get(c, "paints/x"))
    assert found == created
    assert found.doc == paint
    assert (found.state, found.parent, found.labels) == ("OPEN", "s", {"k": "v"})
    assert found.create_time == found.update_time == START
    assert found.etag


async def test_a_name_is_given_once(database: Database) -> None:
    paint = Paint(Colour.RED)
    await database.run(lambda c: PAINTS.create(c, "paints/x", paint))
    with pytest.raises(AlreadyExists, match="paints/x exists already"):
        await database.run(lambda c: PAINTS.create(c, "paints/x", paint))


async def test_creating_at_the_same_moment_gives_one_winner(database: Database) -> None:
    outcomes = await asyncio.gather(
        *(
            database.run(lambda c, i=i: PAINTS.create(c, "paints/x", Paint(Colour.RED, i)))
            for i in range(6)
        ),
        return_exceptions=True,
    )
    losers = [each for each in outcomes if isinstance(each, BaseException)]
    assert len(losers) == 5
    assert all(isinstance(each, AlreadyExists) for each in losers), losers


async def test_an_unknown_name_is_not_found(database: Database) -> None:
    assert await database.read(lambda c: PAINTS.find(c, "paints/x")) is None
    for attempt in (
        lambda c: PAINTS.get(c, "paints/x"),
        lambda c: PAINTS.put(c, "paints/x", Paint(Colour.RED)),
        lambda c: PAINTS.delete(c, "paints/x"),
    ):
        with pytest.raises(NotFound):
            await database.run(attempt)


async def test_kinds_do_not_see_each_other(database: Database) -> None:
    other = Records("brush", Paint)
    await database.run(lambda c: PAINTS.create(c, "paints/x", Paint(Colour.RED)))
    assert await database.read(lambda c: other.find(c, "paints/x")) is None
    assert (await database.read(lambda c: other.list(c))).items == ()


async def test_a_put_changes_what_it_names_and_keeps_the_rest(
    database: Database, clock: ManualClock
) -> None:
    created = await database.run(
        lambda c: PAINTS.create(c, "paints/x", Paint(Colour.RED), state="OPEN", labels={"k": "v"})
    )
    clock.advance(60)
    changed = await database.run(lambda c: PAINTS.put(c, "paints/x", Paint(Colour.BLUE)))
    assert changed.doc == Paint(Colour.BLUE)
    assert (changed.state, changed.labels) == ("OPEN", {"k": "v"})
    assert changed.create_time == START
    assert changed.update_time == START + timedelta(seconds=60)
    assert changed.revision > created.revision
    assert changed.etag != created.etag
    emptied = await database.run(
        lambda c: PAINTS.put(c, "paints/x", changed.doc, state="EMPTY", labels={})
    )
    assert (emptied.state, emptied.labels) == ("EMPTY", {})
    assert await database.read(lambda c: PAINTS.get(c, "paints/x")) == emptied


async def test_a_stale_etag_is_a_conflict_and_changes_nothing(database: Database) -> None:
    first = await database.run(lambda c: PAINTS.create(c, "paints/x", Paint(Colour.RED)))
    second = await database.run(
        lambda c: PAINTS.put(c, "paints/x", Paint(Colour.BLUE), etag=first.etag)
    )
    for attempt in (
        lambda c: PAINTS.put(c, "paints/x", Paint(Colour.RED, 9), etag=first.etag),
        lambda c: PAINTS.delete(c, "paints/x", etag=first.etag),
    ):
        with pytest.raises(Conflict) as caught:
            await database.run(attempt)
        assert caught.value.metadata["etag"] == second.etag
    assert await database.read(lambda c: PAINTS.get(c, "paints/x")) == second
    await database.run(lambda c: PAINTS.delete(c, "paints/x", etag=second.etag))
    assert await database.read(lambda c: PAINTS.find(c, "paints/x")) is None


async def test_reading_and_writing_in_one_transaction_loses_no_update(database: Database) -> None:
    await database.run(lambda c: PAINTS.create(c, "paints/x", Paint(Colour.RED, litres=0)))

    def fill_up(connection: Connection) -> None:
        paint = PAINTS.get(connection, "paints/x").doc
        PAINTS.put(connection, "paints/x", replace(paint, litres=paint.litres + 1))

    await asyncio.gather(*(database.run(fill_up) for _ in range(25)))
    assert (await database.read(lambda c: PAINTS.get(c, "paints/x"))).doc.litres == 25


async def test_an_error_undoes_the_whole_transaction(database: Database) -> None:
    def half(connection: Connection) -> None:
        PAINTS.create(connection, "paints/x", Paint(Colour.RED))
        raise InvalidInput(field="x", problem="is wrong")

    with pytest.raises(InvalidInput):
        await database.run(half)
    assert await database.read(lambda c: PAINTS.find(c, "paints/x")) is None


async def test_a_page_is_not_shifted_by_what_is_added_or_deleted(database: Database) -> None:
    for i in range(10):
        await database.run(lambda c, i=i: PAINTS.create(c, f"paints/p{i}", Paint(Colour.RED)))
    first = await database.read(lambda c: PAINTS.list(c, order_by="name", page_size=4))
    await database.run(lambda c: PAINTS.delete(c, "paints/p1"))
    await database.run(lambda c: PAINTS.create(c, "paints/a", Paint(Colour.RED)))
    rest = await database.read(
        lambda c: PAINTS.list(c, order_by="name", page_token=first.next_page_token)
    )
    assert [record.name[-1] for record in rest.items] == list("456789")


async def test_a_page_has_at_most_a_thousand(database: Database) -> None:
    def create(connection: Connection) -> None:
        for i in range(1001):
            PAINTS.create(connection, f"paints/{i:04}", Paint(Colour.RED))

    await database.run(create)
    huge = await database.read(lambda c: PAINTS.list(c, page_size=1_000_000))
    usual = await database.read(lambda c: PAINTS.list(c))
    assert (len(huge.items), len(usual.items)) == (1000, 50)
    rest = await database.read(
        lambda c: PAINTS.list(c, page_size=1000, page_token=huge.next_page_token)
    )
    assert [record.name for record in rest.items] == ["paints/1000"]


async def test_a_label_key_of_the_wrong_form_is_refused(database: Database) -> None:
    with pytest.raises(InvalidInput, match="labels"):
        await database.run(
            lambda c: PAINTS.create(c, "paints/x", Paint(Colour.RED), labels={"a b": "c"})
        )
