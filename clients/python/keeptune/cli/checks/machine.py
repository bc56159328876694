"""This machine."""

from __future__ import annotations

import runpy
import shutil
import sqlite3
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from keeptune.cli.checks import Check

if TYPE_CHECKING:
    from keeptune.cli.session import Session

_OLDEST_PYTHON = (3, 11)
# Of gRPC: below, a server does not hold its limit of concurrent calls.
_OLDEST_GRPC = (1, 80)
_GIB = 1 << 30
_ENOUGH_GIB, _TOO_LITTLE_GIB = 5.0, 0.5


def check(session: Session) -> list[Check]:
    """Everything that can be said without a network."""
    return [_versions(), _grpc(), _sqlite(), _torch(), _disk(session)]


def _versions() -> Check:
    python = ".".join(str(part) for part in sys.version_info[:3])
    found = f"keeptune {metadata.version('keeptune')}, Python {python}"
    if sys.version_info < _OLDEST_PYTHON:
        return Check("versions", "fail", found, "use Python 3.11 or newer")
    return Check("versions", "ok", found)


def _grpc() -> Check:
    installed, protobuf = metadata.version("grpcio"), metadata.version("protobuf")
    found = f"grpcio {installed}, protobuf {protobuf}"
    if tuple(int(part) for part in installed.split(".")[:2]) < _OLDEST_GRPC:
        return Check("grpc", "warn", found, "pip install 'grpcio>=1.80'")
    return Check("grpc", "ok", found)


def _sqlite() -> Check:
    found = f"SQLite {sqlite3.sqlite_version}"
    if find_spec("sqlalchemy") is None:
        return Check("sqlite", "ok", f"{found}; this installation runs no service")
    if sqlite3.sqlite_version_info < (3, 35):
        return Check("sqlite", "fail", found, "use a Python with SQLite 3.35 or newer")
    return Check("sqlite", "ok", found)


def _torch() -> Check:
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return Check("torch", "ok", "not installed; this installation does not train")
    # Importing torch takes seconds; this file of it says what it was built for.
    build = runpy.run_path(str(Path(spec.origin).parent / "version.py"))
    version, cuda = build.get("__version__", "?"), build.get("cuda")
    if not cuda:
        return Check("torch", "ok", f"torch {version}, built for the CPU")
    found = f"torch {version}, built for CUDA {cuda}"
    if not Path("/dev/nvidiactl").exists():
        return Check(
            "torch",
            "warn",
            f"{found}, but there is no NVIDIA device here",
            "install the driver, or the smaller CPU build of torch",
        )
    return Check("torch", "ok", found)


def _disk(session: Session) -> Check:
    from keeptune.client.connection import default_data_dir

    folder = session.data_dir or default_data_dir()
    existing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    free = shutil.disk_usage(existing).free / _GIB
    found = f"{free:.1f} GiB free for {folder}"
    if free < _TOO_LITTLE_GIB:
        return Check("disk", "fail", found, "make room, or use another folder with --data-dir")
    if free < _ENOUGH_GIB:
        return Check("disk", "warn", found, "make room soon: a full disk stops all changes")
    return Check("disk", "ok", found)
