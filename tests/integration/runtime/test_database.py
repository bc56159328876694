"""Transactions: durable, grouped, isolated from each other's errors, and safe to close."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, text

from keeptune.runtime import micros, postgres
from keeptune.runtime.clock import ManualClock
from keeptune.runtime.db import Database, base_metadata, migrate
from keeptune.runtime.errors import (
    FailedPrecondition,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    Unavailable,
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url)
    await database.run(lambda c: c.execute(text("CREATE TABLE t (x INTEGER PRIMARY KEY)")))
    yield database
    await database.close()


def insert(connection: Connection, x: int) -> int:
    connection.execute(text("INSERT INTO t VALUES (:x)"), {"x": x})
    return x


async def all_of(database: Database) -> list[int]:
    return await database.read(lambda c: list(c.scalars(text("SELECT x FROM t ORDER BY x"))))


async def test_results_and_errors_go_to_their_callers(database: Database) -> None:
    def fail(connection: Connection, x: int) -> int:
        insert(connection, x)
        raise NotFound(f"{x}")

    calls = [
        database.run(lambda c, i=i: fail(c, i) if i % 7 == 3 else insert(c, i)) for i in range(60)
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for i, outcome in enumerate(outcomes):
        if i % 7 == 3:
            assert isinstance(outcome, NotFound)
            assert str(outcome) == str(i)
        else:
            assert outcome == i
    assert await all_of(database) == [i for i in range(60) if i % 7 != 3]


async def test_an_error_of_the_engine_fails_its_call_alone(database: Database) -> None:
    def duplicate(connection: Connection) -> None:
        insert(connection, 1)
        insert(connection, 1)

    outcomes = await asyncio.gather(
        database.run(lambda c: insert(c, 5)),
        database.run(duplicate),
        database.run(lambda c: insert(c, 6)),
        return_exceptions=True,
    )
    assert (outcomes[0], outcomes[2]) == (5, 6)
    assert isinstance(outcomes[1], sa.exc.IntegrityError)
    assert await all_of(database) == [5, 6]


async def test_context_and_clock_reach_the_function(tmp_path: Path) -> None:
    clock = ManualClock()
    database = await Database.open(f"sqlite:///{tmp_path / 'x.db'}", clock=clock)
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("mine")
    seen = await database.run(lambda c: (variable.get(), micros.now(c)))
    assert seen == ("mine", micros.of(clock.now()))
    await database.close()


async def test_a_call_given_up_before_its_turn_is_not_run(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path / 'x.db'}")
    started, go_on = threading.Event(), threading.Event()
    ran = []

    def block(_: Connection) -> None:
        started.set()
        go_on.wait(10)

    first = asyncio.create_task(database.run(block))
    await asyncio.to_thread(started.wait)
    given_up = asyncio.create_task(database.run(lambda _: ran.append(1)))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await first
    await database.run(lambda _: None)
    assert ran == []
    await database.close()


async def test_closing_finishes_what_was_asked_and_refuses_the_rest(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    database = await Database.open(url)
    await database.run(lambda c: c.execute(text("CREATE TABLE t (x INTEGER PRIMARY KEY)")))
    waiting = [asyncio.ensure_future(database.run(lambda c, i=i: insert(c, i))) for i in range(40)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*waiting) == list(range(40))
    with pytest.raises(Unavailable):
        await database.run(lambda c: insert(c, 99))
    await database.close()
    again = await Database.open(url)
    assert await all_of(again) == list(range(40))
    await again.close()


async def test_many_calls_share_a_commit(tmp_path: Path) -> None:
    """Counted by the engine's own statements: one COMMIT for all that waited."""
    path = tmp_path / "x.db"
    database = await Database.open(f"sqlite:///{path}")
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    def trace(connection: Connection) -> None:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.set_trace_callback(count)

    await database.run(lambda c: c.execute(text("CREATE TABLE t (x INTEGER PRIMARY KEY)")))
    await database.run(trace)
    await asyncio.gather(*(database.run(lambda c, i=i: insert(c, i)) for i in range(200)))
    assert await all_of(database) == list(range(200))
    assert 1 <= commits < 50
    await database.close()


async def test_sqlite_forces_commits_to_the_disk(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path / 'x.db'}")
    settings = await database.read(
        lambda c: [
            c.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    )
    assert settings == ["wal", 2, 1]
    await database.close()


async def test_one_process_opens_a_file_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    database = await Database.open(url)
    with pytest.raises(FailedPrecondition, match="in use by process"):
        await Database.open(url)
    await database.close()
    await (await Database.open(url)).close()


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "sqlite", ""])
async def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await Database.open(url)
    assert caught.value.field == "database"


async def test_a_password_is_not_shown() -> None:
    with pytest.raises(InvalidInput) as caught:
        await Database.open("mysql://user:secret@host/name")
    assert "secret" not in str(caught.value)


async def test_a_folder_that_is_missing_is_made(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path / 'a' / 'b' / 'x.db'}")
    await database.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(FailedPrecondition, match=r"x\.db"):
        await Database.open(f"sqlite:///{path}")


