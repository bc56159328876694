"""Looks through an ONNX file without the onnx package, before it may reach the repository.

It walks the protobuf wire format: that finds a file cut short, and tensors whose data lie in other
files, which could name any path on the host. What the operators mean is left to Triton.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Final

from keeptune.runtime.errors import InvalidInput

# Message -> field number -> message, as far as tensors can lie within.
_SCHEMA: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "tensor": {},
}
_GRAPH_FIELD = 7
_EXTERNAL_DATA_FIELD = 13
_DATA_LOCATION_FIELD = 14
_MAX_DEPTH = 64


def check_onnx(path: Path) -> None:
    """Raises InvalidInput unless `path` is a whole ONNX file that keeps its data in itself."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise _invalid("is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            walker = _Walker(content)
            walker.walk("model", 0, len(content), 0)
            if not walker.has_graph:
                raise _invalid("is no ONNX model: it has no graph")


class _Walker:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.has_graph = False

    def walk(self, message: str, position: int, end: int, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _invalid(f"nests deeper than {_MAX_DEPTH}")
        fields = _SCHEMA[message]
        while position < end:
            tag, position = self._varint(position, end)
            number, wire = tag >> 3, tag & 7
            start = position
            if wire == 0:
                value, position = self._varint(position, end)
                if message == "tensor" and number == _DATA_LOCATION_FIELD and value:
                    raise _external()
                continue
            if wire == 2:
                length, start = self._varint(position, end)
            elif wire in (1, 5):
                length = 8 if wire == 1 else 4
            else:
                raise _invalid("is no ONNX model, or damaged")
            position = start + length
            if number == 0 or position > end:
                raise _invalid("is cut short or damaged")
            if message == "tensor" and number == _EXTERNAL_DATA_FIELD:
                raise _external()
            if message == "model" and number == _GRAPH_FIELD:
                self.has_graph = True
            if wire == 2 and number in fields:
                self.walk(fields[number], start, position, depth + 1)

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if position >= end:
                raise _invalid("is cut short or damaged")
            byte = self._data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
        raise _invalid("is no ONNX model, or damaged")


def _invalid(problem: str) -> InvalidInput:
    return InvalidInput(
        field="files[model.onnx]",
        problem=problem,
        fix="export the model anew and register it as a new version",
        reason="BAD_ONNX",
    )


def _external() -> InvalidInput:
    return InvalidInput(
        field="files[model.onnx]",
        problem="keeps tensors in other files",
        fix="export it with the weights inside",
        reason="EXTERNAL_DATA",
    )
