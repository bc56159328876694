"""A model version as it is handed to a serving host, and what must hold before it is let in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keeptune.agent.model_config import Platform, check_config
from keeptune.runtime.errors import InvalidInput

MODEL_FILE: Final = "model.onnx"
MAX_VERSION: Final = 2**31 - 1
_STAGING_SUFFIX: Final = "--challenger"
_MODEL_NAME = re.compile(r"[a-z0-9_-]{1,64}")
# Data that people may want beside the model. Code never comes with a package.
_FILE_NAME = re.compile(r"model\.onnx|[a-z0-9][a-z0-9_-]{0,63}\.(txt|json)")
_RESERVED_FILES: Final = frozenset({"package.json"})
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PackageFile:
    path: Path
    """Where it lies now, outside the repository; a plain file, not a link."""
    sha256: str
    """What the signed manifest says of it, lower-case hex."""


@dataclass(frozen=True)
class Package:
    """One version of a model, ready to be installed.

    For the platform `python` (hosts without an onnxruntime backend) the agent adds its own ONNX
    shim as `model.py`; packages hold data only.
    """

    model: str
    version: int
    platform: Platform
    config: str
    """The text of config.pbtxt; its name and version policy are the agent's and set by it."""
    files: Mapping[str, PackageFile]

    def check(self) -> None:
        """Raises InvalidInput, naming the field, unless names, config and file list are sound."""
        check_model_name(self.model)
        check_version(self.version)
        if self.platform not in ("onnxruntime", "python"):
            raise InvalidInput(
                field="platform",
                problem=f"is {self.platform!r}",
                fix="use onnxruntime or python",
            )
        check_config(self.config, self.platform)
        if MODEL_FILE not in self.files:
            raise InvalidInput(field="files", problem=f"has no {MODEL_FILE}")
        for name, file in self.files.items():
            if not _FILE_NAME.fullmatch(name) or name in _RESERVED_FILES:
                raise InvalidInput(
                    field=f"files[{name}]",
                    problem="is not a file name that a package may have",
                    fix=f"use {MODEL_FILE}, and plain lower-case names ending in .txt or .json",
                    reason="BAD_FILE_NAME",
                )
            if not _SHA256.fullmatch(file.sha256):
                raise InvalidInput(
                    field=f"files[{name}].sha256", problem="is not 64 lower-case hex digits"
                )


def check_model_name(model: str) -> None:
    """Raises InvalidInput unless it is 1 to 64 of a-z 0-9 _ - and no staging name."""
    if not _MODEL_NAME.fullmatch(model):
        raise InvalidInput(
            field="model",
            problem=f"{model[:80]!r} is not a model name",
            fix="use 1 to 64 of a-z, 0-9, _ and -",
            reason="BAD_MODEL_NAME",
        )
    if model.endswith(_STAGING_SUFFIX):
        raise InvalidInput(
            field="model",
            problem=f"{model!r} ends in {_STAGING_SUFFIX}, which is the agent's own",
            reason="BAD_MODEL_NAME",
        )


def check_version(version: int) -> None:
    """Raises InvalidInput unless it is between 1 and MAX_VERSION."""
    if not 1 <= version <= MAX_VERSION:
        raise InvalidInput(field="version", problem=f"{version} is not in 1 to {MAX_VERSION}")


def staging_name(model: str) -> str:
    """The name under which a challenger of `model` is loaded and probed."""
    return f"{model}{_STAGING_SUFFIX}"
