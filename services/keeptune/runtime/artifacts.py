"""Content-addressed blobs: written once under the SHA-256 of their content, verified when read.

Under `<url>/sha256/ab/ab12...`. On a disk a blob is written beside its place, forced to the disk
and renamed, so that no partial file ever stands under a final name; object stores do the same by
themselves. Whether a blob exists never decides correctness: putting it again is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from keeptune.runtime.errors import (
    DataLoss,
    InvalidInput,
    KeeptuneError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from keeptune.v1 import types_pb2

_CHUNK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILENAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})?")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Artifact:
    """A blob by its content; `filename` is a plain name for people, never a path."""

    sha256: str
    size_bytes: int
    media_type: str
    filename: str = ""


def to_proto(artifact: Artifact) -> types_pb2.Artifact:
    return types_pb2.Artifact(
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        media_type=artifact.media_type,
        filename=artifact.filename,
    )


def from_proto(artifact: types_pb2.Artifact) -> Artifact:
    """Raises InvalidInput for a checksum or a file name of the wrong form."""
    return Artifact(
        _checked_sha(artifact.sha256),
        artifact.size_bytes,
        artifact.media_type,
        _checked_filename(artifact.filename),
    )


class ArtifactStore:
    """Blobs under `file:///folder`, `s3://bucket/prefix` or any other URL that fsspec knows.

    Errors: NotFound for an unknown blob, DataLoss when the content does not match its checksum,
    ResourceExhausted for a full disk, Unavailable when the store cannot be reached.
    """

    def __init__(self, url: str, **options: Any) -> None:
        try:
            self._fs, self._root = fsspec.url_to_fs(url, **options)
        except ImportError as error:
            raise InvalidInput(
                field="artifacts",
                problem=f"is {url!r}, and the package for that store is not installed: {error}",
                fix='pip install "keeptune[s3]"'
                if url.startswith(("s3:", "s3a:"))
                else "install that package, or give file:///absolute/folder",
                reason="STORE_NOT_INSTALLED",
            ) from error
        except ValueError as error:
            raise InvalidInput(
                field="artifacts",
                problem=f"is {url!r}: {error}",
                fix="give file:///absolute/folder or s3://bucket/prefix",
            ) from error
        self._url = url
        self._is_local = isinstance(self._fs, LocalFileSystem)

    @property
    def url(self) -> str:
        """What another process opens the same store by."""
        return self._url

    async def put_bytes(self, data: bytes, *, media_type: str, filename: str = "") -> Artifact:
        return await asyncio.to_thread(
            self.put_bytes_sync, data, media_type=media_type, filename=filename
        )

    async def put_file(
        self, path: Path, *, media_type: str, filename: str | None = None
    ) -> Artifact:
        """`filename` defaults to the path's last part."""
        return await asyncio.to_thread(
            self.put_file_sync, path, media_type=media_type, filename=filename
        )

    async def get_bytes(self, artifact: Artifact | str) -> bytes:
        return await asyncio.to_thread(self.get_bytes_sync, artifact)

    async def fetch(self, artifact: Artifact | str, to: Path) -> Path:
        """Copies the blob to the file `to`, which appears whole and verified, or not at all."""
        return await asyncio.to_thread(self.fetch_sync, artifact, to)

    async def exists(self, sha256: str) -> bool:
        return await asyncio.to_thread(self.exists_sync, sha256)

    async def delete(self, sha256: str) -> None:
        """For the one who alone knows of the blob. Idempotent."""
        await asyncio.to_thread(self.delete_sync, sha256)

    async def size(self, sha256: str) -> int:
        """In bytes."""
        return await asyncio.to_thread(self.size_sync, sha256)

    async def open_stream(
        self, artifact: Artifact | str, chunk: int = _CHUNK
    ) -> AsyncIterator[bytes]:
        """Pieces of at most `chunk` bytes; DataLoss at the end when they do not add up."""
        sha256 = _sha_of(artifact)
        source = await asyncio.to_thread(self._open, sha256)
        try:
            digest = hashlib.sha256()
            while data := await asyncio.to_thread(self._read, source, chunk):
                digest.update(data)
                yield data
            _verify(sha256, digest.hexdigest())
        finally:
            source.close()

    def put_bytes_sync(self, data: bytes, *, media_type: str, filename: str = "") -> Artifact:
        filename = _checked_filename(filename)
        sha256 = hashlib.sha256(data).hexdigest()
        if not self._is_there(sha256, len(data)):
            with self._translated(sha256), self._new_blob(sha256) as target:
                target.write(data)
        return Artifact(sha256, len(data), media_type, filename)

    def put_file_sync(
        self, path: Path, *, media_type: str, filename: str | None = None
    ) -> Artifact:
        filename = _checked_filename(path.name if filename is None else filename)
        with path.open("rb") as source:
            sha256 = hashlib.file_digest(source, "sha256").hexdigest()
            size = source.tell()
            if not self._is_there(sha256, size):
                source.seek(0)
                digest = hashlib.sha256()
                with self._translated(sha256), self._new_blob(sha256) as target:
                    while data := source.read(_CHUNK):
                        digest.update(data)
                        target.write(data)
                    if digest.hexdigest() != sha256:
                        raise InvalidInput(
                            field="path", problem=f"{path} changed while it was read"
                        )
        return Artifact(sha256, size, media_type, filename)

    def get_bytes_sync(self, artifact: Artifact | str) -> bytes:
        sha256 = _sha_of(artifact)
        with self._open(sha256) as source:
            data = self._read(source, -1)
        _verify(sha256, hashlib.sha256(data).hexdigest())
        return data

    def fetch_sync(self, artifact: Artifact | str, to: Path) -> Path:
        sha256 = _sha_of(artifact)
        with self._open(sha256) as source, self._translated(sha256), _replacing(to) as target:
            digest = hashlib.sha256()
            while data := self._read(source, _CHUNK):
                digest.update(data)
                target.write(data)
            _verify(sha256, digest.hexdigest())
        return to

    def exists_sync(self, sha256: str) -> bool:
        with self._translated(sha256):
            return bool(self._fs.exists(self._path(sha256)))

    def delete_sync(self, sha256: str) -> None:
        with contextlib.suppress(NotFound), self._translated(sha256):
            self._fs.rm_file(self._path(sha256))

    def size_sync(self, sha256: str) -> int:
        with self._translated(sha256):
            return int(self._fs.size(self._path(sha256)))

    def _path(self, sha256: str) -> str:
        return f"{self._root}/sha256/{_checked_sha(sha256)[:2]}/{sha256}"

    def _is_there(self, sha256: str, size: int) -> bool:
        return self.exists_sync(sha256) and self.size_sync(sha256) == size

    def _open(self, sha256: str) -> IO[bytes]:
        with self._translated(sha256):
            stream: IO[bytes] = self._fs.open(self._path(sha256), "rb")
            return stream

    def _read(self, source: IO[bytes], count: int) -> bytes:
        with self._translated(""):
            return source.read(count)

    @contextmanager
    def _new_blob(self, sha256: str) -> Iterator[IO[bytes]]:
        path = self._path(sha256)
        if self._is_local:
            with _replacing(Path(path)) as target:
                yield target
        else:
            with self._fs.transaction, self._fs.open(path, "wb") as target:
                yield target

    @contextmanager
    def _translated(self, sha256: str) -> Iterator[None]:
        """The store's errors in keeptune's words."""
        try:
            yield
        except KeeptuneError:
            raise
        except FileNotFoundError:
            raise NotFound(
                f"artifact {sha256} is not in {self._url}",
                reason="ARTIFACT_NOT_FOUND",
                metadata={"sha256": sha256},
            ) from None
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise ResourceExhausted(
                    f"the disk of {self._url} is full; nothing was stored",
                    fix="free some space, then repeat the call",
                    reason="DISK_FULL",
                    retry_after=10.0,
                ) from error
            raise Unavailable(f"{self._url} cannot be used: {error}", retry_after=1.0) from error


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when the block ends well; durable, or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha_of(artifact: Artifact | str) -> str:
    return artifact if isinstance(artifact, str) else artifact.sha256


def _verify(sha256: str, found: str) -> None:
    if found != sha256:
        raise DataLoss(
            f"artifact {sha256} is damaged: its content has the checksum {found}",
            reason="CHECKSUM_MISMATCH",
            metadata={"sha256": sha256},
        )


def _checked_sha(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise InvalidInput(
            field="sha256", problem=f"is {sha256[:80]!r}", fix="give 64 lower-case hex digits"
        )
    return sha256


def _checked_filename(filename: str) -> str:
    if not _FILENAME.fullmatch(filename):
        raise InvalidInput(
            field="filename",
            problem=f"is {filename[:80]!r}",
            fix="give a plain name of letters, digits, '.', '_' and '-', without folders",
        )
    return filename
