"""One live link to an agent: what the host is ordered goes out, what it says comes in.

Orders stand in the database before they are sent, and go out again on the next link until they are
answered; so a link may break at any moment. A host has one link: the newest. On several replicas
the database says which that is, and an older one notices within a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog
from sqlalchemy import Connection

from keeptune.deployment.sessions import incoming
from keeptune.deployment.sql_store import hosts, orders
from keeptune.runtime import names
from keeptune.runtime.clock import Clock
from keeptune.runtime.convert import to_timestamp
from keeptune.runtime.db import Database
from keeptune.v1 import deployment_pb2

log = structlog.get_logger()

_POLL_SECONDS = 1.0
_Messages = AsyncIterator[deployment_pb2.AgentMessage]


class Links:
    """The links that this process holds. `wake` is called when hosts have news."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        keep_signals: int,
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._keep_signals = keep_signals
        self._wake = wake

    async def serve(
        self, host: str, hello: deployment_pb2.AgentHello, messages: _Messages
    ) -> AsyncIterator[deployment_pb2.ServerMessage]:
        """What to send, until the agent ends the stream.

        Raises Conflict when a newer session of the host takes over.
        """
        session = names.new_id()
        with self._database.notifier.subscribe(orders.stream(host)) as news:
            await incoming.greet(self._database, host, session, hello)
            self._wake()
            log.info("host connected", host=host, session=session)
            yield deployment_pb2.ServerMessage(
                welcome=deployment_pb2.Welcome(server_time=to_timestamp(self._clock.now()))
            )
            reading = asyncio.create_task(self._read(host, session, messages))
            try:
                async for order in self._orders(host, session, news, reading):
                    yield deployment_pb2.ServerMessage(order=order)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                log.info("host disconnected", host=host, session=session)

    async def _read(self, host: str, session: str, messages: _Messages) -> None:
        last = deployment_pb2.HostReport()
        async for message in messages:
            await incoming.take(
                self._database, host, session, message, keep_signals=self._keep_signals
            )
            if not message.HasField("report"):
                self._wake()
            elif (standing := _standing(message.report)) != last:
                last = standing
                self._wake()

    async def _orders(
        self, host: str, session: str, news: asyncio.Event, reading: asyncio.Task[None]
    ) -> AsyncIterator[deployment_pb2.Order]:
        """Orders as they are given, each once a link, until `reading` ends."""
        sent = 0

        def look(connection: Connection) -> tuple[bool, list[tuple[int, bytes]]]:
            live = hosts.is_live(connection, host, session)
            return live, orders.pending(connection, host, sent)

        while True:
            news.clear()
            live, found = await self._database.read(look)
            if not live:
                raise hosts.replaced(host)
            for sequence, payload in found:
                yield deployment_pb2.Order.FromString(payload)
                sent = sequence
            if reading.done():
                reading.result()
                return
            await _first(news, reading)


async def _first(news: asyncio.Event, reading: asyncio.Task[None]) -> None:
    """Waits for news or the end of reading, and no longer than a second."""
    waiting = asyncio.ensure_future(news.wait())
    try:
        await asyncio.wait(
            [waiting, reading], timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        waiting.cancel()


def _standing(report: deployment_pb2.HostReport) -> deployment_pb2.HostReport:
    """A report without what only counts: when it is the same, nothing has happened."""
    standing = deployment_pb2.HostReport()
    standing.CopyFrom(report)
    standing.info.ClearField("agent_rss_bytes")
    for model in standing.models:
        model.ClearField("statistics")
    return standing
