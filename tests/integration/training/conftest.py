"""A real search service and a real training service, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio
from sklearn.datasets import load_digits

from keeptune.runtime.artifacts import ArtifactStore
from keeptune.runtime.auth import ClientCredentials, Tokens
from keeptune.runtime.channel import open_channel
from keeptune.v1 import (
    search_pb2,
    search_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
    types_pb2,
)

HERE = Path(__file__).parent
SERVE = "from keeptune.composition.serve import serve; serve()"
ENDED = (
    training_pb2.TRAINING_STATE_SUCCEEDED,
    training_pb2.TRAINING_STATE_FAILED,
    training_pb2.TRAINING_STATE_CANCELLED,
)


@dataclass
class Service:
    """`keeptune serve NAME` in a process that can be killed and started again."""

    name: str
    folder: Path
    env: dict[str, str]
    address: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.folder / f"{self.name}.log").open("ab")
        command = [sys.executable, "-c", SERVE, self.name, "--listen", self.address]
        self.process = subprocess.Popen(
            [*command, "--data-dir", str(self.folder / self.name)],
            env=self.env, stdout=log, stderr=log, cwd=self.folder,
        )  # fmt: skip

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
                return
            self.kill()

    def processes(self) -> list[psutil.Process]:
        """All below the service: the nursery and its workers."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def nursery(self) -> psutil.Process:
        assert self.process is not None
        (found,) = psutil.Process(self.process.pid).children()
        return found

    def workers(self) -> list[psutil.Process]:
        """All at one moment; empty while there is no nursery."""
        assert self.process is not None
        found = [
            worker
            for nursery in psutil.Process(self.process.pid).children()
            for worker in nursery.children()
        ]
        # Listing takes so long that one may end and the next begin meanwhile.
        return [worker for worker in found if worker.is_running()]


@dataclass
class Installation:
    folder: Path
    search: Service
    training: Service
    credentials: ClientCredentials
    artifacts: ArtifactStore
    digits: str
    line: str
    ids: Iterator[int] = field(default_factory=lambda: iter(range(1, 10_000)))


@dataclass
class Client:
    """Stubs, and the few things every test does with them."""

    here: Installation
    search: search_pb2_grpc.SearchServiceAsyncStub
    training: training_pb2_grpc.TrainingServiceAsyncStub

    async def study(self, **fields: object) -> str:
        """A study of the sleepy trainer unless the fields say otherwise."""
        defaults: dict[str, object] = {
            "metrics": [search_pb2.Metric(name="score", goal=types_pb2.GOAL_MAXIMIZE)],
            "algorithm": search_pb2.Algorithm(name="random"),
            "budget": search_pb2.Budget(max_trials=4),
            "seed": 1,
        }
        study = await self.search.CreateStudy(
            search_pb2.CreateStudyRequest(
                study_id=f"s{next(self.here.ids)}",
                study=search_pb2.Study(**{**defaults, **fields}),  # type: ignore[arg-type]
            )
        )
        return study.name

    async def create(self, request_id: str = "", **fields: object) -> training_pb2.Training:
        """A training of the sleepy trainer unless the fields say otherwise."""
        defaults: dict[str, object] = {
            "trainer": "trainers/sleepy",
            "task": types_pb2.TASK_REGRESSION,
            "datasets": [types_pb2.Dataset(uri=self.here.line)],
        }
        return await self.training.CreateTraining(
            training_pb2.CreateTrainingRequest(
                request_id=request_id,
                training=training_pb2.Training(**{**defaults, **fields}),  # type: ignore[arg-type]
            )
        )

    async def watch(
        self, name: str, revision: int = 0
    ) -> AsyncIterator[training_pb2.WatchTrainingResponse]:
        request = training_pb2.WatchTrainingRequest(name=name, revision=revision)
        async for event in self.training.WatchTraining(request):
            yield event

    async def end(
        self, name: str
    ) -> tuple[training_pb2.Training, list[training_pb2.WatchTrainingResponse]]:
        """The training once it has ended, and all its events."""
        events = [event async for event in self.watch(name)]
        return events[-1].training, events

    async def trials(self, study: str) -> list[search_pb2.Trial]:
        request = search_pb2.ListTrialsRequest(parent=study, include_measurements=True)
        return list((await self.search.ListTrials(request)).trials)


def fixed(**parameters: float) -> training_pb2.FixedParameters:
    return training_pb2.FixedParameters(
        parameters={
            name: types_pb2.ParameterValue(int_value=value)
            if isinstance(value, int)
            else types_pb2.ParameterValue(double_value=value)
            for name, value in parameters.items()
        }
    )


def space(**parameters: float | list[float]) -> types_pb2.SearchSpace:
    """A number is fixed, a list is searched."""
    found = types_pb2.SearchSpace()
    for name, values in parameters.items():
        spec = found.parameters.add(name=name)
        if isinstance(values, list):
            for value in values:
                spec.categories.values.add(double_value=value)
        else:
            spec.fixed.CopyFrom(fixed(**{name: values}).parameters[name])
    return found


def until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    """Blocks; fails when the condition does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("training")
    tokens = folder / "credentials"
    Tokens.load_or_create(tokens)
    addresses = {name: free_address() for name in ("search", "training")}
    artifacts = (folder / "artifacts").as_uri()
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("KEEPTUNE_")},
        "PYTHONPATH": os.pathsep.join([str(_plugin(folder)), str(HERE)]),
        "KEEPTUNE_SERVER__TOKENS_FILE": str(tokens),
        "KEEPTUNE_SERVICES__TOKENS_FILE": str(tokens),
        "KEEPTUNE_SERVICES__SEARCH": addresses["search"],
        "KEEPTUNE_PLATFORM__ARTIFACTS": artifacts,
        "KEEPTUNE_TRAINING__WORKERS": "2",
        "KEEPTUNE_TRAINING__POLL_SECONDS": "0.2",
    }
    services = {name: Service(name, folder, env, addresses[name]) for name in addresses}
    found = Installation(
        folder,
        services["search"],
        services["training"],
        ClientCredentials.from_file(tokens),
        ArtifactStore(artifacts),
        _digits(folder / "digits.npz"),
        _line(folder / "line.npz"),
    )
    try:
        for service in services.values():
            service.start()
        yield found
    finally:
        for service in services.values():
            service.stop()


@pytest_asyncio.fixture
async def client(installation: Installation) -> AsyncIterator[Client]:
    async with (
        open_channel(installation.search.address, credentials=installation.credentials) as search,
        open_channel(
            installation.training.address, credentials=installation.credentials
        ) as training,
    ):
        yield Client(
            installation,
            search_pb2_grpc.SearchServiceStub(search),
            training_pb2_grpc.TrainingServiceStub(training),
        )


def _plugin(folder: Path) -> Path:
    """A distribution, as an installer leaves it, with the sleepy trainer and a broken one."""
    info = folder / "plugin" / "sleepy-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sleepy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[keeptune.trainers]\nsleepy = sleepy:SleepyTrainer\nbroken = no_such_module:Nothing\n"
    )
    return info.parent


def _digits(path: Path) -> str:
    digits = load_digits()
    np.savez(path, x=digits.images[:700].astype(np.float32), y=digits.target[:700])
    return str(path)


def _line(path: Path) -> str:
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    np.savez(path, x=x, y=x.sum(axis=1))
    return str(path)
