"""The deployment service behind a real server, as its callers know it."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

from keeptune.deployment.config import DeploymentSettings
from keeptune.deployment.program import build
from keeptune.runtime.artifacts import ArtifactStore, to_proto
from keeptune.runtime.auth import ClientCredentials, Role, Tokens
from keeptune.runtime.calls import calling
from keeptune.runtime.channel import open_channel
from keeptune.runtime.clock import SystemClock
from keeptune.runtime.config import ServerSettings
from keeptune.runtime.server import Context, serve
from keeptune.v1 import deployment_pb2 as pb
from keeptune.v1 import deployment_pb2_grpc
from tests.integration.deployment.judged import Evaluations, Judged, wait_for_address

SETTINGS: dict[str, Any] = {"reconcile_seconds": 0.1}
ENDED = (pb.ROLLOUT_STATE_SUCCEEDED, pb.ROLLOUT_STATE_ROLLED_BACK, pb.ROLLOUT_STATE_FAILED)


@dataclass
class ControlPlane:
    """A running deployment service; its stubs; what it shares with the evaluation service."""

    address: str
    credentials: ClientCredentials
    channel: grpc.aio.Channel
    folder: Path
    evaluations: Evaluations

    @property
    def stub(self) -> Any:
        return deployment_pb2_grpc.DeploymentServiceStub(self.channel)

    @property
    def link(self) -> Any:
        return deployment_pb2_grpc.AgentLinkStub(self.channel)

    @property
    def artifacts(self) -> ArtifactStore:
        return self.evaluations.artifacts

    async def model(self, model_id: str = "digits", **fields: Any) -> pb.Model:
        request = pb.CreateModelRequest(model_id=model_id, model=pb.Model(**fields))
        created: pb.Model = await calling(self.stub.CreateModel(request))
        return created

    async def version(self, judged: Judged, model_id: str = "digits") -> pb.ModelVersion:
        request = pb.CreateModelVersionRequest(
            parent=f"models/{model_id}",
            version=pb.ModelVersion(
                onnx=to_proto(judged.onnx), reference_profile=to_proto(judged.profile)
            ),
        )
        created: pb.ModelVersion = await calling(self.stub.CreateModelVersion(request))
        return created

    async def roll_out(
        self,
        version: str,
        judged: Judged,
        rollout_id: str = "",
        request_id: str = "",
        **strategy: Any,
    ) -> pb.Rollout:
        wanted = pb.RolloutStrategy(**strategy)
        if not wanted.HasField("bake"):
            wanted.bake.FromMilliseconds(0)
        request = pb.CreateRolloutRequest(
            rollout_id=rollout_id,
            request_id=request_id,
            rollout=pb.Rollout(version=version, evaluation=judged.evaluation, strategy=wanted),
        )
        created: pb.Rollout = await calling(self.stub.CreateRollout(request))
        return created

    async def rollout(self, name: str) -> pb.Rollout:
        found: pb.Rollout = await calling(self.stub.GetRollout(pb.GetRolloutRequest(name=name)))
        return found

    async def ended(self, name: str, seconds: float = 30) -> pb.Rollout:
        async with asyncio.timeout(seconds):
            while (found := await self.rollout(name)).state not in ENDED:
                await asyncio.sleep(0.05)
        return found

    async def in_state(self, name: str, *states: int, seconds: float = 30) -> pb.Rollout:
        try:
            async with asyncio.timeout(seconds):
                while (found := await self.rollout(name)).state not in states:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(await self.rollout(name)) from None
        return found

    async def host(self, name: str) -> pb.Host:
        found: pb.Host = await calling(self.stub.GetHost(pb.GetHostRequest(name=name)))
        return found

    async def champion(self, model: str = "models/digits") -> str:
        found: pb.Model = await calling(self.stub.GetModel(pb.GetModelRequest(name=model)))
        return found.champion


async def eventually(condition: Any, seconds: float = 20) -> Any:
    """Waits until `condition()` (or what it awaits) is true; gives it."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(
    folder: Path,
    evaluations: Evaluations,
    *,
    artifacts: ArtifactStore | None = None,
    **settings: Any,
) -> AsyncIterator[ControlPlane]:
    """The service in this process; all else is real."""
    tokens = Tokens({"secret": Role.OPERATOR, "shared": Role.AGENT, "looking": Role.VIEWER})
    peers = open_channel(evaluations.address, credentials=evaluations.credentials)
    context = Context(
        clock=SystemClock(),
        data_dir=folder,
        artifacts=artifacts or evaluations.artifacts,
        open_channel=lambda _: peers,
        rng=random.Random(0),
    )
    program = await build(DeploymentSettings(**(SETTINGS | settings)), context)
    stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
    server = ServerSettings(listen="127.0.0.1:0", drain_seconds=1.0)
    task = asyncio.create_task(
        serve([program], server, tokens=tokens, ready=address.set_result, stop=stop)
    )
    await asyncio.wait({task, address}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    credentials = ClientCredentials("secret")
    channel = open_channel(address.result(), credentials=credentials)
    try:
        yield ControlPlane(address.result(), credentials, channel, folder, evaluations)
    finally:
        await channel.close()
        stop.set()
        await task
        await peers.close()


class DeploymentProcess:
    """`keeptune serve deployment` in a process of its own, at one address, to be killed."""

    def __init__(self, folder: Path, evaluations: Evaluations) -> None:
        self._folder = folder
        self._evaluations = evaluations
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._listen = f"127.0.0.1:{probe.getsockname()[1]}"
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self._starts += 1
        log = self._folder / f"deployment-{self._starts}.log"
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from keeptune.composition.serve import serve; serve()",
                "deployment",
                f"--listen={self._listen}",
                f"--data-dir={self._folder}",
            ],
            stderr=log.open("wb"),
            env={
                "PATH": "/usr/bin:/bin",
                "OMP_NUM_THREADS": "1",
                "KEEPTUNE_PLATFORM__ARTIFACTS": self._evaluations.artifacts_url,
                "KEEPTUNE_SERVICES__EVALUATION": self._evaluations.address,
                "KEEPTUNE_SERVICES__TOKENS_FILE": str(self._evaluations.folder / "credentials"),
                "KEEPTUNE_DEPLOYMENT__RECONCILE_SECONDS": "0.1",
            },
        )
        await asyncio.to_thread(wait_for_address, self._process, log)

    def connect(self) -> ControlPlane:
        credentials = ClientCredentials.from_file(self._folder / "credentials")
        channel = open_channel(self._listen, credentials=credentials)
        return ControlPlane(self._listen, credentials, channel, self._folder, self._evaluations)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
