"""A repeated request gets its first answer, and happens once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlalchemy import Connection, select

from keeptune.runtime.clock import ManualClock
from keeptune.runtime.db import Database, migrate
from keeptune.runtime.errors import FailedPrecondition, InvalidInput
from keeptune.runtime.ledger import mutate
from keeptune.runtime.records import Records
from keeptune.runtime.tables import requests
from keeptune.v1 import search_pb2


@dataclass(frozen=True)
class Counter:
    value: int


COUNTERS = Records("counter", Counter)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def database(database_url: str, clock: ManualClock) -> AsyncIterator[Database]:
    database = await Database.open(database_url, clock=clock)
    await migrate(database)
    await database.run(lambda c: COUNTERS.create(c, "counters/x", Counter(0)))
    yield database
    await database.close()


def request(request_id: str, study_id: str = "x") -> search_pb2.CreateStudyRequest:
    message = search_pb2.CreateStudyRequest(request_id=request_id, study_id=study_id)
    message.study.labels.update({"b": "2", "a": "1", "c": "3"})
    return message


def count_up(
    connection: Connection, message: search_pb2.CreateStudyRequest, method: str = "Count"
) -> search_pb2.Study:
    def work() -> search_pb2.Study:
        value = COUNTERS.get(connection, "counters/x").doc.value + 1
        COUNTERS.put(connection, "counters/x", Counter(value))
        return search_pb2.Study(name=f"studies/{value}")

    return mutate(
        connection,
        request_id=message.request_id,
        method=method,
        request=message,
        response_type=search_pb2.Study,
        fn=work,
    )


async def value(database: Database) -> int:
    return (await database.read(lambda c: COUNTERS.get(c, "counters/x"))).doc.value


async def test_the_first_answer_is_replayed(database: Database) -> None:
    first = await database.run(lambda c: count_up(c, request("a")))
    again = await database.run(lambda c: count_up(c, request("a")))
    assert first == again == search_pb2.Study(name="studies/1")
    assert await value(database) == 1


async def test_requests_without_an_id_are_not_replayed(database: Database) -> None:
    await database.run(lambda c: count_up(c, request("")))
    await database.run(lambda c: count_up(c, request("")))
    assert await value(database) == 2


async def test_the_order_of_a_map_makes_no_other_request(database: Database) -> None:
    await database.run(lambda c: count_up(c, request("a")))
    other_order = search_pb2.CreateStudyRequest(request_id="a", study_id="x")
    for key, each in (("c", "3"), ("b", "2"), ("a", "1")):
        other_order.study.labels[key] = each
    await database.run(lambda c: count_up(c, other_order))
    assert await value(database) == 1


@pytest.mark.parametrize(
    ("message", "method"), [(request("a", "y"), "Count"), (request("a"), "CountOtherwise")]
)
async def test_an_id_is_used_for_one_request(
    database: Database, message: search_pb2.CreateStudyRequest, method: str
) -> None:
    await database.run(lambda c: count_up(c, request("a")))
    with pytest.raises(InvalidInput) as caught:
        await database.run(lambda c: count_up(c, message, method))
    assert (caught.value.field, caught.value.reason) == ("request_id", "REQUEST_ID_REUSED")
    assert await value(database) == 1


async def test_a_failure_is_not_kept(database: Database) -> None:
    def fail() -> search_pb2.Study:
        raise FailedPrecondition("not yet")

    def failing(connection: Connection) -> search_pb2.Study:
        return mutate(
            connection,
            request_id="a",
            method="Count",
            request=request("a"),
            response_type=search_pb2.Study,
            fn=fail,
        )

    with pytest.raises(FailedPrecondition):
        await database.run(failing)
    await database.run(lambda c: count_up(c, request("a")))
    assert await value(database) == 1


async def test_repeats_at_the_same_moment_happen_once(database: Database) -> None:
    answers = await asyncio.gather(
        *(database.run(lambda c: count_up(c, request("a"))) for _ in range(8))
    )
    assert {answer.name for answer in answers} == {"studies/1"}
    assert await value(database) == 1


async def test_answers_are_kept_for_seven_days_and_then_dropped_by_themselves(
    database: Database, clock: ManualClock
) -> None:
    def kept(connection: Connection) -> set[str]:
        return set(connection.scalars(select(requests.c.request_id)))

    async def after(days: float) -> set[str]:
        """What is kept once housekeeping has been at it again."""
        while not clock.sleepers:
            await asyncio.sleep(0.01)
        clock.advance(timedelta(days=days).total_seconds())
        while not clock.sleepers:
            await asyncio.sleep(0.01)
        return await database.read(kept)

    async with asyncio.timeout(20):
        await database.run(lambda c: count_up(c, request("old")))
        assert await after(days=6) == {"old"}
        await database.run(lambda c: count_up(c, request("new")))
        assert await after(days=0.9) == {"old", "new"}
        assert await after(days=0.2) == {"new"}
    await database.run(lambda c: count_up(c, request("new")))
    assert await value(database) == 2
