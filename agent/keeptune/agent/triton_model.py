"""What Triton says, as plain values, and the errors that calls to it raise."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from keeptune.runtime.errors import DeadlineExceeded, FailedPrecondition, Unavailable


class TritonUnavailable(Unavailable):
    """Triton cannot be reached: it is starting, or gone."""

    default_reason = "TRITON_UNAVAILABLE"


class TritonHangs(DeadlineExceeded):
    """Triton did not answer within a deadline far above what it needs when healthy."""

    default_reason = "TRITON_HANGS"


class ModelLoadFailed(FailedPrecondition):
    """Triton refused to load a model; the message carries its reason. What served, serves on."""

    default_reason = "MODEL_LOAD_FAILED"


class InferenceFailed(FailedPrecondition):
    """An inference was answered with an error, though the model may say it is ready."""

    default_reason = "INFERENCE_FAILED"


@dataclass(frozen=True)
class ServerInfo:
    version: str
    """E.g. "2.51.0"."""
    extensions: tuple[str, ...]

    @property
    def numbers(self) -> tuple[int, int]:
        """Major and minor version, (0, 0) when it cannot be read."""
        parts = self.version.split(".")
        if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
            return (0, 0)
        return int(parts[0]), int(parts[1])


@dataclass(frozen=True)
class IndexEntry:
    """One line of the repository index. A model without a loaded version has version 0."""

    model: str
    version: int
    state: str
    """READY, LOADING, UNLOADING, UNAVAILABLE, or empty when never asked for."""
    reason: str

    @property
    def ready(self) -> bool:
        return self.state == "READY"


@dataclass(frozen=True)
class Tally:
    """How often something happened, and its nanoseconds in all."""

    count: int = 0
    ns: int = 0

    def __sub__(self, earlier: Tally) -> Tally:
        return Tally(self.count - earlier.count, self.ns - earlier.ns)

    @property
    def mean_ms(self) -> float:
        """0 when nothing happened."""
        return self.ns / self.count / 1e6 if self.count else 0.0


@dataclass(frozen=True)
class VersionStatistics:
    """Counters of one version since it was loaded.

    Triton counts a response that carries an error object as a success and refused input nowhere:
    `fail` is a floor of the error rate.
    """

    model: str
    version: int
    success: Tally
    fail: Tally
    queue: Tally
    compute_input: Tally
    compute_infer: Tally
    compute_output: Tally
    inferences: int
    """Rows, where `success` counts requests and `executions` counts batches."""
    executions: int
    last_inference: datetime | None

    def since(self, earlier: VersionStatistics) -> VersionStatistics:
        """The difference to an earlier reading; all of it when the counters began anew."""
        if self.success.count < earlier.success.count or self.fail.count < earlier.fail.count:
            return self
        return VersionStatistics(
            self.model,
            self.version,
            self.success - earlier.success,
            self.fail - earlier.fail,
            self.queue - earlier.queue,
            self.compute_input - earlier.compute_input,
            self.compute_infer - earlier.compute_infer,
            self.compute_output - earlier.compute_output,
            self.inferences - earlier.inferences,
            self.executions - earlier.executions,
            self.last_inference,
        )
