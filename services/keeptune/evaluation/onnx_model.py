"""Reads ONNX files as what they are: data from strangers.

`read_model` only parses protobuf and may run in the service. What runs the graph or hands it to
C++ code (`Session`) belongs into the judging process, which a hostile file may take down.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from keeptune.runtime.errors import InvalidInput, Violation
from keeptune.v1 import types_pb2

SIGNATURE_KEY = "keeptune.signature"
FEATURE_NAMES_KEY = "keeptune.feature_names"
# Rows run at once; bounds the memory whatever the size of the data.
_BATCH = 256
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_EXPORT = "export the model anew, weights inline, and upload that file"

NUMPY_TYPES: Mapping[int, type[np.generic]] = {
    types_pb2.DATA_TYPE_FLOAT16: np.float16,
    types_pb2.DATA_TYPE_FLOAT32: np.float32,
    types_pb2.DATA_TYPE_FLOAT64: np.float64,
    types_pb2.DATA_TYPE_INT8: np.int8,
    types_pb2.DATA_TYPE_INT32: np.int32,
    types_pb2.DATA_TYPE_INT64: np.int64,
    types_pb2.DATA_TYPE_UINT8: np.uint8,
    types_pb2.DATA_TYPE_BOOL: np.bool_,
}
_ELEMENT_TYPES: Mapping[int, int] = {
    types_pb2.DATA_TYPE_FLOAT16: onnx.TensorProto.FLOAT16,
    types_pb2.DATA_TYPE_FLOAT32: onnx.TensorProto.FLOAT,
    types_pb2.DATA_TYPE_FLOAT64: onnx.TensorProto.DOUBLE,
    types_pb2.DATA_TYPE_INT8: onnx.TensorProto.INT8,
    types_pb2.DATA_TYPE_INT32: onnx.TensorProto.INT32,
    types_pb2.DATA_TYPE_INT64: onnx.TensorProto.INT64,
    types_pb2.DATA_TYPE_UINT8: onnx.TensorProto.UINT8,
    types_pb2.DATA_TYPE_BOOL: onnx.TensorProto.BOOL,
    types_pb2.DATA_TYPE_STRING: onnx.TensorProto.STRING,
}


@dataclass(frozen=True)
class OnnxModel:
    """A self-contained model whose signature fits its graph."""

    content: bytes
    signature: types_pb2.ModelSignature
    feature_names: tuple[str, ...] = ()


def read_model(
    content: bytes,
    *,
    field: str,
    signature: types_pb2.ModelSignature | None = None,
    default: types_pb2.ModelSignature | None = None,
) -> OnnxModel:
    """The model in `content`.

    Its signature is `signature`, or else what its own metadata says, or else `default`. Raises
    InvalidInput naming `field` for a file that is cut short, keeps data outside itself, needs
    operators from outside, or has no signature or one that its graph does not bear out.
    """
    model = _parse(content, field)
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto) and (
            message.data_location == onnx.TensorProto.EXTERNAL or message.external_data
        ):
            raise _unsound(field, f"keeps the tensor {message.name[:80]!r} in another file")
        if isinstance(message, onnx.NodeProto) and message.op_type == "EPContext":
            raise _unsound(field, "has an EPContext node, which loads code or data from outside")
    known = _DOMAINS | {function.domain for function in model.functions}
    foreign = sorted({entry.domain for entry in model.opset_import} - known)
    if foreign:
        raise _unsound(field, f"uses operators of {foreign[0][:80]!r}, which nobody has")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    chosen = signature or _own_signature(metadata, field) or default
    if chosen is None or not chosen.task:
        raise InvalidInput(
            field=field,
            problem=f"has no signature in its metadata ({SIGNATURE_KEY})",
            fix="give evaluation.signature",
            reason="NO_SIGNATURE",
        )
    problems = list(_misfits(chosen, model.graph, field))
    if problems:
        raise InvalidInput.many(problems, reason="SIGNATURE_MISMATCH")
    return OnnxModel(content, chosen, _feature_names(metadata, field))


class Session:
    """The model in ONNX Runtime, on one thread, as a serving host would run it."""

    def __init__(self, model: OnnxModel, field: str) -> None:
        import onnxruntime

        try:
            onnx.checker.check_model(onnx.load_model_from_string(model.content))
        except (onnx.checker.ValidationError, ValueError) as error:
            raise _unsound(field, f"is no sound ONNX model: {_first_line(error)}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            # From bytes and not from a path: then there is no folder to read anything from.
            self._session = onnxruntime.InferenceSession(
                model.content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise _unsound(field, f"is refused by onnxruntime: {_first_line(error)}") from error
        self._field = field
        self._outputs = [spec.name for spec in model.signature.outputs]

    def call(self, inputs: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        """One call with all the rows given; the outputs in the signature's order."""
        outputs: list[NDArray[np.generic]] = self._session.run(self._outputs, dict(inputs))
        return outputs

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """The outputs for all rows, by name, a batch at a time."""
        rows = len(next(iter(inputs.values())))
        parts: list[list[NDArray[np.generic]]] = []
        for start in range(0, rows, _BATCH):
            batch = {name: values[start : start + _BATCH] for name, values in inputs.items()}
            try:
                parts.append(self.call(batch))
            except Exception as error:
                raise _unsound(self._field, f"fails on the data: {_first_line(error)}") from error
        found = {
            name: np.concatenate([part[index] for part in parts])
            for index, name in enumerate(self._outputs)
        }
        for name, values in found.items():
            if len(values) != rows:
                raise _unsound(
                    self._field, f"answers {rows} rows with {len(values)} in output {name!r}"
                )
        return found


