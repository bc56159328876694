"""Calls that share a transaction: each gets what it would have got alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from keeptune.runtime.errors import InvalidInput, NotFound
from keeptune.search.desk import Desk
from keeptune.search.optimizers import tpe
from keeptune.search.suggestions import Suggestions
from keeptune.v1 import search_pb2
from tests.integration.search.service import Service, objective, running, study, values


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def service(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Service]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    async with running(tmp_path, database=url) as found:
        yield found


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls shared each transaction."""
    sizes: list[int] = []
    transact = Desk._transact

    def counted(self: Desk, connection: Any, calls: Any) -> Any:
        sizes.append(len(calls))
        return transact(self, connection, calls)

    monkeypatch.setattr(Desk, "_transact", counted)
    return sizes


async def test_calls_that_wait_share_a_transaction(service: Service, batches: list[int]) -> None:
    await service.create(study())
    answers = await asyncio.gather(*(service.suggest(f"w{i}") for i in range(20)))
    names = {answer.trials[0].trial.name for answer in answers}
    assert names == {f"studies/s/trials/{n}" for n in range(1, 21)}
    done = await asyncio.gather(
        *(service.complete(each.trials[0], 1.0, request_id=f"r{i}", next=1)
          for i, each in enumerate(answers))
    )  # fmt: skip
    assert all(each.accepted and len(each.next.trials) == 1 for each in done)
    assert (await service.study()).trial_counts.completed == 20
    assert max(batches) > 3


async def test_a_refused_call_leaves_the_others_alone(service: Service, batches: list[int]) -> None:
    await service.create(study())
    held = [(await service.suggest(f"w{i}")).trials[0] for i in range(3)]
    missing = search_pb2.LeasedTrial()
    missing.CopyFrom(held[2])
    missing.trial.name = "studies/s/trials/99"
    outcomes = await asyncio.gather(
        service.complete(held[0], 1.0),
        service.complete(held[1], float("nan")),
        service.complete(missing, 1.0),
        service.complete(held[2], 2.0),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], InvalidInput)
    assert isinstance(outcomes[2], NotFound)
    assert outcomes[0].accepted and outcomes[3].accepted  # type: ignore[union-attr]
    counts = (await service.study()).trial_counts
    assert (counts.completed, counts.running) == (2, 1)


async def test_a_request_that_comes_twice_at_once_is_answered_alike(service: Service) -> None:
    await service.create(study())
    answers = await asyncio.gather(*(service.suggest("w", request_id="same") for _ in range(6)))
    assert all(answer == answers[0] for answer in answers)
    leased = answers[0].trials[0]
    done = await asyncio.gather(
        *(service.complete(leased, 1.0, request_id="done", next=1) for _ in range(6))
    )
    assert all(each == done[0] and each.accepted for each in done)
    other = service.complete(leased, 2.0, request_id="done", next=1)
    with pytest.raises(InvalidInput, match="another request"):
        await other
    counts = (await service.study()).trial_counts
    assert (counts.completed, counts.running) == (1, 1)


async def test_what_breaks_one_call_breaks_no_other(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not refused in order but broken, and after it has changed something."""
    from keeptune.search import leasing

    complete = leasing.complete

    def breaking(work: Any, number: int, token: str, outcome: Any) -> Any:
        answer = complete(work, number, token, outcome)
        if number == 2:
            raise RuntimeError("broken")
        return answer

    await service.create(study())
    held = [(await service.suggest(f"w{i}")).trials[0] for i in range(4)]
    monkeypatch.setattr(leasing, "complete", breaking)
    outcomes = await asyncio.gather(
        *(service.complete(each, 1.0) for each in held), return_exceptions=True
    )
    assert [isinstance(each, Exception) for each in outcomes] == [False, True, False, False]
    counts = (await service.study()).trial_counts
    assert (counts.completed, counts.running) == (3, 1)


async def test_a_suggestion_is_ready_when_one_of_several_workers_comes_back(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And knows all results but the last; that of a single worker knows all."""
    monkeypatch.setattr("keeptune.search.suggestions._COSTLY_SECONDS", 0.0)
    asked: list[int] = []
    prepare = Suggestions._prepare

    async def counted(self: Suggestions, count: int) -> None:
        asked.append(count)
        await prepare(self, count)

    monkeypatch.setattr(Suggestions, "_prepare", counted)
    assert tpe.ALGORITHM.name == "tpe"
    await service.create(study(algorithm="tpe"))
    (alone,) = (await service.suggest("a")).trials
    for _ in range(4):
        done = await service.complete(alone, objective(values(alone.trial)), next=1)
        (alone,) = done.next.trials
        await asyncio.sleep(0.05)
    assert len(asked) == 5
    (other,) = (await service.suggest("b")).trials
    await asyncio.sleep(0.5)
    computed = len(asked)
    done = await service.complete(other, objective(values(other.trial)), next=1)
    assert len(done.next.trials) == 1
    assert len(asked) == computed
    numbers = [int(t.name.rpartition("/")[2]) for t in await service.trials(page_size=100)]
    assert numbers == list(range(1, len(numbers) + 1))
