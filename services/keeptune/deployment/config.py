"""Settings of the deployment service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from keeptune.runtime.config import Settings


class DeploymentSettings(Settings):
    """Section `deployment`."""

    database: str = Field("", description="database URL; empty = deployment.db in the data folder")
    registry_key: Path | None = Field(
        None,
        description="file with the key that signs manifests; made at the first start; replicas "
        "must share it; default registry.key in the data folder",
    )
    join_token: Path | None = Field(
        None,
        description="file with the token that lets a host enroll; made at the first start; "
        "default join-token in the data folder",
    )
    reconcile_seconds: float = Field(
        1.0, gt=0, le=60, description="pause between looks at what hosts should do"
    )
    away_seconds: float = Field(30.0, gt=0, description="a host that is silent for so long is AWAY")
    max_ir_version: int = Field(
        10, ge=3, description="newest ONNX IR version that serving hosts load"
    )
    max_opset: int = Field(21, ge=7, description="newest ONNX opset that serving hosts load")
    max_model_bytes: int = Field(2**31 - 1, gt=0, description="largest ONNX file taken in")
    max_upload_bytes: int = Field(
        64 * 2**20, gt=0, description="largest capture that a host may upload in one piece"
    )
    max_captures_bytes: int = Field(
        512 * 2**20, gt=0, description="captures kept for each model; the oldest go first"
    )
    recent_signals: int = Field(50, ge=1, le=1000, description="signals kept for each host")
