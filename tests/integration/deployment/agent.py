"""A scripted agent: what a serving host says and does, over real gRPC, without Triton."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.channel import open_channel
from keeptune.runtime.errors import KeeptuneError, from_rpc_error
from keeptune.runtime.manifest import manifest
from keeptune.v1 import deployment_pb2 as pb
from keeptune.v1 import deployment_pb2_grpc, monitoring_pb2

INFO = pb.HostInfo(
    agent_version="test",
    triton_version="2.51.0",
    backends=["python"],
    triton_ready=True,
)


class Refused(Exception):  # noqa: N818
    """The host cannot do what it was ordered."""


@dataclass
class Agent:
    """One host. `script` may raise Refused, or wait, before an order is carried out.

    `deaf` holds the kinds of orders that it takes and never answers.
    """

    host: str
    address: str
    credentials: ClientCredentials
    public_key: bytes = b""
    info: pb.HostInfo = field(
        default_factory=lambda: pb.HostInfo.FromString(INFO.SerializeToString())
    )
    models: dict[str, pb.ServedModel] = field(default_factory=dict)
    received: list[pb.Order] = field(default_factory=list)
    monitoring: dict[str, monitoring_pb2.Monitoring] = field(default_factory=dict)
    script: Callable[[pb.Order], Any] = lambda _: None
    deaf: set[str] = field(default_factory=set)
    answer_twice: bool = False
    last_sequence: int = 0
    connections: int = 0
    welcomed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: KeeptuneError | None = None
    _task: asyncio.Task[None] | None = None
    _call: Any = None
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __aenter__(self) -> Agent:
        self.start()
        await asyncio.wait_for(self.welcomed.wait(), 20)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Goes away without a word."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.welcomed.clear()

    def kinds(self) -> list[str]:
        return [order.WhichOneof("action") for order in self.received]

    def serving(self, model: str = "models/digits") -> str:
        return self.models[model].serving if model in self.models else ""

    async def report(self) -> None:
        await self.say(
            pb.AgentMessage(report=pb.HostReport(info=self.info, models=self.models.values()))
        )

    async def say(self, message: pb.AgentMessage) -> None:
        # grpc takes one write at a time, and tests speak beside the orders' answers.
        async with self._one_at_a_time:
            if self._call is not None:
                await self._call.write(message)

    async def _run(self) -> None:
        while True:
            async with open_channel(self.address, credentials=self.credentials) as channel:
                try:
                    await self._connect(channel)
                except grpc.RpcError as error:
                    self.ended = from_rpc_error(error)
                    if not self.ended.retryable:
                        return
                except asyncio.InvalidStateError:
                    # The stream ended under a write.
                    pass
            self._call = None
            await asyncio.sleep(0.1)

    async def _connect(self, channel: grpc.aio.Channel) -> None:
        stub: Any = deployment_pb2_grpc.AgentLinkStub(channel)
        call = stub.Connect()
        hello = pb.AgentHello(
            host=self.host,
            info=self.info,
            models=self.models.values(),
            last_sequence=self.last_sequence,
        )
        await call.write(pb.AgentMessage(hello=hello))
        async for message in call:
            if message.HasField("welcome"):
                self._call = call
                self.connections += 1
                self.welcomed.set()
                continue
            order = message.order
            self.received.append(order)
            if order.WhichOneof("action") in self.deaf:
                continue
            await self._obey(stub, order)

    async def _obey(self, stub: Any, order: pb.Order) -> None:
        assert order.sequence > self.last_sequence or order.id in {
            each.id for each in self.received[:-1]
        }, "an order came out of turn"
        state, reason = pb.ORDER_STATE_DONE, ""
        try:
            waiting = self.script(order)
            if asyncio.iscoroutine(waiting):
                await waiting
            await self._carry_out(stub, order)
        except Refused as error:
            state, reason = pb.ORDER_STATE_FAILED, str(error)
        self.last_sequence = max(self.last_sequence, order.sequence)
        result = pb.AgentMessage(
            order_result=pb.OrderResult(
                order_id=order.id, sequence=order.sequence, state=state, reason=reason
            )
        )
        for _ in range(1 + self.answer_twice):
            await self.say(result)
        await self.report()

    async def _carry_out(self, stub: Any, order: pb.Order) -> None:
        served = self.models.setdefault(order.model, pb.ServedModel(model=order.model))
        served.healthy = True
        match order.WhichOneof("action"):
            case "stage":
                await self._fetch(stub, order.stage.version)
                self.monitoring[order.model] = order.stage.monitoring
                served.staged = order.stage.version.name
            case "promote":
                if served.serving != order.promote.version:
                    if served.staged != order.promote.version:
                        raise Refused(f"{order.promote.version} is not staged")
                    served.standby, served.serving = served.serving, served.staged
                    served.staged = ""
                    served.statistics.CopyFrom(
                        monitoring_pb2.ServingStatistics(version=served.serving)
                    )
            case "finish":
                served.standby = ""
            case "roll_back":
                served.serving = order.roll_back.to_version
                served.standby = served.staged = ""
            case "configure":
                self.monitoring[order.model] = order.configure.monitoring
            case "remove":
                del self.models[order.model]

    async def _fetch(self, stub: Any, version: pb.ModelVersion) -> None:
        """Both artifacts, whole and as the registry signed them."""
        if self.public_key:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(
                version.manifest_signature, manifest(version)
            )
        for artifact in (version.onnx, version.reference_profile):
            data = b""
            request = pb.FetchArtifactRequest(sha256=artifact.sha256)
            async for chunk in stub.FetchArtifact(request):
                data += chunk.data
            assert hashlib.sha256(data).hexdigest() == artifact.sha256
