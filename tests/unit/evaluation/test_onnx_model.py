"""ONNX files as strangers may send them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from keeptune.evaluation.onnx_model import Session, read_model
from keeptune.runtime.errors import InvalidInput
from keeptune.v1 import types_pb2
from tests.fixtures import judged_models as models

WEIGHTS = np.eye(3, 2, dtype=np.float32)
GOOD = models.classifier(WEIGHTS, ["cat", "dog"], feature_names=["a", "b", "c"])


def refused(content: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        read_model(content, field="evaluation.candidate")
    assert caught.value.field == "evaluation.candidate"
    assert caught.value.violations[0].fix
    return caught.value.message


def changed(content: bytes) -> onnx.ModelProto:
    return onnx.load_model_from_string(content)


def test_a_sound_model_tells_its_signature_and_runs() -> None:
    model = read_model(GOOD, field="f")
    assert list(model.signature.classes) == ["cat", "dog"]
    assert model.feature_names == ("a", "b", "c")
    rows = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    found = Session(model, "f").run({"features": rows})["probabilities"]
    logits = rows @ WEIGHTS
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("size", [0, 1, 100, len(GOOD) // 2, len(GOOD) - 1])
def test_truncated_files(size: int) -> None:
    assert "not an ONNX file, or only a part" in refused(GOOD[:size])


def test_noise_is_no_model() -> None:
    assert "not an ONNX file" in refused(np.random.default_rng(1).bytes(5000))


@pytest.mark.parametrize("location", ["/etc/passwd", "../../secrets", "weights.bin"])
def test_data_outside_the_file(location: str) -> None:
    model = changed(GOOD)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = T.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    assert "in another file" in refused(model.SerializeToString())


def test_data_outside_hidden_in_a_subgraph() -> None:
    inner = numpy_helper.from_array(np.zeros(2, np.float32), "hidden")
    inner.ClearField("raw_data")
    inner.external_data.add(key="location", value="/etc/passwd")
    body = helper.make_graph([], "body", [], [], [inner])
    model = changed(GOOD)
    model.graph.node.append(
        helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    )
    assert "'hidden' in another file" in refused(model.SerializeToString())


def test_operators_from_outside() -> None:
    model = changed(GOOD)
    model.opset_import.add(domain="com.evil", version=1)
    assert "operators of 'com.evil'" in refused(model.SerializeToString())


def test_a_cached_engine_context() -> None:
    model = changed(GOOD)
    model.graph.node.add(op_type="EPContext", domain="com.microsoft")
    assert "EPContext" in refused(model.SerializeToString())


@pytest.mark.parametrize(
    ("value", "message"),
    [("{", "unreadable keeptune.signature"), ('{"inputs": 3}', "unreadable")],
)
def test_broken_metadata(value: str, message: str) -> None:
    model = changed(GOOD)
    model.metadata_props[0].value = value
    assert message in refused(model.SerializeToString())


def test_without_a_signature_one_must_be_given() -> None:
    bare = models.classifier(WEIGHTS, ["cat", "dog"], signature=False)
    assert "has no signature" in refused(bare)
    given = read_model(GOOD, field="f").signature
    assert read_model(bare, field="f", signature=given).signature == given
    assert read_model(bare, field="f", default=given).signature == given


def test_a_given_signature_goes_before_the_files_own() -> None:
    own = read_model(GOOD, field="f").signature
    other = types_pb2.ModelSignature()
    other.CopyFrom(own)
    other.classes[:] = ["katze", "hund"]
    assert read_model(GOOD, field="f", signature=other).signature == other
    assert read_model(GOOD, field="f", default=other).signature == own


def signature_of(**changes: object) -> types_pb2.ModelSignature:
    signature = types_pb2.ModelSignature()
    signature.CopyFrom(read_model(GOOD, field="f").signature)
    for name, value in changes.items():
        if name == "classes":
            signature.classes[:] = value
        else:
            setattr(signature.inputs[0], name, value)
    return signature


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (signature_of(name="pixels"), "'pixels' in its signature; its graph has features"),
        (signature_of(data_type=types_pb2.DATA_TYPE_INT64), "as INT64, its graph has another"),
        (signature_of(classes=["a", "a"]), "twice"),
        (signature_of(classes=[]), "without class labels"),
        (types_pb2.ModelSignature(task=types_pb2.TASK_REGRESSION), "without inputs"),
    ],
)
def test_a_signature_that_the_graph_does_not_bear_out(
    signature: types_pb2.ModelSignature, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_model(GOOD, field="f", signature=signature)


def test_shapes_must_fit() -> None:
    signature = signature_of()
    signature.inputs[0].shape[:] = [4]
    with pytest.raises(InvalidInput, match=r"shape \[4\], its graph has \[3\]"):
        read_model(GOOD, field="f", signature=signature)


def test_a_fixed_batch_is_refused() -> None:
    model = changed(GOOD)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    assert "fixed batch of 1" in refused(model.SerializeToString())


def test_an_unknown_operator_is_refused_by_the_checker() -> None:
    model = changed(GOOD)
    model.graph.node[2].op_type = "Sorcery"
    read = read_model(model.SerializeToString(), field="f")
    with pytest.raises(InvalidInput, match="no sound ONNX model"):
        Session(read, "f")


def test_a_model_that_fails_while_running() -> None:
    model = changed(GOOD)
    reshape = helper.make_node("Reshape", ["softmax", "odd"], ["probabilities"])
    model.graph.node[-1].CopyFrom(reshape)
    model.graph.initializer.append(numpy_helper.from_array(np.int64([7, 11]), "odd"))
    session = Session(read_model(model.SerializeToString(), field="f"), "f")
    with pytest.raises(InvalidInput, match="fails on the data") as caught:
        session.run({"features": np.zeros((2, 3), np.float32)})
    assert caught.value.field == "f"
