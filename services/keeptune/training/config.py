"""Settings of the training service."""

from __future__ import annotations

import os

from pydantic import Field

from keeptune.runtime.config import Settings
from keeptune.runtime.logging import Level


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class TrainingSettings(Settings):
    """Section `training`."""

    database: str = Field("", description="database URL; empty = training.db in the data folder")
    workers: int = Field(
        default_factory=_cores,
        ge=1,
        le=1024,
        description="worker processes at once, over all trainings of this host",
    )
    poll_seconds: float = Field(
        0.5, gt=0, le=60, description="pause between looks at studies and workers"
    )
    log_level: Level = Field("info", description="of the worker processes")
