"""The orders given to hosts: written down before they are sent, kept until answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from sqlalchemy import Connection, Row, func, insert, select, update

from keeptune.deployment.fleet import Order, OrderKind, OrderState
from keeptune.deployment.sql_store.tables import grants, orders, reports
from keeptune.runtime import micros, names
from keeptune.runtime.notify import touch

_PENDING = orders.c.state == OrderState.PENDING
_BRINGS_IN = orders.c.kind.in_((OrderKind.STAGE, OrderKind.PROMOTE))


def stream(host: str) -> str:
    """What is touched when a host gets an order."""
    return f"{host}/orders"


def announce(host: str) -> None:
    """Makes the links of a host look, once the transaction is over."""
    touch(stream(host))


def give(
    connection: Connection,
    *,
    host: str,
    model: str,
    kind: OrderKind,
    version: str,
    rollout: str,
    attempts: int,
    monitoring: str,
    artifacts: Iterable[str],
    payload: Callable[[str, int], bytes],
) -> None:
    """Writes an order down; `payload` makes its message from its id and sequence.

    What was ordered before about the same model and is not answered yet is superseded: one thing
    at a time, the newest.
    """
    about_monitoring = orders.c.kind == OrderKind.CONFIGURE
    same_matter = about_monitoring if kind is OrderKind.CONFIGURE else ~about_monitoring
    now = micros.now(connection)
    connection.execute(
        update(orders)
        .where(orders.c.host == host, orders.c.model == model, _PENDING, same_matter)
        .values(state=OrderState.SUPERSEDED, end_time=now)
    )
    sequence: int = connection.execute(
        update(reports)
        .where(reports.c.host == host)
        .values(sequence=reports.c.sequence + 1)
        .returning(reports.c.sequence)
    ).scalar_one()
    order_id = names.new_id()
    connection.execute(
        insert(orders).values(
            id=order_id,
            host=host,
            sequence=sequence,
            model=model,
            kind=kind,
            version=version,
            rollout=rollout,
            state=OrderState.PENDING,
            reason="",
            attempts=attempts,
            monitoring=monitoring,
            payload=payload(order_id, sequence),
            time=now,
        )
    )
    _grant(connection, host, set(artifacts))
    announce(host)


def _grant(connection: Connection, host: str, wanted: set[str]) -> None:
    known = set(
        connection.execute(
            select(grants.c.sha256).where(grants.c.host == host, grants.c.sha256.in_(wanted))
        ).scalars()
    )
    for sha256 in sorted(wanted - known):
        connection.execute(insert(grants).values(host=host, sha256=sha256))


def may_fetch(connection: Connection, host: str, sha256: str) -> bool:
    """Whether an order of the host (of any host: "") has named the artifact."""
    query = select(grants.c.host).where(grants.c.sha256 == sha256)
    if host:
        query = query.where(grants.c.host == host)
    return connection.execute(query.limit(1)).first() is not None


def pending(connection: Connection, host: str, after: int) -> list[tuple[int, bytes]]:
    """Sequence and message of what is not answered yet, in the order it was given."""
    rows = connection.execute(
        select(orders.c.sequence, orders.c.payload)
        .where(orders.c.host == host, _PENDING, orders.c.sequence > after)
        .order_by(orders.c.sequence)
    )
    return [(row.sequence, row.payload) for row in rows]


def answer(
    connection: Connection, host: str, order_id: str, state: OrderState, reason: str
) -> bool:
    """Notes what became of an order; whether that says anything new.

    A host may take back a DONE: the version that it promoted turned out bad. An answer to what was
    superseded, and a repeated answer, change nothing.
    """
    changeable = [OrderState.PENDING]
    if state is OrderState.FAILED:
        changeable.append(OrderState.DONE)
    changed = connection.execute(
        update(orders)
        .where(orders.c.id == order_id, orders.c.host == host, orders.c.state.in_(changeable))
        .values(state=state, reason=reason[:1023], end_time=micros.now(connection))
    )
    return bool(changed.rowcount)


def answered_up_to(connection: Connection, host: str, sequence: int) -> None:
    """The host is done with everything so far; how each went is seen from what it serves."""
    connection.execute(
        update(orders)
        .where(orders.c.host == host, _PENDING, orders.c.sequence <= sequence)
        .values(
            state=OrderState.DONE,
            reason="answered while the link was down",
            end_time=micros.now(connection),
        )
    )


def supersede_rollout(connection: Connection, rollout: str) -> None:
    """Takes back what an ended rollout ordered and nobody has begun for sure."""
    connection.execute(
        update(orders)
        .where(orders.c.rollout == rollout, _PENDING, _BRINGS_IN)
        .values(state=OrderState.SUPERSEDED, end_time=micros.now(connection))
    )


def newest(connection: Connection, model: str, *, configuring: bool = False) -> dict[str, Order]:
    """Each host's newest order about a model's versions, or about its monitoring."""
    about_monitoring = orders.c.kind == OrderKind.CONFIGURE
    wanted = about_monitoring if configuring else ~about_monitoring
    last = (
        select(orders.c.host, func.max(orders.c.sequence).label("sequence"))
        .where(orders.c.model == model, wanted)
        .group_by(orders.c.host)
        .subquery()
    )
    rows = connection.execute(
        select(orders).join(
            last, (orders.c.host == last.c.host) & (orders.c.sequence == last.c.sequence)
        )
    )
    return {row.host: _order(row) for row in rows}


def monitoring_known(connection: Connection, model: str) -> dict[str, str]:
    """Digest of the monitoring that each host was last told, and has answered to."""
    last = (
        select(orders.c.host, func.max(orders.c.sequence).label("sequence"))
        .where(
            orders.c.model == model,
            orders.c.state == OrderState.DONE,
            orders.c.monitoring != "",
        )
        .group_by(orders.c.host)
        .subquery()
    )
    rows = connection.execute(
        select(orders.c.host, orders.c.monitoring).join(
            last, (orders.c.host == last.c.host) & (orders.c.sequence == last.c.sequence)
        )
    )
    return {row.host: row.monitoring for row in rows}


def _order(row: Row[tuple[object, ...]]) -> Order:
    values = row._mapping
    end: int | None = values["end_time"]
    begun: datetime = micros.to_datetime(values["time"])
    return Order(
        host=values["host"],
        sequence=values["sequence"],
        model=values["model"],
        kind=OrderKind(values["kind"]),
        version=values["version"],
        rollout=values["rollout"],
        state=OrderState(values["state"]),
        time=begun,
        reason=values["reason"],
        end_time=None if end is None else micros.to_datetime(end),
        attempts=values["attempts"],
    )
