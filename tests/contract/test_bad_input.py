"""Bad input to the running product: a code, the field, the way out, and nothing has changed.

The finer cases of each service stand in its own tests; here is each kind once, through everything
that lies between a client and a database.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from google.protobuf.duration_pb2 import Duration

from keeptune.runtime.calls import streaming
from keeptune.runtime.errors import KeeptuneError, NotFound
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
from tests.contract.product import ONE_PRODUCT
from tests.contract.scene import Scene, captured, known_trial, loss, small_study
from tests.contract.world import at_rest, snapshot

pytestmark = list(ONE_PRODUCT)

NAN, INF = float("nan"), float("inf")
Spec, Float, Int = types_pb2.ParameterSpec, types_pb2.FloatRange, types_pb2.IntRange


@asynccontextmanager
async def refused(scene: Scene, *fields: str) -> AsyncIterator[list[KeeptuneError]]:
    """What is done inside is refused, for these fields, and leaves everything as it was."""
    await at_rest(scene.client)
    before = await snapshot(scene.client)
    errors: list[KeeptuneError] = []
    with pytest.raises(KeeptuneError) as caught:
        yield errors
    error = caught.value
    errors.append(error)
    assert error.code in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    ), error
    assert error.reason.isupper()
    named = [violation.field for violation in error.violations]
    assert named[: len(fields)] == list(fields), error.violations
    assert all(violation.problem for violation in error.violations)
    assert all(violation.fix for violation in error.violations) or error.fix, error.violations
    assert await snapshot(scene.client) == before


# --- search spaces: alone, and in a policy ---

SPACES: dict[str, tuple[list[types_pb2.ParameterSpec], str]] = {
    "empty": ([], "parameters"),
    "min above max": ([Spec(name="width", int_range=Int(min=9, max=1))], "[0].int_range.min"),
    "log over zero": (
        [
            Spec(
                name="learning_rate",
                float_range=Float(min=0, max=1, scale=types_pb2.SCALE_LOG),
            )
        ],
        "[0].float_range.min",
    ),
    "no number": (
        [Spec(name="learning_rate", float_range=Float(min=NAN, max=1))],
        "[0].float_range.min",
    ),
    "no categories": (
        [Spec(name="activation", categories=types_pb2.Categories())],
        "[0].categories.values",
    ),
}


@pytest.mark.parametrize("case", SPACES)
async def test_a_space_that_makes_no_sense(scene: Scene, case: str) -> None:
    parameters, field = SPACES[case]
    place = field if field == "parameters" else f"parameters{field}"
    study = small_study()
    study.space.CopyFrom(types_pb2.SearchSpace(parameters=parameters))
    async with refused(scene, f"study.space.{place}"):
        create = search_pb2.CreateStudyRequest(study_id=scene.id, study=study)
        await scene.call("SearchService.CreateStudy", create)
    wanted = scene.policy()
    wanted.search.space.CopyFrom(study.space)
    async with refused(scene, f"policy.search.space.{place}"):
        await apply(scene, wanted)


async def apply(scene: Scene, wanted: retuning_pb2.Policy) -> None:
    request = retuning_pb2.ApplyPolicyRequest(policy_id=scene.id, policy=wanted)
    await scene.call("RetuningService.ApplyPolicy", request)


# --- policies ---


def _trainer(wanted: retuning_pb2.Policy) -> None:
    wanted.trainer = "trainers/imagine"


def _task(wanted: retuning_pb2.Policy) -> None:
    wanted.task = types_pb2.TASK_UNSPECIFIED


def _parameter(wanted: retuning_pb2.Policy) -> None:
    spec = Spec(name="widht", int_range=Int(min=1, max=9))
    wanted.search.space.CopyFrom(types_pb2.SearchSpace(parameters=[spec]))


def _type(wanted: retuning_pb2.Policy) -> None:
    value = types_pb2.ParameterValue(string_value="many")
    spec = Spec(name="width", categories=types_pb2.Categories(values=[value]))
    wanted.search.space.CopyFrom(types_pb2.SearchSpace(parameters=[spec]))


def _algorithm(wanted: retuning_pb2.Policy) -> None:
    wanted.search.algorithm.name = "rondom"


def _file(wanted: retuning_pb2.Policy) -> None:
    wanted.data.training[0].uri = "/no/such.npz"


def _evaluation_file(wanted: retuning_pb2.Policy) -> None:
    wanted.data.evaluation[0].uri = "/no/such.npz"


def _column(wanted: retuning_pb2.Policy) -> None:
    wanted.data.training[0].target_column = "label"


def _metric(wanted: retuning_pb2.Policy) -> None:
    wanted.gate.rules[0].metric = "acuracy"


def _no_limit(wanted: retuning_pb2.Policy) -> None:
    wanted.gate.rules[0].min = NAN


def _rule(wanted: retuning_pb2.Policy) -> None:
    wanted.gate.rules.add(metric="accuracy", dataset="orignal", min=0.1)


def _cooldown(wanted: retuning_pb2.Policy) -> None:
    wanted.cooldown.CopyFrom(Duration(seconds=-1))


def _bake(wanted: retuning_pb2.Policy) -> None:
    wanted.rollout.bake.CopyFrom(Duration(seconds=10**9))


def _rate(wanted: retuning_pb2.Policy) -> None:
    wanted.monitoring.sampling_rate = 1.5


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (_trainer, "policy.trainer"),
        (_task, "policy.task"),
        (_parameter, "policy.search.space['widht']"),
        (_type, "policy.search.space['width']"),
        (_algorithm, "policy.search.algorithm.name"),
        (_file, "policy.data.training[0].uri"),
        (_evaluation_file, "policy.data.evaluation[0].uri"),
        (_column, "policy.data.training[0].target_column"),
        (_metric, "policy.gate.rules[0].metric"),
        (_no_limit, "policy.gate.rules[0].min"),
        (_rule, "policy.gate.rules[1].dataset"),
        (_cooldown, "policy.cooldown"),
        (_bake, "policy.rollout.bake"),
        (_rate, "policy.monitoring.sampling_rate"),
    ],
)
async def test_a_policy_that_could_not_work(
    scene: Scene, spoil: Callable[[retuning_pb2.Policy], None], field: str
) -> None:
    wanted = scene.policy()
    spoil(wanted)
    async with refused(scene, field):
        await apply(scene, wanted)


async def test_all_that_is_wrong_with_a_policy_is_told_at_once(scene: Scene) -> None:
    wanted = scene.policy()
    _algorithm(wanted)
    _file(wanted)
    _metric(wanted)
    async with refused(
        scene,
        "policy.search.algorithm.name",
        "policy.data.training[0].uri",
        "policy.gate.rules[0].metric",
    ):
        await apply(scene, wanted)


# --- measurements and leases ---


async def test_a_measurement_that_is_no_number(scene: Scene) -> None:
    leased = await scene.leased()
    trial, token = leased.trial.name, leased.lease.token
    for wrong in (NAN, INF, -INF):
        async with refused(scene, 'measurements[0].metrics["loss"]'):
            await scene.call(
                "SearchService.ReportMeasurements",
                search_pb2.ReportMeasurementsRequest(
                    trial=trial, lease_token=token, measurements=[loss(wrong)]
                ),
            )
        async with refused(scene, 'measurement.metrics["loss"]'):
            await scene.call(
                "SearchService.CompleteTrial",
                search_pb2.CompleteTrialRequest(
                    trial=trial, lease_token=token, measurement=loss(wrong)
                ),
            )
        async with refused(scene, 'trials[0].final_measurement.metrics["loss"]'):
            await scene.call(
                "SearchService.AddTrials",
                search_pb2.AddTrialsRequest(
                    study=f"studies/{scene.id}", trials=[known_trial(0.5, wrong)]
                ),
            )
    async with refused(scene, "outcomes[0].value"):
        await scene.call(
            "AgentService.RecordOutcomes",
            agent_pb2.RecordOutcomesRequest(
                model="models/loop", outcomes=[agent_pb2.Outcome(request_id="r", value=NAN)]
            ),
        )


async def test_a_foreign_lease(scene: Scene) -> None:
    leased = await scene.leased()
    before = await scene.mine()
    report = search_pb2.ReportMeasurementsRequest(
        trial=leased.trial.name, lease_token="somebody else's", measurements=[loss(1.0, step=1)]
    )
    answer = await scene.call("SearchService.ReportMeasurements", report)
    assert answer.directive == search_pb2.TRIAL_DIRECTIVE_LOST
    assert answer.reason
    complete = search_pb2.CompleteTrialRequest(
        trial=leased.trial.name, lease_token="somebody else's", measurement=loss(1.0)
    )
    answer = await scene.call("SearchService.CompleteTrial", complete)
    assert not answer.accepted
    assert answer.reason
    assert await scene.mine() == before
    trial = await scene.call(
        "SearchService.GetTrial", search_pb2.GetTrialRequest(name=leased.trial.name)
    )
    assert trial.state == search_pb2.TRIAL_STATE_RUNNING
    assert not trial.measurements


async def test_an_expired_lease(scene: Scene) -> None:
    study = small_study()
    study.lease_duration.CopyFrom(Duration(nanos=200_000_000))
    create = search_pb2.CreateStudyRequest(study_id=scene.id, study=study)
    await scene.call("SearchService.CreateStudy", create)
    suggest = search_pb2.SuggestTrialsRequest(study=f"studies/{scene.id}", worker="slow")
    (late,) = (await scene.call("SearchService.SuggestTrials", suggest)).trials
    suggest.worker = "quick"
    while True:  # the trial of the slow one comes to the quick one, with a lease of its own
        suggest.count += 1
        given = (await scene.call("SearchService.SuggestTrials", suggest)).trials
        if late.trial.name in [each.trial.name for each in given]:
            break
        assert len(given) < 10
    complete = search_pb2.CompleteTrialRequest(
        trial=late.trial.name, lease_token=late.lease.token, measurement=loss(1.0)
    )
    answer = await scene.call("SearchService.CompleteTrial", complete)
    assert not answer.accepted
    assert answer.trial.state == search_pb2.TRIAL_STATE_RUNNING
    assert answer.reason
    # Its leases would run out during the tests that follow.
    delete = search_pb2.DeleteStudyRequest(name=f"studies/{scene.id}")
    await scene.call("SearchService.DeleteStudy", delete)


# --- data ---


def npz(**arrays: Any) -> bytes:
    target = io.BytesIO()
    np.savez(target, **arrays)
    return target.getvalue()


X = np.zeros((12, 3), np.float32)
LABELS = np.array(["left", "right"] * 6)
DATA: dict[str, tuple[bytes, str]] = {
    "one class only": (npz(x=X, y=np.array(["left"] * 12)), ""),
    "no target": (npz(x=X), ".target_column"),
    "no features": (npz(y=LABELS), ".feature_columns"),
    "rows that do not match": (npz(x=X, y=LABELS[:5]), ""),
    "a row without an end": (npz(x=np.full((12, 3), np.inf, np.float32), y=LABELS), ".feature"),
    "a pickle": (npz(x=X, y=np.array([{"a": 1}] * 12, object)), ".target_column"),
    "an archive cut short": (npz(x=X, y=LABELS)[:300], ".artifact"),
    "no archive": (b"a,b,c\n1,2,3\n", ".artifact"),
}


@pytest.mark.parametrize("case", DATA)
async def test_a_broken_dataset(scene: Scene, case: str) -> None:
    content, field = DATA[case]
    artifact = scene.product.plane.put(content, "application/x-npz", "data.npz")
    training = scene.training()
    training.datasets[0].CopyFrom(types_pb2.Dataset(artifact=artifact))
    async with refused(scene) as errors:
        await scene.call(
            "TrainingService.CreateTraining",
            training_pb2.CreateTrainingRequest(training_id=scene.id, training=training),
        )
    assert errors[0].field.startswith("training.datasets")
    assert field in errors[0].field
    wanted = scene.policy()
    wanted.data.training[0].CopyFrom(training.datasets[0])
    async with refused(scene) as errors:
        await apply(scene, wanted)
    assert errors[0].field.startswith("policy.data.training")


@pytest.mark.parametrize(
    "uri", ["/no/such.npz", "s3://../x.npz", "gopher://x/y.npz", "http:///x.npz"]
)
async def test_a_dataset_that_cannot_be_reached(scene: Scene, uri: str) -> None:
    training = scene.training()
    training.datasets[0].uri = uri
    async with refused(scene, "training.datasets[0].uri"):
        await scene.call(
            "TrainingService.CreateTraining",
            training_pb2.CreateTrainingRequest(training_id=scene.id, training=training),
        )
    evaluation = scene.evaluation()
    evaluation.datasets[0].uri = uri
    async with refused(scene, "evaluation.datasets[0].uri"):
        await scene.call(
            "EvaluationService.CreateEvaluation",
            evaluation_pb2.CreateEvaluationRequest(evaluation_id=scene.id, evaluation=evaluation),
        )


# --- artifacts ---


def spoilt(scene: Scene, change: Callable[[onnx.ModelProto], None]) -> bytes:
    """The world's model with something wrong in it."""
    sound = scene.product.plane.artifacts.get_bytes_sync(scene.world.onnx.sha256)
    model = onnx.ModelProto.FromString(sound)
    change(model)
    return bytes(model.SerializeToString())


