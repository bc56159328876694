"""Build hook of the wheel: generates the stubs, which are not committed."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StubsHook(BuildHookInterface[Any]):
    """Runs `protos/generate.py` before the files of a wheel are collected, editable or not."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        runpy.run_path(str(Path(self.root) / "protos" / "generate.py"))["refresh"]()
