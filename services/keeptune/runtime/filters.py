"""The filter language of list calls: a subset of https://google.aip.dev/160.

`state = ACTIVE AND (labels.team = "vision" OR create_time > "2026-01-31T00:00:00Z")`. Comparisons
are = != < <= > >= and `field:*` (is there); they are joined by AND, OR, NOT and parentheses. As in
the AIP, OR binds tighter than AND.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from sqlalchemy import ColumnElement, and_, not_, or_, true

from keeptune.runtime.errors import InvalidInput
from keeptune.runtime.fields import Field, Literal

# The field of that name; None when there is no such field.
Resolve = Callable[[str], Field | None]

_EXAMPLE = 'write e.g. state = ACTIVE AND name = "x"'
_MAX_LENGTH = 4096
_MAX_DEPTH = 32
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<operator><=|>=|!=|=|<|>|:|\(|\))
  | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<number>-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w./-]))
  | (?P<word>[A-Za-z0-9_*][\w./*-]*)
    )""",
    re.VERBOSE,
)
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def where(text: str, resolve: Resolve, *, known: str, field: str = "filter") -> ColumnElement[bool]:
    """The condition that a filter stands for; all rows for an empty one.

    `known` lists the fields for people. Raises InvalidInput naming `field` and what is wrong.
    """
    return _Parser(text, resolve, known, field).parse()


class _Token(NamedTuple):
    kind: str
    text: str


class _Parser:
    """Recursive descent over a handful of tokens."""

    def __init__(self, text: str, resolve: Resolve, known: str, field: str) -> None:
        self._field = field
        self._resolve = resolve
        self._known = known
        self._tokens = self._tokenize(text)
        self._position = 0
        self._depth = 0

    def parse(self) -> ColumnElement[bool]:
        if not self._tokens:
            return true()
        condition = self._conjunction()
        if self._position < len(self._tokens):
            self._fail(f"has {self._tokens[self._position].text!r} where AND or OR should stand")
        return condition

    def _conjunction(self) -> ColumnElement[bool]:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._fail("is nested too deeply")
        parts = [self._disjunction()]
        while self._accept("AND"):
            parts.append(self._disjunction())
        self._depth -= 1
        return and_(*parts)

    def _disjunction(self) -> ColumnElement[bool]:
        parts = [self._term()]
        while self._accept("OR"):
            parts.append(self._term())
        return or_(*parts)

    def _term(self) -> ColumnElement[bool]:
        if self._accept("NOT"):
            return not_(self._simple())
        return self._simple()

    def _simple(self) -> ColumnElement[bool]:
        if self._accept("("):
            condition = self._conjunction()
            if not self._accept(")"):
                self._fail("lacks a closing parenthesis")
            return condition
        return self._comparison()

    def _comparison(self) -> ColumnElement[bool]:
        name = self._take("a field")
        if name.kind != "word":
            self._fail(f"has {name.text!r} where a field should stand")
        target = self._resolve(name.text)
        if target is None:
            self._fail(f"has the unknown field {name.text!r}", f"filter by {self._known}")
        sign = self._take(f"an operator after {name.text}")
        value = self._take(f"a value after {name.text} {sign.text}")
        if sign.text == ":":
            if value.text != "*":
                self._fail(f"has {name.text}:{value.text}", "write field = value, or field:*")
            return target.expression.is_not(None)
        if sign.text not in _COMPARE:
            self._fail(f"has {sign.text!r} where an operator should stand", "use = != < <= > >=")
        try:
            left, right = target.comparable(*_literal(value))
        except ValueError:
            self._fail(f"compares {name.text} with {value.text}", f"give {target.kind.value}")
        condition: ColumnElement[bool] = _COMPARE[sign.text](left, right)
        if sign.text == "!=" and target.nullable:
            return or_(condition, left.is_(None))
        return condition

    def _accept(self, text: str) -> bool:
        if self._position == len(self._tokens):
            return False
        token = self._tokens[self._position]
        if token.kind == "string" or token.text != text:
            return False
        self._position += 1
        return True

    def _take(self, wanted: str) -> _Token:
        if self._position == len(self._tokens):
            self._fail(f"ends where {wanted} should stand")
        self._position += 1
        return self._tokens[self._position - 1]

    def _tokenize(self, text: str) -> list[_Token]:
        if len(text) > _MAX_LENGTH:
            self._fail(f"has more than {_MAX_LENGTH} characters")
        text = text.strip()
        tokens = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if not match or match.lastgroup is None:
                self._fail(f"cannot be read at {text[position : position + 20]!r}")
            tokens.append(_Token(match.lastgroup, match[match.lastgroup]))
            position = match.end()
        return tokens

    def _fail(self, problem: str, fix: str = _EXAMPLE) -> NoReturn:
        raise InvalidInput(field=self._field, problem=problem, fix=fix, reason="INVALID_FILTER")


def _literal(token: _Token) -> tuple[Literal, str]:
    """The value, and the text of it."""
    if token.kind == "string":
        text = re.sub(r"\\(.)", r"\1", token.text[1:-1])
        return text, text
    if token.kind == "number":
        fraction = re.search(r"[.eE]", token.text)
        return float(token.text) if fraction else int(token.text), token.text
    if token.kind == "operator":
        raise ValueError(token.text)
    if token.text in ("true", "false"):
        return token.text == "true", token.text
    return token.text, token.text
