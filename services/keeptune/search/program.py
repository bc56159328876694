"""The wiring of the search service."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection

from keeptune.runtime.auth import Role
from keeptune.runtime.db import Database, migrate
from keeptune.runtime.errors import NotFound
from keeptune.runtime.server import Program
from keeptune.runtime.tasks import every
from keeptune.search import sql_store
from keeptune.search.hot import HotStudies
from keeptune.search.model import DEFAULT_LEASE
from keeptune.search.servicer import SearchServicer
from keeptune.search.unit_of_work import UnitOfWork
from keeptune.v1 import search_pb2_grpc

if TYPE_CHECKING:
    from keeptune.runtime.server import Context
    from keeptune.search.config import SearchSettings

log = structlog.get_logger()

_WORKER_CALLS = ("SuggestTrials", "ReportMeasurements", "CompleteTrial", "WorkTrials")
# Time for workers to come back after the service was away: nobody could renew a lease.
_GRACE = min(DEFAULT_LEASE, timedelta(seconds=30))


async def build(settings: SearchSettings, context: Context) -> Program:
    """Opens the database and prolongs the leases that ran on while the service was away."""
    url = settings.database or f"sqlite:///{context.data_dir / 'search.db'}"
    database = await Database.open(url, clock=context.clock)
    await migrate(database, Path(__file__).parent / "migrations")
    until = context.clock.now() + _GRACE
    await database.run(lambda connection: sql_store.extend_leases(connection, until))
    executor = ThreadPoolExecutor(settings.suggest_threads, thread_name_prefix="suggest")
    hot = HotStudies(database, executor, settings.hot_studies)

    async def sweep_leases() -> None:
        await every(
            context.clock, settings.sweep_seconds, lambda: sweep(database), name="sweep_leases"
        )

    async def close() -> None:
        await hot.close()
        await asyncio.to_thread(executor.shutdown, cancel_futures=True)
        await database.close()

    return Program(
        name="search",
        servicers=[
            (
                search_pb2_grpc.add_SearchServiceServicer_to_server,
                SearchServicer(database, hot, executor, context.rng),
                "keeptune.v1.SearchService",
            )
        ],
        background=[sweep_leases],
        close=close,
        grants={Role.WORKER: _WORKER_CALLS},
    )


async def sweep(database: Database) -> None:
    """Takes trials from silent workers and ends studies whose time is up."""
    now = database.clock.now()
    for study in await database.read(lambda c: sql_store.overdue_studies(c, now)):
        try:
            await database.run(partial(_sweep, study=study))
        except NotFound:
            log.info("a study was deleted while it was swept", study=study)


def _sweep(connection: Connection, study: str) -> None:
    work = UnitOfWork.begin(connection, study)
    work.lose_expired_leases()
    work.finish()
    sql_store.clear_deadline(connection, study, work.now)
