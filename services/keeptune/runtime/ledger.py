"""Answered requests: a repeated mutation gets its first answer, and happens once."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection, bindparam, delete, insert, select

from keeptune.runtime import micros
from keeptune.runtime.bulk import Bulk
from keeptune.runtime.errors import InvalidInput
from keeptune.runtime.tables import requests

M = TypeVar("M", bound=Message)

KEPT = timedelta(days=7)
_CHUNK = 1000

_find = select(requests.c.fingerprint, requests.c.response).where(
    requests.c.request_id == bindparam("request_id")
)
# However many there are, it is one parameter of a statement that is always the same.
_find_some: dict[str, tuple[str, Callable[[list[str]], object]]] = {
    "sqlite": (
        "SELECT request_id, fingerprint, response FROM requests "  # noqa: ISC004
        "WHERE request_id IN (SELECT value FROM json_each(?))",
        json.dumps,
    ),
    "postgresql": (
        "SELECT request_id, fingerprint, response FROM requests WHERE request_id = ANY(%s)",
        list,
    ),
}
_add = insert(requests)
_add_some = Bulk(_add)
_expired = (
    select(requests.c.request_id)
    .where(requests.c.time < bindparam("before"))
    .limit(_CHUNK)
    .scalar_subquery()
)


def mutate(
    connection: Connection,
    *,
    request_id: str,
    method: str,
    request: Message,
    response_type: type[M],
    fn: Callable[[], M],
) -> M:
    """Does `fn` once for each request_id, in the caller's transaction.

    The same request_id with the same request gets the stored first answer for 7 days; with
    another method or request it is InvalidInput. Without a request_id nothing is replayed. An
    exception of `fn` is not stored, so a failed request may be tried again.
    """
    if not request_id:
        return fn()
    first = answered(
        connection,
        request_id=request_id,
        method=method,
        request=request,
        response_type=response_type,
    )
    if first is not None:
        return first
    answer = fn()
    connection.execute(
        _add,
        {
            "request_id": request_id,
            "fingerprint": fingerprint(method, request),
            "response": answer.SerializeToString(),
            "time": micros.now(connection),
        },
    )
    return answer


def answered(
    connection: Connection,
    *,
    request_id: str,
    method: str,
    request: Message,
    response_type: type[M],
) -> M | None:
    """The stored first answer, for those who must know before they begin; None if there is none.

    Raises InvalidInput when the request_id was used for another request.
    """
    if not request_id:
        return None
    found = connection.execute(_find, {"request_id": request_id}).one_or_none()
    if found is None:
        return None
    if found.fingerprint != fingerprint(method, request):
        raise reused(request_id)
    return response_type.FromString(found.response)


def first_answers(
    connection: Connection, request_ids: Collection[str]
) -> dict[str, tuple[bytes, bytes]]:
    """The fingerprint and the serialized answer of those of the requests that have one."""
    if not request_ids:
        return {}
    sql, parameter = _find_some[connection.dialect.name]
    rows = connection.exec_driver_sql(sql, (parameter(list(request_ids)),))
    return {request_id: (print_, response) for request_id, print_, response in rows}


def keep(connection: Connection, answers: Mapping[str, tuple[bytes, bytes]], now: datetime) -> None:
    """Keeps answers by their request_id, as `first_answers` gives them."""
    time = micros.of(now)
    _add_some(connection, [(name, *answer, time) for name, answer in answers.items()])


def reused(request_id: str) -> InvalidInput:
    """The error for a request_id that another request had."""
    return InvalidInput(
        field="request_id",
        problem=f"{request_id!r} was used for another request",
        fix="use a new request_id for each request, the same one only to repeat it",
        reason="REQUEST_ID_REUSED",
    )


def fingerprint(method: str, request: Message) -> bytes:
    """16 bytes that differ when the method or anything in the request does."""
    digest = blake2b(method.encode(), digest_size=16)
    digest.update(b"\0")
    digest.update(request.SerializeToString(deterministic=True))
    return digest.digest()


def expire(connection: Connection) -> int:
    """Deletes up to 1000 answers older than 7 days; how many there were."""
    before = micros.now(connection) - micros.of_duration(KEPT)
    gone = delete(requests).where(requests.c.request_id.in_(_expired))
    return connection.execute(gone, {"before": before}).rowcount
