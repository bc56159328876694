"""The server is killed in the middle of studies; they go on as if nothing had happened."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import grpc
import pytest

from keeptune.runtime.clock import SystemClock
from keeptune.v1 import search_pb2
from tests.integration.search.service import (
    Process,
    Service,
    client,
    objective,
    process,
    running,
    study,
    values,
)

T = TypeVar("T")

ALGORITHMS = ["random", "auto", "nevergrad/Cobyla"]
TRIALS = 10
# The calls, counted over all studies, during which the server is killed.
KILLED_CALLS = (5, 14, 33, 47, 58)


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")
async def test_killed_and_resumed_a_study_suggests_the_same(tmp_path: Path) -> None:
    """Sequential and of one seed; killed before, in and after calls, by signal 9."""
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    calm.mkdir()
    rough.mkdir()
    async with running(calm) as service:
        for i, algorithm in enumerate(ALGORITHMS):
            await service.create(study(algorithm=algorithm, max_trials=TRIALS), f"s{i}")
            await service.run(TRIALS, study=f"s{i}")
        undisturbed = [await service.trials(f"s{i}") for i in range(len(ALGORITHMS))]

    with process(rough) as server:
        trouble = Trouble(server, KILLED_CALLS)
        async with client(server.address, server.token) as stub:
            service = Service(stub, SystemClock())
            for i, algorithm in enumerate(ALGORITHMS):
                await service.create(study(algorithm=algorithm, max_trials=TRIALS), f"s{i}")
                await one_at_a_time(service, f"s{i}", trouble)
            assert trouble.kills == len(KILLED_CALLS)
            for i, algorithm in enumerate(ALGORITHMS):
                trials = await service.trials(f"s{i}")
                expected = [values(trial) for trial in undisturbed[i]]
                assert [values(trial) for trial in trials] == expected, algorithm
                assert [trial.source for trial in trials] == [t.source for t in undisturbed[i]]
                assert all(len(trial.attempts) == 1 for trial in trials)
                assert (await service.study(f"s{i}")).trial_counts.completed == TRIALS
        assert server.stop() == 0


async def test_workers_lose_and_double_nothing_when_the_server_is_killed(tmp_path: Path) -> None:
    with process(tmp_path) as server:
        async with client(server.address, server.token) as stub:
            service = Service(stub, SystemClock())
            await service.create(study(algorithm="random", max_trials=60))
            done: Counter[str] = Counter()
            kills = asyncio.create_task(kill_as_they_go(server, done, (5, 20, 40)))
            await asyncio.gather(*(worker(service, f"w{i}", done) for i in range(4)))
            await kills
            trials = await service.trials(page_size=1000)
            assert [t.name for t in trials] == [f"studies/s/trials/{n}" for n in range(1, 61)]
            assert done == {trial.name: 1 for trial in trials}
            counts = (await service.study()).trial_counts
            assert (counts.completed, counts.running, counts.waiting) == (60, 0, 0)


async def test_a_server_ends_in_order_with_an_optimiser_on_a_thread(tmp_path: Path) -> None:
    with process(tmp_path) as server:
        async with client(server.address, server.token) as stub:
            service = Service(stub, SystemClock())
            await service.create(study(algorithm="nevergrad/Cobyla"))
            await service.run(3)
            await service.suggest()
        assert server.stop() == 0


class Trouble:
    """Makes calls, and kills the server a few milliseconds into some of them."""

    def __init__(self, server: Process, killed: tuple[int, ...]) -> None:
        self._server = server
        self._killed = killed
        self._rng = random.Random(3)
        self._calls = 0
        self.kills = 0

    async def call(self, make: Callable[[], Awaitable[T]]) -> T:
        self._calls += 1
        if self._calls not in self._killed:
            return await again(make)
        answer = asyncio.ensure_future(again(make))
        await asyncio.sleep(self._rng.uniform(0, 0.03))
        await asyncio.to_thread(restart, self._server)
        self.kills += 1
        return await answer


def restart(server: Process) -> None:
    server.kill()
    server.start()


async def kill_as_they_go(server: Process, done: Counter[str], at: tuple[int, ...]) -> None:
    for count in at:
        while done.total() < count:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(restart, server)


async def again(make: Callable[[], Awaitable[T]]) -> T:
    """The answer, however often the server goes away before it comes."""
    deadline = time.monotonic() + 90
    while True:
        try:
            return await make()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise


async def one_at_a_time(service: Service, name: str, trouble: Trouble) -> None:
    for i in range(TRIALS):
        (leased,) = (await trouble.call(lambda i=i: suggest(service, name, "w", i))).trials
        done = await trouble.call(lambda leased=leased: complete(service, leased))
        assert done.accepted


async def worker(service: Service, name: str, done: Counter[str]) -> None:
    for i in range(10_000):
        answer = await again(lambda i=i: suggest(service, "s", name, i))
        if not answer.trials:
            if answer.study_state != search_pb2.STUDY_STATE_ACTIVE:
                return
            await asyncio.sleep(0.05)
            continue
        (leased,) = answer.trials
        await asyncio.sleep(0.02)
        if (await again(lambda leased=leased: complete(service, leased))).accepted:
            done[leased.trial.name] += 1


async def suggest(
    service: Service, name: str, worker: str, number: int
) -> search_pb2.SuggestTrialsResponse:
    request = search_pb2.SuggestTrialsRequest(
        study=f"studies/{name}", worker=worker, request_id=f"{name}-{worker}-{number}"
    )
    return await service.stub.SuggestTrials(request, timeout=60)


async def complete(
    service: Service, leased: search_pb2.LeasedTrial
) -> search_pb2.CompleteTrialResponse:
    request = search_pb2.CompleteTrialRequest(
        trial=leased.trial.name,
        lease_token=leased.lease.token,
        request_id=f"complete {leased.trial.name}",
    )
    request.measurement.metrics["loss"] = objective(values(leased.trial))
    return await service.stub.CompleteTrial(request, timeout=60)
