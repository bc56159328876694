"""Trainings on disk, and what happened to them. Functions run in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from keeptune.runtime.records import Record, Records, append_event
from keeptune.training.convert import anomaly_to_proto, progress_to_proto
from keeptune.training.model import ACTIVE_STATES, Anomaly, Progress, Training

PROGRESS = "training.progress"
ANOMALY = "training.anomaly"

trainings: Records[Training] = Records(
    "training",
    Training,
    columns={"study": lambda t: t.study or None, "trainer": lambda t: t.trainer},
)


def active(connection: Connection) -> list[Record[Training]]:
    """Those that still need something, oldest first."""
    found: list[Record[Training]] = []
    token = ""
    while True:
        page = trainings.list(connection, states=ACTIVE_STATES, page_size=1000, page_token=token)
        found += page.items
        token = page.next_page_token
        if not token:
            return found


def change(
    connection: Connection, name: str, transition: Callable[[Training], Training]
) -> Record[Training]:
    """Applies the transition, unless the training has ended or it changes nothing."""
    record = trainings.get(connection, name)
    if not record.doc.active:
        return record
    changed = transition(record.doc)
    if changed == record.doc:
        return record
    return trainings.put(connection, name, changed, state=changed.state)


def add_progress(connection: Connection, name: str, progress: Progress) -> None:
    append_event(connection, name, PROGRESS, progress_to_proto(progress).SerializeToString())


def add_anomaly(connection: Connection, name: str, anomaly: Anomaly) -> None:
    append_event(connection, name, ANOMALY, anomaly_to_proto(anomaly).SerializeToString())
