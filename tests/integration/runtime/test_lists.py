"""Lists: filters, orders and pages, alike on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from sqlalchemy import Connection

from keeptune.runtime.clock import ManualClock
from keeptune.runtime.db import Database, migrate
from keeptune.runtime.errors import InvalidInput
from keeptune.runtime.records import Records
from tests.fixtures.postgres import empty_database

# All tests here only read, so that they share one database an engine.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Paint:
    colour: str
    litres: float
    shelf: int | None


PAINTS = Records(
    "paint",
    Paint,
    columns={
        "colour": lambda paint: paint.colour,
        "litres": lambda paint: paint.litres,
        "shelf": lambda paint: paint.shelf,
    },
)


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)],
)
async def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Database]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('lists') / 'test.db'}"
        else:
            server = request.getfixturevalue("postgres_server")
            url = stack.enter_context(empty_database(server))
        clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        database = await Database.open(url, clock=clock)
        await migrate(database)
        await fill(database, clock)
        yield database
        await database.close()


async def fill(database: Database, clock: ManualClock, count: int = 10) -> None:
    """Every second is blue, every third has no shelf, one a second, two states."""

    def create(connection: Connection, i: int) -> None:
        PAINTS.create(
            connection,
            f"paints/p{i}",
            Paint(
                "blue" if i % 2 else "red",
                litres=i * 0.5,
                shelf=None if i % 3 == 0 else i % 4,
            ),
            parent="stores/a" if i < 5 else "stores/b",
            state="OPEN" if i % 4 else "EMPTY",
            labels={"lot": str(i % 3)} if i % 5 else {},
        )

    for i in range(count):
        await database.run(lambda connection, i=i: create(connection, i))
        clock.advance(1)


async def names(database: Database, **arguments: object) -> list[str]:
    page = await database.read(
        lambda connection: PAINTS.list(connection, **arguments)  # type: ignore[arg-type]
    )
    assert not page.next_page_token
    return [record.name.removeprefix("paints/") for record in page.items]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("", "0123456789"),
        ('name = "paints/p3"', "3"),
        ("state = EMPTY", "048"),
        ('state != "EMPTY" AND colour = blue', "13579"),
        ("litres > 2 AND litres <= 4", "5678"),
        ("litres >= 4.5", "9"),
        ("colour = red OR litres > 4", "024689"),
        ("state = EMPTY AND colour = red OR colour = blue", "048"),
        ("(state = EMPTY AND litres < 1) OR litres = 4.5", "09"),
        ("NOT colour = red", "13579"),
        ("labels.lot = 1", "147"),
        ('labels.lot != "1"', "0235689"),
        ("labels.lot:*", "12346789"),
        ("shelf = 1", "15"),
        ("shelf != 1", "02346789"),
        ("NOT shelf:*", "0369"),
        ('create_time < "2026-01-01T00:00:02Z"', "01"),
        ("create_time >= '2026-01-01T01:00:08+01:00'", "89"),
        ('parent = "stores/b"', "56789"),
        ("litres = blue", ""),
    ],
)
async def test_filters(database: Database, condition: str, expected: str) -> None:
    assert "".join(name[1] for name in await names(database, filter=condition)) == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("", "0123456789"),
        ("create_time desc", "9876543210"),
        ("colour, litres desc", "9753186420"),
        ("state, name desc", "8409765321"),
        ("shelf, name", "0369" + "48" + "15" + "2" + "7"),
        ("shelf desc, name", "7" + "2" + "15" + "48" + "0369"),
        ("labels.lot desc, name", "28" + "147" + "369" + "05"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 10, 1000])
async def test_orders_and_pages(database: Database, order: str, expected: str, size: int) -> None:
    found = ""
    token = ""
    pages = 0
    while True:
        page = await database.read(
            lambda c, token=token: PAINTS.list(c, order_by=order, page_size=size, page_token=token)
        )
        assert len(page.items) <= size
        found += "".join(record.name[-1] for record in page.items)
        pages += 1
        token = page.next_page_token
        if not token:
            break
    assert found == expected
    assert pages == -(-10 // size)


async def test_parent_and_states_restrict(database: Database) -> None:
    assert await names(database, parent="stores/a", states={"EMPTY"}) == ["p0", "p4"]
    assert await names(database, states=()) == []


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"filter": "nonsense = 1"}, "filter"),
        ({"filter": "litres >"}, "filter"),
        ({"filter": "create_time > yesterday"}, "filter"),
        ({"order_by": "nonsense"}, "order_by"),
        ({"order_by": "name upwards"}, "order_by"),
        ({"page_size": -1}, "page_size"),
        ({"page_token": "nonsense"}, "page_token"),
        ({"page_token": "!!!"}, "page_token"),
        ({"page_token": "e30="}, "page_token"),
    ],
)
async def test_wrong_arguments_name_their_field(
    database: Database, arguments: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await names(database, **arguments)
    assert caught.value.field == field
    assert caught.value.fix


async def test_a_token_belongs_to_its_filter_and_order(
    database: Database,
) -> None:
    page = await database.read(lambda c: PAINTS.list(c, filter="colour = red", page_size=2))
    for arguments in (
        {"filter": "colour = blue"},
        {"filter": "colour = red", "order_by": "name"},
        {"filter": "colour = red", "parent": "stores/a"},
    ):
        with pytest.raises(InvalidInput, match="page_token"):
            await names(database, page_token=page.next_page_token, **arguments)
