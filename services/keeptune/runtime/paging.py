"""Pages of a query: ordered, of a bounded size, continued after the last row and not by counting.

So a page is right whatever was added or deleted since the one before. A token is bound to its
query: used with another filter or order it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    false,
    literal,
    or_,
    true,
)

from keeptune.runtime.errors import InvalidInput
from keeptune.runtime.fields import Field
from keeptune.runtime.filters import Resolve
from keeptune.runtime.page_tokens import decode, encode, mark_of, page_size


@dataclass(frozen=True)
class Order:
    """One key of an order."""

    field: Field
    descending: bool = False


def order(text: str, resolve: Resolve, *, known: str, field: str = "order_by") -> list[Order]:
    """The keys of an `order_by` such as `create_time desc, name`."""
    keys = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, direction = part.partition(" ")
        target = resolve(name)
        if target is None or direction.strip().lower() not in ("", "asc", "desc"):
            raise InvalidInput(
                field=field,
                problem=f"has {part!r}",
                fix=f"order by {known}, each with desc or not",
                reason="INVALID_ORDER",
            )
        keys.append(Order(target, direction.strip().lower() == "desc"))
    return keys


def fetch_page(
    connection: Connection,
    query: Select[Any],
    keys: Sequence[Order],
    *,
    size: int,
    token: str,
    scope: str,
) -> tuple[Sequence[Row[Any]], str]:
    """One page of `query`, and the token of the next one (empty after the last).

    `keys` must end in a unique one. `scope` is everything that the token is bound to: parent,
    filter and order, in any form. The rows have the query's columns first.
    """
    count = page_size(size)
    mark = mark_of(scope)
    if token:
        query = query.where(_after(keys, decode(token, mark, len(keys))))
    query = query.add_columns(
        *(key.field.expression.label(f"page_key_{i}") for i, key in enumerate(keys))
    )
    for key in keys:
        for expression in _sorted_by(key):
            query = query.order_by(expression.desc() if key.descending else expression.asc())
    rows = connection.execute(query.limit(count + 1)).all()
    if len(rows) <= count:
        return rows, ""
    rows = rows[:count]
    return rows, encode(mark, [rows[-1]._mapping[f"page_key_{i}"] for i in range(len(keys))])


def _is_there(field: Field) -> ColumnElement[int]:
    return case((field.expression.is_(None), 0), else_=1)


def _sorted_by(key: Order) -> list[ColumnElement[Any]]:
    if key.field.nullable:
        return [_is_there(key.field), key.field.expression]
    return [key.field.expression]


def _after(keys: Sequence[Order], values: Sequence[Any]) -> ColumnElement[bool]:
    """Rows behind the one with these values, key by key."""
    steps: list[tuple[ColumnElement[Any], ColumnElement[Any], bool]] = []
    for key, value in zip(keys, values, strict=True):
        expression = key.field.expression
        if key.field.nullable:
            steps.append((_is_there(key.field), literal(int(value is not None)), key.descending))
        if value is not None:
            steps.append((expression, literal(value, expression.type), key.descending))
    alternatives = []
    for i, (expression, value, descending) in enumerate(steps):
        beyond = expression < value if descending else expression > value
        equal = [earlier == at for earlier, at, _ in steps[:i]]
        alternatives.append(and_(true(), *equal, beyond))
    return or_(false(), *alternatives)