def _outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")


def _operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "NoSuchOperator"


def _library(model: onnx.ModelProto) -> None:
    model.opset_import.add(domain="evil.ops", version=1)
    model.graph.node[0].domain = "evil.ops"


@pytest.mark.parametrize("change", [None, _outside, _operator, _library])
async def test_a_hostile_model(
    scene: Scene, change: Callable[[onnx.ModelProto], None] | None
) -> None:
    if change is None:
        sound = scene.product.plane.artifacts.get_bytes_sync(scene.world.onnx.sha256)
        content = sound[: len(sound) // 2]
    else:
        content = spoilt(scene, change)
    artifact = scene.product.plane.put(content, "application/onnx", "model.onnx")
    model = (await scene.model()).name
    async with refused(scene, "version.onnx") as errors:
        await scene.call(
            "DeploymentService.CreateModelVersion",
            deployment_pb2.CreateModelVersionRequest(
                parent=model, version=deployment_pb2.ModelVersion(onnx=artifact)
            ),
        )
    assert errors[0].reason == "UNSOUND_MODEL"
    evaluation = scene.evaluation()
    evaluation.candidate.CopyFrom(artifact)
    create = evaluation_pb2.CreateEvaluationRequest(evaluation_id=scene.id, evaluation=evaluation)
    if change is _operator:
        # Only what runs models can tell, and that is a process of its own.
        await scene.call("EvaluationService.CreateEvaluation", create)
        failed = await ended(scene)
        assert failed.state == evaluation_pb2.EVALUATION_STATE_FAILED
        assert "NoSuchOperator" in failed.reason
        assert failed.next_step
        return
    async with refused(scene, "evaluation.candidate") as errors:
        await scene.call("EvaluationService.CreateEvaluation", create)
    assert errors[0].reason == "UNSOUND_MODEL"


async def ended(scene: Scene) -> evaluation_pb2.Evaluation:
    get = evaluation_pb2.GetEvaluationRequest(name=f"evaluations/{scene.id}")
    async with asyncio.timeout(60):
        while True:
            found: evaluation_pb2.Evaluation
            found = await scene.call("EvaluationService.GetEvaluation", get)
            if found.HasField("end_time"):
                return found
            await asyncio.sleep(0.05)


async def test_tricks_in_the_names_of_artifacts(scene: Scene) -> None:
    model = (await scene.model()).name
    sha256 = scene.world.onnx.sha256
    for artifact, field in (
        (types_pb2.Artifact(sha256=sha256, filename="../../etc/cron.d/x"), "filename"),
        (types_pb2.Artifact(sha256=sha256, filename="/etc/passwd"), "filename"),
        (types_pb2.Artifact(sha256=sha256, filename=".bashrc"), "filename"),
        (types_pb2.Artifact(sha256="../" * 21 + "a"), "sha256"),
        (types_pb2.Artifact(sha256=sha256.upper()), "sha256"),
        (types_pb2.Artifact(sha256=sha256, media_type="a\r\nb"), "media_type"),
        (types_pb2.Artifact(sha256=sha256, size_bytes=-1), "size_bytes"),
        (types_pb2.Artifact(sha256="0" * 64), "sha256"),
    ):
        async with refused(scene, f"version.onnx.{field}"):
            await scene.call(
                "DeploymentService.CreateModelVersion",
                deployment_pb2.CreateModelVersionRequest(
                    parent=model, version=deployment_pb2.ModelVersion(onnx=artifact)
                ),
            )
    for wrong in ("../secret", sha256[:-1], ""):
        async with refused(scene, "sha256"):
            stream = scene.client.method("AgentLink.FetchArtifact")(
                deployment_pb2.FetchArtifactRequest(sha256=wrong)
            )
            await _first(stream)


async def _first(stream: Any) -> Any:
    async for each in streaming(stream):
        return each
    return None


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"rows": 5}, "header.rows"),
        ({"sha256": "0" * 64}, "header.sha256"),
        ({"version": "models/loop/versions/9"}, "header.version"),
        ({"version": "models/other/versions/1"}, "header.version"),
        ({"host": "hosts/../x"}, "header.host"),
        ({"model": "models/../x"}, "header.model"),
        ({"request_id": ""}, "header.request_id"),
    ],
)
async def test_a_capture_that_is_not_what_it_says(
    scene: Scene, wrong: dict[str, Any], field: str
) -> None:
    async with refused(scene, field):
        await scene.capture(**wrong)


