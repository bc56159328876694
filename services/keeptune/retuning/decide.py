"""From a retune and what was observed to the one thing to do next. Pure.

The loop is level-triggered: it looks at what is, not at what it remembers having done. Every
decision is either a wait, a change of state, or one idempotent step; killed between any two of
them it decides the same again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from keeptune.retuning.model import RetuneState, Trigger

if TYPE_CHECKING:
    from keeptune.retuning.model import Retune


class Step(StrEnum):
    PREPARE_MODEL = "prepare-model"
    EXPORT_CAPTURES = "export-captures"
    CREATE_STUDY = "create-study"
    CREATE_TRAINING = "create-training"
    CREATE_EVALUATION = "create-evaluation"
    REGISTER_VERSION = "register-version"
    CREATE_ROLLOUT = "create-rollout"
    CANCEL_TRAINING = "cancel-training"
    STOP_STUDY = "stop-study"
    ROLL_BACK = "roll-back"


class Progress(StrEnum):
    """How a resource of another service stands, as far as the loop cares."""

    UNDER_WAY = "UNDER_WAY"
    # Training: the best model is being exported. Rollout: it serves and is being watched.
    LATE = "LATE"
    DONE = "DONE"
    REFUSED = "REFUSED"
    UNDONE = "UNDONE"
    BROKEN = "BROKEN"


@dataclass(frozen=True)
class Seen:
    """A resource as it was read."""

    progress: Progress
    reason: str = ""
    next_step: str = ""


@dataclass(frozen=True)
class World:
    """What the other services said. None = not there yet."""

    training: Seen | None = None
    evaluation: Seen | None = None
    rollout: Seen | None = None


@dataclass(frozen=True)
class Rules:
    """The few things of a policy that the loop itself decides by."""

    fresh: bool = False
    fresh_max_wait: timedelta = timedelta(hours=1)
    require_approval: bool = False


@dataclass(frozen=True)
class Do:
    step: Step


@dataclass(frozen=True)
class Become:
    state: RetuneState
    reason: str
    next_step: str = ""


@dataclass(frozen=True)
class Wait:
    reason: str
    next_step: str = ""


Decision = Do | Become | Wait


def decide(retune: Retune, rules: Rules, world: World, now: datetime) -> Decision:
    """The one thing to do next for an open retune."""
    if retune.cancel_requested:
        return _cancel(retune, world)
    match retune.state:
        case RetuneState.REQUESTED:
            return _requested(retune, rules, now)
        case RetuneState.SEARCHING | RetuneState.COMPRESSING:
            return _training(retune, world)
        case RetuneState.EVALUATING:
            return _evaluating(retune, rules, world)
        case RetuneState.AWAITING_APPROVAL:
            if retune.approved:
                return Become(RetuneState.ROLLING_OUT, "approved")
            return Wait(
                "the gate passed; the policy asks for a person's approval",
                "keeptune retune approve, or cancel",
            )
        case RetuneState.ROLLING_OUT | RetuneState.BAKING:
            return _rollout(retune, world)
        case _:
            raise ValueError(f"a retune that is {retune.state} needs no decision")


def wants_fresh(retune: Retune, rules: Rules) -> bool:
    """Whether captured data belongs into this retune. The first one has none to wait for."""
    return rules.fresh and retune.trigger is not Trigger.FIRST and not retune.fresh_waived


def _requested(retune: Retune, rules: Rules, now: datetime) -> Decision:
    if not retune.prepared:
        return Do(Step.PREPARE_MODEL)
    if retune.trigger is Trigger.FIRST and retune.champion:
        return Become(RetuneState.CANCELLED, f"{retune.champion} serves already")
    versions = {item.version for item in retune.evidence}
    if versions and retune.champion and retune.champion not in versions:
        # When it was asked for, the registry was away, or the champion was just changing.
        return Become(
            RetuneState.CANCELLED,
            f"the evidence is about {', '.join(sorted(versions))}, but {retune.champion} serves",
        )
    if wants_fresh(retune, rules) and retune.fresh is None:
        if retune.start_time is not None and now - retune.start_time > rules.fresh_max_wait:
            return Become(
                RetuneState.FAILED,
                f"too little fresh data after {rules.fresh_max_wait.total_seconds():.0f} s: "
                + retune.reason,
                "see that outcomes reach the agent (RecordOutcomes), or lower fresh.min_rows",
            )
        return Do(Step.EXPORT_CAPTURES)
    if not retune.study:
        return Do(Step.CREATE_STUDY)
    return Become(RetuneState.SEARCHING, f"{retune.study} is searching")


def _training(retune: Retune, world: World) -> Decision:
    if not retune.training:
        return Do(Step.CREATE_TRAINING)
    training = world.training
    if training is None:
        return Wait(f"{retune.training} has not been seen yet")
    match training.progress:
        case Progress.DONE:
            return Become(RetuneState.EVALUATING, "the best trial's model is exported")
        case Progress.LATE if retune.state is RetuneState.SEARCHING:
            return Become(RetuneState.COMPRESSING, training.reason)
        case Progress.UNDER_WAY | Progress.LATE:
            return Wait(training.reason, training.next_step)
        case _ if not retune.study_stopped:
            return Do(Step.STOP_STUDY)
        case _:
            return Become(RetuneState.FAILED, training.reason, training.next_step)


def _evaluating(retune: Retune, rules: Rules, world: World) -> Decision:
    if not retune.evaluation:
        return Do(Step.CREATE_EVALUATION)
    evaluation = world.evaluation
    if evaluation is None:
        return Wait(f"{retune.evaluation} has not been seen yet")
    match evaluation.progress:
        case Progress.DONE if not retune.version:
            return Do(Step.REGISTER_VERSION)
        case Progress.DONE:
            if rules.require_approval:
                return Become(
                    RetuneState.AWAITING_APPROVAL, evaluation.reason, "keeptune retune approve"
                )
            return Become(RetuneState.ROLLING_OUT, evaluation.reason)
        case Progress.REFUSED:
            return Become(RetuneState.REJECTED, evaluation.reason, evaluation.next_step)
        case Progress.UNDER_WAY | Progress.LATE:
            return Wait(evaluation.reason, evaluation.next_step)
        case _:
            return Become(RetuneState.FAILED, evaluation.reason, evaluation.next_step)


def _rollout(retune: Retune, world: World) -> Decision:
    if not retune.rollout:
        return Do(Step.CREATE_ROLLOUT)
    rollout = world.rollout
    if rollout is None:
        return Wait(f"{retune.rollout} has not been seen yet")
    match rollout.progress:
        case Progress.DONE:
            return Become(RetuneState.SUCCEEDED, f"{retune.version} serves")
        case Progress.UNDONE:
            return Become(RetuneState.ROLLED_BACK, rollout.reason, rollout.next_step)
        case Progress.LATE if retune.state is RetuneState.ROLLING_OUT:
            return Become(RetuneState.BAKING, rollout.reason)
        case Progress.UNDER_WAY if retune.state is RetuneState.BAKING:
            return Become(RetuneState.ROLLING_OUT, rollout.reason)
        case Progress.UNDER_WAY | Progress.LATE:
            return Wait(rollout.reason, rollout.next_step)
        case _:
            return Become(RetuneState.FAILED, rollout.reason, rollout.next_step)


def _cancel(retune: Retune, world: World) -> Decision:
    reason = retune.cancel_requested
    busy = (Progress.UNDER_WAY, Progress.LATE)
    if world.rollout is not None:
        if world.rollout.progress is Progress.DONE:
            return Become(RetuneState.SUCCEEDED, f"{retune.version} served before the cancellation")
        if world.rollout.progress in busy:
            return Do(Step.ROLL_BACK)
    elif world.training is not None and world.training.progress in busy:
        return Do(Step.CANCEL_TRAINING)
    elif not retune.study_stopped:
        return Do(Step.STOP_STUDY)
    return Become(RetuneState.CANCELLED, reason)
