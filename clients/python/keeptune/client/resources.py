"""Fetching, listing and watching resources, for all kinds of them alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from google.protobuf import json_format

from keeptune.client.nouns import BY_NOUN, Kind
from keeptune.client.persistence import resume
from keeptune.runtime.errors import InvalidInput

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from keeptune.client.services import AsyncServices

_PAGE = 500


async def fetch(services: AsyncServices, kind: Kind, name: str) -> Message:
    """One resource. Raises NotFound."""
    method = f"Get{kind.message}"
    request = _request(kind, method, name=kind.qualified(name))
    return cast("Message", await _method(services, kind, method)(request))


async def list_all(
    services: AsyncServices,
    kind: Kind,
    *,
    parent: str = "",
    filter: str = "",  # noqa: A002
    order_by: str = "",
    limit: int = 0,
) -> AsyncIterator[Message]:
    """All that there are, page by page, or the first `limit`.

    `parent` is the study of trials and the model of versions. Raises InvalidInput for a filter or
    an order where the service has none.
    """
    method = f"List{kind.plural}"
    wanted = {"filter": filter, "order_by": order_by}
    if kind.parent:
        wanted["parent"] = BY_NOUN[kind.parent].qualified(parent)
    request = _request(kind, method, **{key: value for key, value in wanted.items() if value})
    left = limit
    while True:
        request.page_size = min(left, _PAGE) if limit else _PAGE
        page = await _method(services, kind, method)(request)
        for item in getattr(page, kind.collection):
            yield item
            left -= 1
            if limit and not left:
                return
        request.page_token = page.next_page_token
        if not request.page_token:
            return


async def watch(
    services: AsyncServices, kind: Kind, name: str, *, revision: int = 0, patience: float = 0.0
) -> AsyncIterator[Any]:
    """The events of a resource after `revision`, then live, across restarts of its service."""
    method = f"Watch{kind.message}"
    full_name = kind.qualified(name)

    def events(after: int) -> AsyncIterator[Any]:
        request = _request(kind, method, **{kind.watch: full_name}, revision=after)
        opened = _method(services, kind, method)(request, wait_for_ready=False)
        return cast("AsyncIterator[Any]", opened)

    async for event in resume(events, revision=revision, patience=patience):
        yield event


def as_data(message: Message) -> dict[str, Any]:
    """A message as plain data, with the field names of its proto."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _method(services: AsyncServices, kind: Kind, name: str) -> Any:
    return getattr(getattr(services, kind.service), name)


def _request(kind: Kind, method: str, **fields: Any) -> Any:
    module = import_module(f"keeptune.v1.{kind.service}_pb2")
    type_ = getattr(module, f"{method}Request")
    for field in fields:
        if field not in type_.DESCRIPTOR.fields_by_name:
            raise InvalidInput(
                field=field, problem=f"is not offered for {kind.collection}", fix="leave it out"
            )
    return type_(**fields)
