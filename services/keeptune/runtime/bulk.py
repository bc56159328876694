"""One statement for many rows, compiled once.

    add_trials = Bulk(insert(trials))
    add_trials(connection, [(...), (...)])    # values in the order of `add_trials.names`

SQLAlchemy looks at every value of every row that it is given; at some thousand rows a second that
costs more than the database. Here rows go to the driver as they are, so that they must hold what
the driver takes: integers, floats, text, bytes and None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Insert, Update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

_DIALECTS: dict[str, Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="qmark"),
    "postgresql": postgresql.psycopg.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]
}


class Bulk:
    """An INSERT or UPDATE; `columns` are those that get a value, by default all of the table."""

    def __init__(self, statement: Insert | Update, columns: Sequence[str] = ()) -> None:
        keys = list(columns) or [column.name for column in statement.table.columns]
        self.names: tuple[str, ...] = ()
        self._sql: dict[str, str] = {}
        for name, dialect in _DIALECTS.items():
            compiled = statement.compile(dialect=dialect, column_keys=keys)
            self._sql[name] = str(compiled)
            names = tuple(getattr(compiled, "positiontup", None) or ())
            assert self.names in ((), names)
            self.names = names

    def __call__(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            connection.exec_driver_sql(self._sql[connection.dialect.name], list(rows))
