"""config.pbtxt, to the letter: Triton and the agent both read it."""

from dataclasses import replace

import pytest

from keeptune.deployment.model import DataType, Signature, Task, Tensor, Version
from keeptune.deployment.packaging import choose_backend, package
from keeptune.runtime.artifacts import Artifact
from keeptune.runtime.errors import FailedPrecondition

IMAGE = Version(
    onnx=Artifact("0" * 64, 10, "application/onnx"),
    signature=Signature(
        task=Task.CLASSIFICATION,
        inputs=(Tensor("image", DataType.FLOAT32, (1, 8, 8)),),
        outputs=(Tensor("probabilities", DataType.FLOAT32, (10,)),),
        classes=tuple("0123456789"),
    ),
)

IMAGE_ONNXRUNTIME = """\
backend: "onnxruntime"
platform: "onnxruntime_onnx"
max_batch_size: 64
input [
  {
    name: "image"
    data_type: TYPE_FP32
    dims: [ 1, 8, 8 ]
  }
]
output [
  {
    name: "probabilities"
    data_type: TYPE_FP32
    dims: [ 10 ]
  }
]
instance_group [
  { count: 1 kind: KIND_AUTO }
]
"""

MIXED_PYTHON = """\
backend: "python"
max_batch_size: 8
input [
  {
    name: "words"
    data_type: TYPE_STRING
    dims: [ -1 ]
  },
  {
    name: "age"
    data_type: TYPE_INT64
    dims: [ 1 ]
    reshape { shape: [ ] }
  }
]
output [
  {
    name: "value"
    data_type: TYPE_FP64
    dims: [ 1 ]
  }
]
instance_group [
  { count: 3 kind: KIND_CPU }
]
"""


def test_image_classifier_for_the_onnxruntime_backend() -> None:
    made = package(IMAGE, ["python", "onnxruntime"])
    assert (made.backend, made.config) == ("onnxruntime", IMAGE_ONNXRUNTIME)


def test_mixed_inputs_for_the_python_backend() -> None:
    version = replace(
        IMAGE,
        max_batch_size=8,
        instance_count=3,
        signature=Signature(
            task=Task.REGRESSION,
            inputs=(
                Tensor("words", DataType.STRING, (-1,)),
                Tensor("age", DataType.INT64, ()),
            ),
            outputs=(Tensor("value", DataType.FLOAT64, (1,)),),
        ),
    )
    made = package(version, ["python", "identity"])
    assert (made.backend, made.config) == ("python", MIXED_PYTHON)


def test_names_cannot_break_out_of_their_quotes() -> None:
    hostile = 'x" } ] model_warmup [ { name: "\n'
    version = replace(
        IMAGE,
        signature=replace(IMAGE.signature, inputs=(Tensor(hostile, DataType.FLOAT32, (1,)),)),
    )
    line = package(version, ["python"]).config.splitlines()[4]
    assert line == r'    name: "x\042 } ] model_warmup [ { name: \042\012"'


@pytest.mark.parametrize("data_type", list(DataType))
def test_every_data_type_has_a_triton_type(data_type: DataType) -> None:
    version = replace(
        IMAGE, signature=replace(IMAGE.signature, inputs=(Tensor("x", data_type, (1,)),))
    )
    assert "data_type: TYPE_" in package(version, ["python"]).config


def test_what_the_agent_decides_is_left_to_it() -> None:
    config = package(IMAGE, ["onnxruntime"]).config
    for field in ("version_policy", "model_warmup", "dynamic_batching", "\nname:"):
        assert field not in config


def test_a_host_without_a_backend_for_onnx_is_told_so() -> None:
    with pytest.raises(FailedPrecondition, match="none of which serves ONNX") as caught:
        choose_backend(["tensorrt"])
    assert caught.value.reason == "NO_BACKEND"
