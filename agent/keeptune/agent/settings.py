"""Reads the agent's settings: file, then environment, then flags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keeptune.agent.config import AgentSettings
from keeptune.runtime.config import load

# Where the value of a flag goes, for those that are no keys of the section itself.
_PLACES = {"listen": ("server", "listen"), "triton_state_dir": ("triton", "state_dir")}


def read_settings(
    file: Path | None, env: Mapping[str, str], flags: Mapping[str, Any]
) -> AgentSettings:
    """Raises InvalidInput for what is unknown or wrong. Flags that are None are not given."""
    given = {_variable(name): str(value) for name, value in flags.items() if value is not None}
    return load(AgentSettings, file=file, env={**env, **given}, section="agent").value


def _variable(flag: str) -> str:
    """Flags go the way of the environment, so that they are checked as all else is."""
    return "KEEPTUNE_AGENT__" + "__".join(part.upper() for part in _PLACES.get(flag, (flag,)))
