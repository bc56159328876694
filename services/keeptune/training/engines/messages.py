"""What the service and its workers say to each other: one JSON line each, over a socket pair.

A worker's first line is its Job. Nothing here is a pickle, and nothing secret is on a command
line: tokens travel inside the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from keeptune.runtime import documents
from keeptune.runtime.artifacts import Artifact
from keeptune.runtime.channel import Endpoint
from keeptune.runtime.logging import Level
from keeptune.training.model import (
    Anomaly,
    Measurement,
    Progress,
    Recipe,
    Scalar,
    Signature,
)


@dataclass(frozen=True)
class StudyWork:
    """Lease trials of a study until it has no more to give."""

    study: str
    search: Endpoint
    # Tells this process from earlier ones of the same worker, in request ids.
    incarnation: str
    # Trials that have killed their worker too often: failed unseen.
    give_up: tuple[str, ...] = ()


@dataclass(frozen=True)
class FixedWork:
    """Fit once with these parameters."""

    parameters: Mapping[str, Scalar]


@dataclass(frozen=True)
class ExportWork:
    """Turn a checkpoint into the served model."""

    weights: Artifact


@dataclass(frozen=True)
class Job:
    # trainings/{training}/workers/{index}: stable over restarts.
    worker: str
    # A resource name, as `trainers/image`.
    trainer: str
    data_folder: str
    artifacts_url: str
    work: StudyWork | FixedWork | ExportWork
    epochs: int = 0
    seed: int = 0
    recipe: Recipe = field(default_factory=Recipe)
    device: str = "cpu"
    threads: int = 1
    log_level: Level = "info"
    # What its log lines and its calls carry: ids of the request, the study and the retune.
    ids: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """Service to worker: finish the trial in hand, then end."""


@dataclass(frozen=True)
class Leased:
    trial: str


@dataclass(frozen=True)
class TrialEnded:
    trial: str
    outcome: str


@dataclass(frozen=True)
class Drained:
    """The worker ends in good order: the study has no trial for it, or it was released."""

    released: bool = False


@dataclass(frozen=True)
class FixedDone:
    measurement: Measurement
    weights: Artifact


@dataclass(frozen=True)
class Exported:
    onnx: Artifact
    signature: Signature
    parity_error: float


@dataclass(frozen=True)
class Broken:
    """The worker ends: going on, or, unless `temporary`, starting again, cannot help."""

    reason: str
    next_step: str = ""
    temporary: bool = False


Message = (
    Progress | Anomaly | Release | Leased | TrialEnded | Drained | FixedDone | Exported | Broken
)


def to_line(message: Message) -> bytes:
    return documents.encode(message, Message).encode() + b"\n"


def from_line(line: bytes) -> Message:
    message: Message = documents.decode(line, Message)  # type: ignore[arg-type]
    return message


def job_to_line(job: Job) -> bytes:
    return documents.encode(job).encode() + b"\n"


def job_from_line(line: bytes) -> Job:
    return documents.decode(line, Job)
