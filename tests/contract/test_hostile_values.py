"""Whatever stands in any field of any request: an answer or a refusal, never a defect.

Each request is right but for one field, which gets, one after the other, what its type allows and
nobody wants. What such a request would make is impossible for another reason, so that little is
left behind where a value turns out to be harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from keeptune.runtime.errors import KeeptuneError
from keeptune.v1 import (
    agent_pb2,
    deployment_pb2,
    evaluation_pb2,
    monitoring_pb2,
    retuning_pb2,
    search_pb2,
    training_pb2,
    types_pb2,
)
from tests.contract.hostile import variants
from tests.contract.product import ONE_PRODUCT
from tests.contract.protos import RPCS
from tests.contract.reads import READS, answer
from tests.contract.scene import Scene, known_trial, loss, small_study
from tests.contract.test_mutations import WAYS

pytestmark = list(ONE_PRODUCT)

NOTHING = types_pb2.Dataset(uri="/no/such.npz", display_name="d", slice_columns=["s"])
DEFECTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED)
_AT_ONCE = 8


async def create_study(scene: Scene) -> Any:
    study = small_study(
        budget=search_pb2.Budget(max_trials=3, max_duration=Duration(seconds=60)),
        pruning=search_pb2.Pruning(asha=search_pb2.AshaPruning()),
        lease_duration=Duration(seconds=60),
        warm_start=["studies/none"],
    )
    spec = study.space.parameters.add(name="n")
    spec.int_range.max = 3
    spec.conditions.add(parent="x").range.max = 1
    return search_pb2.CreateStudyRequest(study_id=scene.id, study=study, validate_only=True)


async def create_training(scene: Scene) -> Any:
    training = scene.training()
    training.datasets[0].CopyFrom(NOTHING)
    training.recipe.SetInParent()
    training.resources.SetInParent()
    training.fixed.parameters["width"].int_value = 8
    return training_pb2.CreateTrainingRequest(training=training, validate_only=True)


async def create_evaluation(scene: Scene) -> Any:
    evaluation = scene.evaluation()
    evaluation.datasets[0].CopyFrom(NOTHING)
    evaluation.gate.rules.add(metric="accuracy", min=0.5)
    evaluation.signature.inputs.add(name="features", data_type=types_pb2.DATA_TYPE_FLOAT32)
    evaluation.profile_dataset.CopyFrom(NOTHING)
    return evaluation_pb2.CreateEvaluationRequest(evaluation=evaluation, validate_only=True)


async def create_model(scene: Scene) -> Any:
    monitoring = monitoring_pb2.Monitoring(
        drift=monitoring_pb2.DriftLimits(),
        health=monitoring_pb2.HealthLimits(max_latency=Duration(seconds=1)),
        capture=monitoring_pb2.Capture(),
    )
    # It exists already.
    return deployment_pb2.CreateModelRequest(
        model_id="loop", model=deployment_pb2.Model(monitoring=monitoring)
    )


async def create_model_version(scene: Scene) -> Any:
    version = deployment_pb2.ModelVersion(
        onnx=scene.world.onnx,
        signature=types_pb2.ModelSignature(task=types_pb2.TASK_CLASSIFICATION, classes=["a"]),
        lineage=deployment_pb2.Lineage(datasets=[NOTHING]),
    )
    return deployment_pb2.CreateModelVersionRequest(parent="models/none", version=version)


async def create_rollout(scene: Scene) -> Any:
    rollout = deployment_pb2.Rollout(
        version="models/none/versions/1",
        evaluation=scene.world.retune.evaluation,
        strategy=deployment_pb2.RolloutStrategy(bake=Duration(seconds=1)),
    )
    return deployment_pb2.CreateRolloutRequest(rollout=rollout)


async def apply_policy(scene: Scene) -> Any:
    wanted = scene.policy(
        rollout=deployment_pb2.RolloutStrategy(bake=Duration(seconds=1)),
        monitoring=monitoring_pb2.Monitoring(drift=monitoring_pb2.DriftLimits()),
        cooldown=Duration(seconds=1),
    )
    wanted.data.fresh.enabled = True
    wanted.data.training[0].CopyFrom(NOTHING)
    return retuning_pb2.ApplyPolicyRequest(policy_id=scene.id, policy=wanted, validate_only=True)


async def request_retune(scene: Scene) -> Any:
    signal = monitoring_pb2.Signal(
        id=scene.id,
        kind=monitoring_pb2.SIGNAL_KIND_DRIFT,
        version="models/loop/versions/9",
        channels=[monitoring_pb2.ChannelEvidence(channel="image.mean", effect=0.5)],
    )
    # Its evidence is of a version that never served.
    return retuning_pb2.RequestRetuneRequest(model="models/loop", evidence=[signal])


async def connect(scene: Scene) -> Any:
    hello = deployment_pb2.AgentHello(
        host=f"hosts/{scene.id}",
        info=deployment_pb2.HostInfo(backends=["python"]),
        models=[
            deployment_pb2.ServedModel(
                model="models/loop", statistics=monitoring_pb2.ServingStatistics(requests=1)
            )
        ],
    )
    return deployment_pb2.AgentMessage(hello=hello)


async def upload(scene: Scene) -> Any:
    header = deployment_pb2.CaptureHeader(
        request_id=scene.id,
        host=f"hosts/{scene.id}",
        model="models/loop",
        version="models/loop/versions/1",
        rows=1,
        sha256="0" * 64,
    )
    return deployment_pb2.UploadCaptureRequest(header=header)


async def work(scene: Scene) -> Any:
    leased = await scene.leased()
    report = search_pb2.ReportMeasurementsRequest(
        trial=leased.trial.name, lease_token=leased.lease.token, measurements=[loss(1.0, step=1)]
    )
    return search_pb2.WorkTrialsRequest(request_id="1", report=report)


async def add_trials(scene: Scene) -> Any:
    study = (await scene.study()).name
    return search_pb2.AddTrialsRequest(study=study, trials=[known_trial(0.5, 1.0)])


async def record_outcomes(scene: Scene) -> Any:
    outcome = agent_pb2.Outcome(request_id="r", label="left")
    return agent_pb2.RecordOutcomesRequest(model="models/loop", outcomes=[outcome])


OWN: dict[str, Callable[[Scene], Awaitable[Any]]] = {
    "SearchService.CreateStudy": create_study,
    "SearchService.AddTrials": add_trials,
    "SearchService.WorkTrials": work,
    "TrainingService.CreateTraining": create_training,
    "EvaluationService.CreateEvaluation": create_evaluation,
    "DeploymentService.CreateModel": create_model,
    "DeploymentService.CreateModelVersion": create_model_version,
    "DeploymentService.CreateRollout": create_rollout,
    "AgentLink.Connect": connect,
    "AgentLink.UploadCapture": upload,
    "RetuningService.ApplyPolicy": apply_policy,
    "RetuningService.RequestRetune": request_retune,
    "AgentService.RecordOutcomes": record_outcomes,
}


async def right_request(scene: Scene, rpc: str) -> Any:
    if rpc in READS:
        return READS[rpc](scene.world)
    if rpc in OWN:
        return await OWN[rpc](scene)
    return (await WAYS[rpc](scene))[0]


@pytest.mark.parametrize("rpc", RPCS)
async def test_no_value_is_a_defect(scene: Scene, rpc: str) -> None:
    request = await right_request(scene, rpc)
    room = asyncio.Semaphore(_AT_ONCE)
    # Watches may have nothing to say; all others answer.
    seconds = 0.1 if ".Watch" in rpc or rpc == "AgentLink.Connect" else 30.0
    defects: list[str] = []

    async def ask(what: str, hostile: Any) -> None:
        async with room:
            try:
                found = await answer(scene.client, rpc, hostile, seconds)
            except KeeptuneError as error:
                if error.code in DEFECTS:
                    defects.append(f"{what}: {error}")
                elif error.code is grpc.StatusCode.INVALID_ARGUMENT and not error.field:
                    defects.append(f"{what}: names no field: {error}")
            else:
                if rpc == "SearchService.WorkTrials" and found.error.code in (2, 13):
                    defects.append(f"{what}: {found.error}")

    asked = list(variants(request))
    await asyncio.gather(*(ask(*each) for each in asked))
    assert defects == []
    assert asked or not request.DESCRIPTOR.fields
    if rpc == "AgentLink.Connect":  # what a host says of itself is shown to others
        get = deployment_pb2.GetHostRequest(name=f"hosts/{scene.id}")
        await scene.call("DeploymentService.GetHost", get)
        await scene.call("DeploymentService.ListHosts", deployment_pb2.ListHostsRequest())
