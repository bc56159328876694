"""Triton's tensor types and their numpy counterparts, and raw contents to arrays and back."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from keeptune.runtime.errors import InvalidInput

Array = npt.NDArray[Any]

# BF16 has no numpy counterpart and is refused.
NUMPY_TYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
_TRITON_TYPES = {dtype: name for name, dtype in NUMPY_TYPES.items()}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model."""

    name: str
    datatype: str
    """Triton's name: FP32, INT64, BYTES, ..."""
    shape: tuple[int, ...]
    """Without the batch dimension; -1 = any size."""


@dataclass(frozen=True)
class Signature:
    """What a served model takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool = True
    """Whether tensors have a leading batch dimension."""

    def example(self, rows: int = 1) -> dict[str, Array]:
        """Zeros (empty strings) that fit the inputs; open sizes become 1."""
        arrays: dict[str, Array] = {}
        for spec in self.inputs:
            shape = ((rows,) if self.batched else ()) + tuple(max(1, size) for size in spec.shape)
            dtype = numpy_type(spec.datatype)
            arrays[spec.name] = (
                np.full(shape, b"", dtype=object) if dtype.hasobject else np.zeros(shape, dtype)
            )
        return arrays


def numpy_type(datatype: str) -> np.dtype[Any]:
    """The numpy type of a Triton type. Raises InvalidInput for one that has none."""
    try:
        return NUMPY_TYPES[datatype]
    except KeyError:
        raise InvalidInput(
            field="datatype",
            problem=f"{datatype!r} is not one of {', '.join(NUMPY_TYPES)}",
        ) from None


def triton_type(array: Array) -> str:
    """The Triton type of an array. Raises InvalidInput for one that has none."""
    if array.dtype.kind in "OSU":
        return "BYTES"
    try:
        return _TRITON_TYPES[array.dtype.newbyteorder("<")]
    except KeyError:
        raise InvalidInput(
            field="dtype", problem=f"numpy's {array.dtype} has no Triton counterpart"
        ) from None


def encode(array: Array) -> bytes:
    """The raw contents of an array: C order, little endian; BYTES as length and bytes each."""
    datatype = triton_type(array)
    if datatype != "BYTES":
        return array.astype(NUMPY_TYPES[datatype], copy=False).tobytes()
    items = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel()]
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def decode(datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """The array behind raw contents, as a copy. Raises ValueError when they do not fit."""
    if any(size < 0 for size in shape):
        raise ValueError(f"negative size in {tuple(shape)}")
    count = math.prod(shape)
    dtype = NUMPY_TYPES.get(datatype)
    if dtype is None:
        raise ValueError(f"unknown type {datatype!r}")
    if not dtype.hasobject:
        if len(raw) != count * dtype.itemsize:
            raise ValueError(f"{len(raw)} bytes do not make {tuple(shape)} of {datatype}")
        return np.frombuffer(raw, dtype=dtype).reshape(shape).copy()
    items: list[bytes] = []
    position = 0
    while position < len(raw):
        if position + 4 > len(raw):
            raise ValueError("strings are cut short")
        (length,) = struct.unpack_from("<I", raw, position)
        position += 4
        if position + length > len(raw):
            raise ValueError("strings are cut short")
        items.append(bytes(raw[position : position + length]))
        position += length
    if len(items) != count:
        raise ValueError(f"{len(items)} strings do not make {tuple(shape)}")
    array = np.empty(count, dtype=object)
    array[:] = items
    return array.reshape(shape)
