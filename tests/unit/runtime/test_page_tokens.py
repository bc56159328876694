"""Pages of lists in memory."""

from __future__ import annotations

import pytest

from keeptune.runtime.errors import InvalidInput
from keeptune.runtime.page_tokens import page_size, window


def pages(keys: list[str] | range, size: int) -> list[list[str | int]]:
    found: list[list[str | int]] = []
    token = ""
    while True:
        page, token = window(keys, size=size, token=token, scope="x")  # type: ignore[type-var]
        found.append(list(keys[page]))
        if not token:
            return found


def test_every_item_once_in_order() -> None:
    assert pages(["a", "b", "c", "d", "e"], 2) == [["a", "b"], ["c", "d"], ["e"]]
    assert pages(range(4), 2) == [[0, 1], [2, 3]]
    assert pages([], 2) == [[]]
    assert [len(page) for page in pages(range(2500), 0)] == [1000, 1000, 500]
    assert [len(page) for page in pages(range(2500), 10_000)] == [1000, 1000, 500]


def test_a_page_goes_on_after_the_last_item_though_that_has_gone() -> None:
    _, token = window(["a", "b", "c"], size=2, token="", scope="x")
    keys = ["a", "bb", "c"]
    page, rest = window(keys, size=2, token=token, scope="x")
    assert (keys[page], rest) == (["bb", "c"], "")


@pytest.mark.parametrize("scope", ["x", "y"])
def test_what_is_no_token_of_this_list_is_refused(scope: str) -> None:
    _, token = window(["a", "b"], size=1, token="", scope="other")
    for wrong in (token, "junk", "é", "e30="):
        with pytest.raises(InvalidInput) as caught:
            window(["a", "b"], size=1, token=wrong, scope=scope)
        assert caught.value.field == "page_token"
    _, token = window(["a", "b"], size=1, token="", scope=scope)
    with pytest.raises(InvalidInput):
        window([1, 2], size=1, token=token, scope=scope)


def test_sizes() -> None:
    assert [page_size(size) for size in (0, 1, 999, 1000, 1001)] == [50, 1, 999, 1000, 1000]
    with pytest.raises(InvalidInput) as caught:
        page_size(-1)
    assert caught.value.field == "page_size"
