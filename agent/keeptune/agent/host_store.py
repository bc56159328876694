"""What the agent keeps on disk about the models of its host.

    <root>/<model>/record.json          how it is watched, its bake, why it went back
                  /<n>.version          ModelVersion, as the registry signed it
                  /<n>.profile          ReferenceProfile
                  /<n>.watch            state of its detectors (NPZ)

Which versions serve is not kept here: the model repository and Triton tell that. Calls block on
the disk.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import structlog
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from keeptune.agent.durable_file import write_durably
from keeptune.agent.package import check_model_name
from keeptune.runtime import names
from keeptune.v1 import deployment_pb2, monitoring_pb2

log = structlog.get_logger()

_VERSION_FILE = re.compile(r"(\d+)\.(version|profile|watch)")

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Bake:
    """A version that was just promoted and may yet go back by itself.

    `previous` 0: there is nothing to go back to. Times in unix seconds.
    """

    version: int
    previous: int
    start: float
    until: float


@dataclass(frozen=True)
class ModelRecord:
    """`note` tells why a version was left; it stays until the next promotion."""

    monitoring: monitoring_pb2.Monitoring = field(default_factory=monitoring_pb2.Monitoring)
    bake: Bake | None = None
    note: str = ""


class HostStore:
    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def models(self) -> tuple[str, ...]:
        return tuple(sorted(path.name for path in self._root.iterdir() if path.is_dir()))

    def record(self, model: str) -> ModelRecord:
        """The default one when none was put."""
        try:
            content = json.loads((self._folder(model) / "record.json").read_text())
        except FileNotFoundError:
            return ModelRecord()
        bake = content["bake"]
        return ModelRecord(
            monitoring=json_format.ParseDict(
                content["monitoring"], monitoring_pb2.Monitoring(), ignore_unknown_fields=True
            ),
            bake=Bake(**bake) if bake else None,
            note=content["note"],
        )

    def put_record(self, model: str, record: ModelRecord) -> None:
        content = {
            "monitoring": json_format.MessageToDict(record.monitoring),
            "bake": asdict(record.bake) if record.bake else None,
            "note": record.note,
        }
        folder = self._folder(model)
        folder.mkdir(exist_ok=True)
        write_durably(folder / "record.json", json.dumps(content, indent=1).encode())

    def put_version(
        self, model: str, version: deployment_pb2.ModelVersion, number: int, profile: bytes
    ) -> None:
        """`profile` is a serialized ReferenceProfile; empty when the version has none."""
        folder = self._folder(model)
        folder.mkdir(exist_ok=True)
        write_durably(folder / f"{number}.profile", profile)
        write_durably(folder / f"{number}.version", version.SerializeToString(deterministic=True))

    def version(self, model: str, number: int) -> deployment_pb2.ModelVersion | None:
        try:
            content = (self._folder(model) / f"{number}.version").read_bytes()
            return deployment_pb2.ModelVersion.FromString(content)
        except FileNotFoundError:
            return None
        except DecodeError:
            log.warning("store.damaged", model=model, version=number)
            return None

    def profile(self, model: str, number: int) -> bytes:
        """Empty when the version has none."""
        try:
            return (self._folder(model) / f"{number}.profile").read_bytes()
        except FileNotFoundError:
            return b""

    def put_watch(self, model: str, number: int, state: Arrays) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **state)
        write_durably(self._folder(model) / f"{number}.watch", buffer.getvalue())

    def watch(self, model: str, number: int) -> dict[str, NDArray[np.generic]]:
        """Empty when nothing was put, or what was put is damaged."""
        try:
            with np.load(self._folder(model) / f"{number}.watch", allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            log.warning("store.damaged_watch", model=model, version=number)
            return {}

    def keep_versions(self, model: str, numbers: set[int]) -> None:
        """Forgets all versions of a model but these."""
        folder = self._folder(model)
        for path in list(folder.iterdir()) if folder.is_dir() else ():
            name = _VERSION_FILE.fullmatch(path.name)
            if name is not None and int(name[1]) not in numbers:
                path.unlink(missing_ok=True)

    def forget(self, model: str) -> None:
        """Idempotent."""
        shutil.rmtree(self._folder(model), ignore_errors=True)

    def _folder(self, model: str) -> Path:
        check_model_name(model)
        return self._root / model


def version_name(model: str, number: int) -> str:
    """Empty for 0, which stands for none."""
    return names.version_name(model, number) if number else ""
