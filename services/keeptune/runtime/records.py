"""Documents with a state: kept, listed, guarded by etags, their history told to watchers.

    studies = Records("study", Study, columns={"algorithm": lambda study: study.algorithm})
    await database.run(lambda c: studies.create(c, "studies/x", study, state="ACTIVE"))

Everything happens in the caller's transaction. The document is any dataclass (see `documents`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from keeptune.runtime import documents, filters, micros, paging
from keeptune.runtime.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from keeptune.runtime.events import Event, Events, append_event
from keeptune.runtime.fields import Field, Kind, json_field, json_text_field
from keeptune.runtime.ledger import mutate
from keeptune.runtime.tables import records

__all__ = ["Event", "Events", "Page", "Record", "Records", "append_event", "mutate"]

T = TypeVar("T")

# Kinds that the command line lists by another command, below a parent.
_LISTED = {"version": "model versions {parent}", "trial": "trial list {parent}"}
_LABEL = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
_BUILT_IN = {
    "name": Field(records.c.name, Kind.TEXT),
    "state": Field(records.c.state, Kind.TEXT),
    "parent": Field(records.c.parent, Kind.TEXT),
    "create_time": Field(records.c.create_time, Kind.TIME),
    "update_time": Field(records.c.update_time, Kind.TIME),
}


class _Keep:
    """Stands for "as it is" where None would mean something."""


KEEP: Final = _Keep()


@dataclass(frozen=True)
class Record(Generic[T]):
    """A document as it is kept; `revision` is that of its last change."""

    name: str
    doc: T
    state: str
    revision: int
    create_time: datetime
    update_time: datetime
    labels: Mapping[str, str]
    parent: str

    @property
    def etag(self) -> str:
        return f"{self.revision:x}"


@dataclass(frozen=True)
class Page(Generic[T]):
    items: tuple[Record[T], ...]
    next_page_token: str


_columns = tuple(
    records.c[name]
    for name in (
        "name", "parent", "state", "revision", "create_time", "update_time", "labels", "body",
    )
)  # fmt: skip
_one = select(*_columns).where(
    records.c.name == bindparam("wanted"), records.c.kind == bindparam("of_kind")
)
_insert = insert(records)
_update = update(records).where(records.c.name == bindparam("wanted"))
_delete = delete(records).where(records.c.name == bindparam("wanted"))


class Records(Generic[T]):
    """The records of one kind, e.g. `study`, whose documents are of one type.

    `columns` names further values, computed from the document, that lists can be filtered and
    ordered by. Every change appends an event `<kind>.created|updated|deleted` to the stream that
    is the record's name.
    """

    def __init__(
        self,
        kind: str,
        type_: type[T],
        *,
        columns: Mapping[str, Callable[[T], str | float | int | None]] | None = None,
    ) -> None:
        self.kind = kind
        self._type = type_
        self._fields = dict(columns or {})

    def create(
        self,
        connection: Connection,
        name: str,
        doc: T,
        *,
        parent: str = "",
        state: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Record[T]:
        """Raises AlreadyExists."""
        if self.find(connection, name) is not None:
            raise AlreadyExists(
                f"{name} exists already",
                fix="choose another id, or repeat the call with its first request_id",
                metadata={"name": name},
            )
        now = micros.to_datetime(micros.now(connection))
        record = Record(name, doc, state, 0, now, now, _checked(labels or {}), parent)
        record = self._appended(connection, record, "created")
        connection.execute(
            _insert,
            {"name": name, "kind": self.kind, "parent": parent, "create_time": micros.of(now)}
            | self._changing(record),
        )
        return record

    def get(self, connection: Connection, name: str) -> Record[T]:
        """Raises NotFound."""
        record = self.find(connection, name)
        if record is None:
            raise missing(self.kind, name)
        return record

    def find(self, connection: Connection, name: str) -> Record[T] | None:
        row = connection.execute(_one, {"wanted": name, "of_kind": self.kind}).one_or_none()
        return None if row is None else self._from_row(row)

    def put(
        self,
        connection: Connection,
        name: str,
        doc: T,
        *,
        state: str | _Keep = KEEP,
        etag: str | None = None,
        labels: Mapping[str, str] | _Keep = KEEP,
    ) -> Record[T]:
        """Replaces the document. Raises NotFound, and Conflict when the etag is stale.

        An empty etag, like None, means "whatever is there".
        """
        record = self.get(connection, name)
        _check_etag(record, etag)
        record = replace(
            record,
            doc=doc,
            state=record.state if isinstance(state, _Keep) else state,
            labels=record.labels if isinstance(labels, _Keep) else _checked(labels),
            update_time=micros.to_datetime(micros.now(connection)),
        )
        record = self._appended(connection, record, "updated")
        connection.execute(_update, {"wanted": name} | self._changing(record))
        return record

    def delete(self, connection: Connection, name: str, *, etag: str | None = None) -> None:
        """Raises NotFound, and Conflict when the etag is stale."""
        record = self.get(connection, name)
        _check_etag(record, etag)
        self._appended(connection, record, "deleted")
        connection.execute(_delete, {"wanted": name})

    def list(
        self,
        connection: Connection,
        *,
        parent: str | None = None,
        filter: str = "",  # noqa: A002  (the name it has in every list call)
        order_by: str = "",
        page_size: int = 0,
        page_token: str = "",
        states: Collection[str] | None = None,
    ) -> Page[T]:
        """One page: by default 50 records, at most 1000, oldest first.

        `parent` and `states` restrict it; `filter` and `order_by` are the caller's (see `filters`
        and `paging`): name, state, parent, create_time, update_time, labels.* and the columns of
        this kind. Raises InvalidInput for what is wrong with any of them.
        """

        def resolve(field: str) -> Field | None:
            return self._resolve(connection, field)

        known = ", ".join((*_BUILT_IN, *self._fields, "labels.<key>"))
        query = select(*_columns).where(
            records.c.kind == self.kind, filters.where(filter, resolve, known=known)
        )
        if parent is not None:
            query = query.where(records.c.parent == parent)
        if states is not None:
            query = query.where(records.c.state.in_(sorted(states)))
        keys = paging.order(order_by or "create_time", resolve, known=known)
        scope = json.dumps([self.kind, parent, filter, order_by, states and sorted(states)])
        rows, token = paging.fetch_page(
            connection,
            query,
            [*keys, paging.Order(_BUILT_IN["name"])],
            size=page_size,
            token=page_token,
            scope=scope,
        )
        return Page(tuple(self._from_row(row) for row in rows), token)

    def from_event(self, event: Event) -> Record[T]:
        """The record as it was right after the event (for `deleted`, right before)."""
        payload = json.loads(event.payload)
        return Record(
            name=event.stream,
            doc=documents.structure(payload["doc"], self._type),
            state=payload["state"],
            revision=event.revision,
            create_time=micros.to_datetime(payload["create_time"]),
            update_time=micros.to_datetime(payload["update_time"]),
            labels=payload["labels"],
            parent=payload["parent"],
        )

    def _appended(self, connection: Connection, record: Record[T], what: str) -> Record[T]:
        payload = {
            "doc": documents.unstructure(record.doc, self._type),
            "state": record.state,
            "labels": dict(record.labels),
            "parent": record.parent,
            "create_time": micros.of(record.create_time),
            "update_time": micros.of(record.update_time),
        }
        text = json.dumps(payload, separators=(",", ":"))
        revision = append_event(connection, record.name, f"{self.kind}.{what}", text.encode())
        return replace(record, revision=revision)

    def _changing(self, record: Record[T]) -> dict[str, Any]:
        return {
            "state": record.state,
            "revision": record.revision,
            "update_time": micros.of(record.update_time),
            "labels": dict(record.labels),
            "fields": {
                name: value
                for name, compute in self._fields.items()
                if (value := compute(record.doc)) is not None
            },
            "body": documents.encode(record.doc, self._type),
        }

    def _from_row(self, row: Row[Any]) -> Record[T]:
        return Record(
            name=row.name,
            doc=documents.decode(row.body, self._type),
            state=row.state,
            revision=row.revision,
            create_time=micros.to_datetime(row.create_time),
            update_time=micros.to_datetime(row.update_time),
            labels=row.labels,
            parent=row.parent,
        )

    def _resolve(self, connection: Connection, name: str) -> Field | None:
        if name in _BUILT_IN:
            return _BUILT_IN[name]
        if name in self._fields:
            return json_field(connection, records.c.fields, name)
        label = name.removeprefix("labels.")
        if label != name and _LABEL.fullmatch(label):
            return json_text_field(connection, records.c.labels, label)
        return None


def missing(kind: str, name: str) -> NotFound:
    """The error for a name that nothing has, with the command that tells the names there are."""
    command = _LISTED.get(kind, f"{kind} list").format(parent="/".join(name.split("/")[:2]))
    return NotFound(
        f"{name} does not exist",
        fix=f"`keeptune {command}` shows what there is",
        metadata={"name": name},
    )


def _check_etag(record: Record[Any], etag: str | None) -> None:
    if etag and etag != record.etag:
        raise Conflict(
            f"{record.name} has changed since it was read",
            fix="read it again, then repeat the change with its new etag",
            reason="STALE_ETAG",
            metadata={"name": record.name, "etag": record.etag},
        )


def _checked(labels: Mapping[str, str]) -> Mapping[str, str]:
    for key in labels:
        if not _LABEL.fullmatch(key):
            raise InvalidInput(
                field="labels",
                problem=f"has the key {key!r}",
                fix="start with a letter; use 1 to 63 of a-z, 0-9, _, . and -",
            )
    return dict(labels)
