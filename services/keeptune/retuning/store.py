"""Policies and retunes on disk. Every function runs inside the caller's transaction."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from keeptune.retuning.model import OPEN_STATES, Policy, Retune, begin
from keeptune.runtime import names
from keeptune.runtime.records import Records

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from keeptune.retuning.model import Evidence, Refusal, Trigger
    from keeptune.runtime.records import Record

policies: Records[Policy] = Records("policy", Policy, columns={"model": lambda p: p.model})
retunes: Records[Retune] = Records(
    "retune",
    Retune,
    columns={
        "policy": lambda r: r.policy,
        "model": lambda r: r.model,
        "trigger": lambda r: r.trigger.value,
    },
)


def open_retune(connection: Connection, policy: str) -> Record[Retune] | None:
    """The policy's retune under way. There is never more than one."""
    page = retunes.list(connection, filter=f'policy = "{policy}"', states=OPEN_STATES, page_size=1)
    return page.items[0] if page.items else None


def open_retunes(connection: Connection) -> list[Record[Retune]]:
    """All retunes under way."""
    found: list[Record[Retune]] = []
    token = ""
    while True:
        page = retunes.list(connection, states=OPEN_STATES, page_size=1000, page_token=token)
        found += page.items
        token = page.next_page_token
        if not token:
            return found


def all_policies(connection: Connection) -> list[Record[Policy]]:
    found: list[Record[Policy]] = []
    token = ""
    while True:
        page = policies.list(connection, page_size=1000, page_token=token)
        found += page.items
        token = page.next_page_token
        if not token:
            return found


def policy_of_model(connection: Connection, model: str) -> Record[Policy] | None:
    page = policies.list(connection, filter=f'model = "{model}"', page_size=1)
    return page.items[0] if page.items else None


def last_retune(connection: Connection, policy: Policy) -> Retune | None:
    """The newest retune of the policy, ended or not."""
    if not policy.last_retune:
        return None
    found = retunes.find(connection, policy.last_retune)
    return found.doc if found is not None else None


def start(
    connection: Connection,
    policy: Record[Policy],
    trigger: Trigger,
    now: datetime,
    *,
    retune_id: str,
    evidence: tuple[Evidence, ...] = (),
    note: str = "",
) -> Record[Retune]:
    """Writes a new retune and the policy's pointer to it."""
    name = names.retune_name(retune_id)
    retune = begin(policy.name, policy.doc, trigger, now, evidence=evidence, note=note)
    policies.put(connection, policy.name, policy.doc.next_retune(name))
    return retunes.create(connection, name, retune, state=retune.state)


def save(connection: Connection, record: Record[Retune], retune: Retune) -> Record[Retune]:
    """Writes a retune back. Raises Conflict when it changed since `record` was read."""
    return retunes.put(connection, record.name, retune, state=retune.state, etag=record.etag)


def mark_refused(connection: Connection, name: str, refusal: Refusal) -> None:
    """Notes on the policy that a retune was asked for in vain."""
    found = policies.find(connection, name)
    if found is not None:
        policies.put(connection, name, replace(found.doc, refusal=refusal))


def mark_synced(connection: Connection, name: str, generation: int, problem: str) -> None:
    """Notes that the registry was brought in line with a generation of the policy, or why not."""
    found = policies.find(connection, name)
    if found is None:
        return
    doc = found.doc
    if not problem:
        doc = replace(doc, synced=max(doc.synced, generation))
    if (doc := replace(doc, sync_problem=problem)) != found.doc:
        policies.put(connection, name, doc)
