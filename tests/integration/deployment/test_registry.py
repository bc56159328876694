"""What the registry takes in, and what it refuses: each refusal names its field."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from onnx import TensorProto, helper

from keeptune.runtime.artifacts import to_proto
from keeptune.runtime.calls import calling
from keeptune.runtime.errors import (
    AlreadyExists,
    Conflict,
    DataLoss,
    InvalidInput,
    KeeptuneError,
    NotFound,
)
from keeptune.runtime.manifest import manifest
from keeptune.v1 import deployment_pb2 as pb
from keeptune.v1 import monitoring_pb2, types_pb2
from tests.fixtures.judged_models import classifier
from tests.integration.deployment.control_plane import ControlPlane
from tests.integration.deployment.judged import CLASSES

WEIGHTS = np.array([[-4.0, 4.0], [0.0, 0.0]], np.float32)
SOUND = classifier(WEIGHTS, CLASSES)


def stored(plane: ControlPlane, content: bytes) -> types_pb2.Artifact:
    return to_proto(plane.artifacts.put_bytes_sync(content, media_type="application/onnx"))


def edited(**changes: object) -> bytes:
    model = onnx.load_model_from_string(SOUND)
    for name, change in changes.items():
        globals()[f"_{name}"](model, change)
    return model.SerializeToString()


def _ir(model: onnx.ModelProto, version: int) -> None:
    model.ir_version = version


def _opset(model: onnx.ModelProto, version: int) -> None:
    model.opset_import[0].version = version


def _domain(model: onnx.ModelProto, domain: str) -> None:
    model.opset_import.append(helper.make_opsetid(domain, 1))
    model.graph.node[0].domain = domain


def _external(model: onnx.ModelProto, location: str) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def _operator(model: onnx.ModelProto, name: str) -> None:
    model.graph.node[0].op_type = name


def _batch(model: onnx.ModelProto, size: int) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size


def _input_type(model: onnx.ModelProto, kind: int) -> None:
    model.graph.input[0].type.tensor_type.elem_type = kind


async def create(
    plane: ControlPlane, version: pb.ModelVersion, request_id: str = ""
) -> pb.ModelVersion:
    request = pb.CreateModelVersionRequest(
        request_id=request_id, parent="models/digits", version=version
    )
    created: pb.ModelVersion = await calling(plane.stub.CreateModelVersion(request))
    return created


async def refusal(plane: ControlPlane, version: pb.ModelVersion) -> KeeptuneError:
    with pytest.raises(KeeptuneError) as caught:
        await create(plane, version)
    listed = await calling(
        plane.stub.ListModelVersions(pb.ListModelVersionsRequest(parent="models/digits"))
    )
    assert not listed.versions, "what was refused must leave nothing behind"
    return caught.value


async def test_versions_count_from_one_and_are_signed(plane: ControlPlane) -> None:
    await plane.model()
    first = await plane.version(plane.evaluations.good[0])
    second = await plane.version(plane.evaluations.good[1])
    assert [first.name, second.name] == [f"models/digits/versions/{n}" for n in (1, 2)]
    assert list(first.signature.classes) == CLASSES
    assert (first.max_batch_size, first.instance_count) == (64, 1)
    assert first.onnx.size_bytes == plane.evaluations.good[0].onnx.size_bytes
    token = (plane.folder / "join-token").read_text().strip()
    enrolled = await calling(plane.link.Enroll(pb.EnrollRequest(host_id="h", join_token=token)))
    key = Ed25519PublicKey.from_public_bytes(enrolled.registry_public_key)
    key.verify(first.manifest_signature, manifest(first))
    first.onnx.sha256 = second.onnx.sha256
    with pytest.raises(InvalidSignature):
        key.verify(first.manifest_signature, manifest(first))
    assert (plane.folder / "registry.key").stat().st_mode & 0o777 == 0o600
    assert (plane.folder / "join-token").stat().st_mode & 0o777 == 0o600


async def test_a_repeated_request_makes_one_version(plane: ControlPlane) -> None:
    await plane.model()
    version = pb.ModelVersion(onnx=stored(plane, SOUND), lineage=pb.Lineage(study="studies/s"))
    first = await create(plane, version, "r/version")
    assert await create(plane, version, "r/version") == first
    with pytest.raises(InvalidInput, match="used for another request"):
        await create(plane, pb.ModelVersion(onnx=version.onnx), "r/version")
    listed = await calling(
        plane.stub.ListModelVersions(pb.ListModelVersionsRequest(parent="models/digits"))
    )
    assert [each.lineage.study for each in listed.versions] == ["studies/s"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "is not an ONNX file", id="empty"),
        pytest.param(SOUND[: len(SOUND) // 2], "is not an ONNX file", id="truncated"),
        pytest.param(b"\x80\x05garbage" * 100, "is not an ONNX file", id="pickle"),
        pytest.param(edited(ir=99), "IR version 99", id="too-new-ir"),
        pytest.param(edited(opset=99), "opset 99", id="too-new-opset"),
        pytest.param(edited(domain="evil.ops"), "operators of 'evil.ops'", id="custom-operators"),
        pytest.param(edited(external="../../../etc/passwd"), "in another file", id="path-trick"),
        pytest.param(edited(operator="NoSuchThing"), "NoSuchThing", id="unknown-operator"),
        pytest.param(edited(batch=1), "fixed batch size of 1", id="fixed-batch"),
        pytest.param(edited(input_type=TensorProto.COMPLEX64), "COMPLEX64", id="type-not-served"),
    ],
)
async def test_an_unsound_model_is_refused(plane: ControlPlane, content: bytes, said: str) -> None:
    await plane.model()
    error = await refusal(plane, pb.ModelVersion(onnx=stored(plane, content)))
    assert isinstance(error, InvalidInput)
    assert error.field == "version.onnx"
    assert said in error.message
    assert error.fix or "fix:" in error.message


async def test_what_is_said_of_artifacts_must_be_true(plane: ControlPlane) -> None:
    await plane.model()
    sound = stored(plane, SOUND)
    missing = types_pb2.Artifact(sha256="0" * 64)
    error = await refusal(plane, pb.ModelVersion(onnx=missing))
    assert (type(error), error.field) == (NotFound, "version.onnx.sha256")
    error = await refusal(
        plane, pb.ModelVersion(onnx=types_pb2.Artifact(sha256=sound.sha256, size_bytes=7))
    )
    assert (type(error), error.field) == (InvalidInput, "version.onnx.size_bytes")
    trick = types_pb2.Artifact(sha256=sound.sha256, filename="../../etc/cron.d/x")
    error = await refusal(plane, pb.ModelVersion(onnx=trick))
    assert (type(error), error.field) == (InvalidInput, "version.onnx.filename")
    no_profile = stored(plane, b"\xff\xff\xff")
    error = await refusal(plane, pb.ModelVersion(onnx=sound, reference_profile=no_profile))
    assert (type(error), error.field) == (InvalidInput, "version.reference_profile")


async def test_a_damaged_artifact_is_not_taken_in(plane: ControlPlane) -> None:
    await plane.model()
    artifact = stored(plane, classifier(WEIGHTS * 1.7, CLASSES))
    root = plane.evaluations.folder / "artifacts" / "sha256"
    blob = root / artifact.sha256[:2] / artifact.sha256
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    try:
        error = await refusal(plane, pb.ModelVersion(onnx=artifact))
    finally:
        blob.unlink()
    assert (type(error), error.field) == (DataLoss, "version.onnx")


async def test_a_signature_must_be_there_and_fit(plane: ControlPlane) -> None:
    await plane.model()
    bare = stored(plane, classifier(WEIGHTS, CLASSES, signature=False))
    error = await refusal(plane, pb.ModelVersion(onnx=bare))
    assert error.field == "version.signature"
    given = types_pb2.ModelSignature(
        task=types_pb2.TASK_CLASSIFICATION,
        inputs=[
            types_pb2.TensorSpec(name="features", data_type=types_pb2.DATA_TYPE_FLOAT32, shape=[3])
        ],
        outputs=[
            types_pb2.TensorSpec(
                name="probabilities", data_type=types_pb2.DATA_TYPE_FLOAT32, shape=[2]
            )
        ],
        classes=CLASSES,
    )
    error = await refusal(plane, pb.ModelVersion(onnx=bare, signature=given))
    assert error.field == "version.signature.inputs[0].shape"
    given.inputs[0].shape[0] = 2
    created = await create(plane, pb.ModelVersion(onnx=bare, signature=given))
    assert created.signature == given


async def test_models_are_made_listed_and_updated(plane: ControlPlane) -> None:
    made = await plane.model("one", labels={"team": "vision"})
    await plane.model("two")
    with pytest.raises(AlreadyExists):
        await plane.model("one")
    assert made.monitoring.sampling_rate == pytest.approx(0.1)
    assert made.monitoring.health.max_accuracy_drop == pytest.approx(0.1)
    listed = await calling(
        plane.stub.ListModels(pb.ListModelsRequest(filter='labels.team = "vision"'))
    )
    assert [each.name for each in listed.models] == ["models/one"]
    page = await calling(plane.stub.ListModels(pb.ListModelsRequest(page_size=1)))
    assert len(page.models) == 1
    assert page.next_page_token
    update = pb.UpdateModelRequest(
        model=pb.Model(name="models/one", display_name="One", metadata=made.metadata),
        update_mask={"paths": ["display_name"]},
    )
    updated = await calling(plane.stub.UpdateModel(update))
    assert (updated.display_name, updated.labels["team"]) == ("One", "vision")
    with pytest.raises(Conflict):
        await calling(plane.stub.UpdateModel(update))


@pytest.mark.parametrize(
    ("request_", "method", "field"),
    [
        (
            pb.CreateModelRequest(model_id="../up", model=pb.Model()),
            "CreateModel",
            "model_id",
        ),
        (pb.CreateModelRequest(model_id="m"), "CreateModel", "model"),
        (
            pb.CreateModelRequest(
                model_id="m",
                model=pb.Model(monitoring=monitoring_pb2.Monitoring(sampling_rate=2.0)),
            ),
            "CreateModel",
            "model.monitoring.sampling_rate",
        ),
        (
            pb.CreateModelRequest(model_id="n", model=pb.Model(labels={"A B": "x"})),
            "CreateModel",
            "labels",
        ),
        (pb.GetModelRequest(name="models/UPPER"), "GetModel", "name"),
        (
            pb.UpdateModelRequest(
                model=pb.Model(name="models/m"), update_mask={"paths": ["champion"]}
            ),
            "UpdateModel",
            "update_mask",
        ),
        (pb.ListModelsRequest(filter="colour = red"), "ListModels", "filter"),
        (pb.ListModelsRequest(page_token="nonsense"), "ListModels", "page_token"),
        (
            pb.CreateModelVersionRequest(parent="models/m", version=pb.ModelVersion()),
            "CreateModelVersion",
            "version.onnx",
        ),
        (
            pb.CreateRolloutRequest(
                rollout=pb.Rollout(
                    version="models/m/versions/1",
                    evaluation="evaluations/e",
                    strategy=pb.RolloutStrategy(bake={"seconds": -1}),
                )
            ),
            "CreateRollout",
            "rollout.strategy.bake",
        ),
    ],
)
async def test_bad_input_names_its_field(
    plane: ControlPlane, request_: object, method: str, field: str
) -> None:
    await plane.model("m")
    with pytest.raises(InvalidInput) as caught:
        await calling(getattr(plane.stub, method)(request_))
    assert caught.value.field.startswith(field), caught.value.violations


async def test_a_version_of_an_unknown_model_is_not_found(plane: ControlPlane) -> None:
    with pytest.raises(NotFound, match="models/digits"):
        await create(plane, pb.ModelVersion(onnx=stored(plane, SOUND)))
