"""Typed stubs of all services over shared channels: one channel an address."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import grpc

from keeptune.client.reach import Reach
from keeptune.client.stubs import typed, typed_call
from keeptune.runtime.channel import DEFAULT_TIMEOUT, open_channel, open_sync_channel
from keeptune.v1.deployment_pb2_grpc import DeploymentServiceStub
from keeptune.v1.evaluation_pb2_grpc import EvaluationServiceStub
from keeptune.v1.retuning_pb2_grpc import RetuningServiceStub
from keeptune.v1.search_pb2_grpc import SearchServiceStub
from keeptune.v1.training_pb2_grpc import TrainingServiceStub

if TYPE_CHECKING:
    import grpc.aio

    from keeptune.client.connection import Connection
    from keeptune.v1.deployment_pb2_grpc import DeploymentServiceAsyncStub
    from keeptune.v1.evaluation_pb2_grpc import EvaluationServiceAsyncStub
    from keeptune.v1.retuning_pb2_grpc import RetuningServiceAsyncStub
    from keeptune.v1.search_pb2_grpc import SearchServiceAsyncStub
    from keeptune.v1.training_pb2_grpc import TrainingServiceAsyncStub

_HEALTH = {1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class AsyncServices:
    """The RPCs as the protos define them, awaited; errors are KeeptuneError."""

    def __init__(
        self,
        connection: Connection,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        wait_for_ready: bool = True,
    ) -> None:
        self.connection = connection
        self._timeout = timeout
        self._wait_for_ready = wait_for_ready
        self._channels: dict[str, grpc.aio.Channel] = {}

    @cached_property
    def search(self) -> SearchServiceAsyncStub:
        return cast("SearchServiceAsyncStub", self._stub(SearchServiceStub, "search"))

    @cached_property
    def training(self) -> TrainingServiceAsyncStub:
        return cast("TrainingServiceAsyncStub", self._stub(TrainingServiceStub, "training"))

    @cached_property
    def evaluation(self) -> EvaluationServiceAsyncStub:
        return cast("EvaluationServiceAsyncStub", self._stub(EvaluationServiceStub, "evaluation"))

    @cached_property
    def deployment(self) -> DeploymentServiceAsyncStub:
        return cast("DeploymentServiceAsyncStub", self._stub(DeploymentServiceStub, "deployment"))

    @cached_property
    def retuning(self) -> RetuningServiceAsyncStub:
        return cast("RetuningServiceAsyncStub", self._stub(RetuningServiceStub, "retuning"))

    async def health(self, service: str) -> str:
        """SERVING, NOT_SERVING or SERVICE_UNKNOWN, as gRPC's health protocol has it."""
        full_name = f"keeptune.v1.{service.capitalize()}Service"
        check: Any = self._channel(service).unary_unary(
            "/grpc.health.v1.Health/Check",
            # HealthCheckRequest and HealthCheckResponse by hand: a bare client has no
            # grpcio-health-checking.
            request_serializer=lambda name: b"\x0a" + bytes([len(name)]) + name.encode(),
            response_deserializer=lambda raw: raw[1] if raw else 0,
        )
        status = await typed_call(check(full_name), self._reach(service))
        return _HEALTH.get(status, "UNKNOWN")

    async def close(self) -> None:
        """Ends the connections; calls under way fail."""
        for channel in self._channels.values():
            await channel.close()

    def _stub(self, stub: type[Any], service: str) -> Any:
        return typed(stub(self._channel(service)), self._reach(service), asynchronous=True)

    def _reach(self, service: str) -> Reach:
        address, channel = self.connection.address_of(service), self._channel(service)
        if not self._wait_for_ready:
            # The error comes soon enough.
            return Reach(service, address)
        ready = grpc.ChannelConnectivity.READY
        return Reach(service, address, lambda: channel.get_state() is ready)

    def _channel(self, service: str) -> grpc.aio.Channel:
        address = self.connection.address_of(service)
        if address not in self._channels:
            self._channels[address] = open_channel(
                address,
                credentials=self.connection.credentials,
                timeout=self._timeout,
                wait_for_ready=self._wait_for_ready,
            )
        return self._channels[address]


class SyncServices:
    """The RPCs as the protos define them; errors are KeeptuneError."""

    def __init__(
        self,
        connection: Connection,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        wait_for_ready: bool = True,
    ) -> None:
        self.connection = connection
        self._timeout = timeout
        self._wait_for_ready = wait_for_ready
        self._channels: dict[str, grpc.Channel] = {}

    @cached_property
    def search(self) -> SearchServiceStub:
        return cast("SearchServiceStub", self._stub(SearchServiceStub, "search"))

    @cached_property
    def training(self) -> TrainingServiceStub:
        return cast("TrainingServiceStub", self._stub(TrainingServiceStub, "training"))

    @cached_property
    def evaluation(self) -> EvaluationServiceStub:
        return cast("EvaluationServiceStub", self._stub(EvaluationServiceStub, "evaluation"))

    @cached_property
    def deployment(self) -> DeploymentServiceStub:
        return cast("DeploymentServiceStub", self._stub(DeploymentServiceStub, "deployment"))

    @cached_property
    def retuning(self) -> RetuningServiceStub:
        return cast("RetuningServiceStub", self._stub(RetuningServiceStub, "retuning"))

    def close(self) -> None:
        """Ends the connections; calls under way fail."""
        for channel in self._channels.values():
            channel.close()

    def _stub(self, stub: type[Any], service: str) -> Any:
        reach = Reach(service, self.connection.address_of(service))
        return typed(stub(self._channel(service)), reach, asynchronous=False)

    def _channel(self, service: str) -> grpc.Channel:
        address = self.connection.address_of(service)
        if address not in self._channels:
            self._channels[address] = open_sync_channel(
                address,
                credentials=self.connection.credentials,
                timeout=self._timeout,
                wait_for_ready=self._wait_for_ready,
            )
        return self._channels[address]
