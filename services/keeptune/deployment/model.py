"""Models, their versions and how they are watched: plain values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

from keeptune.runtime.artifacts import Artifact


class Task(StrEnum):
    UNSPECIFIED = "UNSPECIFIED"
    CLASSIFICATION = "CLASSIFICATION"
    REGRESSION = "REGRESSION"


class DataType(StrEnum):
    """Element types that ONNX, Triton and NumPy have in common."""

    FLOAT16 = "FLOAT16"
    FLOAT32 = "FLOAT32"
    FLOAT64 = "FLOAT64"
    INT8 = "INT8"
    INT32 = "INT32"
    INT64 = "INT64"
    UINT8 = "UINT8"
    BOOL = "BOOL"
    STRING = "STRING"


@dataclass(frozen=True)
class Tensor:
    """`shape` is without the batch dimension; -1 = any size."""

    name: str
    data_type: DataType
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives; `classes` label the columns of the first output."""

    task: Task
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DriftLimits:
    average_run_length: int = 50_000
    min_effect: float = 0.1


@dataclass(frozen=True)
class HealthLimits:
    """`max_latency` None = the agent takes 5 times the version's own first minute."""

    max_error_rate: float = 0.02
    max_latency: timedelta | None = None
    max_accuracy_drop: float = 0.1


@dataclass(frozen=True)
class Capture:
    enabled: bool = False
    labelled_only: bool = True
    max_bytes: int = 64 * 2**20


@dataclass(frozen=True)
class Monitoring:
    """How a model is watched, with every default filled in. Equal values watch equally."""

    sampling_rate: float = 0.1
    drift: DriftLimits = field(default_factory=DriftLimits)
    health: HealthLimits = field(default_factory=HealthLimits)
    capture: Capture = field(default_factory=Capture)


@dataclass(frozen=True)
class Model:
    """`champion` is the full name of the version that should serve; "" before the first rollout."""

    display_name: str = ""
    monitoring: Monitoring = field(default_factory=Monitoring)
    host_selector: dict[str, str] = field(default_factory=dict)
    champion: str = ""
    versions: int = 0

    def selects(self, labels: dict[str, str]) -> bool:
        """Whether a host with these labels serves the model."""
        return all(labels.get(key) == value for key, value in self.host_selector.items())

    def next_version(self) -> Model:
        return replace(self, versions=self.versions + 1)


@dataclass(frozen=True)
class Version:
    """One immutable version. `lineage` is a Lineage message as protobuf JSON."""

    onnx: Artifact
    signature: Signature
    reference_profile: Artifact | None = None
    lineage: str = "{}"
    max_batch_size: int = 64
    instance_count: int = 1
    manifest_signature: bytes = b""
