"""The idempotent calls that carry decisions out.

Each step takes the retune and gives it back with what was made filled in. Its request ids and
resource names are derived from the retune, so a step taken twice does its work once.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from google.protobuf import field_mask_pb2, json_format

from keeptune.retuning.decide import Step
from keeptune.retuning.model import Fresh, Trigger
from keeptune.retuning.peers import Made
from keeptune.retuning.spec import RECENT, gate_for, parse_spec, study_of, training_of
from keeptune.retuning.studies import ensure_study
from keeptune.runtime.calls import calling
from keeptune.runtime.convert import to_timestamp
from keeptune.runtime.errors import AlreadyExists, FailedPrecondition, NotFound
from keeptune.v1 import (
    deployment_pb2,
    evaluation_pb2,
    search_pb2,
    training_pb2,
    types_pb2,
)

if TYPE_CHECKING:
    from keeptune.retuning.model import Retune
    from keeptune.retuning.peers import Peers
    from keeptune.v1 import retuning_pb2


async def take(step: Step, name: str, retune: Retune, peers: Peers) -> Retune:
    """Carries one step out. Raises KeeptuneError; retryable ones leave nothing half done."""
    return await _STEPS[step](Made(name), retune, peers)


async def sync_model(policy: retuning_pb2.Policy, peers: Peers, *, request_id: str) -> None:
    """Brings the registry's model in line with the policy, and makes it if it is not there."""
    await _ensure_model(policy, peers, request_id=f"{request_id}/create")
    wanted = _model(policy)
    wanted.name = policy.model
    await calling(
        peers.deployment.UpdateModel(
            deployment_pb2.UpdateModelRequest(
                request_id=f"{request_id}/update",
                model=wanted,
                update_mask=field_mask_pb2.FieldMask(paths=["monitoring", "host_selector"]),
            )
        )
    )


async def _ensure_model(
    policy: retuning_pb2.Policy, peers: Peers, *, request_id: str
) -> deployment_pb2.Model:
    asked = deployment_pb2.GetModelRequest(name=policy.model)
    try:
        return await calling(peers.deployment.GetModel(asked))
    except NotFound:
        pass
    try:
        return await calling(
            peers.deployment.CreateModel(
                deployment_pb2.CreateModelRequest(
                    request_id=request_id,
                    model_id=policy.model.removeprefix("models/"),
                    model=_model(policy),
                )
            )
        )
    except AlreadyExists:
        return await calling(peers.deployment.GetModel(asked))


def _model(policy: retuning_pb2.Policy) -> deployment_pb2.Model:
    return deployment_pb2.Model(
        monitoring=policy.monitoring, host_selector=dict(policy.host_selector)
    )


async def _prepare_model(made: Made, retune: Retune, peers: Peers) -> Retune:
    """How an existing model is watched is the policy's as it is now, not this retune's."""
    spec = parse_spec(retune.spec)
    model = await _ensure_model(spec, peers, request_id=made.request_id("model"))
    return replace(retune, prepared=True, champion=model.champion)


async def _export_captures(made: Made, retune: Retune, peers: Peers) -> Retune:
    fresh = parse_spec(retune.spec).data.fresh
    # Evidence of an earlier onset may join between two tries: that is another request then.
    since = retune.onset.isoformat() if retune.onset is not None else "ever"
    request = deployment_pb2.ExportCapturesRequest(
        request_id=made.request_id(f"captures/{since}"),
        model=retune.model,
        start_time=to_timestamp(retune.onset),
        min_rows=fresh.min_rows,
        max_rows=fresh.max_rows,
    )
    if fresh.HasField("recent_fraction"):
        request.recent_fraction = fresh.recent_fraction
    try:
        export = await calling(peers.deployment.ExportCaptures(request))
    except FailedPrecondition:
        # A person who asks wants a retune now, with whatever is there.
        if retune.trigger is Trigger.MANUAL:
            return replace(retune, fresh_waived=True)
        raise
    return replace(
        retune,
        fresh=Fresh(
            training_rows=export.training_rows,
            recent_rows=export.recent_rows,
            body=json_format.MessageToJson(export, indent=None),
        ),
    )


async def _create_study(made: Made, retune: Retune, peers: Peers) -> Retune:
    spec = parse_spec(retune.spec)
    trainer = await calling(
        peers.training.GetTrainer(training_pb2.GetTrainerRequest(name=spec.trainer))
    )
    study = study_of(spec, trainer)
    study.display_name = f"{retune.model}, {retune.trigger.lower()} retune"
    study.labels.update({"retune": made.id, "model": retune.model.removeprefix("models/")})
    await ensure_study(made, study, peers)
    return replace(retune, study=made.study)


async def _create_training(made: Made, retune: Retune, peers: Peers) -> Retune:
    spec = parse_spec(retune.spec)
    training = training_of(spec)
    training.study = made.study
    training.labels["retune"] = made.id
    if retune.fresh is not None:
        training.datasets.append(_export(retune.fresh).training)
    await calling(
        peers.training.CreateTraining(
            training_pb2.CreateTrainingRequest(
                request_id=made.request_id("training"), training_id=made.id, training=training
            )
        )
    )
    return replace(retune, training=made.training)


