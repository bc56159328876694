"""Reads the files of Triton's trace extension.

They are meant to be JSON and are not quite: strings are not escaped, so that a request id may hold
quotes; values have six digits; FP16 and BF16 come empty, INT8 and UINT8 as bare characters, and
strings cannot be told apart. Times are nanoseconds of the monotonic clock.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keeptune.agent.tensors import NUMPY_TYPES, Array

_BETWEEN = re.compile(r'(?<=\}),(?=\{"id":\d+,")')
_HEADER = re.compile(
    r'\{"id":(\d+),"model_name":"([^"]*)","model_version":(\d+)(?:,"request_id":"(.*?)")?'
    r'(?:,"parent_id":\d+)?\}',
    re.DOTALL,
)
_INPUT = "TENSOR_QUEUE_INPUT"
_OUTPUT = "TENSOR_BACKEND_OUTPUT"


@dataclass
class Trace:
    """One traced request."""

    model: str
    version: int
    request_id: str
    end_ns: int = 0
    """Monotonic time of its latest time stamp."""
    inputs: dict[str, Array] = field(default_factory=dict)
    outputs: dict[str, Array] = field(default_factory=dict)
    unreadable: bool = False
    """Holds a tensor whose values the format does not carry."""


def is_complete(text: str) -> bool:
    """Whether the server has finished writing the file."""
    return text.startswith("[") and text.endswith("]")


def read_traces(text: str) -> list[Trace]:
    """The traces of one complete file, read as latin-1; what is no trace is passed over."""
    traces: dict[int, Trace] = {}
    for record in _records(text):
        identity = int(record["id"])
        if "model_name" in record:
            traces[identity] = Trace(
                record["model_name"],
                int(record["model_version"]),
                _utf8(record.get("request_id", "")),
            )
        trace = traces.get(identity)
        if trace is None:
            continue
        for stamp in record.get("timestamps", ()):
            trace.end_ns = max(trace.end_ns, int(stamp["ns"]))
        if record.get("activity") in (_INPUT, _OUTPUT):
            _add_tensor(trace, record["activity"], record["tensor"])
    return list(traces.values())


def _records(text: str) -> Iterator[dict[str, Any]]:
    body = text.strip()[1:-1]
    if not body:
        return
    try:
        yield from _only_dicts(json.loads(f"[{body}]", strict=False))
        return
    except ValueError:
        pass
    for part in _BETWEEN.split(body):
        try:
            yield from _only_dicts([json.loads(part, strict=False)])
        except ValueError:
            header = _HEADER.fullmatch(part)
            if header:
                yield {
                    "id": header[1],
                    "model_name": header[2],
                    "model_version": header[3],
                    "request_id": header[4] or "",
                }


def _only_dicts(records: Iterable[Any]) -> Iterator[dict[str, Any]]:
    return (record for record in records if isinstance(record, dict) and "id" in record)


def _add_tensor(trace: Trace, activity: str, tensor: dict[str, Any]) -> None:
    array = _array(tensor["dtype"], tensor["shape"], tensor["data"])
    if array is None:
        trace.unreadable = True
        return
    (trace.inputs if activity == _INPUT else trace.outputs)[tensor["name"]] = array


def _array(datatype: str, shape_text: str, data: str) -> Array | None:
    dtype = NUMPY_TYPES.get(datatype)
    shape = tuple(int(size) for size in shape_text.split(",") if size)
    count = math.prod(shape)
    if dtype is None or dtype.hasobject or (count and not data):
        return None
    try:
        if datatype in ("INT8", "UINT8"):
            # A character and a comma by turns; the characters may be commas themselves.
            values = np.frombuffer(data.encode("latin-1")[::2], dtype=dtype)
        elif datatype == "BOOL":
            values = np.array([item in ("1", "true") for item in data.split(",")], dtype=dtype)
        else:
            values = np.array(data.split(",") if data else [], dtype=np.str_).astype(dtype)
        return values.reshape(shape).copy()
    except ValueError:
        return None


def _utf8(text: str) -> str:
    return text.encode("latin-1", "replace").decode("utf-8", "replace")
