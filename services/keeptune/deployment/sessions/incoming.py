"""What an agent's messages do. Each is on the disk before the next is read."""

from __future__ import annotations

from sqlalchemy import Connection

from keeptune.deployment.convert_fleet import report_from_proto, signal_from_proto
from keeptune.deployment.fleet import OrderState
from keeptune.deployment.sql_store import hosts, orders
from keeptune.runtime.db import Database
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import deployment_pb2

_STATES = {
    deployment_pb2.ORDER_STATE_DONE: OrderState.DONE,
    deployment_pb2.ORDER_STATE_FAILED: OrderState.FAILED,
}


async def greet(
    database: Database, host: str, session: str, hello: deployment_pb2.AgentHello
) -> None:
    """Makes the session the host's live one, and settles what it answered while it was away."""
    report = report_from_proto(hello)

    def work(connection: Connection) -> None:
        hosts.begin_session(connection, host, session, report, hello.last_sequence)
        orders.answered_up_to(connection, host, hello.last_sequence)
        # An older link of this host in this process looks, and ends.
        orders.announce(host)

    await database.run(work)


async def take(
    database: Database,
    host: str,
    session: str,
    message: deployment_pb2.AgentMessage,
    *,
    keep_signals: int,
) -> None:
    """Raises Conflict when a newer session of the host has taken over."""

    def work(connection: Connection) -> None:
        report = report_from_proto(message.report) if message.HasField("report") else None
        hosts.take_report(connection, host, session, report)
        match message.WhichOneof("message"):
            case "order_result":
                _take_result(connection, host, message.order_result)
            case "signal":
                note = signal_from_proto(message.signal, host)
                hosts.take_signal(connection, host, note, keep_signals)
            case "hello":
                raise InvalidInput(
                    field="hello", problem="came a second time", fix="open a new stream"
                )

    await database.run(work)


def _take_result(connection: Connection, host: str, result: deployment_pb2.OrderResult) -> None:
    state = _STATES.get(result.state)
    if state is None:
        raise InvalidInput(
            field="order_result.state", problem="is not set", fix="say DONE or FAILED"
        )
    orders.answer(connection, host, result.order_id, state, result.reason)
