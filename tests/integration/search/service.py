"""The search service as its workers know it, for the tests beside it."""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

from keeptune.runtime.artifacts import ArtifactStore
from keeptune.runtime.auth import ClientCredentials, Role, Tokens
from keeptune.runtime.calls import calling
from keeptune.runtime.channel import open_channel
from keeptune.runtime.clock import Clock, ManualClock, SystemClock
from keeptune.runtime.config import ServerSettings
from keeptune.runtime.server import Context, Program, Server
from keeptune.runtime.tasks import run_all
from keeptune.search import program
from keeptune.search.config import SearchSettings
from keeptune.v1 import search_pb2, search_pb2_grpc, types_pb2

TOKEN = "a token for tests"
WORKER_TOKEN = "a token for workers"

COMPLETED = search_pb2.TRIAL_STATE_COMPLETED
WAITING = search_pb2.TRIAL_STATE_WAITING
RUNNING = search_pb2.TRIAL_STATE_RUNNING
CONTINUE = search_pb2.TRIAL_DIRECTIVE_CONTINUE
STOP = search_pb2.TRIAL_DIRECTIVE_STOP
LOST = search_pb2.TRIAL_DIRECTIVE_LOST


@dataclass
class Service:
    """A server and a client of it; `clock` stands still when it is a ManualClock."""

    stub: search_pb2_grpc.SearchServiceAsyncStub
    clock: Clock
    address: str = ""
    program: Program | None = None

    async def create(self, study: search_pb2.Study, study_id: str = "s", **more: Any) -> Any:
        request = search_pb2.CreateStudyRequest(study_id=study_id, study=study, **more)
        return await calling(self.stub.CreateStudy(request))

    async def suggest(
        self, worker: str = "w", count: int = 1, *, study: str = "s", request_id: str = ""
    ) -> search_pb2.SuggestTrialsResponse:
        request = search_pb2.SuggestTrialsRequest(
            study=f"studies/{study}", worker=worker, count=count, request_id=request_id
        )
        return await calling(self.stub.SuggestTrials(request))

    async def report(
        self,
        leased: search_pb2.LeasedTrial,
        *losses: float,
        start: int = 1,
        request_id: str = "",
    ) -> search_pb2.ReportMeasurementsResponse:
        request = search_pb2.ReportMeasurementsRequest(
            trial=leased.trial.name,
            lease_token=leased.lease.token,
            request_id=request_id,
            measurements=[
                types_pb2.Measurement(step=step, metrics={"loss": loss})
                for step, loss in enumerate(losses, start=start)
            ],
        )
        return await calling(self.stub.ReportMeasurements(request))

    async def complete(
        self, leased: search_pb2.LeasedTrial, loss: float | None = None, **more: Any
    ) -> search_pb2.CompleteTrialResponse:
        if loss is not None:
            more["measurement"] = types_pb2.Measurement(metrics={"loss": loss})
        request = search_pb2.CompleteTrialRequest(
            trial=leased.trial.name, lease_token=leased.lease.token, **more
        )
        return await calling(self.stub.CompleteTrial(request))

    async def trial(self, number: int, study: str = "s") -> search_pb2.Trial:
        request = search_pb2.GetTrialRequest(name=f"studies/{study}/trials/{number}")
        return await calling(self.stub.GetTrial(request))

    async def study(self, study: str = "s") -> search_pb2.Study:
        request = search_pb2.GetStudyRequest(name=f"studies/{study}")
        return await calling(self.stub.GetStudy(request))

    async def trials(self, study: str = "s", **more: Any) -> list[search_pb2.Trial]:
        request = search_pb2.ListTrialsRequest(parent=f"studies/{study}", **more)
        return list((await calling(self.stub.ListTrials(request))).trials)

    async def run(
        self, trials: int, *, study: str = "s", worker: str = "w"
    ) -> list[dict[str, Any]]:
        """Completes trials one at a time; their parameters."""
        done = []
        for _ in range(trials):
            for leased in (await self.suggest(worker, study=study)).trials:
                parameters = values(leased.trial)
                done.append(parameters)
                await self.complete(leased, objective(parameters))
        return done


def space() -> types_pb2.SearchSpace:
    """A float, a logarithm, an integer and a category, one of them under a condition."""
    return types_pb2.SearchSpace(
        parameters=[
            types_pb2.ParameterSpec(
                name="x",
                float_range=types_pb2.FloatRange(min=-5, max=10, scale=types_pb2.SCALE_LINEAR),
            ),
            types_pb2.ParameterSpec(
                name="rate",
                float_range=types_pb2.FloatRange(min=1e-5, max=1, scale=types_pb2.SCALE_LOG),
            ),
            types_pb2.ParameterSpec(
                name="depth",
                int_range=types_pb2.IntRange(min=1, max=9, scale=types_pb2.SCALE_LINEAR, step=1),
            ),
            types_pb2.ParameterSpec(name="kind", categories=strings("a", "b", "c")),
            types_pb2.ParameterSpec(
                name="width",
                int_range=types_pb2.IntRange(min=8, max=64, scale=types_pb2.SCALE_LINEAR, step=8),
                conditions=[types_pb2.Condition(parent="kind", values=strings("b", "c"))],
            ),
        ]
    )


