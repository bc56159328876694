"""The whole control plane on a disk that fills up: nothing is lost, and it goes on with room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from keeptune.runtime.auth import ClientCredentials
from keeptune.runtime.calls import calling
from keeptune.runtime.channel import open_channel
from keeptune.runtime.errors import NotFound, ResourceExhausted
from keeptune.v1 import (
    deployment_pb2,
    evaluation_pb2,
    retuning_pb2,
    search_pb2,
    training_pb2,
    types_pb2,
)
from tests.contract.product import Client, Plane, running_plane
from tests.contract.scene import captured, sha256_of, small_study
from tests.contract.world import policy, write_rows
from tests.fixtures.judged_models import classifier

_MANY = 400
# So that a few calls fill what is left.
_BULK = {f"bulk-{i}": "x" * 4000 for i in range(4)}


@dataclass
class Disk:
    """What fills it and can be taken away again."""

    folder: Path
    ballast: list[Path] = field(default_factory=list)

    def fill(self) -> None:
        """Takes every free byte."""
        for size in (1 << 20, 1 << 16, 1 << 12, 1):
            path = self.folder / f"filling-{size}"
            with pytest.raises(OSError, match="No space left"):
                _write_for_ever(path, size)
            self.ballast.append(path)

    def free(self) -> None:
        for path in (self.folder / "ballast", *self.ballast):
            path.unlink()


def _write_for_ever(path: Path, size: int) -> None:
    with path.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(size))


@asynccontextmanager
async def client_of(plane: Plane) -> AsyncIterator[Client]:
    credentials = ClientCredentials.from_file(plane.served.tokens_file)
    async with open_channel(plane.address, credentials=credentials) as channel:
        yield Client(channel, channel)


@pytest.mark.timeout(180)
async def test_every_service_refuses_and_goes_on(small_disk: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.npz", 1)
    with running_plane(tmp_path / "plane", small_disk / "data") as plane:
        async with client_of(plane) as client:
            weights = np.array([[4.0, -4.0], [0.0, 0.0], [0.0, 0.0]], np.float32)
            onnx = plane.put(classifier(weights, ["left", "right"]), "application/onnx")
            version = await make_version(client, onnx)
            await make_first_study(client)
            disk = Disk(small_disk)
            disk.fill()
            refused = [await until_refused(client, rpc, rows, onnx) for rpc in MAKERS]
            with pytest.raises(ResourceExhausted) as caught:
                await upload(client, version)
            assert "full" in caught.value.message
            with pytest.raises(ResourceExhausted):
                plane.put(bytes(1 << 16))
            # Reading goes on, and shows nothing of what was refused.
            for rpc, request in refused:
                assert await named(client, rpc, request) is None
            await is_serving(plane)
            disk.free()
            for rpc, request in refused:
                made = await calling(client.method(rpc)(request))
                assert await calling(client.method(rpc)(request)) == made
                assert (await named(client, rpc, request)).name == made.name
            assert (await upload(client, version)).rows == 4
            await is_serving(plane)


async def is_serving(plane: Plane) -> None:
    async with grpc.aio.insecure_channel(plane.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def make_version(client: Client, onnx: types_pb2.Artifact) -> str:
    create = deployment_pb2.CreateModelRequest(model_id="first", model=deployment_pb2.Model())
    model = await calling(client.method("DeploymentService.CreateModel")(create))
    register = deployment_pb2.CreateModelVersionRequest(
        parent=model.name, version=deployment_pb2.ModelVersion(onnx=onnx)
    )
    made = await calling(client.method("DeploymentService.CreateModelVersion")(register))
    return str(made.name)


async def make_first_study(client: Client) -> None:
    """One that a training can run."""
    study = small_study(metrics=[search_pb2.Metric(name="accuracy", goal=types_pb2.GOAL_MAXIMIZE)])
    del study.metrics[0]
    study.space.parameters[0].CopyFrom(
        types_pb2.ParameterSpec(name="width", int_range=types_pb2.IntRange(min=4, max=8))
    )
    create = search_pb2.CreateStudyRequest(study_id="first", study=study)
    await calling(client.method("SearchService.CreateStudy")(create))


async def upload(client: Client, version: str) -> Any:
    content = captured(4)
    header = deployment_pb2.CaptureHeader(
        request_id="upload",
        host="hosts/h",
        model=version.rpartition("/versions/")[0],
        version=version,
        rows=4,
        sha256=sha256_of(content),
    )
    parts = [
        deployment_pb2.UploadCaptureRequest(header=header),
        deployment_pb2.UploadCaptureRequest(data=content),
    ]
    return await calling(client.method("AgentLink.UploadCapture")(iter(parts)))


def make_study(name: str, rows: Path, onnx: types_pb2.Artifact) -> Message:
    return search_pb2.CreateStudyRequest(study_id=name, study=small_study(labels=_BULK))


def make_training(name: str, rows: Path, onnx: types_pb2.Artifact) -> Message:
    training = training_pb2.Training(
        study="studies/first",
        trainer="trainers/tabular",
        task=types_pb2.TASK_CLASSIFICATION,
        datasets=[types_pb2.Dataset(uri=str(rows))],
        labels=_BULK,
    )
    return training_pb2.CreateTrainingRequest(training_id=name, training=training)


def make_evaluation(name: str, rows: Path, onnx: types_pb2.Artifact) -> Message:
    evaluation = evaluation_pb2.Evaluation(
        candidate=onnx, datasets=[types_pb2.Dataset(uri=str(rows))], labels=_BULK
    )
    return evaluation_pb2.CreateEvaluationRequest(evaluation_id=name, evaluation=evaluation)


def make_model(name: str, rows: Path, onnx: types_pb2.Artifact) -> Message:
    return deployment_pb2.CreateModelRequest(
        model_id=name, model=deployment_pb2.Model(labels=_BULK)
    )


def make_policy(name: str, rows: Path, onnx: types_pb2.Artifact) -> Message:
    wanted = policy(name, rows, rows, labels=_BULK)
    return retuning_pb2.ApplyPolicyRequest(policy_id=name, policy=wanted)


MAKERS = {
    "SearchService.CreateStudy": make_study,
    "TrainingService.CreateTraining": make_training,
    "EvaluationService.CreateEvaluation": make_evaluation,
    "DeploymentService.CreateModel": make_model,
    "RetuningService.ApplyPolicy": make_policy,
}
_GETS: dict[str, tuple[str, Any, str]] = {
    "SearchService.CreateStudy": (
        "SearchService.GetStudy",
        search_pb2.GetStudyRequest,
        "studies/{0.study_id}",
    ),
    "TrainingService.CreateTraining": (
        "TrainingService.GetTraining",
        training_pb2.GetTrainingRequest,
        "trainings/{0.training_id}",
    ),
    "EvaluationService.CreateEvaluation": (
        "EvaluationService.GetEvaluation",
        evaluation_pb2.GetEvaluationRequest,
        "evaluations/{0.evaluation_id}",
    ),
    "DeploymentService.CreateModel": (
        "DeploymentService.GetModel",
        deployment_pb2.GetModelRequest,
        "models/{0.model_id}",
    ),
    "RetuningService.ApplyPolicy": (
        "RetuningService.GetPolicy",
        retuning_pb2.GetPolicyRequest,
        "policies/{0.policy_id}",
    ),
}


async def until_refused(
    client: Client, rpc: str, rows: Path, onnx: types_pb2.Artifact
) -> tuple[str, Any]:
    """Makes one after the other; the request that found no room.

    The first may still fit into what the journals have already taken.
    """
    for number in range(_MANY):
        request: Any = MAKERS[rpc](f"bulk-{number}", rows, onnx)
        request.request_id = f"bulk-{number}"
        refusal: ResourceExhausted | None = None
        try:
            await calling(client.method(rpc)(request))
        except ResourceExhausted as error:
            refusal = error
        if refusal is not None:
            assert "full" in refusal.message
            assert refusal.reason == "DISK_FULL"
            assert refusal.fix
            assert refusal.retry_after
            return rpc, request
    raise AssertionError(f"{rpc} found room {_MANY} times")


async def named(client: Client, rpc: str, request: Any) -> Any:
    """What the request makes; None while there is no such thing."""
    get, message, form = _GETS[rpc]
    try:
        return await calling(client.method(get)(message(name=form.format(request))))
    except NotFound:
        return None
