"""Brings a database to the newest schema: the runtime's own tables, then the service's.

A service keeps its revisions in `<service package>/migrations/versions/`; it needs no `env.py`.
Services whose resources are all records need no migrations of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from keeptune.runtime import events

if TYPE_CHECKING:
    from keeptune.runtime.db import Database

log = structlog.get_logger()

_ADVISORY_LOCK = 0x6B656570_74756E65


async def migrate(database: Database, location: Path | None = None) -> None:
    """Upgrades to head, in one transaction; replicas that start together take turns.

    `location` is the service's migrations folder. Safe to repeat.
    """
    if database.server:
        log.info("connecting to the database", at=database.server)
    await database.run_in_turn(lambda connection: _migrate(connection, location))
    database.start_housekeeping()


def _migrate(connection: Connection, location: Path | None) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    _upgrade(connection, Path(__file__).parent, "alembic_version_runtime")
    events.lift_epoch(connection)
    if location is not None:
        _upgrade(connection, location, "alembic_version")


def _upgrade(connection: Connection, location: Path, version_table: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(location).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)

    def steps(revision: Any, _: Any) -> Any:
        return script._upgrade_revs("head", revision)

    with EnvironmentContext(config, script, fn=steps, destination_rev="head") as environment:
        environment.configure(connection=connection, version_table=version_table)
        with environment.begin_transaction():
            environment.run_migrations()