async def test_a_capture_that_is_too_large(scene: Scene) -> None:
    assert len(captured(20_000)) > 1 << 20
    async with refused(scene, "data") as errors:
        await scene.capture(20_000)
    assert errors[0].reason == "UPLOAD_TOO_LARGE"


# --- names, rollouts, retunes ---


async def test_names_that_are_none(scene: Scene) -> None:
    for name in ("studies/../trials", "studies/A", "study/a", "studies/" + "a" * 64, "studies/ü"):
        async with refused(scene, "name"):
            await scene.call("SearchService.GetStudy", search_pb2.GetStudyRequest(name=name))
    for model_id in ("../up", "UP", "a" * 49, "-a", "a_b"):
        async with refused(scene, "model_id"):
            await scene.call(
                "DeploymentService.CreateModel",
                deployment_pb2.CreateModelRequest(model_id=model_id, model=deployment_pb2.Model()),
            )


async def test_a_rollout_of_what_was_never_judged(scene: Scene) -> None:
    version = (await scene.version()).name
    good = scene.world.retune.evaluation
    for rollout, field in (
        (deployment_pb2.Rollout(evaluation=good), "rollout.version"),
        (deployment_pb2.Rollout(version=version), "rollout.evaluation"),
        (
            deployment_pb2.Rollout(version=version, evaluation="evaluations/none"),
            "rollout.evaluation",
        ),
        (
            deployment_pb2.Rollout(version="models/none/versions/1", evaluation=good),
            "rollout.version",
        ),
    ):
        async with refused(scene, field):
            await scene.call(
                "DeploymentService.CreateRollout",
                deployment_pb2.CreateRolloutRequest(rollout_id=scene.id, rollout=rollout),
            )


