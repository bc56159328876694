"""How a version is laid out for Triton: which backend, and its config.pbtxt. Pure.

Decisions, each with its reason:
- no `name`: the folder names the model, and a challenger is staged under a folder of its own;
- no `version_policy`: which versions are loaded changes during an update, so the agent writes it;
- no `model_warmup`: a failing one takes the whole server down, so the agent probes instead;
- no dynamic batching: it trades latency for throughput, which is for a person to ask for.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from keeptune.deployment.model import DataType, Tensor, Version
from keeptune.runtime.errors import FailedPrecondition

# The host's own choice comes first: the native backend, else our shim in the python backend.
BACKENDS = ("onnxruntime", "python")

_TRITON_TYPES = {
    DataType.FLOAT16: "TYPE_FP16",
    DataType.FLOAT32: "TYPE_FP32",
    DataType.FLOAT64: "TYPE_FP64",
    DataType.INT8: "TYPE_INT8",
    DataType.INT32: "TYPE_INT32",
    DataType.INT64: "TYPE_INT64",
    DataType.UINT8: "TYPE_UINT8",
    DataType.BOOL: "TYPE_BOOL",
    DataType.STRING: "TYPE_STRING",
}


@dataclass(frozen=True)
class Package:
    """`config` is the text of config.pbtxt, without a version_policy."""

    backend: str
    config: str


def choose_backend(backends: Collection[str]) -> str:
    """The backend to serve ONNX by, out of those that a host's Triton can load.

    Raises FailedPrecondition when it has none that can.
    """
    for backend in BACKENDS:
        if backend in backends:
            return backend
    raise FailedPrecondition(
        f"its Triton has the backends [{', '.join(sorted(backends))}], none of which serves ONNX",
        reason="NO_BACKEND",
        fix=f"install one of {', '.join(BACKENDS)}",
    )


def package(version: Version, backends: Collection[str]) -> Package:
    """The layout of a version for a host with these backends. Raises FailedPrecondition."""
    backend = choose_backend(backends)
    lines = [f'backend: "{backend}"']
    if backend == "onnxruntime":
        lines.append('platform: "onnxruntime_onnx"')
    lines.append(f"max_batch_size: {version.max_batch_size}")
    lines += _tensors("input", version.signature.inputs)
    lines += _tensors("output", version.signature.outputs)
    kind = "KIND_AUTO" if backend == "onnxruntime" else "KIND_CPU"
    lines += ["instance_group [", f"  {{ count: {version.instance_count} kind: {kind} }}", "]"]
    return Package(backend, "\n".join(lines) + "\n")


def _tensors(side: str, tensors: tuple[Tensor, ...]) -> list[str]:
    entries = ",\n".join(f"  {{\n{_tensor(tensor)}\n  }}" for tensor in tensors)
    return [f"{side} [", *entries.split("\n"), "]"]


def _tensor(tensor: Tensor) -> str:
    lines = [f"name: {_quoted(tensor.name)}", f"data_type: {_TRITON_TYPES[tensor.data_type]}"]
    if tensor.shape:
        lines.append(f"dims: [ {', '.join(str(size) for size in tensor.shape)} ]")
    else:
        # Triton knows no scalars beside the batch: one element, reshaped to none.
        lines += ["dims: [ 1 ]", "reshape { shape: [ ] }"]
    return "\n".join(f"    {line}" for line in lines)


def _quoted(text: str) -> str:
    """A string of protobuf's text format, with everything but plain characters escaped."""
    return '"' + "".join(_escaped(byte) for byte in text.encode()) + '"'


def _escaped(byte: int) -> str:
    character = chr(byte)
    if character in '"\\' or not 32 <= byte < 127:
        return f"\\{byte:03o}"
    return character
