"""How many trials a second the search service hands out and takes back.

Beside it, in the same run, a bare grpc.aio server with the same messages and nothing behind them:
what gRPC in Python allows on this machine. Shorten or lengthen with KEEPTUNE_BENCH_SECONDS.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil
import pytest

from keeptune.runtime.clock import SystemClock
from keeptune.v1 import search_pb2, search_pb2_grpc
from tests.integration.search.service import Service, client, process, study

SECONDS = float(os.environ.get("KEEPTUNE_BENCH_SECONDS", "5"))
CLIENTS = (1, 8)

Stub = search_pb2_grpc.SearchServiceStub
# One worker: pairs until the time is up, and how many they were.
Work = Callable[[Stub, str, float], Awaitable[int]]

_FLOOR = """
    import asyncio
    import grpc
    from keeptune.v1 import search_pb2, search_pb2_grpc

    class Bare(search_pb2_grpc.SearchServiceServicer):
        async def SuggestTrials(self, request, context):
            trial = search_pb2.Trial(name="studies/s/trials/1")
            for name in ("x", "rate", "depth", "kind"):
                trial.parameters[name].double_value = 1
            return search_pb2.SuggestTrialsResponse(trials=[search_pb2.LeasedTrial(trial=trial)])

        async def CompleteTrial(self, request, context):
            return search_pb2.CompleteTrialResponse(accepted=True)

    async def main():
        server = grpc.aio.server()
        search_pb2_grpc.add_SearchServiceServicer_to_server(Bare(), server)
        print(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
        await server.start()
        await server.wait_for_termination()

    asyncio.run(main())
"""


async def in_two_calls(stub: Stub, worker: str, until: float) -> int:
    """SuggestTrials, then CompleteTrial."""
    service = Service(stub, SystemClock())
    pairs = 0
    while time.monotonic() < until:
        for leased in (await service.suggest(worker, request_id=f"{worker}/{pairs}")).trials:
            await service.complete(leased, 1.0, request_id=f"{worker}/{pairs}/done")
        pairs += 1
    return pairs


async def in_one_call(stub: Stub, worker: str, until: float) -> int:
    """CompleteTrial with the next suggestion."""
    service = Service(stub, SystemClock())
    (leased,) = (await service.suggest(worker)).trials
    pairs = 0
    while time.monotonic() < until:
        done = await service.complete(leased, 1.0, request_id=f"{worker}/{pairs}/one", next=1)
        (leased,) = done.next.trials
        pairs += 1
    await service.complete(leased, 1.0)
    return pairs


async def on_a_stream(stub: Stub, worker: str, until: float) -> int:
    """The same over WorkTrials."""
    call = stub.WorkTrials()
    asked = search_pb2.SuggestTrialsRequest(study="studies/s", worker=worker)
    await call.write(search_pb2.WorkTrialsRequest(suggest=asked))
    (leased,) = (await call.read()).suggest.trials  # type: ignore[union-attr]
    pairs = 0
    while time.monotonic() < until:
        completed = search_pb2.CompleteTrialRequest(
            request_id=f"{worker}/{pairs}/stream",
            trial=leased.trial.name,
            lease_token=leased.lease.token,
            next=1,
        )
        completed.measurement.metrics["loss"] = 1.0
        await call.write(search_pb2.WorkTrialsRequest(complete=completed))
        (leased,) = (await call.read()).complete.next.trials  # type: ignore[union-attr]
        pairs += 1
    await call.done_writing()
    return pairs


@pytest.mark.bench
async def test_throughput(tmp_path: Path) -> None:
    print()
    with floor() as (address, server):
        await measure("bare gRPC, two calls", address, "", server, in_two_calls)
    for name, work in (
        ("search, two calls", in_two_calls),
        ("search, one call", in_one_call),
        ("search, a stream", on_a_stream),
    ):
        folder = tmp_path / work.__name__
        folder.mkdir()
        with process(folder) as searching:
            server = psutil.Process(searching.pid)
            async with stubs(searching.address, searching.token, 1) as (stub,):
                asked = study(algorithm="random", max_trials=10**9)
                await Service(stub, SystemClock()).create(asked)
            await measure(name, searching.address, searching.token, server, work)


async def measure(name: str, address: str, token: str, server: psutil.Process, work: Work) -> None:
    for count in CLIENTS:
        async with stubs(address, token, count) as connected:
            before = server.cpu_times()
            until = time.monotonic() + SECONDS
            done = await asyncio.gather(
                *(work(stub, f"w{count}-{i}", until) for i, stub in enumerate(connected))
            )
            after = server.cpu_times()
        cpu = (after.user + after.system - before.user - before.system) / sum(done)
        rate = sum(done) / SECONDS
        print(f"{name:22} {count} clients {rate:8.0f} pairs/s {cpu * 1000:6.2f} ms of CPU a pair")
        assert rate > 1


@asynccontextmanager
async def stubs(address: str, token: str, count: int) -> AsyncIterator[list[Stub]]:
    async with client(address, token) as first:
        if count == 1:
            yield [first]
            return
        async with stubs(address, token, count - 1) as others:
            yield [first, *others]


@contextmanager
def floor() -> Iterator[tuple[str, psutil.Process]]:
    command = [sys.executable, "-c", textwrap.dedent(_FLOOR)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip(), psutil.Process(server.pid)
        finally:
            server.kill()
