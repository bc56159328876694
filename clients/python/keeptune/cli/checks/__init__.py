"""What `keeptune doctor` looks at.

machine   this machine: versions, disk, SQLite, torch
services  the control plane: addresses, health, credentials, artifact store
serving   serving hosts: what the deployment service knows; Triton and the agent of a config file
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `next_step` is there unless it is as it should be."""

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    next_step: str = ""


def section(config: Any, name: str) -> dict[str, Any]:
    """A section of a config file that has been read; empty when it is not there."""
    found = config.get(name) if isinstance(config, dict) else None
    return found if isinstance(found, dict) else {}
