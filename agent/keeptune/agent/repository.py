"""Triton's model repository on disk.

    <root>/<model>/config.pbtxt      which versions are served: this file alone decides
    <root>/<model>/<n>/model.onnx    plus model.py for the python platform
                      /package.json  what it was installed from: platform, config, checksums
                      /__pycache__   an empty file, so that no stub writes a folder there, which
                                     Triton would take for a change and reload the version

Every change is made beside its place, synced and renamed, so that a kill or a power cut at any
moment leaves either the old or the new. Nothing is remembered elsewhere: state is what lies here.
A version folder appears whole or not at all, since a python model without its file makes Triton's
load hang. All calls block on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from keeptune.agent.model_config import Platform, config_body, render_config, served_versions
from keeptune.agent.onnx_file import check_onnx
from keeptune.agent.package import MODEL_FILE, Package, PackageFile, check_version
from keeptune.agent.shim import SHIM
from keeptune.runtime.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    ResourceExhausted,
)

_CHUNK = 1 << 20
_TMP = ".tmp"


@dataclass(frozen=True)
class InstalledVersion:
    """What a version folder says of itself."""

    version: int
    platform: Platform
    config: str
    sha256: dict[str, str]

    def fits_beside(self, other: InstalledVersion) -> bool:
        """Whether one configuration serves both, so that both can be loaded at once."""
        return config_body(self.config) == config_body(other.config)


@dataclass(frozen=True)
class ModelState:
    """A model as it lies on disk."""

    name: str
    versions: dict[int, InstalledVersion]
    """Every whole version, served or not."""
    serving: tuple[int, ...]
    """What config.pbtxt tells Triton to serve; empty without one."""


class ModelRepository:
    """The folder that Triton loads from. `name` is a model's name or its staging name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: int | None = None

    def acquire(self) -> None:
        """Claims the repository for this process until it ends; a kill frees it.

        Raises FailedPrecondition when another process holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.root / ".keeptune.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise FailedPrecondition(
                f"another agent works on {self.root}",
                reason="REPOSITORY_HELD",
                fix="run one agent a serving host",
            ) from error
        self._lock = descriptor

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def names(self) -> tuple[str, ...]:
        """All models, staged ones included, in order."""
        if not self.root.is_dir():
            return ()
        entries = (entry for entry in self.root.iterdir() if not entry.name.startswith("."))
        return tuple(sorted(entry.name for entry in entries if entry.is_dir()))

    def state(self, name: str) -> ModelState:
        """What lies on disk of a model; empty when nothing does."""
        folder = self.root / name
        versions: dict[int, InstalledVersion] = {}
        serving: tuple[int, ...] = ()
        if folder.is_dir():
            for entry in folder.iterdir():
                if entry.name.isdigit() and (entry / "package.json").is_file():
                    versions[int(entry.name)] = _read_installed(entry)
            config = folder / "config.pbtxt"
            if config.is_file():
                serving = served_versions(config.read_text())
        return ModelState(name, dict(sorted(versions.items())), serving)

    def add_version(self, name: str, package: Package) -> InstalledVersion:
        """Copies a package in as a version that is not yet served. Idempotent.

        Raises InvalidInput for what is unsound in it, DataLoss where a checksum does not match,
        AlreadyExists when the version is there with other content, ResourceExhausted when the disk
        is full. Nothing is left behind then.
        """
        package.check()
        wanted = InstalledVersion(
            package.version,
            package.platform,
            package.config,
            {file_name: file.sha256 for file_name, file in sorted(package.files.items())},
        )
        there = self.state(name).versions.get(package.version)
        if there == wanted:
            return there
        if there is not None:
            raise AlreadyExists(
                f"version {package.version} of {name} is installed with other content",
                reason="VERSION_DIFFERS",
                fix="versions never change: register the content as a new one",
            )
        folder = self.root / name
        partial = folder / f"{_TMP}{package.version}"
        with _no_leftover(partial):
            partial.mkdir(parents=True)
            for file_name, file in package.files.items():
                _copy_verified(file_name, file, partial / file_name)
            check_onnx(partial / MODEL_FILE)
            if package.platform == "python":
                _write(partial / "model.py", SHIM.read_bytes())
            _write(partial / "__pycache__", b"")
            _write(partial / "package.json", _to_json(wanted))
            _sync(partial)
            # Without its package.json a folder is none of ours, or was not wholly removed.
            _remove_tree(folder / str(package.version))
            os.rename(partial, folder / str(package.version))
        _sync(folder)
        _sync(self.root)
        return wanted

    def serve(self, name: str, versions: Sequence[int]) -> None:
        """Makes `versions`, and no others, the ones that Triton is to serve. Idempotent.

        The configuration is that of the last of them. Raises NotFound for one that is not there,
        FailedPrecondition when their configurations differ, ResourceExhausted on a full disk.
        """
        state = self.state(name)
        for version in versions:
            if version not in state.versions:
                raise NotFound(f"version {version} of {name} is not on this host")
        chosen = [state.versions[version] for version in versions]
        if not all(one.fits_beside(chosen[-1]) for one in chosen):
            raise FailedPrecondition(
                f"versions {list(versions)} of {name} cannot share one configuration",
                reason="CONFIGS_DIFFER",
            )
        text = render_config(chosen[-1].config, name=name, versions=sorted(versions)).encode()
        path = self.root / name / "config.pbtxt"
        if path.is_file() and path.read_bytes() == text:
            return
        partial = path.with_name(f"{_TMP}-config")
        with _no_leftover(partial):
            _write(partial, text)
            os.replace(partial, path)
        _sync(path.parent)

    def touch(self, name: str, version: int) -> None:
        """Makes the next load of the model load this version anew."""
        os.utime(self.root / name / str(version) / MODEL_FILE)

    def remove_version(self, name: str, version: int) -> None:
        """Deletes a version that is not served. Idempotent."""
        check_version(version)
        if version in self.state(name).serving:
            raise FailedPrecondition(
                f"version {version} of {name} is being served",
                reason="VERSION_SERVED",
                fix="serve another one first",
            )
        folder = self.root / name / str(version)
        if folder.is_dir():
            gone = folder.with_name(f"{_TMP}-gone-{version}")
            _remove_tree(gone)
            os.rename(folder, gone)
            _remove_tree(gone)

    def remove_model(self, name: str) -> None:
        """Deletes a model with all its versions; it must have been unloaded. Idempotent."""
        folder = self.root / name
        if folder.is_dir():
            # Without its configuration no restarted server loads what a kill leaves of it.
            (folder / "config.pbtxt").unlink(missing_ok=True)
            gone = self.root / f"{_TMP}-gone-{name}"
            _remove_tree(gone)
            os.rename(folder, gone)
            _remove_tree(gone)

    def tidy(self) -> tuple[str, ...]:
        """Deletes what kills have left: partial versions, and folders that hold no model.

        Returns what was deleted. Folders that this class did not make are left alone.
        """
        leftovers = [*self.root.glob(f"{_TMP}*"), *self.root.glob(f"*/{_TMP}*")]
        for leftover in leftovers:
            _remove_tree(leftover)
        empty = [self.root / name for name in self.names() if not any((self.root / name).iterdir())]
        for folder in empty:
            folder.rmdir()
        return tuple(str(path.relative_to(self.root)) for path in (*leftovers, *empty))


def _read_installed(folder: Path) -> InstalledVersion:
    try:
        content = json.loads((folder / "package.json").read_text())
        return InstalledVersion(
            int(folder.name), content["platform"], content["config"], content["sha256"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataLoss(f"{folder / 'package.json'} is damaged: {error}") from error


def _to_json(version: InstalledVersion) -> bytes:
    content = {
        "platform": version.platform,
        "config": version.config,
        "sha256": version.sha256,
    }
    return json.dumps(content, indent=1, sort_keys=True).encode()


def _copy_verified(name: str, file: PackageFile, target: Path) -> None:
    """Copies while hashing, so that what was verified is what is written."""
    digest = hashlib.sha256()
    with _open_plain(name, file.path) as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    if digest.hexdigest() != file.sha256:
        raise DataLoss(
            f"{name} has the checksum {digest.hexdigest()[:12]}..., its manifest says "
            f"{file.sha256[:12]}...",
            reason="CHECKSUM_MISMATCH",
            field=f"files[{name}]",
        )


def _open_plain(name: str, path: Path) -> BinaryIO:
    # Without O_NONBLOCK the opening of a named pipe would wait for a writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        what = "is a link" if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"
        raise InvalidInput(field=f"files[{name}]", problem=what, reason="BAD_FILE") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidInput(field=f"files[{name}]", problem="is not a plain file", reason="BAD_FILE")
    return os.fdopen(descriptor, "rb")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _no_leftover(partial: Path) -> Iterator[None]:
    """Clears what an earlier kill left at `partial`, and what a failure leaves now."""
    _remove_tree(partial)
    try:
        yield
    except BaseException as error:
        _remove_tree(partial)
        with contextlib.suppress(OSError):
            # Only when it is empty, that is, when it was made for this.
            partial.parent.rmdir()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceExhausted(
                "the disk of the model repository is full",
                reason="DISK_FULL",
                fix="free space on the serving host",
            ) from error
        raise


def _remove_tree(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
