"""Where a dataset's bytes lie, and in which format: a path, a URL or an artifact."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from keeptune.runtime.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    PermissionDenied,
)
from keeptune.v1 import types_pb2

if TYPE_CHECKING:
    from keeptune.runtime.artifacts import ArtifactStore

MAX_BYTES = 4 << 30
_SCHEMES = ("", "file", "s3")
_SUFFIXES = {
    ".npz": types_pb2.DATASET_FORMAT_NPZ,
    ".csv": types_pb2.DATASET_FORMAT_CSV,
    ".parquet": types_pb2.DATASET_FORMAT_PARQUET,
    ".pq": types_pb2.DATASET_FORMAT_PARQUET,
}
_MEDIA_TYPES = {
    "application/x-npz": types_pb2.DATASET_FORMAT_NPZ,
    "text/csv": types_pb2.DATASET_FORMAT_CSV,
    "application/vnd.apache.parquet": types_pb2.DATASET_FORMAT_PARQUET,
}


def open_source(
    dataset: types_pb2.Dataset, artifacts: ArtifactStore | None, field: str
) -> tuple[io.BytesIO | Path, str]:
    """The bytes, and the path in the request of what names them, for errors."""
    if dataset.WhichOneof("source") != "artifact":
        return _open_uri(dataset.uri, f"{field}.uri"), f"{field}.uri"
    where = f"{field}.artifact"
    if artifacts is None:
        raise InvalidInput(field=where, problem="cannot be read here", fix="give a uri")
    try:
        if artifacts.size_sync(dataset.artifact.sha256) > MAX_BYTES:
            raise _too_large(where)
        return io.BytesIO(artifacts.get_bytes_sync(dataset.artifact.sha256)), where
    except (NotFound, DataLoss) as error:
        raise InvalidInput(
            field=where, problem=f"cannot be read: {error.message}", fix="upload it again"
        ) from error


def format_of(dataset: types_pb2.Dataset, field: str) -> types_pb2.DatasetFormat.ValueType:
    """As given, or else as the file's name or media type says; InvalidInput if neither does."""
    if dataset.format:
        return dataset.format
    is_artifact = dataset.WhichOneof("source") == "artifact"
    name = dataset.artifact.filename if is_artifact else urlsplit(dataset.uri).path
    known = _SUFFIXES.get(PurePosixPath(name).suffix.lower())
    if known is None and is_artifact:
        known = _MEDIA_TYPES.get(dataset.artifact.media_type)
    if known is None:
        raise InvalidInput(
            field=f"{field}.format",
            problem=f"is not given and cannot be told from {name!r}",
            fix="set it to NPZ, CSV or PARQUET",
        )
    return known


def _open_uri(uri: str, field: str) -> io.BytesIO | Path:
    parts = urlsplit(uri)
    if parts.scheme not in _SCHEMES or "::" in uri or "\0" in uri:
        raise InvalidInput(
            field=field, problem=f"is {uri!r}", fix="give a path, file:///... or s3://..."
        )
    if parts.scheme == "s3":
        return _open_remote(uri, field)
    path = Path(unquote(parts.path) if parts.scheme == "file" else uri)
    try:
        if not path.is_file():
            found = "is a folder" if path.is_dir() else "does not exist"
            raise InvalidInput(
                field=field,
                problem=f"names {str(path)!r}, which {found}",
                fix="give a file on the service's host, or upload it as an artifact",
            )
        if path.stat().st_size > MAX_BYTES:
            raise _too_large(field)
        with path.open("rb"):
            return path
    except PermissionError as error:
        raise PermissionDenied(
            f"{str(path)!r} may not be read by the service",
            field=field,
            fix="let the service's user read it",
        ) from error


def _open_remote(uri: str, field: str) -> io.BytesIO:
    import fsspec

    try:
        with fsspec.open(uri, "rb") as remote:
            content = remote.read(MAX_BYTES + 1)
    except ImportError as error:
        raise FailedPrecondition(
            f"{uri!r} cannot be read: {error}",
            field=field,
            fix='pip install "keeptune[s3]" where the service runs',
        ) from error
    except FileNotFoundError as error:
        raise InvalidInput(
            field=field, problem=f"names {uri!r}, which does not exist", fix="check the name"
        ) from error
    except PermissionError as error:
        raise PermissionDenied(f"{uri!r} may not be read by the service", field=field) from error
    if len(content) > MAX_BYTES:
        raise _too_large(field)
    return io.BytesIO(content)


def _too_large(field: str) -> InvalidInput:
    return InvalidInput(
        field=field, problem=f"is larger than {MAX_BYTES >> 30} GiB", fix="give a sample of it"
    )
