"""Evaluations as they are kept. Every function works in its caller's transaction.

Errors: AlreadyExists and NotFound as named; Conflict from `save` when the evaluation has changed
since it was read, so that of two judges of the same evaluation the first one's verdict stands.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from keeptune.evaluation.model import OPEN_STATES, Evaluation
from keeptune.runtime.records import Record, Records

evaluations: Records[Evaluation] = Records(
    "evaluation",
    Evaluation,
    columns={
        "outcome": lambda doc: doc.verdict.outcome.value if doc.verdict else None,
        "candidate": lambda doc: doc.candidate.sha256,
    },
)


def create(
    c: Connection, name: str, evaluation: Evaluation, labels: Mapping[str, str]
) -> Record[Evaluation]:
    """Raises AlreadyExists."""
    return evaluations.create(c, name, evaluation, state=evaluation.state, labels=labels)


def save(c: Connection, record: Record[Evaluation], evaluation: Evaluation) -> Record[Evaluation]:
    """Raises Conflict when the record is no longer the one that was read."""
    return evaluations.put(c, record.name, evaluation, state=evaluation.state, etag=record.etag)


def open_evaluations(c: Connection, limit: int) -> list[Record[Evaluation]]:
    """The oldest that are not judged yet."""
    page = evaluations.list(c, states=OPEN_STATES, page_size=limit, order_by="create_time")
    return list(page.items)
