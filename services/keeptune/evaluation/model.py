"""Evaluations, what they found and the verdict: plain values and the transitions between them.

Datasets and signatures are protobuf values: what the runtime reads data and models by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from keeptune.runtime.artifacts import Artifact
from keeptune.v1 import types_pb2

DEFAULT_CONFIDENCE = 0.95


class EvaluationState(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        return self in (EvaluationState.SUCCEEDED, EvaluationState.FAILED)


OPEN_STATES = tuple(state for state in EvaluationState if not state.ended)


class Outcome(StrEnum):
    PASSED = "PASSED"
    REJECTED = "REJECTED"


@dataclass(frozen=True)
class MetricValue:
    """A measured metric; `lower` and `upper` at the gate's confidence, where it has an interval."""

    metric: str
    value: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A paired test of candidate against champion on the same rows.

    `difference` is candidate minus champion: of the share of rows right (above 0 = better), or of
    the mean loss a row (below 0 = better). `p_value` is two-sided.
    """

    metric: str
    test: str
    difference: float
    lower: float
    upper: float
    p_value: float
    candidate_only_right: int = 0
    champion_only_right: int = 0


@dataclass(frozen=True)
class SliceResult:
    """`slice` is "column=value"; comparisons stand on the candidate's slices only."""

    slice: str
    rows: int
    metrics: tuple[MetricValue, ...]
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class ModelResult:
    metrics: tuple[MetricValue, ...]
    slices: tuple[SliceResult, ...] = ()


@dataclass(frozen=True)
class DatasetResult:
    """Results on one dataset; the first comparison is of the metric that says most."""

    dataset: str
    rows: int
    candidate: ModelResult
    champion: ModelResult | None = None
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class LatencyResult:
    """Times of one call with `batch_size` rows on one thread, in milliseconds."""

    p50_ms: float
    p99_ms: float
    batch_size: int
    runs: int
    size_bytes: int


@dataclass(frozen=True)
class Judgement:
    """All that was measured. `problems` reject the candidate whatever the gate's rules say."""

    results: tuple[DatasetResult, ...]
    candidate_latency: LatencyResult
    champion_latency: LatencyResult | None = None
    problems: tuple[str, ...] = ()
    # A serialized ReferenceProfile message; empty when the outputs were not fit for one.
    profile: bytes = b""


@dataclass(frozen=True)
class GateRule:
    """Limits on one metric; all that are set must hold. See the proto for each."""

    metric: str
    dataset: str = ""
    slice: str = ""
    min: float | None = None
    max: float | None = None
    max_regression: float | None = None
    max_relative_regression: float | None = None
    require_improvement: bool = False


@dataclass(frozen=True)
class Gate:
    rules: tuple[GateRule, ...] = ()
    confidence: float = DEFAULT_CONFIDENCE


@dataclass(frozen=True)
class RuleResult:
    rule: GateRule
    passed: bool
    evidence: str


@dataclass(frozen=True)
class Verdict:
    """Stored once, never changed."""

    outcome: Outcome
    reason: str
    rules: tuple[RuleResult, ...]
    decide_time: datetime


@dataclass(frozen=True)
class Evaluation:
    """What is to be judged, and by what; then what came out.

    `signature` is set from the candidate's own metadata when the caller gave none; the champion's
    is always its own, unless its file has none.
    """

    candidate: Artifact
    champion: Artifact | None
    signature: types_pb2.ModelSignature
    datasets: tuple[types_pb2.Dataset, ...]
    gate: Gate = field(default_factory=Gate)
    profile_dataset: types_pb2.Dataset | None = None
    latency_batch_size: int = 1
    # Ids of the request, study and retune it belongs to: they stand on what is logged about it.
    carried: Mapping[str, str] = field(default_factory=dict)
    state: EvaluationState = EvaluationState.PENDING
    reason: str = ""
    next_step: str = ""
    end_time: datetime | None = None
    # How often the judging process died; a service that was killed does not count.
    crashes: int = 0
    judgement: Judgement | None = None
    verdict: Verdict | None = None
    reference_profile: Artifact | None = None

    def start(self) -> Evaluation:
        return self._become(EvaluationState.RUNNING)

    def say(self, reason: str, next_step: str = "") -> Evaluation:
        """The same state, with news."""
        return replace(self, reason=reason, next_step=next_step)

    def succeed(
        self, judgement: Judgement, verdict: Verdict, reference_profile: Artifact | None
    ) -> Evaluation:
        """Judged; `verdict` says whether the gate passed."""
        return replace(
            self._become(EvaluationState.SUCCEEDED, verdict.reason, now=verdict.decide_time),
            # The profile lies in the artifact store, not once more in every record.
            judgement=replace(judgement, profile=b""),
            verdict=verdict,
            reference_profile=reference_profile,
        )

    def fail(self, now: datetime, reason: str, next_step: str) -> Evaluation:
        """Could not be judged."""
        return self._become(EvaluationState.FAILED, reason, next_step, now=now)

    def _become(
        self,
        state: EvaluationState,
        reason: str = "",
        next_step: str = "",
        *,
        now: datetime | None = None,
    ) -> Evaluation:
        if self.state.ended:
            raise ValueError(f"an evaluation that is {self.state} cannot become {state}")
        return replace(self, state=state, reason=reason, next_step=next_step, end_time=now)
