"""Settings of the retuning service."""

from __future__ import annotations

from pydantic import Field

from keeptune.runtime.config import Settings


class RetuningSettings(Settings):
    """Section `retuning`."""

    database: str = Field("", description="database URL; empty = retuning.db in the data folder")
    poll_seconds: float = Field(
        0.5, gt=0, le=60, description="pause between looks at what the other services do"
    )
