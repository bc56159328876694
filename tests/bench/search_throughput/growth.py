"""What a long study, a thousand clients and a costly optimiser do to the service."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import psutil

from keeptune.v1 import search_pb2, search_pb2_grpc
from tests.bench.search_throughput import servers
from tests.bench.search_throughput.load import STUDY, complete, suggest
from tests.bench.search_throughput.servers import Target
from tests.integration.search import service

_IMPORTED_AT_ONCE = 1000
_TRAINING = (2.0, 4.0)  # seconds
_COUNTED = (150, 200)  # trials


@dataclass(frozen=True)
class Growth:
    """CPU a pair in ms with few and with many trials; bytes of memory a trial between."""

    few: float
    many: float
    trials: int
    bytes_a_trial: float


@dataclass(frozen=True)
class Crowd:
    clients: int
    completed: int
    gaps: int
    doubled: int
    seconds: float


@contextmanager
def _server(**asked: Any) -> Iterator[Target]:
    with tempfile.TemporaryDirectory() as folder, servers.keeptune(Path(folder), **asked) as found:
        yield found


def growth(trials: int, seconds: float, rounds: int = 3) -> Growth:
    """A study that has grown, and fresh ones beside it, measured in turn."""
    few, many = [], []
    with _server() as long:
        process = psutil.Process(long.pid)
        servers.load(long, "fused", 8, seconds)
        before = process.memory_info().rss
        asyncio.run(_import(long, trials))
        servers.load(long, "fused", 8, seconds)
        after = process.memory_info().rss
        for _ in range(rounds):
            with _server() as young:
                few.append(servers.load(young, "fused", 8, seconds))
            many.append(servers.load(long, "fused", 8, seconds))
    return Growth(
        few=median(each.cpu for each in few),
        many=median(each.cpu for each in many),
        trials=trials,
        bytes_a_trial=(after - before) / trials,
    )


async def _import(target: Target, trials: int) -> None:
    async with service.client(target.address, target.token) as stub:
        (leased,) = (await stub.SuggestTrials(suggest("known", 0))).trials
        await stub.CompleteTrial(complete(leased, "known", 0))
        known = search_pb2.Trial(
            state=search_pb2.TRIAL_STATE_COMPLETED, parameters=leased.trial.parameters
        )
        known.final_measurement.metrics["loss"] = 1.0
        for _ in range(trials // _IMPORTED_AT_ONCE):
            known.final_measurement.metrics["loss"] += 1
            request = search_pb2.AddTrialsRequest(study=STUDY, trials=[known] * _IMPORTED_AT_ONCE)
            await stub.AddTrials(request, timeout=120)


def crowd(clients: int, each: int) -> Crowd:
    """So many clients at once, each on a connection of its own."""
    with _server() as target:
        return asyncio.run(_crowd(target, clients, each))


async def _crowd(target: Target, clients: int, each: int) -> Crowd:
    metadata = [("authorization", f"Bearer {target.token}")]
    options = [("grpc.use_local_subchannel_pool", 1)]
    done: Counter[str] = Counter()

    async def work(worker: str) -> None:
        async with grpc.aio.insecure_channel(target.address, options=options) as channel:
            stub = search_pb2_grpc.SearchServiceStub(channel)
            answer = await stub.SuggestTrials(suggest(worker, 0), metadata=metadata)
            (leased,) = answer.trials
            for number in range(each):
                following = int(number < each - 1)
                request = complete(leased, worker, number, following=following)
                ended = await stub.CompleteTrial(request, metadata=metadata)
                done[leased.trial.name] += ended.accepted
                if following:
                    (leased,) = ended.next.trials

    began = time.monotonic()
    await asyncio.gather(*(work(f"w{i}") for i in range(clients)))
    seconds = time.monotonic() - began
    expected = {f"{STUDY}/trials/{n}" for n in range(1, clients * each + 1)}
    return Crowd(
        clients=clients,
        completed=done.total(),
        gaps=len(expected ^ set(done)),
        doubled=sum(count > 1 for count in done.values()),
        seconds=seconds,
    )


def latency(workers: int) -> list[float]:
    """Seconds from a trial's result to the next trial, `auto`, from the 150th trial to the 200th.

    Workers train for three seconds or so; one alone gets what knows its last result.
    """
    with _server(algorithm="auto", max_trials=_COUNTED[1]) as target:
        return asyncio.run(_latency(target, workers))


async def _latency(target: Target, workers: int) -> list[float]:
    took: list[float] = []
    async with service.client(target.address, target.token) as stub:

        async def work(index: int) -> None:
            worker = f"w{index}"
            answer = await stub.SuggestTrials(suggest(worker, 0), timeout=120)
            number = 0
            while answer.trials:
                (leased,) = answer.trials
                trial = int(leased.trial.name.rpartition("/")[2])
                counts = _COUNTED[0] <= trial < _COUNTED[1]
                low, high = _TRAINING
                if counts:
                    # Not all at the same moment, as real training is not.
                    await asyncio.sleep(low + (high - low) * (trial * 0.618034 % 1))
                request = complete(leased, worker, number, following=1)
                request.measurement.metrics["loss"] = service.objective(
                    service.values(leased.trial)
                )
                began = time.perf_counter()
                answer = (await stub.CompleteTrial(request, timeout=120)).next
                if counts and answer.trials:
                    took.append(time.perf_counter() - began)
                number += 1

        await asyncio.gather(*(work(i) for i in range(workers)))
    return took
