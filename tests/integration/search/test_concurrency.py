"""Many workers at once: ids without gaps, no trial twice, nothing lost; the same on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keeptune.runtime.clock import ManualClock
from keeptune.runtime.db import Database, migrate
from keeptune.search import program, tables
from keeptune.v1 import search_pb2
from tests.integration.search.service import (
    COMPLETED,
    Service,
    objective,
    pass_time,
    running,
    study,
    values,
)

TRIALS = 60
WORKERS = 8


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path) as found:
        yield found


async def work(service: Service, worker: str, done: Counter[str], *, batch: int = 1) -> None:
    """Works until the study ends, asking for the next trials with each completion."""
    answer = await service.suggest(worker, batch)
    while answer.study_state == search_pb2.STUDY_STATE_ACTIVE:
        if not answer.trials:
            await asyncio.sleep(0.02)
            answer = await service.suggest(worker, batch)
            continue
        leased, *held = answer.trials
        completed = await service.complete(leased, objective(values(leased.trial)), next=1)
        assert completed.accepted
        done[leased.trial.name] += 1
        answer = completed.next
        answer.trials.extend(held)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("algorithm", ["random", "nevergrad/OnePlusOne", "nevergrad/Cobyla"])
async def test_workers_in_parallel(service: Service, algorithm: str) -> None:
    await service.create(study(algorithm=algorithm, max_trials=TRIALS))
    done: Counter[str] = Counter()
    await asyncio.gather(*(work(service, f"w{i}", done, batch=1 + i % 3) for i in range(WORKERS)))
    await checked(service, done, TRIALS)
    seen = {tuple(values(trial).items()) for trial in await service.trials(page_size=1000)}
    assert len(seen) > TRIALS * 0.9


async def test_studies_side_by_side(service: Service) -> None:
    for i in range(4):
        await service.create(study(algorithm="quasi-random", max_trials=15, seed=i), f"s{i}")
    await asyncio.gather(*(service.run(15, study=f"s{i}", worker=f"w{i}") for i in range(4)))
    first = [values((await service.trials(study=f"s{i}"))[0]) for i in range(4)]
    assert len({tuple(each.items()) for each in first}) == 4


async def test_asking_and_importing_at_once(service: Service) -> None:
    await service.create(study(algorithm="nevergrad/OnePlusOne", max_trials=30))
    known = [
        search_pb2.Trial(state=COMPLETED, parameters=trial.parameters)
        for trial in [(await service.suggest("first")).trials[0].trial]
    ]
    known[0].final_measurement.metrics["loss"] = 1.0

    async def add() -> None:
        for _ in range(10):
            request = search_pb2.AddTrialsRequest(study="studies/s", trials=known)
            await service.stub.AddTrials(request)

    await asyncio.gather(add(), *(service.run(6, worker=f"w{i}") for i in range(4)))
    trials = await service.trials(page_size=1000)
    assert [int(t.name.rpartition("/")[2]) for t in trials] == list(range(1, 36))
    assert Counter(trial.source for trial in trials)["import"] == 10


async def test_a_caller_that_leaves_takes_nothing_along(service: Service) -> None:
    await service.create(study(algorithm="nevergrad/OnePlusOne", max_trials=20))
    for _ in range(5):
        call = service.stub.SuggestTrials(
            search_pb2.SuggestTrialsRequest(study="studies/s", worker="gone")
        )
        await asyncio.sleep(0.01)
        call.cancel()
    await asyncio.sleep(0.3)
    done: Counter[str] = Counter()
    await asyncio.gather(*(work(service, worker, done) for worker in ("gone", "here")))
    await checked(service, done, 20)


@pytest.mark.bench
async def test_thousands_of_trials_do_not_slow_it_down(service: Service) -> None:
    await service.create(study(max_trials=100_000))
    loop = asyncio.get_running_loop()

    async def seconds_a_pair() -> float:
        start = loop.time()
        await service.run(20)
        return (loop.time() - start) / 20

    early = min([await seconds_a_pair() for _ in range(3)])
    known = search_pb2.Trial(state=COMPLETED, parameters=(await service.trial(1)).parameters)
    known.final_measurement.metrics["loss"] = 1.0
    for _ in range(8):
        request = search_pb2.AddTrialsRequest(study="studies/s", trials=[known] * 1000)
        await service.stub.AddTrials(request)
    # The followers catch up once.
    await service.run(1)
    late = min([await seconds_a_pair() for _ in range(3)])
    assert late < 3 * early


@pytest.mark.postgres
async def test_two_replicas_on_one_database(tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with (
        running(tmp_path / "a", database=postgres_url) as one,
        running(tmp_path / "b", database=postgres_url) as two,
    ):
        await one.create(study(algorithm="nevergrad/OnePlusOne", max_trials=40))
        done: Counter[str] = Counter()
        await asyncio.gather(*(work((one, two)[i % 2], f"w{i}", done) for i in range(4)))
        await checked(two, done, 40)


@pytest.mark.postgres
async def test_leases_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    clock = ManualClock()
    async with running(tmp_path, clock, database=postgres_url) as service:
        await service.create(study(pruning=search_pb2.Pruning(asha=search_pb2.AshaPruning())))
        (lost,) = (await service.suggest("a")).trials
        await service.report(lost, 3.0)
        clock.advance(61)
        database = await Database.open(postgres_url, clock=clock)
        await program.sweep(database)
        await database.close()
        (taken,) = (await service.suggest("b")).trials
        assert values(taken.trial) == values(lost.trial)
        assert not (await service.complete(lost, 1.0)).accepted
        assert (await service.complete(taken, 1.0, next=2)).next.trials
        listed = await service.trials(filter="metrics.loss <= 1", order_by="metrics.loss desc")
        assert [trial.name for trial in listed] == [lost.trial.name]
        await pass_time(clock, 1)


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("pg", marks=pytest.mark.postgres)])
async def test_the_migration_makes_the_tables_the_code_uses(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import Connection

    url = (
        f"sqlite:///{tmp_path / 'x.db'}"
        if engine == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    database = await Database.open(url)
    await migrate(database, Path(program.__file__).parent / "migrations")

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_object": lambda _o, name, kind, _r, _c: (
                    kind != "table" or name in tables.metadata.tables
                ),
            },
        )
        return list(compare_metadata(context, tables.metadata))

    assert await database.run(differences) == []
    await database.close()


async def checked(service: Service, done: Counter[str], trials: int) -> None:
    """Each trial was completed by exactly one worker, once, and the ids have no gaps."""
    assert done == {f"studies/s/trials/{n}": 1 for n in range(1, trials + 1)}
    ended = await service.study()
    assert ended.state == search_pb2.STUDY_STATE_COMPLETED
    assert ended.trial_counts.completed == trials
