"""Whether a stated signature and an ONNX graph are about the same model. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from keeptune.deployment.model import Signature, Task, Tensor
from keeptune.runtime.errors import Violation

# Names go into Triton's configuration and into clients' code.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,126}")
_FIX = "give what the ONNX file has, or leave the signature to its keeptune.signature metadata"


@dataclass(frozen=True)
class Graph:
    """What an ONNX file says of itself. Shapes are without the batch dimension."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: dict[str, str] = field(default_factory=dict)


def problems(signature: Signature, graph: Graph, where: str) -> list[Violation]:
    """Everything in which the signature does not fit the graph; `where` is its field's path."""
    found = [
        *_side(signature.inputs, graph.inputs, f"{where}.inputs"),
        *_side(signature.outputs, graph.outputs, f"{where}.outputs"),
    ]
    stated = {tensor.name for tensor in signature.inputs}
    found += [
        Violation(f"{where}.inputs", f"lacks {tensor.name!r}, which the model takes", _FIX)
        for tensor in graph.inputs
        if tensor.name not in stated
    ]
    if signature.task is Task.UNSPECIFIED:
        found.append(Violation(f"{where}.task", "is not given", "say classification or regression"))
    found += _classes(signature, where)
    return found


def _side(
    stated: tuple[Tensor, ...], actual: tuple[Tensor, ...], where: str
) -> Iterator[Violation]:
    if not stated:
        yield Violation(where, "is empty", _FIX)
    by_name = {tensor.name: tensor for tensor in actual}
    seen: set[str] = set()
    for index, tensor in enumerate(stated):
        place = f"{where}[{index}]"
        if not _NAME.fullmatch(tensor.name):
            yield Violation(
                f"{place}.name",
                f"is {tensor.name[:80]!r}",
                "name tensors by letters, digits, '_', '.', ':', '/' and '-'",
            )
        elif tensor.name in seen:
            yield Violation(f"{place}.name", f"is {tensor.name!r} a second time", "name it once")
        elif tensor.name not in by_name:
            known = ", ".join(sorted(by_name)) or "none"
            yield Violation(f"{place}.name", f"is {tensor.name!r}; the model has {known}", _FIX)
        else:
            yield from _tensor(tensor, by_name[tensor.name], place)
        seen.add(tensor.name)


def _tensor(stated: Tensor, actual: Tensor, where: str) -> Iterator[Violation]:
    if stated.data_type is not actual.data_type:
        yield Violation(
            f"{where}.data_type", f"is {stated.data_type}; the model has {actual.data_type}", _FIX
        )
    fits = len(stated.shape) == len(actual.shape) and all(
        has in (-1, said) for said, has in zip(stated.shape, actual.shape, strict=True)
    )
    if not fits or 0 in stated.shape:
        yield Violation(
            f"{where}.shape",
            f"is {list(stated.shape)}; beside the batch the model has {list(actual.shape)}",
            _FIX,
        )


def _classes(signature: Signature, where: str) -> Iterator[Violation]:
    if signature.task is not Task.CLASSIFICATION or not signature.outputs:
        return
    if not signature.classes:
        yield Violation(f"{where}.classes", "is empty", "label the columns of the first output")
    elif len(set(signature.classes)) != len(signature.classes):
        yield Violation(f"{where}.classes", "has a label twice", "give each class its own label")
    shape = signature.outputs[0].shape
    if shape and shape[-1] > 0 and signature.classes and shape[-1] != len(signature.classes):
        yield Violation(
            f"{where}.classes",
            f"has {len(signature.classes)} labels for {shape[-1]} columns",
            "give one label a column of the first output",
        )
