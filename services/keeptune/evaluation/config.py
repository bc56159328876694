"""Settings of the evaluation service."""

from __future__ import annotations

from pydantic import Field

from keeptune.runtime.config import Settings


class EvaluationSettings(Settings):
    """Section `evaluation`."""

    database: str = Field("", description="database URL; empty = evaluation.db in the data folder")
    parallelism: int = Field(1, ge=1, le=64, description="evaluations judged at the same time")
    deadline_seconds: float = Field(
        600.0, gt=0, description="a judging process that takes longer is ended"
    )
    latency_seconds: float = Field(
        2.0, ge=0, le=60, description="time spent on measuring how long one call takes"
    )
    memory_bytes: int = Field(
        8 << 30, ge=256 << 20, description="a judging process may not take more memory"
    )
    max_model_bytes: int = Field(
        1 << 30, ge=1, lt=2 << 30, description="larger ONNX files are refused"
    )
    poll_seconds: float = Field(
        1.0, gt=0, le=60, description="pause between looks for evaluations of other replicas"
    )
