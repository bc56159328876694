"""What a training is, and how its state may change. Pure: no I/O, no clock, no gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from keeptune.runtime.artifacts import Artifact
from keeptune.v1.types_pb2 import Dataset

Scalar = float | int | str | bool


class Task(StrEnum):
    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class TrainingState(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    EXPORTING = "EXPORTING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ACTIVE_STATES = (TrainingState.PENDING, TrainingState.RUNNING, TrainingState.EXPORTING)


@dataclass(frozen=True)
class Recipe:
    """What is done to training beyond plain fitting; trainers refuse what they cannot do."""

    augmentation: bool = False


@dataclass(frozen=True)
class Resources:
    """What one trial is given: `cpu` cores (threads), `gpu` devices or a share of one."""

    cpu: float = 1.0
    gpu: float = 0.0


@dataclass(frozen=True)
class Measurement:
    """Values after `step` epochs; `elapsed` is seconds of training since the trial started."""

    step: int
    metrics: Mapping[str, float]
    elapsed: float = 0.0


@dataclass(frozen=True)
class Tensor:
    """A float32 tensor of the served model; `shape` without the batch dimension, -1 = any."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """What a served model takes and gives; `classes` label the columns of the first output."""

    task: Task
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainedModel:
    onnx: Artifact
    weights: Artifact
    signature: Signature
    # Largest difference between ONNX Runtime and the trainer's own model on real rows.
    parity_error: float


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one trial, and the trial they came from (empty for a fixed run)."""

    weights: Artifact
    trial: str = ""


@dataclass(frozen=True)
class Training:
    trainer: str
    task: Task
    datasets: tuple[Dataset, ...]
    # Exactly one of the two is set.
    study: str = ""
    fixed: Mapping[str, Scalar] | None = None
    validation_datasets: tuple[Dataset, ...] = ()
    validation_fraction: float = 0.2
    recipe: Recipe = field(default_factory=Recipe)
    resources: Resources = field(default_factory=Resources)
    # Trials at once; 0 = as many as the host has room for.
    parallelism: int = 0
    max_epochs: int = 0
    seed: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    # Key of the prepared data in the host's cache.
    data_key: str = ""
    # Ids that its creation carried (see runtime.logging): all that is done for it logs them.
    carried: Mapping[str, str] = field(default_factory=dict)

    state: TrainingState = TrainingState.PENDING
    reason: str = ""
    next_step: str = ""
    end_time: datetime | None = None
    trials_done: int = 0
    checkpoint: Checkpoint | None = None
    best_measurement: Measurement | None = None
    model: TrainedModel | None = None

    @property
    def active(self) -> bool:
        return self.state in ACTIVE_STATES

    @property
    def ids(self) -> Mapping[str, str]:
        """What its log lines, and the calls made for it, carry."""
        return {**self.carried, "study": self.study}

    @property
    def best_trial(self) -> str:
        return self.checkpoint.trial if self.checkpoint else ""

    def running(self, reason: str, next_step: str = "") -> Training:
        return replace(self, state=TrainingState.RUNNING, reason=reason, next_step=next_step)

    def exporting(self, checkpoint: Checkpoint, measurement: Measurement) -> Training:
        source = checkpoint.trial or "the run"
        return replace(
            self,
            state=TrainingState.EXPORTING,
            reason=f"exporting the model of {source}",
            next_step="",
            checkpoint=checkpoint,
            best_measurement=measurement,
        )

    def succeeded(self, model: TrainedModel, now: datetime) -> Training:
        return replace(
            self,
            state=TrainingState.SUCCEEDED,
            reason=(
                f"the model of {self.best_trial or 'the run'} is exported; it differs from the "
                f"trained one by at most {model.parity_error:.1g}"
            ),
            next_step="evaluate it, then roll it out",
            model=model,
            end_time=now,
        )

    def failed(self, reason: str, next_step: str, now: datetime) -> Training:
        return replace(
            self,
            state=TrainingState.FAILED,
            reason=reason,
            next_step=next_step,
            end_time=now,
        )

    def cancelled(self, now: datetime) -> Training:
        return replace(
            self,
            state=TrainingState.CANCELLED,
            reason="cancelled on request",
            next_step=(
                f"{self.study} keeps its results; another training can go on with it"
                if self.study
                else ""
            ),
            end_time=now,
        )


@dataclass(frozen=True)
class Progress:
    """One epoch of one trial (`trial` is empty for a fixed run)."""

    trial: str
    measurement: Measurement
    worker: str


class AnomalyKind(StrEnum):
    NOT_FINITE = "NOT_FINITE"
    WORKER_LOST = "WORKER_LOST"


@dataclass(frozen=True)
class Anomaly:
    trial: str
    kind: AnomalyKind
    step: int
    evidence: str
    action: str