async def test_what_cannot_be_done_now_says_what_can(scene: Scene) -> None:
    retune = scene.world.retune.name
    for rpc, request in (
        ("RetuningService.ApproveRetune", retuning_pb2.ApproveRetuneRequest(name=retune)),
        (
            "RetuningService.DeletePolicy",
            retuning_pb2.DeletePolicyRequest(name=scene.world.retune.policy),
        ),
        (
            "TrainingService.CancelTraining",
            training_pb2.CancelTrainingRequest(name=scene.world.retune.training),
        ),
    ):
        async with refused(scene) as errors:
            await scene.call(rpc, request)
        assert errors[0].code is grpc.StatusCode.FAILED_PRECONDITION
        assert errors[0].fix


async def test_a_request_about_a_model_that_nobody_keeps(scene: Scene) -> None:
    signal = monitoring_pb2.Signal(id="s", kind=monitoring_pb2.SIGNAL_KIND_DRIFT)
    async with refused(scene, "model") as errors:
        await scene.call(
            "RetuningService.RequestRetune",
            retuning_pb2.RequestRetuneRequest(model="models/none", evidence=[signal]),
        )
    assert isinstance(errors[0], NotFound)
    async with refused(scene, "target"):
        await scene.call("RetuningService.RequestRetune", retuning_pb2.RequestRetuneRequest())
