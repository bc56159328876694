"""Models, versions and rollouts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import Connection, select

from keeptune.deployment.model import Model, Version
from keeptune.deployment.rollout import OPEN_STATES, Rollout, RolloutState
from keeptune.runtime import names
from keeptune.runtime.errors import FailedPrecondition
from keeptune.runtime.records import Record, Records
from keeptune.runtime.tables import records

T = TypeVar("T")

models: Records[Model] = Records("model", Model, columns={"champion": lambda m: m.champion})
versions: Records[Version] = Records(
    "version", Version, columns={"sha256": lambda v: v.onnx.sha256}
)
rollouts: Records[Rollout] = Records(
    "rollout",
    Rollout,
    columns={
        "model": lambda r: r.model,
        "version": lambda r: r.version,
        "evaluation": lambda r: r.evaluation,
    },
)


def every(
    kind: Records[T],
    connection: Connection,
    *,
    where: str = "",
    states: Collection[str] | None = None,
) -> Iterator[Record[T]]:
    """All records that match, page by page."""
    token = ""
    while True:
        page = kind.list(connection, filter=where, states=states, page_size=1000, page_token=token)
        yield from page.items
        token = page.next_page_token
        if not token:
            return


def lock(connection: Connection, model: str) -> Record[Model]:
    """The model, held until the transaction ends, so that replicas plan for it in turn."""
    connection.execute(select(records.c.name).where(records.c.name == model).with_for_update())
    return models.get(connection, model)


def add_version(
    connection: Connection, model: str, version: Version, number: int, labels: dict[str, str]
) -> Record[Version]:
    """Writes a version under the number it was signed with. The model must be locked."""
    found = models.get(connection, model)
    assert found.doc.versions + 1 == number
    models.put(connection, model, found.doc.next_version())
    name = names.version_name(names.parse_model(model), number)
    return versions.create(connection, name, version, parent=model, labels=labels)


def open_rollout(connection: Connection, model: str) -> Record[Rollout] | None:
    """The model's rollout under way. There is never more than one."""
    return next(every(rollouts, connection, where=f'model = "{model}"', states=OPEN_STATES), None)


def rolled_back_versions(connection: Connection, model: str) -> frozenset[str]:
    """Versions that a rollout brought in and took back."""
    ended = (RolloutState.ROLLED_BACK, RolloutState.FAILED)
    found = every(rollouts, connection, where=f'model = "{model}"', states=ended)
    return frozenset(record.doc.version for record in found)


def add_rollout(
    connection: Connection, name: str, rollout: Rollout, labels: dict[str, str]
) -> Record[Rollout]:
    """Writes a new rollout.

    Raises FailedPrecondition while another one of the model is under way, and for the version
    that is the champion already.
    """
    model = lock(connection, rollout.model)
    running = open_rollout(connection, rollout.model)
    if running is not None and running.name != name:
        raise FailedPrecondition(
            f"{running.name} is rolling out {running.doc.version}",
            reason="ROLLOUT_UNDER_WAY",
            fix=f"wait until {running.name} has ended, or roll it back",
            metadata={"rollout": running.name},
        )
    if model.doc.champion == rollout.version:
        raise FailedPrecondition(
            f"{rollout.version} is the champion already",
            reason="ALREADY_CHAMPION",
            fix="nothing is to be done: hosts are kept on the champion by themselves",
        )
    rollout = replace(rollout, previous=model.doc.champion)
    return rollouts.create(connection, name, rollout, state=rollout.state, labels=labels)


def save_rollout(
    connection: Connection, record: Record[Rollout], rollout: Rollout
) -> Record[Rollout]:
    """Raises Conflict when it has changed since `record` was read."""
    return rollouts.put(connection, record.name, rollout, state=rollout.state, etag=record.etag)


def take_back_champion(connection: Connection, record: Record[Rollout]) -> None:
    """Makes what served before a succeeded rollout the champion again.

    Raises FailedPrecondition when something newer serves or is on its way.
    """
    rollout = record.doc
    champion = models.get(connection, rollout.model).doc.champion
    running = open_rollout(connection, rollout.model)
    if champion != rollout.version or running is not None:
        newer = running.name if running is not None else f"the champion {champion or '(none)'}"
        raise FailedPrecondition(
            f"{record.name} is not the newest of {rollout.model}: {newer} is",
            reason="ROLLOUT_NOT_NEWEST",
            fix="roll the newest rollout back, or roll out the version that you want",
            metadata={"name": record.name},
        )
    set_champion(connection, rollout.model, rollout.previous)


def set_champion(connection: Connection, model: str, version: str) -> None:
    found = models.get(connection, model)
    if found.doc.champion != version:
        models.put(connection, model, replace(found.doc, champion=version))
