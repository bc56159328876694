"""Calls that are made again, and streams that resume."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from keeptune.client.errors import InvalidInput, NotFound, Unavailable
from keeptune.client.persistence import persist, resume


@dataclass(frozen=True)
class Event:
    revision: int


async def test_a_call_is_made_again_until_it_is_answered() -> None:
    answers: list[Exception | str] = [Unavailable("a"), Unavailable("b"), "here"]

    async def call() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await persist(call, patience=60) == "here"


async def test_what_does_not_help_is_not_repeated() -> None:
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        raise InvalidInput("wrong")

    with pytest.raises(InvalidInput):
        await persist(call, patience=60)
    assert calls == 1


async def test_patience_ends() -> None:
    async def call() -> None:
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        await persist(call, patience=0.0)


async def test_a_stream_resumes_after_the_last_event() -> None:
    asked: list[int] = []

    async def watch(after: int) -> AsyncIterator[Event]:
        asked.append(after)
        for revision in range(after + 1, after + 3):
            yield Event(revision)
        if len(asked) < 3:
            raise Unavailable("restarting")
        if len(asked) == 3:
            # A server that drains ends its streams in peace.
            return
        raise NotFound("deleted")

    events = resume(watch, revision=10, patience=60)
    seen = [(await anext(events)).revision for _ in range(8)]
    with pytest.raises(NotFound):
        await anext(events)
    assert asked == [10, 12, 14, 16]
    assert seen == list(range(11, 19))
