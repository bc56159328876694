"""Which samples hosts have uploaded. The samples themselves lie in the artifact store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, delete, func, insert, select

from keeptune.deployment.sql_store.tables import captures
from keeptune.runtime import micros


@dataclass(frozen=True)
class Upload:
    """One upload; `first_time` and `last_time` are of its samples."""

    host: str
    request_id: str
    model: str
    version: str
    rows: int
    first_time: datetime
    last_time: datetime
    sha256: str
    size_bytes: int


def find(connection: Connection, host: str, request_id: str) -> Upload | None:
    row = connection.execute(
        select(captures).where(captures.c.host == host, captures.c.request_id == request_id)
    ).one_or_none()
    return None if row is None else _upload(row)


def add(connection: Connection, upload: Upload) -> None:
    connection.execute(
        insert(captures).values(
            host=upload.host,
            request_id=upload.request_id,
            model=upload.model,
            version=upload.version,
            rows=upload.rows,
            first_time=micros.of(upload.first_time),
            last_time=micros.of(upload.last_time),
            sha256=upload.sha256,
            size_bytes=upload.size_bytes,
            time=micros.now(connection),
        )
    )


def trim(connection: Connection, model: str, max_bytes: int) -> list[str]:
    """Forgets the model's oldest uploads beyond `max_bytes`; their checksums."""
    total: int = connection.execute(
        select(func.coalesce(func.sum(captures.c.size_bytes), 0)).where(captures.c.model == model)
    ).scalar_one()
    forgotten = []
    while total > max_bytes:
        oldest = connection.execute(
            select(captures.c.host, captures.c.request_id, captures.c.size_bytes, captures.c.sha256)
            .where(captures.c.model == model)
            .order_by(captures.c.last_time)
            .limit(1)
        ).one()
        connection.execute(
            delete(captures).where(
                captures.c.host == oldest.host, captures.c.request_id == oldest.request_id
            )
        )
        total -= oldest.size_bytes
        forgotten.append(oldest.sha256)
    return forgotten


def is_kept(connection: Connection, sha256: str) -> bool:
    """Whether any upload has this content."""
    query = select(captures.c.sha256).where(captures.c.sha256 == sha256).limit(1)
    return connection.execute(query).first() is not None


def between(
    connection: Connection, model: str, start: datetime | None, end: datetime | None
) -> list[Upload]:
    """The uploads with samples in the window, oldest first."""
    query = select(captures).where(captures.c.model == model)
    if start is not None:
        query = query.where(captures.c.last_time >= micros.of(start))
    if end is not None:
        query = query.where(captures.c.first_time <= micros.of(end))
    rows = connection.execute(
        query.order_by(captures.c.last_time, captures.c.host, captures.c.request_id)
    )
    return [_upload(row) for row in rows]


def _upload(row: Row[tuple[object, ...]]) -> Upload:
    values = row._mapping
    return Upload(
        host=values["host"],
        request_id=values["request_id"],
        model=values["model"],
        version=values["version"],
        rows=values["rows"],
        first_time=micros.to_datetime(values["first_time"]),
        last_time=micros.to_datetime(values["last_time"]),
        sha256=values["sha256"],
        size_bytes=values["size_bytes"],
    )
