"""A rollout as a value, and what people may do to it. The plan is made in `waves`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from keeptune.deployment.fleet import Action
from keeptune.runtime.errors import FailedPrecondition


class RolloutState(StrEnum):
    PENDING = "PENDING"
    ROLLING_OUT = "ROLLING_OUT"
    BAKING = "BAKING"
    PAUSED = "PAUSED"
    ROLLING_BACK = "ROLLING_BACK"
    SUCCEEDED = "SUCCEEDED"
    ROLLED_BACK = "ROLLED_BACK"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        return self in (RolloutState.SUCCEEDED, RolloutState.ROLLED_BACK, RolloutState.FAILED)


OPEN_STATES = tuple(state for state in RolloutState if not state.ended)


class Stage(StrEnum):
    """Where one host stands."""

    WAITING = "WAITING"
    STAGING = "STAGING"
    PROMOTED = "PROMOTED"
    DONE = "DONE"
    ROLLED_BACK = "ROLLED_BACK"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Strategy:
    """`wave_size` 0 = all hosts after the canaries in one wave."""

    canary_hosts: int = 1
    wave_size: int = 0
    bake: timedelta = timedelta(seconds=60)
    min_bake_requests: int = 0
    stage_timeout: timedelta = timedelta(seconds=300)


@dataclass(frozen=True)
class HostProgress:
    """One host's part. `requests` and `failures` are the new version's since its promotion.

    `counted` are the host's own counters when they were last read: they start again with its
    agent. `settled`: nothing more is to be done while rolling back; `stuck`: because it was given
    up. `starts` counts how often the host was begun.
    """

    host: str
    wave: int
    stage: Stage = Stage.WAITING
    reason: str = ""
    stage_time: datetime | None = None
    requests: int = 0
    failures: int = 0
    counted: tuple[int, int] = (0, 0)
    settled: bool = False
    stuck: bool = False
    starts: int = 0

    def enter(self, stage: Stage, now: datetime, reason: str = "") -> HostProgress:
        if stage is self.stage and reason == self.reason:
            return self
        return replace(self, stage=stage, stage_time=now, reason=reason)


@dataclass(frozen=True)
class Rollout:
    """`version` and `previous` are full names; `previous` "" = nothing served before.

    `since` is when the wave's bake, the finishing or the rolling back began. `paused_state` is
    what a paused rollout goes on with, `pause_time` since when it waits.
    """

    model: str
    version: str
    evaluation: str
    strategy: Strategy = field(default_factory=Strategy)
    previous: str = ""
    state: RolloutState = RolloutState.PENDING
    reason: str = ""
    next_step: str = ""
    hosts: tuple[HostProgress, ...] = ()
    wave: int = 0
    since: datetime | None = None
    finishing: bool = False
    halt_reason: str = ""
    paused_state: RolloutState | None = None
    pause_time: datetime | None = None
    end_time: datetime | None = None
    # Ids that its creation carried (see runtime.logging): its log lines and orders have them.
    carried: Mapping[str, str] = field(default_factory=dict)

    @property
    def waves(self) -> int:
        return max((host.wave for host in self.hosts), default=0)

    def progress(self, host: str) -> HostProgress | None:
        return next((each for each in self.hosts if each.host == host), None)

    def covers(self, host: str) -> bool:
        """Whether the rollout, and nothing else, says what this host does."""
        return not self.state.ended and self.progress(host) is not None

    def end(self, state: RolloutState, now: datetime, reason: str, next_step: str = "") -> Rollout:
        return replace(self, state=state, reason=reason, next_step=next_step, end_time=now)


@dataclass(frozen=True)
class Plan:
    """What a planner says: the rollout from now on, and what its hosts should do."""

    rollout: Rollout
    actions: tuple[Action, ...] = ()


def pause(rollout: Rollout, name: str, now: datetime) -> Rollout:
    """Holds a rollout where it is. A host's failure still rolls it back."""
    if rollout.state is RolloutState.PAUSED:
        return rollout
    if rollout.state not in (
        RolloutState.PENDING,
        RolloutState.ROLLING_OUT,
        RolloutState.BAKING,
    ):
        raise _wrong_state(rollout, name, "be paused")
    return replace(
        rollout,
        state=RolloutState.PAUSED,
        paused_state=rollout.state,
        pause_time=now,
        reason="paused by request",
        next_step="resume it, or roll it back",
    )


def resume(rollout: Rollout, name: str, now: datetime) -> Rollout:
    """Goes on; the time spent paused counts neither as bake nor against a timeout."""
    if rollout.state is not RolloutState.PAUSED:
        if rollout.state.ended or rollout.state is RolloutState.ROLLING_BACK:
            raise _wrong_state(rollout, name, "be resumed")
        return rollout
    assert rollout.paused_state is not None
    assert rollout.pause_time is not None
    held = now - rollout.pause_time
    return replace(
        rollout,
        state=rollout.paused_state,
        paused_state=None,
        pause_time=None,
        reason="resumed",
        next_step="",
        since=rollout.since and rollout.since + held,
        hosts=tuple(
            replace(host, stage_time=host.stage_time + held)
            if host.stage is Stage.STAGING and host.stage_time is not None
            else host
            for host in rollout.hosts
        ),
    )


def roll_back(rollout: Rollout, name: str, reason: str, now: datetime) -> Rollout:
    """Halts a rollout, or takes a succeeded one back, and starts the way back on every host."""
    if rollout.state is RolloutState.ROLLING_BACK or rollout.state is RolloutState.ROLLED_BACK:
        return rollout
    if rollout.state is RolloutState.FAILED:
        raise _wrong_state(rollout, name, "be rolled back")
    return halt(rollout, reason or "rolled back by request", now)


def halt(rollout: Rollout, reason: str, now: datetime) -> Rollout:
    """The rollout on its way back, because of `reason`."""
    reached = any(host.stage is not Stage.WAITING for host in rollout.hosts)
    return replace(
        rollout,
        state=RolloutState.ROLLING_BACK,
        halt_reason=reason,
        reason=f"{reason}; {'going back' if reached else 'no host was touched'}",
        next_step="",
        paused_state=None,
        pause_time=None,
        finishing=False,
        since=now,
        end_time=None,
    )


def _wrong_state(rollout: Rollout, name: str, what: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{name} is {rollout.state} and cannot {what}",
        reason="ROLLOUT_STATE",
        fix="create a new rollout" if rollout.state.ended else "wait until it has ended",
        metadata={"name": name, "state": rollout.state},
    )