async def _create_evaluation(made: Made, retune: Retune, peers: Peers) -> Retune:
    spec = parse_spec(retune.spec)
    training = await calling(
        peers.training.GetTraining(training_pb2.GetTrainingRequest(name=made.training))
    )
    recent = _recent(retune.fresh)
    evaluation = evaluation_pb2.Evaluation(
        candidate=training.model.onnx,
        signature=training.model.signature,
        datasets=spec.data.evaluation,
        gate=gate_for(spec.gate, has_recent=recent is not None),
        labels={"retune": made.id},
    )
    if recent is not None:
        evaluation.datasets.append(recent)
        # What is served from now on looks like the recent window, not like the old world.
        evaluation.profile_dataset.CopyFrom(recent)
    # Who serves now, not who served when the retune began: people may have gone back meanwhile.
    model = await calling(
        peers.deployment.GetModel(deployment_pb2.GetModelRequest(name=retune.model))
    )
    if model.champion:
        champion = await calling(
            peers.deployment.GetModelVersion(
                deployment_pb2.GetModelVersionRequest(name=model.champion)
            )
        )
        evaluation.champion.CopyFrom(champion.onnx)
    # Made by an earlier try of this step, with the champion of that moment.
    with contextlib.suppress(AlreadyExists):
        await calling(
            peers.evaluation.CreateEvaluation(
                evaluation_pb2.CreateEvaluationRequest(
                    request_id=made.request_id(f"evaluation/{model.champion}"),
                    evaluation_id=made.id,
                    evaluation=evaluation,
                )
            )
        )
    return replace(retune, evaluation=made.evaluation, champion=model.champion)


async def _register_version(made: Made, retune: Retune, peers: Peers) -> Retune:
    training = await calling(
        peers.training.GetTraining(training_pb2.GetTrainingRequest(name=made.training))
    )
    evaluation = await calling(
        peers.evaluation.GetEvaluation(evaluation_pb2.GetEvaluationRequest(name=made.evaluation))
    )
    version = await calling(
        peers.deployment.CreateModelVersion(
            deployment_pb2.CreateModelVersionRequest(
                request_id=made.request_id("version"),
                parent=retune.model,
                version=deployment_pb2.ModelVersion(
                    onnx=training.model.onnx,
                    signature=training.model.signature,
                    reference_profile=evaluation.reference_profile,
                    lineage=deployment_pb2.Lineage(
                        study=made.study,
                        trial=training.best_trial,
                        training=made.training,
                        evaluation=made.evaluation,
                        retune=made.retune,
                        datasets=training.datasets,
                    ),
                ),
            )
        )
    )
    return replace(retune, version=version.name)


async def _create_rollout(made: Made, retune: Retune, peers: Peers) -> Retune:
    await calling(
        peers.deployment.CreateRollout(
            deployment_pb2.CreateRolloutRequest(
                request_id=made.request_id("rollout"),
                rollout_id=made.id,
                rollout=deployment_pb2.Rollout(
                    version=retune.version,
                    evaluation=made.evaluation,
                    strategy=parse_spec(retune.spec).rollout,
                    labels={"retune": made.id},
                ),
            )
        )
    )
    return replace(retune, rollout=made.rollout)


async def _cancel_training(made: Made, retune: Retune, peers: Peers) -> Retune:
    await calling(
        peers.training.CancelTraining(
            training_pb2.CancelTrainingRequest(
                request_id=made.request_id("cancel-training"), name=made.training
            )
        )
    )
    return retune


async def _stop_study(made: Made, retune: Retune, peers: Peers) -> Retune:
    """It may have been made by a step whose outcome was never written down, or not at all."""
    reason = "its retune was cancelled" if retune.cancel_requested else "its training failed"
    with contextlib.suppress(NotFound):
        await calling(
            peers.search.StopStudy(
                search_pb2.StopStudyRequest(
                    # A retune may be cancelled between two tries.
                    request_id=made.request_id(f"stop-study/{reason}"),
                    name=made.study,
                    reason=reason,
                )
            )
        )
    return replace(retune, study_stopped=True)


async def _roll_back(made: Made, retune: Retune, peers: Peers) -> Retune:
    await calling(
        peers.deployment.RollBack(
            deployment_pb2.RollBackRequest(
                request_id=made.request_id("roll-back"),
                name=made.rollout,
                reason=retune.cancel_requested,
            )
        )
    )
    return retune


def _export(fresh: Fresh) -> deployment_pb2.CaptureExport:
    return json_format.Parse(fresh.body, deployment_pb2.CaptureExport())


def _recent(fresh: Fresh | None) -> types_pb2.Dataset | None:
    """The held-out share of the fresh data; None when there is none, which a policy may want."""
    if fresh is None or not fresh.recent_rows:
        return None
    recent = _export(fresh).recent
    recent.display_name = RECENT
    return recent


_STEPS = {
    Step.PREPARE_MODEL: _prepare_model,
    Step.EXPORT_CAPTURES: _export_captures,
    Step.CREATE_STUDY: _create_study,
    Step.CREATE_TRAINING: _create_training,
    Step.CREATE_EVALUATION: _create_evaluation,
    Step.REGISTER_VERSION: _register_version,
    Step.CREATE_ROLLOUT: _create_rollout,
    Step.CANCEL_TRAINING: _cancel_training,
    Step.STOP_STUDY: _stop_study,
    Step.ROLL_BACK: _roll_back,
}
