"""The other services, as the loop calls them, and the names of what it makes there.

Names are derived from the retune's own, so that a step which was cut short finds, when it is
taken again, what it had already made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keeptune.runtime import names
from keeptune.v1 import (
    deployment_pb2_grpc,
    evaluation_pb2_grpc,
    search_pb2_grpc,
    training_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc.aio

    from keeptune.v1.deployment_pb2_grpc import DeploymentServiceAsyncStub
    from keeptune.v1.evaluation_pb2_grpc import EvaluationServiceAsyncStub
    from keeptune.v1.search_pb2_grpc import SearchServiceAsyncStub
    from keeptune.v1.training_pb2_grpc import TrainingServiceAsyncStub


@dataclass(frozen=True)
class Peers:
    search: SearchServiceAsyncStub
    training: TrainingServiceAsyncStub
    evaluation: EvaluationServiceAsyncStub
    deployment: DeploymentServiceAsyncStub

    @classmethod
    def connect(cls, open_channel: Callable[[str], grpc.aio.Channel]) -> Peers:
        """Stubs over lazily connected channels; `open_channel` takes a service's name."""
        return cls(
            search=search_pb2_grpc.SearchServiceStub(open_channel("search")),
            training=training_pb2_grpc.TrainingServiceStub(open_channel("training")),
            evaluation=evaluation_pb2_grpc.EvaluationServiceStub(open_channel("evaluation")),
            deployment=deployment_pb2_grpc.DeploymentServiceStub(open_channel("deployment")),
        )


@dataclass(frozen=True)
class Made:
    """Names of what a retune makes; `retune` is its resource name."""

    retune: str

    @property
    def id(self) -> str:
        return names.parse_retune(self.retune)

    @property
    def study(self) -> str:
        return names.study_name(self.id)

    @property
    def training(self) -> str:
        return names.training_name(self.id)

    @property
    def evaluation(self) -> str:
        return names.evaluation_name(self.id)

    @property
    def rollout(self) -> str:
        return names.rollout_name(self.id)

    def request_id(self, step: str) -> str:
        return f"{self.id}/{step}"
