"""Prepared data on the host's disk, mapped into memory by every worker: loaded once, shared.

A folder for each content: `x_train.npy`, `y_train.npy`, `x_validation.npy`, `y_validation.npy`
and `about.json`. It is written beside its place and renamed, so a folder is whole or not there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keeptune.runtime import documents
from keeptune.runtime.errors import ResourceExhausted
from keeptune.training.model import Task
from keeptune.training.trainers.protocol import Rows, TrainingData

# numpy reports a short write without an errno.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PARTS = ("train", "validation")


@dataclass(frozen=True)
class _About:
    task: Task
    classes: tuple[str, ...]
    feature_names: tuple[str, ...]


class DatasetCache:
    """Folders of prepared data under `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, key: str) -> Path:
        return self._root / key

    def put(self, data: TrainingData) -> str:
        """Writes the data unless they are there; their key. Blocks. Raises ResourceExhausted."""
        key = content_key(data)
        if self.path(key).exists():
            # Its time tells `prune` that it is wanted again.
            os.utime(self.path(key))
            return key
        temporary = self._root / f".{key}.{secrets.token_hex(4)}"
        try:
            temporary.mkdir(parents=True)
            _write(data, temporary)
            temporary.rename(self.path(key))
        except OSError as error:
            if self.path(key).exists():
                return key
            if error.errno is None or error.errno in _NO_SPACE:
                raise ResourceExhausted(
                    f"the disk of {self._root} is full; the data could not be prepared",
                    fix="free some space, then repeat the call",
                    reason="DISK_FULL",
                    retry_after=10.0,
                ) from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return key

    def __contains__(self, key: str) -> bool:
        return bool(key) and self.path(key).is_dir()

    def prune(self, keep: Collection[str], spare: int = 8) -> None:
        """Deletes what is not in `keep`, but for the `spare` that were used last. Blocks."""
        if not self._root.is_dir():
            return
        idle = [
            folder
            for folder in self._root.iterdir()
            if folder.name not in keep and not folder.name.startswith(".")
        ]
        idle.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
        for folder in idle[spare:]:
            # Whoever has it mapped keeps it until they let go.
            shutil.rmtree(folder, ignore_errors=True)


def open_data(folder: Path) -> TrainingData:
    """The arrays of one folder, mapped read-only: nothing is loaded until it is touched."""
    about = documents.decode((folder / "about.json").read_bytes(), _About)
    train, validation = (
        Rows(
            np.load(folder / f"x_{part}.npy", mmap_mode="r", allow_pickle=False),
            np.load(folder / f"y_{part}.npy", mmap_mode="r", allow_pickle=False),
        )
        for part in _PARTS
    )
    return TrainingData(about.task, train, validation, about.classes, about.feature_names)


def content_key(data: TrainingData) -> str:
    """32 hex digits that differ when anything in the data does."""
    digest = hashlib.sha256(documents.encode(_about(data)).encode())
    for rows in (data.train, data.validation):
        for array in (rows.x, rows.y):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def _about(data: TrainingData) -> _About:
    return _About(data.task, data.classes, data.feature_names)


def _write(data: TrainingData, folder: Path) -> None:
    for part, rows in zip(_PARTS, (data.train, data.validation), strict=True):
        np.save(folder / f"x_{part}.npy", rows.x)
        np.save(folder / f"y_{part}.npy", rows.y)
    (folder / "about.json").write_text(documents.encode(_about(data)))
