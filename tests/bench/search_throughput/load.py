"""Workers at a server, in a process of their own: how many pairs they get through.

    python load.py ADDRESS TOKEN WAY CLIENTS SECONDS PID...    # prints JSON

A pair is a trial suggested and its result taken. Each client has a connection of its own and sends
its next call when the last one is answered. The processor time of the servers PID is taken over
the very same time; the first of it is left out, while connections are made.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import psutil

from keeptune.v1 import search_pb2, search_pb2_grpc

STUDY = "studies/s"
_WARM_UP = 0.5


@dataclass
class Window:
    """Pairs count for `seconds`, which begin a moment after all clients have their first trial."""

    clients: int
    seconds: float
    begin: float = math.inf
    end: float = math.inf
    arrived: int = 0
    pairs: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.end

    def arrive(self) -> None:
        self.arrived += 1
        if self.arrived == self.clients:
            self.begin = time.monotonic() + _WARM_UP
            self.end = self.begin + self.seconds
            self.begun.set()

    def count(self) -> None:
        if self.begin <= time.monotonic() < self.end:
            self.pairs += 1


Metadata = list[tuple[str, str]]
Stub: TypeAlias = "search_pb2_grpc.SearchServiceAsyncStub"
Way: TypeAlias = "Callable[[Stub, Metadata, str, Window], Awaitable[None]]"


def suggest(worker: str, number: int) -> search_pb2.SuggestTrialsRequest:
    return search_pb2.SuggestTrialsRequest(
        request_id=f"{worker}/{number}/suggest", study=STUDY, worker=worker
    )


def complete(
    leased: search_pb2.LeasedTrial, worker: str, number: int, following: int = 0
) -> search_pb2.CompleteTrialRequest:
    request = search_pb2.CompleteTrialRequest(
        request_id=f"{worker}/{number}/complete",
        trial=leased.trial.name,
        lease_token=leased.lease.token,
        next=following,
    )
    request.measurement.metrics["loss"] = leased.trial.parameters["x"].double_value
    return request


async def in_two_calls(stub: Stub, metadata: Metadata, worker: str, window: Window) -> None:
    """SuggestTrials, then CompleteTrial."""
    number = 0
    while not window.is_over:
        answer = await stub.SuggestTrials(suggest(worker, number), metadata=metadata)
        (leased,) = answer.trials
        if not number:
            window.arrive()
        await stub.CompleteTrial(complete(leased, worker, number), metadata=metadata)
        window.count()
        number += 1


async def in_one_call(stub: Stub, metadata: Metadata, worker: str, window: Window) -> None:
    """CompleteTrial, which brings the next trial."""
    (leased,) = (await stub.SuggestTrials(suggest(worker, 0), metadata=metadata)).trials
    window.arrive()
    number = 0
    while not window.is_over:
        request = complete(leased, worker, number, following=1)
        (leased,) = (await stub.CompleteTrial(request, metadata=metadata)).next.trials
        window.count()
        number += 1
    await stub.CompleteTrial(complete(leased, worker, number), metadata=metadata)


async def on_a_stream(stub: Stub, metadata: Metadata, worker: str, window: Window) -> None:
    """The same over WorkTrials."""
    call = stub.WorkTrials(metadata=metadata)
    await call.write(search_pb2.WorkTrialsRequest(suggest=suggest(worker, 0)))
    (leased,) = (await _read(call)).suggest.trials
    window.arrive()
    number = 0
    while not window.is_over:
        request = complete(leased, worker, number, following=1)
        await call.write(search_pb2.WorkTrialsRequest(complete=request))
        (leased,) = (await _read(call)).complete.next.trials
        window.count()
        number += 1
    request = complete(leased, worker, number)
    await call.write(search_pb2.WorkTrialsRequest(complete=request))
    await _read(call)
    await call.done_writing()


async def _read(
    call: grpc.aio.StreamStreamCall[search_pb2.WorkTrialsRequest, search_pb2.WorkTrialsResponse],
) -> search_pb2.WorkTrialsResponse:
    answer = await call.read()
    assert isinstance(answer, search_pb2.WorkTrialsResponse)
    assert not answer.HasField("error"), answer.error
    return answer


WAYS: dict[str, Way] = {
    "two calls": in_two_calls,
    "fused": in_one_call,
    "stream": on_a_stream,
}


def cpu_of(processes: list[psutil.Process]) -> float:
    """Seconds, user and system, without the children's."""
    spent = 0.0
    for process in processes:
        times = process.cpu_times()
        spent += times.user + times.system
    return spent


async def main() -> None:
    address, token, way, clients, seconds, *pids = sys.argv[1:]
    metadata = [("authorization", f"Bearer {token}")]
    servers = [psutil.Process(int(pid)) for pid in pids]
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as stack:
        stubs: list[Stub] = []
        for _ in range(int(clients)):
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(address, options=options)
            )
            stubs.append(search_pb2_grpc.SearchServiceStub(channel))  # type: ignore[arg-type]
        window = Window(int(clients), float(seconds))
        session = f"{time.time_ns():x}"
        working = asyncio.gather(
            *(WAYS[way](stub, metadata, f"{session}-{i}", window) for i, stub in enumerate(stubs))
        )
        begun = asyncio.create_task(window.begun.wait())
        await asyncio.wait([working, begun], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working  # it failed
        await asyncio.sleep(window.begin - time.monotonic())
        before = cpu_of(servers)
        await asyncio.sleep(window.end - time.monotonic())
        after = cpu_of(servers)
        await working
    print(json.dumps({"pairs": window.pairs, "seconds": float(seconds), "cpu": after - before}))


if __name__ == "__main__":
    asyncio.run(main())
