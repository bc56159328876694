"""A right request for every RPC that reads, and how any RPC is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from keeptune.runtime.calls import calling
from keeptune.runtime.errors import from_rpc_error
from keeptune.v1 import (
    agent_pb2,
    deployment_pb2,
    evaluation_pb2,
    retuning_pb2,
    search_pb2,
    training_pb2,
)
from tests.contract.product import HOST, Client
from tests.contract.protos import RPCS
from tests.contract.world import World

# What grpc.aio says in the place of the server's refusal when that overtakes the first message of a
# stream of requests (https://github.com/grpc/grpc/issues/36066).
_OVERTAKEN = "Internal error from Core"


async def answer(client: Client, rpc: str, request: Any, seconds: float = 10.0) -> Any:
    """The response, or the first one of a stream; None of a stream that goes on without one.

    Raises KeeptuneError.
    """
    method, call = RPCS[rpc], client.method(rpc)
    sent = iter([request]) if method.client_streaming else request
    if not method.server_streaming:
        return await calling(call(sent))
    stream = call(sent)
    try:
        async with asyncio.timeout(seconds):
            first = await stream.read()
            return None if first is grpc.aio.EOF else first
    except TimeoutError:
        return None
    except grpc.aio.AioRpcError as error:
        if method.client_streaming and error.details() == _OVERTAKEN:
            # The message was not sent: ask again for what the server says.
            return await answer(client, rpc, request, seconds)
        raise from_rpc_error(error) from None
    finally:
        stream.cancel()


Read = Callable[[World], Any]

READS: dict[str, Read] = {
    "SearchService.GetStudy": lambda w: search_pb2.GetStudyRequest(name=w.retune.study),
    "SearchService.ListStudies": lambda w: search_pb2.ListStudiesRequest(),
    "SearchService.GetTrial": lambda w: search_pb2.GetTrialRequest(
        name=f"{w.retune.study}/trials/1"
    ),
    "SearchService.ListTrials": lambda w: search_pb2.ListTrialsRequest(parent=w.retune.study),
    "SearchService.ListOptimalTrials": lambda w: search_pb2.ListOptimalTrialsRequest(
        parent=w.retune.study
    ),
    "SearchService.GetParameterImportance": lambda w: search_pb2.GetParameterImportanceRequest(
        study=w.studied
    ),
    "SearchService.GetPartialDependence": lambda w: search_pb2.GetPartialDependenceRequest(
        study=w.studied, parameters=["x"]
    ),
    "SearchService.GetStudyOutlook": lambda w: search_pb2.GetStudyOutlookRequest(study=w.studied),
    "SearchService.WatchStudy": lambda w: search_pb2.WatchStudyRequest(study=w.retune.study),
    "SearchService.ListAlgorithms": lambda w: search_pb2.ListAlgorithmsRequest(),
    "TrainingService.ListTrainers": lambda w: training_pb2.ListTrainersRequest(),
    "TrainingService.GetTrainer": lambda w: training_pb2.GetTrainerRequest(name="trainers/tabular"),
    "TrainingService.GetTraining": lambda w: training_pb2.GetTrainingRequest(
        name=w.retune.training
    ),
    "TrainingService.ListTrainings": lambda w: training_pb2.ListTrainingsRequest(),
    "TrainingService.WatchTraining": lambda w: training_pb2.WatchTrainingRequest(
        name=w.retune.training
    ),
    "EvaluationService.GetEvaluation": lambda w: evaluation_pb2.GetEvaluationRequest(
        name=w.retune.evaluation
    ),
    "EvaluationService.ListEvaluations": lambda w: evaluation_pb2.ListEvaluationsRequest(),
    "EvaluationService.WatchEvaluation": lambda w: evaluation_pb2.WatchEvaluationRequest(
        name=w.retune.evaluation
    ),
    "DeploymentService.GetModel": lambda w: deployment_pb2.GetModelRequest(name=w.retune.model),
    "DeploymentService.ListModels": lambda w: deployment_pb2.ListModelsRequest(),
    "DeploymentService.GetModelVersion": lambda w: deployment_pb2.GetModelVersionRequest(
        name=w.retune.version
    ),
    "DeploymentService.ListModelVersions": lambda w: deployment_pb2.ListModelVersionsRequest(
        parent=w.retune.model
    ),
    "DeploymentService.GetRollout": lambda w: deployment_pb2.GetRolloutRequest(
        name=w.retune.rollout
    ),
    "DeploymentService.ListRollouts": lambda w: deployment_pb2.ListRolloutsRequest(),
    "DeploymentService.WatchRollout": lambda w: deployment_pb2.WatchRolloutRequest(
        name=w.retune.rollout
    ),
    "DeploymentService.ListHosts": lambda w: deployment_pb2.ListHostsRequest(),
    "DeploymentService.GetHost": lambda w: deployment_pb2.GetHostRequest(name=f"hosts/{HOST}"),
    "DeploymentService.RenderManifests": lambda w: deployment_pb2.RenderManifestsRequest(
        model=w.retune.model
    ),
    "AgentLink.FetchArtifact": lambda w: deployment_pb2.FetchArtifactRequest(sha256=w.onnx.sha256),
    "RetuningService.GetPolicy": lambda w: retuning_pb2.GetPolicyRequest(name=w.retune.policy),
    "RetuningService.ListPolicies": lambda w: retuning_pb2.ListPoliciesRequest(),
    "RetuningService.GetRetune": lambda w: retuning_pb2.GetRetuneRequest(name=w.retune.name),
    "RetuningService.ListRetunes": lambda w: retuning_pb2.ListRetunesRequest(),
    "RetuningService.WatchRetunes": lambda w: retuning_pb2.WatchRetunesRequest(),
    "AgentService.GetStatus": lambda w: agent_pb2.GetStatusRequest(),
    "AgentService.ListModels": lambda w: agent_pb2.ListServedModelsRequest(),
    "AgentService.WatchSignals": lambda w: agent_pb2.WatchSignalsRequest(),
}
