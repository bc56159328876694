"""Reads the datagrams of the ONNX shim; their layout stands at the head of `shim/model.py`.

Anything on the host that reaches the socket could send them, so every length is checked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from keeptune.agent.tensors import Array
from keeptune.agent.tensors import decode as decode_tensor

MAX_SIZE = 256 * 1024
_MAGIC = b"KTS1"
_TOO_LARGE = 1
_FAILED = 2
_MAX_RANK = 16
_HEAD = struct.Struct("<4sBBBxQQQQQ")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DatagramError(Exception):
    """The bytes are not a sample of the shim; says where they went wrong."""


@dataclass(frozen=True, eq=False)
class Datagram:
    """One sample as it was sent."""

    request_id: str
    model: str
    version: int
    time: datetime
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    failed: bool
    too_large: bool
    """The tensors were left out."""
    instance: int
    """Tells apart the model instances that send."""
    taken: int
    """Samples this instance has taken so far, this one included."""
    dropped: int
    """Of those, how many it could not send."""


def decode(data: bytes) -> Datagram:
    """The sample behind one datagram. Raises DatagramError."""
    reader = _Reader(data)
    magic, flags, inputs, outputs, time_ns, instance, taken, dropped, version = reader.unpack(_HEAD)
    if magic != _MAGIC:
        raise DatagramError(f"starts with {magic!r}")
    try:
        # A float of seconds would lose the microseconds' last digits.
        time = _EPOCH + timedelta(microseconds=time_ns // 1000)
        model, request_id = reader.text("<H"), reader.text("<H")
        result = Datagram(
            request_id=request_id,
            model=model,
            version=version,
            time=time,
            inputs=dict(reader.tensor() for _ in range(inputs)),
            outputs=dict(reader.tensor() for _ in range(outputs)),
            failed=bool(flags & _FAILED),
            too_large=bool(flags & _TOO_LARGE),
            instance=instance,
            taken=taken,
            dropped=dropped,
        )
    except (ValueError, OverflowError) as error:
        raise DatagramError(str(error)) from error
    if not reader.at_end:
        raise DatagramError("has bytes behind its end")
    return result


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._data)

    def take(self, length: int) -> memoryview:
        end = self._position + length
        if end > len(self._data):
            raise DatagramError(f"is cut short at {len(self._data)} bytes")
        part = self._data[self._position : end]
        self._position = end
        return part

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size))

    def text(self, length_format: str) -> str:
        (length,) = self.unpack(struct.Struct(length_format))
        return str(self.take(length), "utf-8")

    def tensor(self) -> tuple[str, Array]:
        name, datatype = self.text("<H"), self.text("<B")
        (rank,) = self.take(1)
        if rank > _MAX_RANK:
            raise DatagramError(f"tensor {name!r} has {rank} dimensions")
        shape = self.unpack(struct.Struct(f"<{rank}q"))
        (length,) = self.unpack(struct.Struct("<I"))
        return name, decode_tensor(datatype, shape, self.take(length))
