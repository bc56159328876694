"""Policies and retunes: plain values and the transitions between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum


class RetuneState(StrEnum):
    REQUESTED = "REQUESTED"
    SEARCHING = "SEARCHING"
    COMPRESSING = "COMPRESSING"
    EVALUATING = "EVALUATING"
    AWAITING_APPROVAL = "AWAITING_APPROVAL"
    ROLLING_OUT = "ROLLING_OUT"
    BAKING = "BAKING"
    SUCCEEDED = "SUCCEEDED"
    REJECTED = "REJECTED"
    ROLLED_BACK = "ROLLED_BACK"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        return self in _ENDED


_ENDED = frozenset(
    {
        RetuneState.SUCCEEDED,
        RetuneState.REJECTED,
        RetuneState.ROLLED_BACK,
        RetuneState.FAILED,
        RetuneState.CANCELLED,
    }
)
OPEN_STATES = tuple(state for state in RetuneState if not state.ended)


class Trigger(StrEnum):
    FIRST = "FIRST"
    SIGNAL = "SIGNAL"
    MANUAL = "MANUAL"


@dataclass(frozen=True)
class Evidence:
    """A signal that asked for the retune. `body` is the whole Signal as protobuf JSON."""

    signal: str
    host: str
    version: str
    onset: datetime | None
    summary: str
    body: str


@dataclass(frozen=True)
class Transition:
    state: RetuneState
    time: datetime
    reason: str


@dataclass(frozen=True)
class Fresh:
    """Captured data frozen for this retune. `body` is the CaptureExport as protobuf JSON."""

    training_rows: int
    recent_rows: int
    body: str


@dataclass(frozen=True)
class Refusal:
    """A request for a retune that was refused; `decision` is that of the admission."""

    time: datetime
    decision: str
    reason: str
    note: str


@dataclass(frozen=True)
class Policy:
    """What is wanted for one model.

    `spec` is the policy as applied, as protobuf JSON: the loop hands most of it on to the other
    services unread. `generation` grows with every change of it, `synced` is the last generation
    that the registry's model was brought in line with.
    """

    model: str
    spec: str
    cooldown: timedelta
    generation: int = 1
    synced: int = 0
    retunes: int = 0
    last_retune: str = ""
    # Why the registry could not be brought in line; empty when it was.
    sync_problem: str = ""
    # The last one since the newest retune.
    refusal: Refusal | None = None

    def next_retune(self, name: str) -> Policy:
        return replace(self, retunes=self.retunes + 1, last_retune=name, refusal=None)

    def cooldown_end(self, last: Retune | None) -> datetime | None:
        """When the cooldown after the policy's newest retune ends; None = there is none."""
        if last is None or last.end_time is None:
            return None
        return last.end_time + self.cooldown


@dataclass(frozen=True)
class Retune:
    """One pass of the loop. The names of what its steps made are filled in as they are made."""

    policy: str
    model: str
    trigger: Trigger
    # The policy's spec when the retune began: a later change of it concerns the next one.
    spec: str
    evidence: tuple[Evidence, ...] = ()
    note: str = ""
    state: RetuneState = RetuneState.REQUESTED
    reason: str = ""
    next_step: str = ""
    history: tuple[Transition, ...] = ()
    start_time: datetime | None = None
    end_time: datetime | None = None
    approved: bool = False
    cancel_requested: str = ""

    prepared: bool = False
    champion: str = ""
    fresh_waived: bool = False
    fresh: Fresh | None = None
    study: str = ""
    # Nobody works on it any more, and it says so.
    study_stopped: bool = False
    training: str = ""
    evaluation: str = ""
    version: str = ""
    rollout: str = ""

    def become(self, state: RetuneState, now: datetime, reason: str, next_step: str = "") -> Retune:
        """The retune in `state`. Ending is final: asking more of an ended retune is a defect."""
        if self.state.ended:
            raise ValueError(f"a retune that is {self.state} cannot become {state}")
        return replace(
            self,
            state=state,
            reason=reason,
            next_step=next_step,
            history=(*self.history, Transition(state, now, reason)),
            end_time=now if state.ended else None,
        )

    def join(self, evidence: tuple[Evidence, ...]) -> Retune:
        """The retune with evidence that it did not have yet."""
        known = {e.signal for e in self.evidence}
        return replace(
            self, evidence=self.evidence + tuple(e for e in evidence if e.signal not in known)
        )

    @property
    def onset(self) -> datetime | None:
        """When the trouble began, by the earliest of the estimates."""
        return min((e.onset for e in self.evidence if e.onset is not None), default=None)


def begin(
    policy_name: str,
    policy: Policy,
    trigger: Trigger,
    now: datetime,
    *,
    evidence: tuple[Evidence, ...] = (),
    note: str = "",
) -> Retune:
    """A new retune of `policy`, REQUESTED."""
    reason = {
        Trigger.FIRST: "the policy was applied and nothing serves yet",
        Trigger.SIGNAL: evidence[0].summary if evidence else "a signal",
        Trigger.MANUAL: note or "asked for by hand",
    }[trigger]
    return Retune(
        policy=policy_name,
        model=policy.model,
        trigger=trigger,
        spec=policy.spec,
        evidence=evidence,
        note=note,
        start_time=now,
        reason=reason,
        history=(Transition(RetuneState.REQUESTED, now, reason),),
    )
