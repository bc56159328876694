"""What lists can be filtered and ordered by: named SQL expressions with a kind of value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, Connection, String, case, collate, func, type_coerce
from sqlalchemy import literal as bound
from sqlalchemy.dialects.postgresql import JSONB

from keeptune.runtime import micros

Literal = str | float | int | bool


class Kind(Enum):
    TEXT = "a string"
    NUMBER = "a number"
    TIME = "a time such as 2026-01-31T12:00:00Z"
    # A member of a JSON column: text or number, as the document has it.
    JSON = "a string or a number"


@dataclass(frozen=True)
class Field:
    """`nullable` says whether a row may lack it; such rows sort first."""

    expression: ColumnElement[Any]
    kind: Kind
    nullable: bool = False

    def comparable(self, literal: Literal, text: str) -> tuple[ColumnElement[Any], Any]:
        """Expression and value to compare with a literal, which stood in the filter as `text`.

        Raises ValueError when the literal does not fit the kind.
        """
        if self.kind is Kind.TEXT:
            return self.expression, text
        if self.kind is Kind.NUMBER and isinstance(literal, str):
            raise ValueError(text)
        if self.kind is Kind.TIME:
            moment = datetime.fromisoformat(text)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return self.expression, micros.of(aware)
        if isinstance(self.expression.type, JSONB):
            same_type = func.jsonb_typeof(self.expression) == _json_type(literal)
            return case((same_type, self.expression)), bound(literal, JSONB)
        return self.expression, literal


def json_field(connection: Connection, column: ColumnElement[Any], key: str) -> Field:
    """The member `key`, text or number, of a JSON object column, on either engine."""
    if connection.dialect.name == "postgresql":
        return Field(type_coerce(column, JSONB)[key], Kind.JSON, nullable=True)
    return Field(func.json_extract(column, f'$."{key}"'), Kind.JSON, nullable=True)


def json_text_field(connection: Connection, column: ColumnElement[Any], key: str) -> Field:
    """The member `key`, always text, of a JSON object column, on either engine."""
    if connection.dialect.name == "postgresql":
        member = type_coerce(column, JSONB)[key].as_string()
        return Field(collate(member, "C"), Kind.TEXT, nullable=True)
    return Field(func.json_extract(column, f'$."{key}"', type_=String), Kind.TEXT, nullable=True)


def _json_type(literal: Literal) -> str:
    if isinstance(literal, bool):
        return "boolean"
    return "string" if isinstance(literal, str) else "number"
