"""Typed stubs of all services over shared channels: one channel an address."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from keeptune.client.stubs import typed
from keeptune.runtime.channel import DEFAULT_TIMEOUT, open_channel, open_sync_channel
from keeptune.v1.deployment_pb2_grpc import DeploymentServiceStub
from keeptune.v1.evaluation_pb2_grpc import EvaluationServiceStub
from keeptune.v1.retuning_pb2_grpc import RetuningServiceStub
from keeptune.v1.search_pb2_grpc import SearchServiceStub
from keeptune.v1.training_pb2_grpc import TrainingServiceStub

if TYPE_CHECKING:
    import grpc
    import grpc.aio

    from keeptune.client.connection import Connection
    from keeptune.v1.deployment_pb2_grpc import DeploymentServiceAsyncStub
    from keeptune.v1.evaluation_pb2_grpc import EvaluationServiceAsyncStub
    from keeptune.v1.retuning_pb2_grpc import RetuningServiceAsyncStub
    from keeptune.v1.search_pb2_grpc import SearchServiceAsyncStub
    from keeptune.v1.training_pb2_grpc import TrainingServiceAsyncStub


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
        return typed(SearchServiceStub(self._channel("search")), asynchronous=True)

    @cached_property
    def training(self) -> TrainingServiceAsyncStub:
        return typed(TrainingServiceStub(self._channel("training")), asynchronous=True)

    @cached_property
    def evaluation(self) -> EvaluationServiceAsyncStub:
        return typed(EvaluationServiceStub(self._channel("evaluation")), asynchronous=True)

    @cached_property
    def deployment(self) -> DeploymentServiceAsyncStub:
        return typed(DeploymentServiceStub(self._channel("deployment")), asynchronous=True)

    @cached_property
    def retuning(self) -> RetuningServiceAsyncStub:
        return typed(RetuningServiceStub(self._channel("retuning")), asynchronous=True)

    async def close(self) -> None:
        """Ends the connections; calls under way fail."""
        for channel in self._channels.values():
            await channel.close()

    def _channel(self, service: str) -> grpc.aio.Channel:
        address = self.connection.addresses[service]
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
        return typed(SearchServiceStub(self._channel("search")), asynchronous=False)

    @cached_property
    def training(self) -> TrainingServiceStub:
        return typed(TrainingServiceStub(self._channel("training")), asynchronous=False)

    @cached_property
    def evaluation(self) -> EvaluationServiceStub:
        return typed(EvaluationServiceStub(self._channel("evaluation")), asynchronous=False)

    @cached_property
    def deployment(self) -> DeploymentServiceStub:
        return typed(DeploymentServiceStub(self._channel("deployment")), asynchronous=False)

    @cached_property
    def retuning(self) -> RetuningServiceStub:
        return typed(RetuningServiceStub(self._channel("retuning")), asynchronous=False)

    def close(self) -> None:
        """Ends the connections; calls under way fail."""
        for channel in self._channels.values():
            channel.close()

    def _channel(self, service: str) -> grpc.Channel:
        address = self.connection.addresses[service]
        if address not in self._channels:
            self._channels[address] = open_sync_channel(
                address,
                credentials=self.connection.credentials,
                timeout=self._timeout,
                wait_for_ready=self._wait_for_ready,
            )
        return self._channels[address]
