"""Labelled samples on their way to the control plane: a journal, then batches in a spool.

Joined rows are appended to a journal and synced before the outcome is acknowledged. Every few
seconds the journal is sealed into one NPZ, whose name is its checksum: an upload that is repeated
after a kill has the same name, and is stored once.

    <folder>/journal        frames: u32 length, u32 CRC-32, an NPZ of some rows
    <folder>/spool/         sealed batches, waiting for `UploadCapture`

The NPZ holds one array an input (rows first), `y`, `time` (unix seconds) and `request_id`.
Calls block on the disk.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from keeptune.agent.durable_file import raise_if_full, sync_folder
from keeptune.agent.outcomes import Joined
from keeptune.agent.spool import Spool, SpoolEntry
from keeptune.agent.tensors import Array
from keeptune.runtime.errors import ResourceExhausted

log = structlog.get_logger()

RESERVED = frozenset({"y", "time", "request_id"})
_FRAME = struct.Struct("<II")
_MAX_FRAME = 64 * 2**20
# An upload is read whole into memory on both sides.
_BATCH_BYTES = 4 * 2**20

Arrays = dict[str, Array]


@dataclass(frozen=True)
class CaptureBatch:
    """A sealed batch; `times` are the first and the last, in unix seconds."""

    key: str
    sha256: str
    version: int
    rows: int
    first_time: float
    last_time: float
    content: bytes


class CaptureLog:
    """The captures of one model. One process uses one folder, from any of its threads."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Rows appended between the reading of the journal and its end would be lost.
        self._lock = threading.Lock()
        self._journal = folder / "journal"
        self.spool = Spool(folder / "spool", max_bytes=max_bytes)
        self._max_bytes = max_bytes
        self.rows_in_journal = 0
        self.rows_dropped = 0
        # What a kill left: complete frames were acknowledged, a torn one was not.
        self.seal()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        journal = self._journal.stat().st_size if self._journal.exists() else 0
        return self.spool.bytes + journal

    def append(self, rows: Sequence[Joined]) -> None:
        """Durable when it returns. Rows that cannot be captured are counted and left out.

        Raises ResourceExhausted when the disk is full; nothing is kept of them then.
        """
        frames = []
        kept = left_out = 0
        for (version, _), group in _alike(rows).items():
            arrays = _arrays(group)
            if arrays is None:
                left_out += len(group)
                continue
            arrays["version"] = np.array(version, dtype=np.int64)
            content = _npz(arrays)
            frames.append(_FRAME.pack(len(content), zlib.crc32(content)) + content)
            kept += len(group)
        with self._lock:
            self.rows_dropped += left_out
            if frames:
                self._write(b"".join(frames))
                self.rows_in_journal += kept

    def seal(self) -> int:
        """Moves the journal into the spool as batches; returns how many. Safe to be killed in."""
        with self._lock:
            return self._seal()

    def _seal(self) -> int:
        if not self._journal.exists():
            return 0
        sealed = 0
        for batch in _joined_frames(self._read_frames()):
            content = _npz(batch.arrays)
            digest = hashlib.sha256(content).hexdigest()
            times = batch.arrays["time"]
            # In the key stands what the header needs; the content alone decides it.
            key = f"{batch.version}-{len(times)}-{digest}"
            if not self.spool.put(key, content):
                self.rows_dropped += len(times)
            sealed += 1
        self._journal.unlink()
        sync_folder(self._journal.parent)
        self.rows_in_journal = 0
        return sealed

    def read(self, entry: SpoolEntry) -> CaptureBatch | None:
        """A sealed batch; None when it was dropped or is damaged."""
        content = self.spool.read(entry)
        if content is None:
            return None
        version, rows, digest = entry.key.split("-")
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            times = archive["time"]
        return CaptureBatch(
            key=entry.key,
            sha256=digest,
            version=int(version),
            rows=int(rows),
            first_time=float(times.min()),
            last_time=float(times.max()),
            content=content,
        )

    def _write(self, data: bytes) -> None:
        before = self._journal.stat().st_size if self._journal.exists() else 0
        try:
            with self._journal.open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if not before:
                sync_folder(self._journal.parent)
        except OSError as error:
            # A torn frame would hide all that is appended after it.
            if self._journal.exists():
                os.truncate(self._journal, before)
            raise_if_full(error, self._journal)
            raise ResourceExhausted(f"{self._journal} cannot be written: {error}") from error

    def _read_frames(self) -> Iterator[Arrays]:
        data = self._journal.read_bytes()
        position = 0
        while position + _FRAME.size <= len(data):
            length, checksum = _FRAME.unpack_from(data, position)
            content = data[position + _FRAME.size : position + _FRAME.size + length]
            if length > _MAX_FRAME or len(content) < length or zlib.crc32(content) != checksum:
                log.warning("captures.torn_journal", journal=str(self._journal), at=position)
                return
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                yield {name: archive[name] for name in archive.files}
            position += _FRAME.size + length


@dataclass(frozen=True, eq=False)
class _Batch:
    version: int
    arrays: Arrays


def _joined_frames(frames: Iterator[Arrays]) -> list[_Batch]:
    """Frames of the same version, inputs and shapes together, up to some MiB a batch."""
    groups: dict[tuple[int, object], list[list[Arrays]]] = {}
    held: dict[tuple[int, object], int] = {}
    for arrays in frames:
        version = int(arrays.pop("version"))
        layout = tuple(
            (name, array.shape[1:], array.dtype.kind) for name, array in sorted(arrays.items())
        )
        key = (version, layout)
        size = sum(array.nbytes for array in arrays.values())
        if key not in groups or held[key] + size > _BATCH_BYTES:
            groups.setdefault(key, []).append([])
            held[key] = 0
        groups[key][-1].append(arrays)
        held[key] += size
    return [
        _Batch(version, {name: np.concatenate([a[name] for a in part]) for name in part[0]})
        for (version, _), parts in groups.items()
        for part in parts
    ]


def _alike(rows: Sequence[Joined]) -> dict[tuple[int, object], list[Joined]]:
    groups: dict[tuple[int, object], list[Joined]] = {}
    for row in rows:
        shapes = tuple(
            (name, array.shape[1:]) for name, array in sorted(row.request.inputs.items())
        )
        groups.setdefault((row.request.version, shapes), []).append(row)
    return groups


def _arrays(rows: Sequence[Joined]) -> Arrays | None:
    """One NPZ's arrays of rows that are alike; None when they cannot be captured."""
    names = rows[0].request.inputs.keys()
    if not names or names & RESERVED:
        return None
    inputs = {
        name: _plain(np.stack([row.request.inputs[name][row.row] for row in rows]))
        for name in names
    }
    return {
        **inputs,
        "y": np.array([row.truth for row in rows]),
        "time": np.array([row.request.time for row in rows], dtype=np.float64),
        "request_id": np.array([row.request.request_id for row in rows]),
    }


def _plain(array: Array) -> Array:
    """Text instead of objects, which only pickles could hold."""
    if not array.dtype.hasobject:
        return array
    texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in array.flat]
    return np.array(texts, dtype=str).reshape(array.shape)


def _npz(arrays: Arrays) -> bytes:
    """The same bytes for the same arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})
    return buffer.getvalue()
