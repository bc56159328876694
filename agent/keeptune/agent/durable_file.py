"""Files that are there whole or not at all, also after a kill or a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from keeptune.runtime.errors import ResourceExhausted

_TMP = ".tmp-"


def write_durably(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replaces the file in one step; returns when it is on the disk.

    Raises ResourceExhausted when that is full; what was there before then still is.
    """
    partial = path.with_name(f"{_TMP}{path.name}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise_if_full(error, path)
        raise


def raise_if_full(error: OSError, path: Path) -> None:
    """Raises ResourceExhausted when the error says that the disk is full."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise ResourceExhausted(
            f"the disk is full: {path} could not be written",
            reason="DISK_FULL",
            fix="free space on the serving host",
        ) from error


def sync_folder(folder: Path) -> None:
    """Makes creations, renames and deletions in the folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_partial(path: Path) -> bool:
    """Whether it is what a kill left of `write_durably`; nobody misses it."""
    return path.name.startswith(_TMP)
