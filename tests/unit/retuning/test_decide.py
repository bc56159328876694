"""The loop's decisions, state by state, and that it always ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.retuning.decide import (
    Become,
    Do,
    Progress,
    Rules,
    Seen,
    Step,
    Wait,
    World,
    decide,
)
from keeptune.retuning.model import Evidence, Fresh, Retune, RetuneState, Trigger

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FRESH = Fresh(training_rows=300, recent_rows=100, body="{}")


def retune(**changes: object) -> Retune:
    base = Retune(
        policy="policies/p",
        model="models/m",
        trigger=Trigger.SIGNAL,
        spec="{}",
        start_time=NOW,
    )
    return replace(base, **changes)


def test_a_retune_first_prepares_the_model() -> None:
    assert decide(retune(), Rules(), World(), NOW) == Do(Step.PREPARE_MODEL)


def test_the_first_retune_gives_way_to_a_champion_that_serves_already() -> None:
    decision = decide(
        retune(trigger=Trigger.FIRST, prepared=True, champion="models/m/versions/3"),
        Rules(),
        World(),
        NOW,
    )
    assert isinstance(decision, Become)
    assert decision.state is RetuneState.CANCELLED


@pytest.mark.parametrize("version", ["models/m/versions/2", "models/m/versions/3"])
def test_evidence_about_what_no_longer_serves_changes_nothing(version: str) -> None:
    asked = retune(
        prepared=True,
        champion="models/m/versions/3",
        evidence=(Evidence("s1", "hosts/h", version, NOW, "moved", "{}"),),
    )
    decision = decide(asked, Rules(), World(), NOW)
    if version == asked.champion:
        assert decision == Do(Step.CREATE_STUDY)
    else:
        assert isinstance(decision, Become)
        assert decision.state is RetuneState.CANCELLED


def test_fresh_data_comes_before_the_study() -> None:
    rules = Rules(fresh=True)
    assert decide(retune(prepared=True), rules, World(), NOW) == Do(Step.EXPORT_CAPTURES)
    assert decide(retune(prepared=True, fresh=FRESH), rules, World(), NOW) == Do(Step.CREATE_STUDY)


def test_the_first_retune_has_no_fresh_data_to_wait_for() -> None:
    decision = decide(retune(prepared=True, trigger=Trigger.FIRST), Rules(fresh=True), World(), NOW)
    assert decision == Do(Step.CREATE_STUDY)


def test_waiting_for_fresh_data_ends() -> None:
    rules = Rules(fresh=True, fresh_max_wait=timedelta(minutes=5))
    waiting = retune(prepared=True, reason="240 of 500 rows")
    decision = decide(waiting, rules, World(), NOW + timedelta(minutes=6))
    assert isinstance(decision, Become)
    assert decision.state is RetuneState.FAILED
    assert "240 of 500 rows" in decision.reason
    assert "min_rows" in decision.next_step


@pytest.mark.parametrize(
    ("state", "progress", "expected"),
    [
        (RetuneState.SEARCHING, Progress.UNDER_WAY, Wait),
        (RetuneState.SEARCHING, Progress.LATE, RetuneState.COMPRESSING),
        (RetuneState.SEARCHING, Progress.DONE, RetuneState.EVALUATING),
        (RetuneState.COMPRESSING, Progress.LATE, Wait),
        (RetuneState.COMPRESSING, Progress.DONE, RetuneState.EVALUATING),
        (RetuneState.COMPRESSING, Progress.BROKEN, RetuneState.FAILED),
    ],
)
def test_a_training_is_followed(state: RetuneState, progress: Progress, expected: object) -> None:
    world = World(training=Seen(progress, "because"))
    training = retune(state=state, training="trainings/r", study_stopped=True)
    decision = decide(training, Rules(), world, NOW)
    if expected is Wait:
        assert decision == Wait("because")
    else:
        assert isinstance(decision, Become)
        assert decision.state is expected


def test_a_passed_gate_registers_the_version_and_only_then_rolls_out() -> None:
    world = World(evaluation=Seen(Progress.DONE, "better"))
    judged = retune(state=RetuneState.EVALUATING, evaluation="evaluations/r")
    assert decide(judged, Rules(), world, NOW) == Do(Step.REGISTER_VERSION)
    registered = replace(judged, version="models/m/versions/2")
    assert decide(registered, Rules(), world, NOW) == Become(RetuneState.ROLLING_OUT, "better")


def test_a_rejected_candidate_never_becomes_a_version() -> None:
    world = World(evaluation=Seen(Progress.REFUSED, "accuracy 0.8 < 0.9"))
    judged = retune(state=RetuneState.EVALUATING, evaluation="evaluations/r")
    decision = decide(judged, Rules(), world, NOW)
    assert decision == Become(RetuneState.REJECTED, "accuracy 0.8 < 0.9")


def test_approval_is_waited_for() -> None:
    world = World(evaluation=Seen(Progress.DONE, "better"))
    judged = retune(state=RetuneState.EVALUATING, evaluation="e", version="v")
    decision = decide(judged, Rules(require_approval=True), world, NOW)
    assert isinstance(decision, Become)
    assert decision.state is RetuneState.AWAITING_APPROVAL
    waiting = retune(state=RetuneState.AWAITING_APPROVAL)
    assert isinstance(decide(waiting, Rules(), World(), NOW), Wait)
    approved = replace(waiting, approved=True)
    assert decide(approved, Rules(), World(), NOW) == Become(RetuneState.ROLLING_OUT, "approved")


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (Progress.DONE, RetuneState.SUCCEEDED),
        (Progress.UNDONE, RetuneState.ROLLED_BACK),
        (Progress.BROKEN, RetuneState.FAILED),
        (Progress.LATE, RetuneState.BAKING),
    ],
)
def test_a_rollout_is_followed(progress: Progress, expected: RetuneState) -> None:
    rolling = retune(state=RetuneState.ROLLING_OUT, rollout="rollouts/r", version="v")
    decision = decide(rolling, Rules(), World(rollout=Seen(progress, "said")), NOW)
    assert isinstance(decision, Become)
    assert decision.state is expected


def test_cancelling_undoes_what_is_under_way() -> None:
    cancelled = retune(state=RetuneState.SEARCHING, training="t", cancel_requested="enough")
    busy = World(training=Seen(Progress.UNDER_WAY))
    assert decide(cancelled, Rules(), busy, NOW) == Do(Step.CANCEL_TRAINING)
    done = World(training=Seen(Progress.BROKEN))
    assert decide(cancelled, Rules(), done, NOW) == Do(Step.STOP_STUDY)
    stopped = replace(cancelled, study_stopped=True)
    assert decide(stopped, Rules(), done, NOW) == Become(RetuneState.CANCELLED, "enough")
    rolling = replace(cancelled, state=RetuneState.BAKING)
    assert decide(rolling, Rules(), World(rollout=Seen(Progress.LATE)), NOW) == Do(Step.ROLL_BACK)


def test_no_study_is_left_to_a_training_that_failed() -> None:
    searching = retune(state=RetuneState.SEARCHING, training="t")
    failed = World(training=Seen(Progress.BROKEN, "out of memory"))
    assert decide(searching, Rules(), failed, NOW) == Do(Step.STOP_STUDY)


MADE = {
    Step.PREPARE_MODEL: {"prepared": True},
    Step.EXPORT_CAPTURES: {"fresh": FRESH},
    Step.CREATE_STUDY: {"study": "studies/r"},
    Step.CREATE_TRAINING: {"training": "trainings/r"},
    Step.STOP_STUDY: {"study_stopped": True},
    Step.CREATE_EVALUATION: {"evaluation": "evaluations/r"},
    Step.REGISTER_VERSION: {"version": "models/m/versions/2"},
    Step.CREATE_ROLLOUT: {"rollout": "rollouts/r"},
}
ORDER = list(MADE)


@given(
    st.lists(st.sampled_from(list(Progress)), min_size=40, max_size=40),
    st.booleans(),
    st.booleans(),
    st.sampled_from(list(Trigger)),
)
def test_no_step_is_taken_twice_or_out_of_order_and_every_retune_ends(
    seen: list[Progress], fresh: bool, approval: bool, trigger: Trigger
) -> None:
    """However the other services behave, as long as they end some time."""
    rules = Rules(fresh=fresh, require_approval=approval)
    current = retune(trigger=trigger)
    taken: list[Step] = []
    answers = iter(seen + [Progress.DONE] * 40)
    for _ in range(80):
        if current.state.ended:
            break
        said = Seen(next(answers), "said")
        decision = decide(current, rules, World(said, said, said), NOW)
        match decision:
            case Do(step):
                taken.append(step)
                current = replace(current, **MADE[step])
            case Become(state, reason, next_step):
                current = current.become(state, NOW, reason, next_step)
            case Wait():
                if current.state is RetuneState.AWAITING_APPROVAL:
                    current = replace(current, approved=True)
    assert current.state.ended
    assert taken == sorted(set(taken), key=ORDER.index)
    if current.state is RetuneState.SUCCEEDED:
        assert Step.CREATE_ROLLOUT in taken
    if Step.CREATE_ROLLOUT in taken and approval:
        assert RetuneState.AWAITING_APPROVAL in {step.state for step in current.history}