async def test_an_unreachable_server_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_RECONNECT_SECONDS", 0.3)
    database = await Database.open(f"postgresql://nobody@/x?host={tmp_path}")
    with pytest.raises(Unavailable) as caught:
        await database.run(lambda c: c.execute(text("SELECT 1")))
    assert caught.value.retryable
    await database.close()


@pytest.mark.postgres
async def test_a_broken_connection_is_replaced_and_the_work_done_again(postgres_url: str) -> None:
    database = await Database.open(postgres_url)
    await database.run(lambda c: c.execute(text("CREATE TABLE t (x INTEGER PRIMARY KEY)")))
    attempts = 0

    def break_once(connection: Connection) -> int:
        nonlocal attempts
        attempts += 1
        insert(connection, 1)
        if attempts == 1:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return insert(connection, 2)

    assert await database.run(break_once) == 2
    assert attempts == 2
    assert await all_of(database) == [1, 2]
    await database.close()


@pytest.mark.postgres
async def test_what_was_read_still_holds_at_the_commit(postgres_url: str) -> None:
    """Each adds the sum of what is there, which is right only one after the other."""
    database = await Database.open(postgres_url)
    await database.run(lambda c: c.execute(text("CREATE TABLE t (x INTEGER PRIMARY KEY)")))
    await database.run(lambda c: insert(c, 1))

    def add_sum(connection: Connection) -> None:
        total = connection.scalar(text("SELECT sum(x) FROM t"))
        assert isinstance(total, int)
        insert(connection, total + 1)

    await asyncio.gather(*(database.run(add_sum) for _ in range(6)))
    assert await all_of(database) == [1, 2, 4, 8, 16, 32, 64]
    await database.close()


async def test_a_full_disk_refuses_and_changes_nothing(small_disk: Path) -> None:
    database = await Database.open(f"sqlite:///{small_disk / 'x.db'}")
    await database.run(lambda c: c.execute(text("CREATE TABLE t (x INTEGER, y BLOB)")))
    written = 0

    def fill(connection: Connection) -> None:
        connection.execute(text("INSERT INTO t VALUES (1, randomblob(65536))"))

    async def fill_up() -> None:
        nonlocal written
        for _ in range(1000):
            await database.run(fill)
            written += 1

    with pytest.raises(ResourceExhausted) as caught:
        await fill_up()
    assert caught.value.reason == "DISK_FULL"
    assert "free some space" in caught.value.fix
    count = text("SELECT count(*) FROM t")
    assert await database.read(lambda c: c.scalar(count)) == written
    # Several at once: each is refused for itself, and reading goes on.
    outcomes = await asyncio.gather(
        database.run(fill),
        database.read(lambda c: c.scalar(count)),
        database.run(fill),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], ResourceExhausted)
    assert outcomes[1] == written
    # With space again it goes on by itself.
    (small_disk / "ballast").unlink()
    await database.run(fill)
    assert await database.read(lambda c: c.scalar(count)) == written + 1
    await database.close()


async def test_the_migration_makes_the_tables_the_code_uses(database_url: str) -> None:
    database = await Database.open(database_url)
    await migrate(database)
    await migrate(database)

    def columns(connection: Connection) -> dict[str, dict[str, tuple[str, bool]]]:
        inspector = sa.inspect(connection)
        return {
            table: {
                column["name"]: (str(column["type"]).split(" ")[0], bool(column["nullable"]))
                for column in inspector.get_columns(table)
            }
            for table in base_metadata.tables
        }

    migrated = await database.read(columns)

    def remake(connection: Connection) -> dict[str, dict[str, tuple[str, bool]]]:
        base_metadata.drop_all(connection)
        base_metadata.create_all(connection)
        return columns(connection)

    assert await database.run(remake) == migrated
    await database.close()


async def test_a_service_brings_migrations_of_its_own(database_url: str, tmp_path: Path) -> None:
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions / "0001_things.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        "revision, down_revision, branch_labels, depends_on = '0001', None, None, None\n"
        "def upgrade():\n"
        "    op.create_table('things', sa.Column('x', sa.Integer))\n"
    )
    database = await Database.open(database_url)
    await migrate(database, versions.parent)
    (versions / "0002_more.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        "revision, down_revision, branch_labels, depends_on = '0002', '0001', None, None\n"
        "def upgrade():\n"
        "    op.add_column('things', sa.Column('y', sa.Integer))\n"
    )
    await migrate(database, versions.parent)
    await database.run(lambda c: c.execute(text("INSERT INTO things (x, y) VALUES (1, 2)")))
    await database.close()


async def test_a_migration_that_fails_changes_nothing(database_url: str, tmp_path: Path) -> None:
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions / "0001_broken.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        "revision, down_revision, branch_labels, depends_on = '0001', None, None, None\n"
        "def upgrade():\n"
        "    op.create_table('things', sa.Column('x', sa.Integer))\n"
        "    raise RuntimeError('half way')\n"
    )
    database = await Database.open(database_url)
    with pytest.raises(RuntimeError, match="half way"):
        await migrate(database, versions.parent)
    tables = await database.read(lambda c: sa.inspect(c).get_table_names())
    assert tables == []
    await database.close()
