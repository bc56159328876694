"""The search service is killed again and again during a study: nothing lost, doubled or stuck.

    python -m tests.bench.search_kills --engine sqlite --kills 200
    python -m tests.bench.search_kills --engine postgres --kills 50
    python -m tests.bench.search_kills --engine sqlite --kills 200 --workers 1

On PostgreSQL two processes serve the study at once, and one of them is killed (signal 9) each time;
on SQLite it is the only one. Workers call whoever is there, and repeat a call with its request_id
until it is answered. With one worker, whose calls go to both processes in turn on PostgreSQL, the
study is also played undisturbed, and must have the very same trials.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import grpc

from keeptune.runtime.clock import SystemClock
from keeptune.v1 import search_pb2
from tests.bench.search_throughput import servers
from tests.integration.search import service
from tests.integration.search.service import Process, Service

T = TypeVar("T")

_PATIENCE = 600.0
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@dataclass
class Study:
    """A study as its workers see it: how often each was told that it had completed a trial."""

    replicas: list[Service]
    trials: int
    done: Counter[str] = field(default_factory=Counter)
    calls: int = 0

    async def call(self, make: Callable[[Service], Awaitable[T]], first: int) -> T:
        """The answer of the first replica that gives one, beginning with `first`."""
        self.calls += 1
        deadline = time.monotonic() + _PATIENCE
        for turn in range(first, sys.maxsize):
            try:
                return await make(self.replicas[turn % len(self.replicas)])
            except grpc.RpcError as error:
                if error.code() not in _GONE or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.01)
        raise AssertionError

    async def work(self, worker: str, *, seconds: float, alone: bool) -> None:
        """Suggest and complete until the study has ended."""
        number = random.Random(worker).randrange(len(self.replicas))
        while True:
            wanted = search_pb2.SuggestTrialsRequest(
                study="studies/s", worker=worker, request_id=f"{worker}/{number}"
            )
            first = number if alone else hash(worker)
            answer = await self.call(
                lambda s, r=wanted: s.stub.SuggestTrials(r, timeout=300), first
            )
            number += 1
            for leased in answer.trials:
                await asyncio.sleep(seconds)
                done = search_pb2.CompleteTrialRequest(
                    trial=leased.trial.name,
                    lease_token=leased.lease.token,
                    # Of this lease: who lost it gets another answer by the next.
                    request_id=f"{worker}/{leased.trial.name}/{leased.lease.token}",
                )
                loss = service.objective(service.values(leased.trial))
                done.measurement.metrics["loss"] = loss
                ended = await self.call(
                    lambda s, r=done: s.stub.CompleteTrial(r, timeout=300), first + 1
                )
                self.done[leased.trial.name] += ended.accepted
            if not answer.trials:
                if answer.study_state != search_pb2.STUDY_STATE_ACTIVE:
                    return
                await asyncio.sleep(0.05)


async def killed(study: Study, victim: Process, kills: int, rng: random.Random) -> int:
    """Kills at random moments, spread over the study; how often it came to that."""
    for k in range(kills):
        at = int((k + rng.random()) * study.trials / kills)
        while study.done.total() < min(at, study.trials - 1):
            await asyncio.sleep(0.001)
        await asyncio.sleep(rng.uniform(0, 0.02))
        if study.done.total() >= study.trials:
            return k
        await asyncio.to_thread(victim.kill)
        await asyncio.to_thread(victim.start)
    return kills


@contextlib.contextmanager
def processes(engine: str, count: int) -> Iterator[list[Process]]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(servers.postgres_database()) if engine == "postgres" else ""
        started = []
        for i in range(count):
            (folder / str(i)).mkdir()
            started.append(stack.enter_context(service.process(folder / str(i), database)))
        yield started


async def played(
    engine: str, trials: int, algorithm: str, workers: int, kills: int, seed: int
) -> tuple[Study, int, list[search_pb2.Trial], search_pb2.Study]:
    with processes(engine, 2 if engine == "postgres" else 1) as started:
        async with contextlib.AsyncExitStack() as stack:
            replicas = []
            for process in started:
                stub = await stack.enter_async_context(
                    service.client(process.address, process.token)
                )
                replicas.append(Service(stub, SystemClock()))
            asked = service.study(algorithm=algorithm, max_trials=trials)
            # Who vanishes with a trial must not hold up the end for long.
            asked.lease_duration.FromSeconds(60)
            await replicas[-1].create(asked)
            study = Study(replicas, trials)
            killing = asyncio.create_task(killed(study, started[0], kills, random.Random(seed)))
            alone = workers == 1
            await asyncio.gather(
                *(
                    study.work(f"w{i}", seconds=0.0 if alone else 0.02, alone=alone)
                    for i in range(workers)
                )
            )
            happened = await killing
            kept = await study.call(lambda s: listed(s), 0)
            return study, happened, kept, await study.call(lambda s: s.study(), 0)


async def listed(replica: Service) -> list[search_pb2.Trial]:
    found: list[search_pb2.Trial] = []
    token = ""
    while True:
        request = search_pb2.ListTrialsRequest(parent="studies/s", page_size=1000, page_token=token)
        page = await replica.stub.ListTrials(request)
        found += page.trials
        token = page.next_page_token
        if not token:
            return found


@dataclass(frozen=True)
class Outcome:
    kills: int
    lost: int
    doubled: int
    stuck: int
    differing: int | None
    attempts: int

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.stuck or self.differing)


def judged(
    study: Study, kills: int, kept: list[search_pb2.Trial], same: list[search_pb2.Trial] | None
) -> Outcome:
    """Lost: acknowledged but not there, or a gap; doubled: accepted twice, or an id twice."""
    completed = {t.name for t in kept if t.state == search_pb2.TRIAL_STATE_COMPLETED}
    expected = {f"studies/s/trials/{n}" for n in range(1, study.trials + 1)}
    names = Counter(trial.name for trial in kept)
    ended = [t for t in kept if t.state not in (service.WAITING, service.RUNNING)]
    differing = None
    if same is not None:
        differing = abs(len(same) - len(kept)) + sum(
            (service.values(a), a.source) != (service.values(b), b.source)
            for a, b in zip(kept, same, strict=False)
        )
    return Outcome(
        kills=kills,
        lost=len((set(study.done) | expected) - completed),
        doubled=sum(count > 1 for count in (study.done + Counter()).values())
        + sum(count > 1 for count in names.values())
        + len(names.keys() - expected),
        stuck=len(kept) - len(ended),
        differing=differing,
        attempts=sum(len(trial.attempts) for trial in kept),
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--algorithm", default="tpe")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    started = time.monotonic()
    how = (given.engine, given.trials, given.algorithm, given.workers)
    study, kills, kept, ended = asyncio.run(played(*how, given.kills, given.seed))
    same = None
    if given.workers == 1:
        _, _, same, _ = asyncio.run(played(*how, 0, given.seed))
    outcome = judged(study, kills, kept, same)
    print(
        f"{given.engine}, {given.workers} workers, {given.trials} trials of {given.algorithm} "
        f"({ended.chosen_algorithm}), {outcome.kills} kills, {study.calls} calls in "
        f"{time.monotonic() - started:.0f} s: {outcome.lost} lost, {outcome.doubled} doubled, "
        f"{outcome.stuck} stuck, {outcome.attempts} attempts"
        + ("" if same is None else f", {outcome.differing} differ from the undisturbed run")
    )
    return 0 if outcome.is_clean and outcome.kills == given.kills else 1


if __name__ == "__main__":
    sys.exit(main())
