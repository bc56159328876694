"""Sizes and tokens of pages, and pages of lists that are in memory.

Apart from `paging`, because agents list things too and have no database.
"""

from __future__ import annotations

import base64
import binascii
import json
from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, TypeVar

from keeptune.runtime.errors import InvalidInput

DEFAULT_SIZE = 50
MAX_SIZE = 1000

K = TypeVar("K", int, str)


def page_size(requested: int, *, default: int = DEFAULT_SIZE, field: str = "page_size") -> int:
    """The size to use: `default` for 0, at most 1000."""
    if requested < 0:
        raise InvalidInput(field=field, problem=f"is {requested}", fix="give 0 for the default")
    return min(requested or default, MAX_SIZE)


def window(keys: Sequence[K], *, size: int, token: str, scope: str) -> tuple[slice, str]:
    """Which of a list in memory are on the page, and the token of the next one.

    `keys` ascend, one an item; `scope` names the list. 0 = as many as may be, 1000. Raises
    InvalidInput for a token of another list.
    """
    begin = 0
    if token:
        (last,) = decode(token, mark_of(scope), 1)
        if keys and not isinstance(last, type(keys[0])):
            raise wrong_token()
        begin = bisect_right(keys, last)
    end = begin + page_size(size, default=MAX_SIZE)
    following = encode(mark_of(scope), [keys[end - 1]]) if end < len(keys) else ""
    return slice(begin, end), following


def mark_of(scope: str) -> str:
    """What a token bears of the list, filter and order that it belongs to."""
    return blake2b(scope.encode(), digest_size=8).hexdigest()


def encode(mark: str, values: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([mark, *values]).encode()).decode()


def decode(token: str, mark: str, count: int) -> list[Any]:
    """The values of a token. Raises InvalidInput when it has another mark or number of them."""
    try:
        found, *values = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error, TypeError):
        found, values = "", []
    if found != mark or len(values) != count:
        raise wrong_token()
    return list(values)


def wrong_token() -> InvalidInput:
    return InvalidInput(
        field="page_token",
        problem="does not belong to this list, filter and order",
        fix="pass the next_page_token of the same list call, or none to start again",
        reason="INVALID_PAGE_TOKEN",
    )
