"""Captured samples as arrays: checked when a host uploads them, joined when they are exported.

No file is trusted: nothing is unpickled, nothing unpacked beyond its stated and bounded size.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from keeptune.deployment.model import DataType, Signature, Task
from keeptune.runtime.columns import NpzColumns
from keeptune.runtime.errors import InvalidInput

OUTCOME = "y"
TIME = "time"
REQUEST_ID = "request_id"
_RESERVED = frozenset({OUTCOME, TIME, REQUEST_ID})
_FIX = "give one array an input, y, time and request_id, each with a row a sample"

_NUMPY_TYPES: dict[DataType, np.dtype[np.generic]] = {
    DataType.FLOAT16: np.dtype(np.float16),
    DataType.FLOAT32: np.dtype(np.float32),
    DataType.FLOAT64: np.dtype(np.float64),
    DataType.INT8: np.dtype(np.int8),
    DataType.INT32: np.dtype(np.int32),
    DataType.INT64: np.dtype(np.int64),
    DataType.UINT8: np.dtype(np.uint8),
    DataType.BOOL: np.dtype(np.bool_),
}
Array = NDArray[np.generic]


@dataclass(frozen=True)
class Samples:
    """Samples of one model, one a row.

    inputs: by the model's names. outcomes: labels as text, or float64 for regression; "" and NaN =
    not known. times: float64, seconds since 1970 UTC. request_ids: text.
    """

    inputs: dict[str, Array]
    outcomes: Array
    times: NDArray[np.float64]
    request_ids: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.times)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Samples:
        return Samples(
            {name: values[rows] for name, values in self.inputs.items()},
            self.outcomes[rows],
            self.times[rows],
            self.request_ids[rows],
        )


def read(data: bytes, signature: Signature, *, max_bytes: int, field: str) -> Samples:
    """The samples of one upload. Raises InvalidInput naming the array that is wrong."""
    archive = NpzColumns.open(io.BytesIO(data), field, max_bytes)
    wanted = {tensor.name for tensor in signature.inputs} | _RESERVED
    missing, unknown = sorted(wanted - set(archive.names)), sorted(set(archive.names) - wanted)
    if missing or unknown:
        problem = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r}, which is no input"
        raise InvalidInput(field=field, problem=problem, fix=_FIX)
    times = archive.read(TIME, f"{field}[{TIME}]")
    if times.ndim != 1 or times.dtype.kind not in "fiu" or not np.isfinite(times).all():
        raise _wrong(field, TIME, "is not one finite number of seconds a row")
    inputs = {
        tensor.name: _input(archive, tensor.name, tensor.data_type, tensor.shape, field)
        for tensor in signature.inputs
    }
    request_ids = archive.read(REQUEST_ID, f"{field}[{REQUEST_ID}]")
    if request_ids.ndim != 1:
        raise _wrong(field, REQUEST_ID, "is not one text a row")
    outcomes = archive.read(OUTCOME, f"{field}[{OUTCOME}]")
    for name, values in (*inputs.items(), (OUTCOME, outcomes), (REQUEST_ID, request_ids)):
        if len(values) != len(times):
            raise _wrong(field, name, f"has {len(values)} rows; time has {len(times)}")
    return Samples(
        inputs,
        _outcomes(outcomes, signature.task, field),
        times.astype(np.float64),
        _text(request_ids),
    )


def _input(
    archive: NpzColumns, name: str, data_type: DataType, shape: tuple[int, ...], field: str
) -> Array:
    values = archive.read(name, f"{field}[{name}]")
    fits = values.ndim == len(shape) + 1 and all(
        said in (-1, has) for has, said in zip(values.shape[1:], shape, strict=True)
    )
    if not fits:
        raise _wrong(field, name, f"has rows of {list(values.shape[1:])}, not {list(shape)}")
    if data_type is DataType.STRING:
        return _text(values)
    wanted = _NUMPY_TYPES[data_type]
    if not np.can_cast(values.dtype, wanted, casting="same_kind"):
        raise _wrong(field, name, f"has the type {values.dtype}, not {wanted}")
    return values.astype(wanted, copy=False)


def _outcomes(values: Array, task: Task, field: str) -> Array:
    if values.ndim != 1:
        raise _wrong(field, OUTCOME, "is not one value a row")
    if task is Task.REGRESSION:
        if values.dtype.kind not in "fiub":
            raise _wrong(field, OUTCOME, f"has the type {values.dtype}; outcomes are numbers")
        return values.astype(np.float64)
    if values.dtype.kind == "f":
        # Labels are compared as text: a class 3 that came as 3.0 is still "3".
        numbers = values.astype(np.float64)
        return np.array([_label(number) for number in numbers.tolist()], dtype=np.str_)
    if values.dtype.kind == "b":
        return np.where(values, "true", "false").astype(np.str_)
    return _text(values)


def _label(number: float) -> str:
    if np.isnan(number):
        return ""
    return str(int(number)) if number == int(number) else repr(number)


def _text(values: Array) -> NDArray[np.str_]:
    if values.dtype.kind == "S":
        return np.char.decode(values.astype(np.bytes_), "utf-8", "replace")
    return values.astype(np.str_)


def labelled(samples: Samples) -> Samples:
    """Those with a known outcome."""
    if samples.outcomes.dtype.kind == "f":
        return samples.take(np.isfinite(samples.outcomes.astype(np.float64)))
    return samples.take(samples.outcomes != "")


def within(samples: Samples, start: datetime | None, end: datetime | None) -> Samples:
    """Those of the window, both ends included; None = open."""
    rows = np.ones(len(samples), dtype=np.bool_)
    if start is not None:
        rows &= samples.times >= start.timestamp()
    if end is not None:
        rows &= samples.times <= end.timestamp()
    return samples.take(rows)


def newest(samples: Samples, count: int) -> Samples:
    """The last `count` of samples that are in order."""
    return samples.take(np.arange(len(samples) - count, len(samples)))


def join(parts: Iterable[tuple[str, Samples]]) -> Samples:
    """The samples of all hosts, oldest first; what a host told twice counts once.

    `parts` are (host, samples); all of one signature, at least one.
    """
    seen: set[tuple[str, str, bytes]] = set()
    kept: list[Samples] = []
    for host, samples in parts:
        fresh = np.zeros(len(samples), dtype=np.bool_)
        for row, request_id in enumerate(samples.request_ids.tolist()):
            # The rows of one batch share its request id, so the content belongs to the key.
            key = (host, request_id, _content(samples, row))
            # Samples without an id cannot be told apart, and all count.
            fresh[row] = not request_id or key not in seen
            seen.add(key)
        kept.append(samples.take(fresh))
    joined = Samples(
        {name: np.concatenate([part.inputs[name] for part in kept]) for name in kept[0].inputs},
        np.concatenate([part.outcomes for part in kept]),
        np.concatenate([part.times for part in kept]),
        np.concatenate([part.request_ids for part in kept]),
    )
    return joined.take(np.argsort(joined.times, kind="stable"))


def _content(samples: Samples, row: int) -> bytes:
    """16 bytes that differ when an input of the row does."""
    digest = blake2b(digest_size=16)
    for values in samples.inputs.values():
        value = values[row]
        # Text is padded to the longest of its array, which differs from upload to upload.
        digest.update(
            repr(value.tolist()).encode() if values.dtype.kind == "U" else value.tobytes()
        )
    return digest.digest()


def split(samples: Samples, recent_fraction: float) -> tuple[Samples, Samples]:
    """Older and recent: the newest `recent_fraction`, rounded, and never all of them."""
    count = len(samples)
    recent = min(round(count * recent_fraction), max(count - 1, 0))
    rows = np.arange(count)
    return samples.take(rows[: count - recent]), samples.take(rows[count - recent :])


def pack(samples: Samples) -> bytes:
    """An NPZ with `x`, the model's one input (else its inputs by their names), `y` and `time`."""
    columns = zip(feature_columns(samples) or ["x"], samples.inputs.values(), strict=True)
    target = io.BytesIO()
    arrays: dict[str, Array] = {OUTCOME: samples.outcomes, TIME: samples.times, **dict(columns)}
    np.savez(target, allow_pickle=False, **arrays)
    return target.getvalue()


def feature_columns(samples: Samples) -> list[str]:
    """Of the dataset: none to name for a model of one input, since `x` is the default."""
    return [] if len(samples.inputs) == 1 else list(samples.inputs)


def _wrong(field: str, array: str, problem: str) -> InvalidInput:
    return InvalidInput(field=f"{field}[{array}]", problem=problem, fix=_FIX)
