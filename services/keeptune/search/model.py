"""Studies and trials, and how they may change: pure, without I/O and without a clock."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from keeptune.runtime.artifacts import Artifact
from keeptune.search.pruning import Pruning
from keeptune.search.space import Assignment, SearchSpace

DEFAULT_LEASE = timedelta(seconds=60)
DEFAULT_MAX_RETRIES = 3


R = TypeVar("R")


def altered(record: R, **changes: object) -> R:
    """`dataclasses.replace`, at a fifth of its cost: what changes a trial does so often.

    For dataclasses without slots and without anything to be done after they are made.
    """
    new: R = object.__new__(type(record))
    new.__dict__.update(record.__dict__)
    new.__dict__.update(changes)
    return new


class StudyState(StrEnum):
    ACTIVE = "ACTIVE"
    STOPPED = "STOPPED"
    COMPLETED = "COMPLETED"


class TrialState(StrEnum):
    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    PRUNED = "PRUNED"
    INFEASIBLE = "INFEASIBLE"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        return self not in (TrialState.WAITING, TrialState.RUNNING)


class AttemptState(StrEnum):
    RUNNING = "RUNNING"
    ENDED = "ENDED"
    LOST = "LOST"


class Role(StrEnum):
    OBJECTIVE = "OBJECTIVE"
    CONSTRAINT = "CONSTRAINT"
    COST = "COST"


class Goal(StrEnum):
    MAXIMIZE = "MAXIMIZE"
    MINIMIZE = "MINIMIZE"


@dataclass(frozen=True)
class Metric:
    """`limit` is the worst value of a constraint that is still feasible."""

    name: str
    goal: Goal = Goal.MINIMIZE
    role: Role = Role.OBJECTIVE
    limit: float | None = None
    # The same parameters may give another value.
    noisy: bool = False

    def loss(self, value: float) -> float:
        """The value with its sign such that less is better."""
        return -value if self.goal is Goal.MAXIMIZE else value

    def violation(self, value: float) -> float:
        """By how much a constraint is broken; not above 0 while it holds."""
        assert self.limit is not None
        return self.loss(value) - self.loss(self.limit)


@dataclass(frozen=True)
class Budget:
    """`max_trials` 0 and `max_duration` None = no such limit."""

    max_trials: int = 0
    max_duration: timedelta | None = None


@dataclass(frozen=True)
class Plan:
    """What was settled when the study began, so that its suggestions can be repeated.

    Later changes of the budget leave it as it is.
    """

    algorithm: str
    because: str
    # None when only time was limited.
    trials: int | None
    seed: int


@dataclass(frozen=True)
class Study:
    """What was asked for, and the plan made of it."""

    space: SearchSpace
    metrics: tuple[Metric, ...]
    plan: Plan
    # As asked for, e.g. "auto".
    algorithm: str = "auto"
    budget: Budget = Budget()
    pruning: Pruning | None = None
    lease_duration: timedelta = DEFAULT_LEASE
    max_retries: int = DEFAULT_MAX_RETRIES
    display_name: str = ""
    warm_start: tuple[str, ...] = ()
    # Why the study is in its state.
    reason: str = ""

    @property
    def objectives(self) -> tuple[Metric, ...]:
        return tuple(metric for metric in self.metrics if metric.role is Role.OBJECTIVE)

    @property
    def constraints(self) -> tuple[Metric, ...]:
        return tuple(metric for metric in self.metrics if metric.role is Role.CONSTRAINT)

    @property
    def noisy(self) -> bool:
        return any(metric.noisy for metric in self.objectives)

    def losses(self, metrics: Mapping[str, float]) -> tuple[float, ...] | None:
        """One loss an objective; None when one was not measured."""
        if any(metric.name not in metrics for metric in self.objectives):
            return None
        return tuple(metric.loss(metrics[metric.name]) for metric in self.objectives)

    def broken(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """By how much each constraint is broken (see `Metric.violation`); unmeasured ones not."""
        return tuple(
            metric.violation(metrics[metric.name]) if metric.name in metrics else 0.0
            for metric in self.constraints
        )


@dataclass(frozen=True)
class Progress:
    """How far a study is. `trials` counts all ids given out, imported ones too."""

    study: str
    # Tells a study from an earlier one of the same id.
    incarnation: str
    trials: int = 0
    suggested: int = 0
    # Results so far: the sequence of the latest.
    told: int = 0
    # Intermediate measurements so far: the sequence of the latest.
    measured: int = 0
    # The algorithm has nothing left to suggest.
    exhausted: bool = False
    waiting: int = 0
    running: int = 0
    completed: int = 0
    pruned: int = 0
    infeasible: int = 0
    failed: int = 0
    # Grows with every change of the study or of one of its trials.
    version: int = 0

    def moved(self, before: TrialState | None, after: TrialState) -> Progress:
        """With one trial gone from one state (None = a new one) to another."""
        if before is after:
            return self
        changes = {after.lower(): getattr(self, after.lower()) + 1}
        if before is not None:
            changes[before.lower()] = getattr(self, before.lower()) - 1
        return altered(self, **changes)

    @property
    def unfinished(self) -> int:
        return self.waiting + self.running


@dataclass(frozen=True)
class Measurement:
    """Values of metrics at a step; `elapsed` is training time since the trial started."""

    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    elapsed: timedelta | None = None
    measure_time: datetime | None = None


@dataclass(frozen=True)
class Attempt:
    """One worker's try at a trial; `number` counts from 1."""

    number: int
    worker: str
    state: AttemptState
    start_time: datetime
    end_time: datetime | None = None


