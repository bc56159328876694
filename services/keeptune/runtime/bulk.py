"""Statements of the hottest paths, compiled once.

    add_trials = Bulk(insert(trials))
    add_trials(connection, [(...), (...)])    # values in the order of `add_trials.names`

SQLAlchemy looks at every value of every row that it is given; at some thousand rows a second that
costs more than the database. Here values go to the driver as they are, and come from it as they
are, so that they must be what both drivers know: integers, floats, text, bytes and None.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Insert, Select, Update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

_DIALECTS: dict[str, Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="qmark"),
    "postgresql": postgresql.psycopg.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]
}

# 20 columns of these are below what SQLite takes, of 32766 parameters.
_MOST_ROWS = 256


class _Compiled:
    def __init__(
        self, statement: Insert | Update | Select[Any], columns: Sequence[str] | None
    ) -> None:
        self.names: tuple[str, ...] = ()
        self._sql: dict[str, str] = {}
        for name, dialect in _DIALECTS.items():
            compiled = statement.compile(dialect=dialect, column_keys=columns)
            self._sql[name] = str(compiled)
            names = tuple(getattr(compiled, "positiontup", None) or ())
            assert self.names in ((), names)
            self.names = names


class Query(_Compiled):
    """A SELECT; values are given in the order of `names`."""

    def __init__(self, statement: Select[Any]) -> None:
        super().__init__(statement, None)

    def __call__(self, connection: Connection, *values: Any) -> list[tuple[Any, ...]]:
        found = connection.exec_driver_sql(self._sql[connection.dialect.name], values)
        return [tuple(row) for row in found]


class Bulk(_Compiled):
    """An INSERT or UPDATE; `columns` are those that get a value, by default all of the table."""

    def __init__(self, statement: Insert | Update, columns: Sequence[str] = ()) -> None:
        super().__init__(statement, columns or [each.name for each in statement.table.columns])
        self._inserts = isinstance(statement, Insert)

    def __call__(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        sql = self._sql[connection.dialect.name]
        if not self._inserts:
            if rows:
                connection.exec_driver_sql(sql, list(rows))
            return
        # Many rows in one statement, of few sizes so that each is prepared once. Also on SQLite:
        # each step of one hands Python's lock to another thread and waits to get it back.
        start = 0
        while start < len(rows):
            count = min(_MOST_ROWS, 1 << ((len(rows) - start).bit_length() - 1))
            values = tuple(chain.from_iterable(rows[start : start + count]))
            connection.exec_driver_sql(_repeated(sql, count), values)
            start += count


@cache
def _repeated(sql: str, count: int) -> str:
    """An INSERT of one row as one of `count` rows."""
    head, _, row = sql.partition(" VALUES ")
    return f"{head} VALUES {', '.join([row] * count)}"


@contextmanager
def sent_together(connection: Connection) -> Iterator[None]:
    """Writes inside the block do not wait for each other's answers on PostgreSQL.

    An error of one of them is raised at the end of the block at the latest.
    """
    if connection.dialect.name == "sqlite":
        yield
        return
    import psycopg  # installed where PostgreSQL is used

    raw: Any = connection.connection.driver_connection
    try:
        with raw.pipeline():
            yield
    except psycopg.Error as error:
        raise DBAPIError.instance(
            "some statements sent together",
            None,
            error,
            psycopg.Error,
            connection_invalidated=raw.closed,
            dialect=connection.dialect,
        ) from error
