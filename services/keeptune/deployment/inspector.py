"""Reads one ONNX file and says what is in it, in a process of its own.

    python -m keeptune.deployment.inspector FILE MAX_IR MAX_OPSET

A hostile file can crash or exhaust the C++ code that reads it; here it takes nothing along. The
answer is one JSON object on stdout: `{"inputs", "outputs", "metadata"}`, or `{"problem", "fix"}`.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from google.protobuf.message import DecodeError, Message

from keeptune.deployment.model import DataType

_MEMORY_BYTES = 16 * 2**30
_CPU_SECONDS = 120
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_TYPES: dict[int, DataType] = {
    onnx.TensorProto.FLOAT16: DataType.FLOAT16,
    onnx.TensorProto.FLOAT: DataType.FLOAT32,
    onnx.TensorProto.DOUBLE: DataType.FLOAT64,
    onnx.TensorProto.INT8: DataType.INT8,
    onnx.TensorProto.INT32: DataType.INT32,
    onnx.TensorProto.INT64: DataType.INT64,
    onnx.TensorProto.UINT8: DataType.UINT8,
    onnx.TensorProto.BOOL: DataType.BOOL,
    onnx.TensorProto.STRING: DataType.STRING,
}
_EXPORT = "export the model anew, weights inline, and upload that file"


class UnsoundError(Exception):
    """The file is no model that can be served."""

    def __init__(self, problem: str, fix: str = _EXPORT) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix


def inspect(path: Path, *, max_ir: int, max_opset: int) -> dict[str, Any]:
    """Inputs, outputs and metadata of a sound model. Raises UnsoundError."""
    data = path.read_bytes()
    model = _parse(data)
    _check_versions(model, max_ir, max_opset)
    _check_self_contained(model)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise UnsoundError(f"is no sound ONNX model: {_first_line(error)}") from error
    constants = {tensor.name for tensor in model.graph.initializer}
    answer = {
        "inputs": [_tensor(v, "input") for v in model.graph.input if v.name not in constants],
        "outputs": [_tensor(v, "output") for v in model.graph.output],
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
    }
    if not answer["inputs"]:
        raise UnsoundError("takes no input")
    _check_loads(data)
    return answer


def _parse(data: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise UnsoundError("is not an ONNX file, or only a part of one") from error
    if not model.ir_version or not model.graph.node:
        raise UnsoundError("is not an ONNX file, or only a part of one: it has no graph")
    return model


def _check_versions(model: onnx.ModelProto, max_ir: int, max_opset: int) -> None:
    if model.ir_version > max_ir:
        raise UnsoundError(
            f"has IR version {model.ir_version}; serving hosts are trusted to load up to {max_ir}",
            f"save it with IR version {max_ir} or lower",
        )
    own = {function.domain for function in model.functions}
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > max_opset:
            raise UnsoundError(
                f"needs opset {entry.version}; serving hosts are trusted to load up to {max_opset}",
                f"export it with opset {max_opset} or lower",
            )
        if entry.domain not in _DOMAINS | own:
            raise UnsoundError(
                f"uses operators of {entry.domain!r}, which Triton's onnxruntime does not have",
                f"use operators of {', '.join(sorted(_DOMAINS - {''}))} only",
            )


def _check_self_contained(model: onnx.ModelProto) -> None:
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto) and (
            message.data_location == onnx.TensorProto.EXTERNAL or message.external_data
        ):
            raise UnsoundError(f"keeps the tensor {message.name[:80]!r} in another file")
        if isinstance(message, onnx.NodeProto) and message.op_type == "EPContext":
            raise UnsoundError("has an EPContext node, which loads code or data from outside")


def _messages(message: Message) -> Iterator[Message]:
    """The message and all within it: weights may hide in subgraphs, functions and attributes."""
    pending = [message]
    while pending:
        current = pending.pop()
        yield current
        for field, value in current.ListFields():
            if field.message_type is None:
                continue
            pending.extend(value if field.is_repeated else [value])


def _tensor(value: onnx.ValueInfoProto, side: str) -> dict[str, Any]:
    where = f"its {side} {value.name[:80]!r}"
    if not value.type.HasField("tensor_type"):
        raise UnsoundError(f"{where} is no tensor", "export tensors only (no ZipMap)")
    tensor = value.type.tensor_type
    data_type = _TYPES.get(tensor.elem_type)
    if data_type is None:
        name = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise UnsoundError(f"{where} has the type {name}, which is not served")
    if not tensor.HasField("shape") or not tensor.shape.dim:
        raise UnsoundError(f"{where} has no batch dimension", "export it with a dynamic axis 0")
    batch, *rest = tensor.shape.dim
    if batch.HasField("dim_value"):
        raise UnsoundError(
            f"{where} has a fixed batch size of {batch.dim_value}",
            "export it with a dynamic axis 0",
        )
    shape = [d.dim_value if d.HasField("dim_value") else -1 for d in rest]
    return {"name": value.name, "data_type": data_type.value, "shape": shape}


def _check_loads(data: bytes) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common root
        raise UnsoundError(f"is refused by onnxruntime: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def main(arguments: list[str]) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    path, max_ir, max_opset = arguments
    try:
        answer = inspect(Path(path), max_ir=int(max_ir), max_opset=int(max_opset))
    except UnsoundError as error:
        answer = {"problem": error.problem, "fix": error.fix}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
