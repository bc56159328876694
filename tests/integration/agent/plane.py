"""A control plane for agents: the real deployment service, with peers that do as the test says."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
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
from keeptune.runtime.convert import to_duration
from keeptune.runtime.server import Context, Program, serve
from keeptune.v1 import deployment_pb2 as pb
from keeptune.v1 import (
    deployment_pb2_grpc,
    evaluation_pb2,
    evaluation_pb2_grpc,
    monitoring_pb2,
    retuning_pb2,
    retuning_pb2_grpc,
    types_pb2,
)

ENDED = (pb.ROLLOUT_STATE_SUCCEEDED, pb.ROLLOUT_STATE_ROLLED_BACK, pb.ROLLOUT_STATE_FAILED)


class PassesEverything(evaluation_pb2_grpc.EvaluationServiceServicer):
    """The evaluation `<sha256 of the candidate, 60 digits>` has passed it."""

    def __init__(self) -> None:
        self.candidates: dict[str, types_pb2.Artifact] = {}

    async def GetEvaluation(self, request: Any, context: Any) -> evaluation_pb2.Evaluation:
        return evaluation_pb2.Evaluation(
            name=request.name,
            candidate=self.candidates[request.name],
            state=evaluation_pb2.EVALUATION_STATE_SUCCEEDED,
            verdict=evaluation_pb2.Verdict(outcome=evaluation_pb2.VERDICT_OUTCOME_PASSED),
        )


class ScriptedRetuning(retuning_pb2_grpc.RetuningServiceServicer):
    """Answers requests as scripted, then with STARTED; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[retuning_pb2.RequestRetuneRequest] = []
        self.script: list[retuning_pb2.RequestRetuneResponse] = []

    async def RequestRetune(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        if self.script:
            return self.script.pop(0)
        return retuning_pb2.RequestRetuneResponse(
            decision=retuning_pb2.REQUEST_DECISION_STARTED,
            retune=retuning_pb2.Retune(name="retunes/r"),
        )


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@dataclass
class Plane:
    """Keeps its data in `folder`, so that it can be stopped and started again."""

    folder: Path
    evaluations: PassesEverything = field(default_factory=PassesEverything)
    retuning: ScriptedRetuning = field(default_factory=ScriptedRetuning)
    address: str = field(default_factory=free_address)
    _stop: asyncio.Event | None = None
    _serving: asyncio.Task[None] | None = None
    _channel: grpc.aio.Channel | None = None

    @property
    def tokens_file(self) -> Path:
        return self.folder / "credentials"

    @property
    def join_token_file(self) -> Path:
        return self.folder / "join-token"

    @property
    def artifacts(self) -> ArtifactStore:
        return ArtifactStore(f"file://{self.folder / 'artifacts'}")

    @property
    def stub(self) -> Any:
        if self._channel is None:
            self._channel = self._open("deployment")
        return deployment_pb2_grpc.DeploymentServiceStub(self._channel)

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        tokens = Tokens.load_or_create(self.tokens_file)
        context = Context(
            clock=SystemClock(),
            data_dir=self.folder,
            artifacts=self.artifacts,
            open_channel=self._open,
            rng=random.Random(0),
        )
        deployment = await build(
            DeploymentSettings(reconcile_seconds=0.2, away_seconds=8.0), context
        )
        peers = Program(
            name="peers",
            servicers=[
                (
                    evaluation_pb2_grpc.add_EvaluationServiceServicer_to_server,
                    self.evaluations,
                    "keeptune.v1.EvaluationService",
                ),
                (
                    retuning_pb2_grpc.add_RetuningServiceServicer_to_server,
                    self.retuning,
                    "keeptune.v1.RetuningService",
                ),
            ],
            grants={Role.AGENT: ("RequestRetune",)},
        )
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self._serving = asyncio.create_task(
            serve(
                [deployment, peers],
                ServerSettings(listen=self.address, drain_seconds=0.2),
                tokens=tokens,
                ready=ready.set_result,
                stop=self._stop,
            )
        )
        await asyncio.wait({self._serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            await self._serving

    async def stop(self) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
        if self._stop is not None and self._serving is not None:
            self._stop.set()
            await asyncio.wait_for(self._serving, 20)
            self._stop = self._serving = None

    async def create_model(self, model: str, monitoring: monitoring_pb2.Monitoring) -> None:
        await calling(
            self.stub.CreateModel(
                pb.CreateModelRequest(model_id=model, model=pb.Model(monitoring=monitoring))
            )
        )

    async def create_version(self, model: str, onnx: bytes, profile: bytes = b"") -> str:
        version = pb.ModelVersion(
            onnx=await self._put(onnx, "application/onnx", "model.onnx"), max_batch_size=8
        )
        if profile:
            version.reference_profile.CopyFrom(
                await self._put(profile, "application/x-protobuf", "profile.pb")
            )
        made = await calling(
            self.stub.CreateModelVersion(
                pb.CreateModelVersionRequest(parent=f"models/{model}", version=version)
            )
        )
        return str(made.name)

    async def roll_out(
        self, version: str, rollout: str, *, bake: float = 1.0, min_requests: int = 0
    ) -> None:
        onnx = (
            await calling(self.stub.GetModelVersion(pb.GetModelVersionRequest(name=version)))
        ).onnx
        evaluation = f"evaluations/{onnx.sha256[:60]}"
        self.evaluations.candidates[evaluation] = onnx
        strategy = pb.RolloutStrategy(
            bake=to_duration(timedelta(seconds=bake)), min_bake_requests=min_requests
        )
        await calling(
            self.stub.CreateRollout(
                pb.CreateRolloutRequest(
                    rollout_id=rollout,
                    rollout=pb.Rollout(version=version, evaluation=evaluation, strategy=strategy),
                )
            )
        )

    async def rollout(self, rollout: str) -> pb.Rollout:
        found: pb.Rollout = await calling(
            self.stub.GetRollout(pb.GetRolloutRequest(name=f"rollouts/{rollout}"))
        )
        return found

    async def rollout_ends(self, rollout: str, seconds: float = 60.0) -> pb.Rollout:
        async with asyncio.timeout(seconds):
            while True:
                found = await self.rollout(rollout)
                if found.state in ENDED:
                    return found
                await asyncio.sleep(0.1)

    async def _put(self, content: bytes, media_type: str, filename: str) -> types_pb2.Artifact:
        return to_proto(
            await self.artifacts.put_bytes(content, media_type=media_type, filename=filename)
        )

    def _open(self, _service: str) -> grpc.aio.Channel:
        return open_channel(self.address, credentials=ClientCredentials.from_file(self.tokens_file))


@asynccontextmanager
async def running_plane(folder: Path) -> AsyncIterator[Plane]:
    plane = Plane(folder)
    await plane.start()
    try:
        yield plane
    finally:
        await plane.stop()