def _parse(content: bytes, field: str) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise _unsound(field, "is not an ONNX file, or only a part of one") from error
    if not model.ir_version or not model.graph.node:
        raise _unsound(field, "is not an ONNX file, or only a part of one: it has no graph")
    return model


def _messages(message: Message) -> Iterator[Message]:
    """The message and all within it: tensors also hide in subgraphs, functions and attributes."""
    pending = [message]
    while pending:
        current = pending.pop()
        yield current
        for descriptor, value in current.ListFields():
            if descriptor.message_type is not None:
                pending.extend(value if descriptor.is_repeated else [value])


def _own_signature(metadata: Mapping[str, str], field: str) -> types_pb2.ModelSignature | None:
    if SIGNATURE_KEY not in metadata:
        return None
    try:
        return json_format.Parse(
            metadata[SIGNATURE_KEY], types_pb2.ModelSignature(), ignore_unknown_fields=True
        )
    except (json_format.ParseError, RecursionError) as error:
        raise _unsound(field, f"has unreadable {SIGNATURE_KEY} metadata: {error}") from error


def _feature_names(metadata: Mapping[str, str], field: str) -> tuple[str, ...]:
    try:
        names = json.loads(metadata.get(FEATURE_NAMES_KEY, "[]"))
    except (ValueError, RecursionError) as error:
        raise _unsound(field, f"has unreadable {FEATURE_NAMES_KEY} metadata") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _unsound(field, f"has {FEATURE_NAMES_KEY} metadata that is no list of names")
    return tuple(names)


def _misfits(
    signature: types_pb2.ModelSignature, graph: onnx.GraphProto, field: str
) -> Iterator[Violation]:
    constants = {tensor.name for tensor in graph.initializer}
    taken = {value.name: value for value in graph.input if value.name not in constants}
    given = {value.name: value for value in graph.output}
    for side, specs, actual in (
        ("input", signature.inputs, taken),
        ("output", signature.outputs, given),
    ):
        if not specs:
            yield Violation(field, f"has a signature without {side}s", _EXPORT)
        for spec in specs:
            where = f"has the {side} {spec.name!r} in its signature"
            if spec.name not in actual:
                there = ", ".join(sorted(actual)) or "none"
                yield Violation(field, f"{where}; its graph has {there}", _EXPORT)
            else:
                problem = _misfit(spec, actual[spec.name])
                if problem:
                    yield Violation(field, f"{where} {problem}", _EXPORT)
    for name in sorted(set(taken) - {spec.name for spec in signature.inputs}):
        yield Violation(field, f"takes {name!r}, which its signature lacks", _EXPORT)
    if signature.task == types_pb2.TASK_CLASSIFICATION:
        classes = list(signature.classes)
        if not classes:
            yield Violation(field, "has a signature without class labels", "list its classes")
        elif len(set(classes)) < len(classes):
            yield Violation(field, "has a class label twice in its signature", "name each once")


def _misfit(spec: types_pb2.TensorSpec, value: onnx.ValueInfoProto) -> str:
    """What is wrong between a tensor of the signature and of the graph; empty if nothing is."""
    tensor = value.type.tensor_type
    if tensor.elem_type != _ELEMENT_TYPES.get(spec.data_type):
        kind = types_pb2.DataType.Name(spec.data_type).removeprefix("DATA_TYPE_")
        return f"as {kind}, its graph has another type"
    if not tensor.HasField("shape"):
        return ""
    if not tensor.shape.dim:
        return "but no batch dimension in its graph"
    batch, *rest = tensor.shape.dim
    if batch.HasField("dim_value"):
        return f"but a fixed batch of {batch.dim_value}: export it with a dynamic axis 0"
    shape = [d.dim_value if d.HasField("dim_value") else -1 for d in rest]
    fits = len(shape) == len(spec.shape) and all(
        -1 in (said, has) or said == has for said, has in zip(spec.shape, shape, strict=True)
    )
    return "" if fits else f"with shape {list(spec.shape)}, its graph has {shape}"


def _unsound(field: str, problem: str) -> InvalidInput:
    return InvalidInput(field=field, problem=problem, fix=_EXPORT, reason="UNSOUND_MODEL")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
