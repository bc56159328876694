"""An agent as a process of its own beside a real Triton, and the traffic that it watches."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from keeptune.agent.triton import TritonClient
from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.calls import calling
from keeptune.runtime.channel import open_channel
from keeptune.v1 import agent_pb2 as pb
from keeptune.v1 import agent_pb2_grpc
from tests.fixtures.triton import RunningTriton
from tests.integration.agent.plane import Plane

COMMAND = "from keeptune.agent.command import agent; agent()"


def keeptune_agent(*arguments: str) -> list[str]:
    return [sys.executable, "-c", COMMAND, *arguments]


@dataclass
class Host:
    """`keeptune agent run`, with its own folder; killed and started at will."""

    folder: Path
    config: Path
    listen: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def data_dir(self) -> Path:
        return self.folder / "agent"

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def start(self) -> None:
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                keeptune_agent("run", "--config", str(self.config)),
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    async def call(self, method: str, request: Any) -> Any:
        """A call of the agent; waits until it serves."""
        async with asyncio.timeout(30):
            while not (self.data_dir / "credentials").exists():
                await asyncio.sleep(0.05)
        credentials = ClientCredentials.from_file(self.data_dir / "credentials")
        async with open_channel(self.listen, credentials=credentials) as channel:
            stub = agent_pb2_grpc.AgentServiceStub(channel)
            return await calling(getattr(stub, method)(request))

    async def status(self) -> pb.AgentStatus:
        found: pb.AgentStatus = await self.call("GetStatus", pb.GetStatusRequest())
        return found

    async def until(self, condition: Any, seconds: float = 30.0) -> pb.AgentStatus:
        """The first status for which the condition holds."""
        async with asyncio.timeout(seconds):
            while True:
                found = await self.status()
                if condition(found):
                    return found
                await asyncio.sleep(0.2)


@contextmanager
def running_agent(
    folder: Path, plane: Plane, triton: RunningTriton, listen: str, **settings: Any
) -> Iterator[Host]:
    folder.mkdir(parents=True, exist_ok=True)
    host = Host(folder, folder / "agent.yaml", listen)
    content = {
        "host": "h1",
        "data_dir": str(host.data_dir),
        "deployment": plane.address,
        "tokens_file": str(plane.tokens_file),
        "model_repository": str(triton.options.repository),
        "triton": {"state_dir": str(triton.options.state_dir)},
        "server": {"listen": host.listen},
        "log_format": "json",
        **settings,
    }
    host.config.write_text(
        yaml.safe_dump({"agent": {k: v for k, v in content.items() if v is not None}})
    )
    host.start()
    try:
        yield host
    finally:
        if host.process is not None and host.process.poll() is None:
            host.kill()


@dataclass
class Traffic:
    """Sends rows one request each, and tells their labels to the agent."""

    client: TritonClient
    host: Host
    model: str
    rng: np.random.Generator
    numbers: Iterator[int]

    @classmethod
    def of(cls, client: TritonClient, host: Host, model: str) -> Traffic:
        return cls(client, host, model, np.random.default_rng(0), itertools.count())

    async def send(
        self, images: NDArray[np.float32], labels: NDArray[np.str_], count: int
    ) -> tuple[pb.RecordOutcomesResponse, float]:
        """`count` rows drawn from the pool; the agent's answer, and the accuracy seen here."""
        outcomes, right = [], 0
        for row in self.rng.integers(0, len(images), count).tolist():
            name = f"{self.model}-{next(self.numbers)}"
            answer = await self.client.infer(
                self.model, {"image": images[row : row + 1]}, request_id=name
            )
            # As fast as a busy application; a socket holds some ten samples.
            await asyncio.sleep(0.003)
            right += str(answer["probabilities"][0].argmax()) == labels[row]
            outcomes.append(pb.Outcome(request_id=name, label=str(labels[row])))
        request = pb.RecordOutcomesRequest(model=f"models/{self.model}", outcomes=outcomes)
        return await self.host.call("RecordOutcomes", request), right / count