@dataclass(frozen=True)
class Lease:
    """Who may report on a trial, and until when."""

    token: str
    worker: str
    expire_time: datetime


@dataclass(frozen=True)
class Trial:
    """A trial without its measurements and attempts, which are read apart."""

    study: str
    number: int
    state: TrialState
    parameters: Assignment
    source: str
    create_time: datetime
    update_time: datetime
    # Why its source proposed it; empty when it did not say.
    because: str = ""
    # The number of the trial whose training it continues; 0 = it begins anew.
    continue_from: int = 0
    # Why it is in its state.
    reason: str = ""
    final: Measurement | None = None
    artifacts: tuple[Artifact, ...] = ()
    # Attempts so far.
    attempts: int = 0
    lease: Lease | None = None
    # Why its worker is to stop; empty while it is to go on.
    stop: str = ""
    end_time: datetime | None = None
    revision: int = 0


def trials_left(study: Study, progress: Progress, create_time: datetime, now: datetime) -> int:
    """How many more suggestions the budget and the space allow; at least 0."""
    if progress.exhausted or is_out_of_time(study, create_time, now):
        return 0
    if not study.budget.max_trials:
        return sys.maxsize
    return max(0, study.budget.max_trials - progress.suggested)


def is_out_of_time(study: Study, create_time: datetime, now: datetime) -> bool:
    limit = study.budget.max_duration
    return limit is not None and now >= create_time + limit


def ending(study: Study, progress: Progress, create_time: datetime, now: datetime) -> str:
    """Why an active study is completed; empty while it is not."""
    if progress.unfinished or trials_left(study, progress, create_time, now):
        return ""
    if progress.exhausted:
        return "every point of the space was tried"
    if is_out_of_time(study, create_time, now):
        return f"its time is up ({study.budget.max_duration})"
    return f"its budget of {study.budget.max_trials} trials is used up"


def after_lost_lease(study: Study, trial: Trial, *, wanted: bool) -> tuple[TrialState, str]:
    """Where a running trial goes when its lease has run out, and why.

    `wanted` says whether the study still runs trials that wait.
    """
    if trial.stop:
        return TrialState.PRUNED, trial.stop
    if trial.attempts > study.max_retries:
        return TrialState.FAILED, f"its lease was lost {trial.attempts} times"
    if not wanted:
        return TrialState.FAILED, "its lease was lost after the study had ended"
    return TrialState.WAITING, f"the lease of attempt {trial.attempts} was lost"
