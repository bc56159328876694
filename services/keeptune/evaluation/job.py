"""What a judging process is given, and what it gives back, as files in a folder."""

from __future__ import annotations

from dataclasses import dataclass

from keeptune.evaluation.model import Judgement
from keeptune.v1 import types_pb2

JOB_FILE = "job.json"
RESULT_FILE = "result.json"
STDERR_FILE = "stderr.txt"


@dataclass(frozen=True)
class Job:
    """What to judge. Models are files in the job's folder; datasets have URIs, no artifacts."""

    candidate: str
    champion: str | None
    signature: types_pb2.ModelSignature
    datasets: tuple[types_pb2.Dataset, ...]
    profile_dataset: types_pb2.Dataset | None
    confidence: float
    latency_batch_size: int
    latency_seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Refusal:
    """Why there can be no judgement."""

    message: str
    fix: str
    reason: str


@dataclass(frozen=True)
class Result:
    """One of the two."""

    judgement: Judgement | None = None
    refusal: Refusal | None = None
