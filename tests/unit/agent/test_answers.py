"""A repeated request gets its first answer."""

from __future__ import annotations

import asyncio

import pytest

from keeptune.agent.answers import Answers
from keeptune.runtime.errors import InvalidInput, ResourceExhausted
from keeptune.v1.agent_pb2 import Outcome, RecordOutcomesRequest, RecordOutcomesResponse


class Work:
    def __init__(self) -> None:
        self.done = 0
        self.broken = False
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self) -> RecordOutcomesResponse:
        await self.go.wait()
        if self.broken:
            raise ResourceExhausted("the disk is full")
        self.done += 1
        return RecordOutcomesResponse(joined=self.done)


def request(label: str = "1", request_id: str = "a") -> RecordOutcomesRequest:
    outcomes = [Outcome(request_id="r", label=label)]
    return RecordOutcomesRequest(request_id=request_id, model="models/m", outcomes=outcomes)


async def test_it_is_done_once_even_at_the_same_moment() -> None:
    answers, work = Answers[RecordOutcomesResponse](), Work()
    work.go.clear()
    asked = [asyncio.create_task(answers.once("a", request(), work)) for _ in range(3)]
    await asyncio.sleep(0)
    work.go.set()
    assert {each.joined for each in await asyncio.gather(*asked)} == {1}
    assert (await answers.once("a", request(), work)).joined == 1
    assert (await answers.once("", request(request_id=""), work)).joined == 2


async def test_an_id_is_used_for_one_request() -> None:
    answers, work = Answers[RecordOutcomesResponse](), Work()
    await answers.once("a", request(), work)
    with pytest.raises(InvalidInput) as caught:
        await answers.once("a", request("2"), work)
    assert (caught.value.field, caught.value.reason) == ("request_id", "REQUEST_ID_REUSED")
    assert work.done == 1


async def test_a_failure_may_be_tried_again() -> None:
    answers, work = Answers[RecordOutcomesResponse](), Work()
    work.broken = True
    with pytest.raises(ResourceExhausted):
        await answers.once("a", request(), work)
    work.broken = False
    assert (await answers.once("a", request(), work)).joined == 1


async def test_work_goes_on_when_its_caller_has_gone() -> None:
    answers, work = Answers[RecordOutcomesResponse](), Work()
    work.go.clear()
    first = asyncio.create_task(answers.once("a", request(), work))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    work.go.set()
    assert (await answers.once("a", request(), work)).joined == 1
    assert work.done == 1


async def test_the_oldest_are_forgotten() -> None:
    answers, work = Answers[RecordOutcomesResponse](most=2), Work()
    for name in "abc":
        await answers.once(name, request(request_id=name), work)
    assert (await answers.once("c", request(request_id="c"), work)).joined == 3
    assert (await answers.once("a", request(request_id="a"), work)).joined == 4
