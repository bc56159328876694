"""Every mutation of the product: told twice it happens once, and no request_id serves for two."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from keeptune.runtime.errors import Conflict, InvalidInput
from keeptune.v1 import (
    deployment_pb2,
    evaluation_pb2,
    monitoring_pb2,
    retuning_pb2,
    search_pb2,
    training_pb2,
)
from tests.contract.product import ONE_PRODUCT
from tests.contract.scene import Scene, known_trial, loss, small_study
from tests.contract.test_rules import MUTATIONS
from tests.contract.world import snapshot

pytestmark = list(ONE_PRODUCT)

# A right request, and a change that makes it another one.
Pair = tuple[Any, dict[str, Any]]


async def create_study(scene: Scene) -> Pair:
    request = search_pb2.CreateStudyRequest(study_id=scene.id, study=small_study())
    return request, {"study": small_study(display_name="another")}


async def update_study(scene: Scene) -> Pair:
    study = search_pb2.Study(name=(await scene.study()).name, display_name="renamed")
    request = search_pb2.UpdateStudyRequest(study=study, update_mask={"paths": ["display_name"]})
    return request, {"update_mask": {"paths": ["display_name", "labels"]}}


async def stop_study(scene: Scene) -> Pair:
    return search_pb2.StopStudyRequest(name=(await scene.study()).name), {"reason": "enough"}


async def delete_study(scene: Scene) -> Pair:
    return search_pb2.DeleteStudyRequest(name=(await scene.study()).name), {"etag": "1"}


async def suggest_trials(scene: Scene) -> Pair:
    study = (await scene.study()).name
    return search_pb2.SuggestTrialsRequest(study=study, worker="w", count=2), {"worker": "v"}


async def report_measurements(scene: Scene) -> Pair:
    leased = await scene.leased()
    request = search_pb2.ReportMeasurementsRequest(
        trial=leased.trial.name, lease_token=leased.lease.token, measurements=[loss(1.0, step=1)]
    )
    return request, {"measurements": [loss(2.0, step=2)]}


async def complete_trial(scene: Scene) -> Pair:
    leased = await scene.leased()
    request = search_pb2.CompleteTrialRequest(
        trial=leased.trial.name, lease_token=leased.lease.token, measurement=loss(1.0), next=1
    )
    return request, {"measurement": loss(2.0)}


async def add_trials(scene: Scene) -> Pair:
    study = (await scene.study()).name
    request = search_pb2.AddTrialsRequest(study=study, trials=[known_trial(0.5, 1.0)])
    return request, {"trials": [known_trial(0.25, 2.0)]}


async def create_training(scene: Scene) -> Pair:
    training = scene.training()
    request = training_pb2.CreateTrainingRequest(training_id=scene.id, training=training)
    training.seed = 2
    return request, {"training": training}


async def cancel_training(scene: Scene) -> Pair:
    create = training_pb2.CreateTrainingRequest(training_id=scene.id, training=scene.training())
    name = (await scene.call("TrainingService.CreateTraining", create)).name
    return training_pb2.CancelTrainingRequest(name=name), {"name": scene.world.retune.training}


async def create_evaluation(scene: Scene) -> Pair:
    evaluation = scene.evaluation()
    request = evaluation_pb2.CreateEvaluationRequest(evaluation_id=scene.id, evaluation=evaluation)
    evaluation.latency_batch_size = 2
    return request, {"evaluation": evaluation}


async def create_model(scene: Scene) -> Pair:
    request = deployment_pb2.CreateModelRequest(model_id=scene.id, model=deployment_pb2.Model())
    return request, {"model": deployment_pb2.Model(display_name="another")}


async def update_model(scene: Scene) -> Pair:
    model = deployment_pb2.Model(name=(await scene.model()).name, display_name="renamed")
    request = deployment_pb2.UpdateModelRequest(
        model=model, update_mask={"paths": ["display_name"]}
    )
    return request, {"update_mask": {"paths": ["labels"]}}


async def create_model_version(scene: Scene) -> Pair:
    request = deployment_pb2.CreateModelVersionRequest(
        parent=(await scene.model()).name,
        version=deployment_pb2.ModelVersion(onnx=scene.world.onnx),
    )
    return request, {"parent": scene.world.retune.model}


async def export_captures(scene: Scene) -> Pair:
    await scene.capture()
    request = deployment_pb2.ExportCapturesRequest(model=scene.world.retune.model, min_rows=1)
    return request, {"min_rows": 2}


async def create_rollout(scene: Scene) -> Pair:
    version = await scene.version()
    rollout = deployment_pb2.Rollout(version=version.name, evaluation=scene.world.retune.evaluation)
    request = deployment_pb2.CreateRolloutRequest(rollout_id=scene.id, rollout=rollout)
    return request, {"rollout_id": f"{scene.id}-b"}


async def pause_rollout(scene: Scene) -> Pair:
    request = deployment_pb2.PauseRolloutRequest(name=(await scene.rollout()).name)
    return request, {"name": scene.world.retune.rollout}


async def resume_rollout(scene: Scene) -> Pair:
    name = (await scene.rollout()).name
    pause = deployment_pb2.PauseRolloutRequest(name=name)
    await scene.call("DeploymentService.PauseRollout", pause)
    request = deployment_pb2.ResumeRolloutRequest(name=name)
    return request, {"name": scene.world.retune.rollout}


async def roll_back(scene: Scene) -> Pair:
    return deployment_pb2.RollBackRequest(name=(await scene.rollout()).name), {"reason": "no"}


async def enroll(scene: Scene) -> Pair:
    request = deployment_pb2.EnrollRequest(
        host_id=scene.id, join_token=scene.product.plane.join_token
    )
    return request, {"host_id": f"{scene.id}-b"}


async def apply_policy(scene: Scene) -> Pair:
    request = retuning_pb2.ApplyPolicyRequest(policy_id=scene.id, policy=scene.policy())
    return request, {"policy": scene.policy(require_approval=True)}


async def delete_policy(scene: Scene) -> Pair:
    return retuning_pb2.DeletePolicyRequest(name=(await scene.applied()).name), {"etag": "1"}


async def request_retune(scene: Scene) -> Pair:
    signal = monitoring_pb2.Signal(
        id=scene.id, kind=monitoring_pb2.SIGNAL_KIND_DRIFT, summary="the light has changed"
    )
    request = retuning_pb2.RequestRetuneRequest(
        policy=(await scene.applied()).name, evidence=[signal], force=True
    )
    return request, {"note": "again"}


async def approve_retune(scene: Scene) -> Pair:
    request = retuning_pb2.ApproveRetuneRequest()
    request.CopyFrom(scene.world.approval)
    return request, {"note": "or not"}


async def cancel_retune(scene: Scene) -> Pair:
    apply = retuning_pb2.ApplyPolicyRequest(policy_id=scene.id, policy=scene.policy())
    retune = (await scene.call("RetuningService.ApplyPolicy", apply)).last_retune
    return retuning_pb2.CancelRetuneRequest(name=retune), {"reason": "another"}


WAYS: dict[str, Callable[[Scene], Awaitable[Pair]]] = {
    "SearchService.CreateStudy": create_study,
    "SearchService.UpdateStudy": update_study,
    "SearchService.StopStudy": stop_study,
    "SearchService.DeleteStudy": delete_study,
    "SearchService.SuggestTrials": suggest_trials,
    "SearchService.ReportMeasurements": report_measurements,
    "SearchService.CompleteTrial": complete_trial,
    "SearchService.AddTrials": add_trials,
    "TrainingService.CreateTraining": create_training,
    "TrainingService.CancelTraining": cancel_training,
    "EvaluationService.CreateEvaluation": create_evaluation,
    "DeploymentService.CreateModel": create_model,
    "DeploymentService.UpdateModel": update_model,
    "DeploymentService.CreateModelVersion": create_model_version,
    "DeploymentService.ExportCaptures": export_captures,
    "DeploymentService.CreateRollout": create_rollout,
    "DeploymentService.PauseRollout": pause_rollout,
    "DeploymentService.ResumeRollout": resume_rollout,
    "DeploymentService.RollBack": roll_back,
    "AgentLink.Enroll": enroll,
    "RetuningService.ApplyPolicy": apply_policy,
    "RetuningService.DeletePolicy": delete_policy,
    "RetuningService.RequestRetune": request_retune,
    "RetuningService.ApproveRetune": approve_retune,
    "RetuningService.CancelRetune": cancel_retune,
}
# Needs a model that a Triton serves: tests/integration/agent.
ELSEWHERE = {"AgentService.RecordOutcomes"}


def test_every_mutation_is_tried() -> None:
    assert set(WAYS) | ELSEWHERE == set(MUTATIONS)


def changed(request: Any, change: dict[str, Any]) -> Any:
    kept = {field.name: value for field, value in request.ListFields() if field.name not in change}
    return type(request)(**kept, **change)


async def names(scene: Scene, rpc: str) -> set[str]:
    """Of all that there is; of retuning what it keeps itself, since a retune makes the rest."""
    own = ("policies/", "retunes/") if rpc.startswith("RetuningService") else ("",)
    return {name for name in await snapshot(scene.client) if name.startswith(own)}


@pytest.mark.parametrize("rpc", WAYS)
async def test_told_again_it_has_happened_once(scene: Scene, rpc: str) -> None:
    request, change = await WAYS[rpc](scene)
    request.request_id = request.request_id or f"{scene.id}/once"
    first = await scene.call(rpc, request)
    before = await names(scene, rpc)
    again = await asyncio.gather(*(scene.call(rpc, request) for _ in range(3)))
    assert again == [first] * 3
    with pytest.raises(InvalidInput) as caught:
        await scene.call(rpc, changed(request, change))
    assert (caught.value.field, caught.value.reason) == ("request_id", "REQUEST_ID_REUSED")
    assert await names(scene, rpc) == before
    # What it set going is not needed any more.
    if rpc == "RetuningService.ApplyPolicy":
        await scene.cancelled(first.last_retune)
    elif rpc == "RetuningService.RequestRetune":
        await scene.cancelled(first.retune.name)


async def test_an_upload_told_again_is_kept_once(scene: Scene) -> None:
    assert [(await scene.capture(4)).rows for _ in range(2)] == [4, 4]
    with pytest.raises(InvalidInput) as caught:
        await scene.capture(5)
    assert (caught.value.field, caught.value.reason) == ("header.request_id", "REQUEST_ID_REUSED")


async def test_the_stream_of_a_worker_is_told_again_too(scene: Scene) -> None:
    study = (await scene.study()).name
    suggest = search_pb2.SuggestTrialsRequest(request_id=f"{scene.id}/s", study=study, worker="w")
    other = search_pb2.SuggestTrialsRequest(request_id=f"{scene.id}/s", study=study, worker="v")
    messages = [
        search_pb2.WorkTrialsRequest(request_id="1", suggest=suggest),
        search_pb2.WorkTrialsRequest(request_id="2", suggest=suggest),
        search_pb2.WorkTrialsRequest(request_id="3", suggest=other),
    ]
    stream = scene.client.method("SearchService.WorkTrials")(iter(messages))
    first, second, third = [answer async for answer in stream]
    assert (first.request_id, second.request_id) == ("1", "2")
    assert first.suggest == second.suggest
    assert (third.error.code, third.error.reason) == (3, "REQUEST_ID_REUSED")
    assert third.error.field == "request_id"
    listed = search_pb2.ListTrialsRequest(parent=study)
    assert len((await scene.call("SearchService.ListTrials", listed)).trials) == 1


async def stale_study_update(scene: Scene) -> tuple[str, Any]:
    study = await scene.study()
    study.metadata.etag, study.display_name = "1", "renamed"
    request = search_pb2.UpdateStudyRequest(study=study, update_mask={"paths": ["display_name"]})
    return "SearchService.UpdateStudy", request


async def stale_study_deletion(scene: Scene) -> tuple[str, Any]:
    name = (await scene.study()).name
    return "SearchService.DeleteStudy", search_pb2.DeleteStudyRequest(name=name, etag="1")


async def stale_model_update(scene: Scene) -> tuple[str, Any]:
    model = await scene.model()
    model.metadata.etag, model.display_name = "1", "renamed"
    request = deployment_pb2.UpdateModelRequest(
        model=model, update_mask={"paths": ["display_name"]}
    )
    return "DeploymentService.UpdateModel", request


async def stale_policy(scene: Scene) -> tuple[str, Any]:
    await scene.applied()
    wanted = scene.policy(require_approval=True)
    wanted.metadata.etag = "1"
    request = retuning_pb2.ApplyPolicyRequest(policy_id=scene.id, policy=wanted)
    return "RetuningService.ApplyPolicy", request


async def stale_policy_deletion(scene: Scene) -> tuple[str, Any]:
    name = (await scene.applied()).name
    return "RetuningService.DeletePolicy", retuning_pb2.DeletePolicyRequest(name=name, etag="1")


@pytest.mark.parametrize(
    "make",
    [
        stale_study_update,
        stale_study_deletion,
        stale_model_update,
        stale_policy,
        stale_policy_deletion,
    ],
)
async def test_a_stale_etag_changes_nothing(
    scene: Scene, make: Callable[[Scene], Awaitable[tuple[str, Any]]]
) -> None:
    rpc, request = await make(scene)
    before = await scene.mine()
    with pytest.raises(Conflict) as caught:
        await scene.call(rpc, request)
    assert caught.value.reason == "STALE_ETAG"
    assert "etag" in caught.value.fix
    assert await scene.mine() == before
