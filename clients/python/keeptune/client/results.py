"""What the services say, as plain immutable values.

States are named as in filters: "ACTIVE", "COMPLETED", "SUCCEEDED", ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from keeptune.client import values
from keeptune.runtime.convert import from_timestamp
from keeptune.v1 import retuning_pb2, search_pb2, types_pb2


@dataclass(frozen=True)
class TrialResult:
    """A trial as it stands. `metrics` are its final values, or the last ones of a pruned trial;
    `history` holds (step, metrics) of its intermediate reports where they were asked for."""

    name: str
    state: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    reason: str = ""
    source: str = ""
    # Why its source proposed it; empty where it did not say.
    because: str = ""
    # The trial whose training it continued; empty = it began anew.
    continue_from: str = ""
    attempts: int = 0
    history: tuple[tuple[int, Mapping[str, float]], ...] = ()
    end_time: datetime | None = None

    @property
    def number(self) -> int:
        """Counted from 1 within the study."""
        return int(self.name.rpartition("/")[2])


@dataclass(frozen=True)
class Front:
    """The trials that no other beats in every objective, best first objective first.

    `hypervolume` is what they dominate of what is better than `reference_point`, a value of each
    of `objectives`; None for one objective and an empty front.
    """

    objectives: tuple[str, ...]
    trials: tuple[TrialResult, ...]
    hypervolume: float | None
    reference_point: tuple[float, ...]


@dataclass(frozen=True)
class StudyStatus:
    """A study as it stands. `trials` counts its trials by state, in lower case."""

    name: str
    state: str
    reason: str
    next_step: str
    algorithm: str
    algorithm_because: str
    trials: Mapping[str, int] = field(default_factory=dict)
    max_trials: int = 0

    @property
    def active(self) -> bool:
        """Whether it may hand out further trials."""
        return self.state == "ACTIVE"


@dataclass(frozen=True)
class StudyEvent:
    """Something that happened in a study; exactly one of the last three is there."""

    revision: int
    study: StudyStatus | None = None
    trial: TrialResult | None = None
    # trial name, step, metrics
    measurement: tuple[str, int, Mapping[str, float]] | None = None


@dataclass(frozen=True)
class PolicyStatus:
    """A policy as it was applied; `last_retune` is empty before its first retune."""

    name: str
    model: str
    last_retune: str
    etag: str


@dataclass(frozen=True)
class RetuneStatus:
    """One pass of the loop, and what its steps made so far (empty = not yet)."""

    name: str
    policy: str
    model: str
    state: str
    reason: str
    next_step: str
    study: str
    training: str
    evaluation: str
    version: str
    rollout: str
    ended: bool

    @property
    def succeeded(self) -> bool:
        """Whether the new version serves and its bake is over."""
        return self.state == "SUCCEEDED"


def enum_name(message: Message, field: str = "state") -> str:
    """COMPLETED for TRIAL_STATE_COMPLETED; a number that only a newer server knows stays one."""
    enum = message.DESCRIPTOR.fields_by_name[field].enum_type
    assert enum is not None
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    number = getattr(message, field)
    found = enum.values_by_number.get(number)
    return found.name.removeprefix(prefix) if found else str(number)


def trial(message: search_pb2.Trial) -> TrialResult:
    return TrialResult(
        name=message.name,
        state=enum_name(message),
        parameters=values.parameters(message.parameters),
        metrics=dict(message.final_measurement.metrics),
        reason=message.reason,
        source=message.source,
        because=message.because,
        continue_from=message.continue_from,
        attempts=len(message.attempts),
        history=tuple((each.step, dict(each.metrics)) for each in message.measurements),
        end_time=from_timestamp(message.end_time),
    )


def study(message: search_pb2.Study) -> StudyStatus:
    counts = message.trial_counts
    return StudyStatus(
        name=message.name,
        state=enum_name(message),
        reason=message.reason,
        next_step=message.next_step,
        algorithm=message.chosen_algorithm,
        algorithm_because=message.chosen_because,
        trials={each.name: getattr(counts, each.name) for each in counts.DESCRIPTOR.fields},
        max_trials=message.budget.max_trials,
    )


def study_event(message: search_pb2.WatchStudyResponse) -> StudyEvent:
    match message.WhichOneof("event"):
        case "study":
            return StudyEvent(message.revision, study=study(message.study))
        case "trial":
            return StudyEvent(message.revision, trial=trial(message.trial))
        case "measurement":
            measured: types_pb2.Measurement = message.measurement.measurement
            return StudyEvent(
                message.revision,
                measurement=(message.measurement.trial, measured.step, dict(measured.metrics)),
            )
        case _:
            return StudyEvent(message.revision)


def policy(message: retuning_pb2.Policy) -> PolicyStatus:
    return PolicyStatus(
        name=message.name,
        model=message.model,
        last_retune=message.last_retune,
        etag=message.metadata.etag,
    )


def retune(message: retuning_pb2.Retune) -> RetuneStatus:
    return RetuneStatus(
        name=message.name,
        policy=message.policy,
        model=message.model,
        state=enum_name(message),
        reason=message.reason,
        next_step=message.next_step,
        study=message.study,
        training=message.training,
        evaluation=message.evaluation,
        version=message.version,
        rollout=message.rollout,
        ended=message.HasField("end_time"),
    )