def strings(*values: str) -> types_pb2.Categories:
    return types_pb2.Categories(
        values=[types_pb2.ParameterValue(string_value=value) for value in values]
    )


def study(**more: Any) -> search_pb2.Study:
    """Minimises `loss` over `space` with a small budget, at random, unless told otherwise."""
    budget = more.pop("max_trials", 100)
    algorithm = more.pop("algorithm", "random")
    defaults: dict[str, Any] = {
        "space": space(),
        "metrics": [search_pb2.Metric(name="loss", goal=types_pb2.GOAL_MINIMIZE)],
        "algorithm": search_pb2.Algorithm(name=algorithm),
        "budget": search_pb2.Budget(max_trials=budget),
        "seed": 7,
    }
    return search_pb2.Study(**(defaults | more))


def values(trial: search_pb2.Trial) -> dict[str, Any]:
    return {
        name: getattr(value, value.WhichOneof("value"))
        for name, value in sorted(trial.parameters.items())
    }


def objective(parameters: dict[str, Any]) -> float:
    width = parameters.get("width", 40)
    kind = {"a": 2.0, "b": 0.0, "c": 1.0}[parameters["kind"]]
    return float((parameters["x"] - 3) ** 2 + parameters["rate"] + kind + abs(width - 32) / 8)


@asynccontextmanager
async def running(
    folder: Path, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Service]:
    """The real service on a real socket, in this process."""
    clock = clock or SystemClock()
    context = Context(
        clock=clock,
        data_dir=folder,
        artifacts=ArtifactStore((folder / "artifacts").as_uri()),
        open_channel=lambda name: _no_peers(name),
        rng=random.Random(1),
    )
    built = await program.build(SearchSettings(**settings), context)
    tokens = Tokens({TOKEN: Role.ADMIN, WORKER_TOKEN: Role.WORKER})
    server = Server([built], ServerSettings(), tokens=tokens)
    await server.start()
    background = asyncio.create_task(
        run_all({str(i): loop for i, loop in enumerate(built.background)})
    )
    try:
        async with client(server.address) as stub:
            yield Service(stub, clock, server.address, built)
    finally:
        background.cancel()
        await asyncio.gather(background, return_exceptions=True)
        await server.stop(0)
        assert built.close is not None
        await built.close()


@asynccontextmanager
async def client(
    address: str, token: str = TOKEN
) -> AsyncIterator[search_pb2_grpc.SearchServiceAsyncStub]:
    async with open_channel(address, credentials=ClientCredentials(token=token)) as channel:
        yield search_pb2_grpc.SearchServiceStub(channel)  # type: ignore[misc]


def _no_peers(name: str) -> grpc.aio.Channel:
    raise AssertionError(f"search has no peers, but asked for {name}")


async def pass_time(clock: Clock, seconds: float) -> None:
    """Moves a standing clock, and lets the loops that slept by it do their work."""
    assert isinstance(clock, ManualClock)
    clock.advance(seconds)
    await asyncio.sleep(0.05)


_SERVE = """
    import asyncio, random, sys
    from pathlib import Path
    from keeptune.runtime import logging
    from keeptune.runtime.artifacts import ArtifactStore
    from keeptune.runtime.auth import Role, Tokens
    from keeptune.runtime.clock import SystemClock
    from keeptune.runtime.config import ServerSettings
    from keeptune.runtime.server import Context, serve
    from keeptune.search import program
    from keeptune.search.config import SearchSettings

    folder, listen, token, database = Path(sys.argv[1]), *sys.argv[2:]

    logging.configure(level="error")

    async def main():
        context = Context(SystemClock(), folder, ArtifactStore(folder.as_uri()), None, random)
        built = await program.build(SearchSettings(database=database), context)
        await serve([built], ServerSettings(listen=listen), tokens=Tokens({token: Role.ADMIN}),
                    ready=lambda address: print(address, flush=True))

    asyncio.run(main())
"""


class Process:
    """A search server in a process of its own, always at the same address."""

    def __init__(self, folder: Path, database: str = "") -> None:
        self._folder = folder
        self._database = database
        self.token = secrets.token_hex(8)
        self.address = "127.0.0.1:0"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(_SERVE),
                str(self._folder),
                self.address,
                self.token,
                self._database,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address, "the server did not start"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """As the machine would: without a word."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """In order; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(20)
        finally:
            self.kill()


@contextmanager
def process(folder: Path, database: str = "") -> Iterator[Process]:
    server = Process(folder, database)
    server.start()
    try:
        yield server
    finally:
        server.kill()
