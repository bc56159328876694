"""Hosts: what is kept of them, what they said last, and who may speak for them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Row, delete, insert, select, update

from keeptune.deployment.fleet import Host, HostState, Report, SignalNote
from keeptune.deployment.sql_store.registry import every
from keeptune.deployment.sql_store.tables import credentials, reports
from keeptune.runtime import documents, micros
from keeptune.runtime.errors import Conflict
from keeptune.runtime.records import Record, Records

hosts: Records[Host] = Records("host", Host)
_NEVER = 0
_FILTERABLE = re.compile(r"[a-z][a-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class Sighting:
    """A host's last report; `last_seen` None = it has never been heard."""

    report: Report
    last_seen: datetime | None
    session: str = ""


_UNSEEN = Sighting(Report(), None)


def ensure(connection: Connection, name: str) -> Record[Host]:
    """The host, written down if it is new."""
    found = hosts.find(connection, name)
    if found is not None:
        return found
    host = Host(HostState.AWAY, "enrolled, and not connected yet")
    created = hosts.create(connection, name, host, state=host.state)
    connection.execute(
        insert(reports).values(
            host=name,
            session="",
            sequence=0,
            last_seen=_NEVER,
            body=documents.encode(Report()),
        )
    )
    return created


def begin_session(
    connection: Connection, name: str, session: str, report: Report, last_sequence: int
) -> None:
    """Makes `session` the host's only live one, and takes its greeting as a report.

    Sequences go on above `last_sequence` even when the host remembers more than is kept here.
    """
    ensure(connection, name)
    kept = connection.execute(select(reports.c.sequence).where(reports.c.host == name)).scalar_one()
    connection.execute(
        update(reports)
        .where(reports.c.host == name)
        .values(session=session, sequence=max(kept, last_sequence))
    )
    take_report(connection, name, session, report)


def take_report(connection: Connection, name: str, session: str, report: Report | None) -> None:
    """Keeps what a session says; None = only that the host is there.

    Raises Conflict when the session is no longer the host's live one.
    """
    values: dict[str, object] = {"last_seen": micros.now(connection)}
    if report is not None:
        values["body"] = documents.encode(report)
    taken = connection.execute(
        update(reports).where(reports.c.host == name, reports.c.session == session).values(**values)
    )
    if not taken.rowcount:
        raise replaced(name)
    record = hosts.get(connection, name)
    _put(connection, record, replace(record.doc, state=HostState.CONNECTED, reason=""), report)


def take_signal(connection: Connection, name: str, signal: SignalNote, keep: int) -> None:
    record = hosts.get(connection, name)
    _put(connection, record, replace(record.doc, signals=record.doc.with_signal(signal, keep)))


def mark_away(connection: Connection, record: Record[Host], reason: str) -> None:
    _put(connection, record, replace(record.doc, state=HostState.AWAY, reason=reason))


def _put(
    connection: Connection, record: Record[Host], host: Host, report: Report | None = None
) -> None:
    """Writes the host only if something that people watch for has changed."""
    labels = dict(record.labels) if report is None else labels_to_keep(report)
    if host != record.doc or labels != record.labels:
        hosts.put(connection, record.name, host, state=host.state, labels=labels)


def labels_to_keep(report: Report) -> dict[str, str]:
    """The labels that hosts can be filtered by; others stay in the report alone."""
    return {k: v for k, v in report.info.labels.items() if _FILTERABLE.fullmatch(k)}


def is_live(connection: Connection, name: str, session: str) -> bool:
    """Whether a session is still the host's newest."""
    found = connection.execute(
        select(reports.c.session).where(reports.c.host == name)
    ).scalar_one_or_none()
    return found == session


def replaced(name: str) -> Conflict:
    return Conflict(
        f"a newer session of {name} is connected",
        reason="SESSION_REPLACED",
        fix="run one agent under this name; give another host another name",
    )


def sightings(connection: Connection, names: Iterable[str] | None = None) -> dict[str, Sighting]:
    query = select(reports)
    if names is not None:
        query = query.where(reports.c.host.in_(sorted(names)))
    return {row.host: _sighting(row) for row in connection.execute(query)}


def sighting_of(found: Mapping[str, Sighting], name: str) -> Sighting:
    return found.get(name, _UNSEEN)


def _sighting(row: Row[tuple[object, ...]]) -> Sighting:
    values = row._mapping
    return Sighting(
        documents.decode(values["body"], Report),
        micros.to_datetime(values["last_seen"]) if values["last_seen"] != _NEVER else None,
        values["session"],
    )


def all_hosts(connection: Connection) -> list[Record[Host]]:
    return list(every(hosts, connection))


def set_credential(connection: Connection, name: str, credential: str) -> None:
    """Makes `credential` the only one of the host. Only its hash is kept."""
    ensure(connection, name)
    connection.execute(delete(credentials).where(credentials.c.host == name))
    connection.execute(
        insert(credentials).values(
            digest=_digest(credential), host=name, time=micros.now(connection)
        )
    )


def host_of_credential(connection: Connection, credential: str) -> str | None:
    """The host that a bearer token belongs to."""
    return connection.execute(
        select(credentials.c.host).where(credentials.c.digest == _digest(credential))
    ).scalar_one_or_none()


def _digest(credential: str) -> bytes:
    # The credential is 256 random bits: a slow hash would protect nothing more.
    return hashlib.sha256(credential.encode()).digest()
