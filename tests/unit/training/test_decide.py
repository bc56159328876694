"""What a training needs next, in every state and after every loss."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from keeptune.runtime.artifacts import Artifact
from keeptune.training.decide import (
    MOST_LOSSES,
    BeginExport,
    Best,
    ChooseBest,
    Fail,
    Failure,
    Observed,
    Prepare,
    Staff,
    StudyView,
    Succeed,
    Wait,
    decide,
    wanted_workers,
)
from keeptune.training.model import (
    Checkpoint,
    Measurement,
    Signature,
    Task,
    TrainedModel,
    Training,
    TrainingState,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WEIGHTS = Artifact("0" * 64, 1, "application/vnd.safetensors")
BEST = Best(Checkpoint(WEIGHTS, "studies/s/trials/1"), Measurement(1, {"accuracy": 1.0}))
MODEL = TrainedModel(WEIGHTS, WEIGHTS, Signature(Task.CLASSIFICATION, (), ()), 0.0)

NEW = Training("trainers/image", Task.CLASSIFICATION, (), study="studies/s")
RUNNING = NEW.running("")
FIXED = replace(RUNNING, study="", fixed={})
EXPORTING = RUNNING.exporting(BEST.checkpoint, BEST.measurement)

ACTIVE = StudyView(True, False, running=0, waiting=0, completed=0, done=0)
USED_UP = replace(ACTIVE, active=False, completed=3, done=3)
STOPPED = replace(USED_UP, stopped=True)


def seen(training: Training, room: int = 2, **more: object) -> Observed:
    return replace(Observed(training, room), **more)  # type: ignore[arg-type]


def test_a_new_training_is_prepared() -> None:
    assert decide(seen(NEW)) == Prepare()


def test_workers_start_as_far_as_there_is_room() -> None:
    assert decide(seen(RUNNING, 2, study=ACTIVE)) == Staff(start=(0, 1))
    assert decide(seen(RUNNING, 2, study=ACTIVE, working=frozenset({1}))) == Staff(start=(0,))
    assert decide(seen(RUNNING, 2, study=ACTIVE, working=frozenset({0, 1}))) == Wait()


def test_parallelism_limits_the_workers() -> None:
    one = replace(RUNNING, parallelism=1)
    assert wanted_workers(seen(one, study=ACTIVE), most=8) == 1
    assert decide(seen(one, 1, study=ACTIVE)) == Staff(start=(0,))


def test_a_lost_worker_is_replaced_under_its_name() -> None:
    lost = seen(RUNNING, 2, study=replace(ACTIVE, running=2), working=frozenset({0}), losses=1)
    assert decide(lost) == Staff(start=(1,))


def test_surplus_workers_are_released_last_first() -> None:
    busy = seen(RUNNING, 1, study=ACTIVE, working=frozenset({0, 1, 2}))
    assert decide(busy) == Staff(release=(2, 1))


def test_without_room_the_reason_is_told() -> None:
    step = decide(seen(RUNNING, 0, study=ACTIVE))
    assert isinstance(step, Wait)
    assert "free worker" in step.reason


def test_while_search_is_away_nothing_is_decided() -> None:
    step = decide(seen(RUNNING, 2))
    assert isinstance(step, Wait)
    assert "search" in step.reason


def test_a_drained_worker_stays_away_until_a_trial_comes_back() -> None:
    last = replace(USED_UP, running=1)
    waiting = seen(RUNNING, 1, study=last, working=frozenset({1}), drained=frozenset({0}))
    assert wanted_workers(waiting, most=2) == 1
    assert decide(waiting) == Wait()
    back = replace(last, running=0, waiting=1)
    again = seen(RUNNING, 2, study=back, drained=frozenset({0, 1}))
    assert wanted_workers(again, most=2) == 2
    assert decide(again) == Staff(start=(0, 1))


def test_after_a_restart_running_trials_are_fetched_back() -> None:
    assert decide(seen(RUNNING, 2, study=replace(USED_UP, running=1))) == Staff(start=(0, 1))


@pytest.mark.parametrize("study", [USED_UP, STOPPED, replace(STOPPED, waiting=4)])
def test_the_best_is_chosen_when_the_study_is_over(study: StudyView) -> None:
    assert decide(seen(RUNNING, study=study)) == ChooseBest()


@pytest.mark.parametrize(
    "study", [ACTIVE, replace(USED_UP, waiting=1), replace(STOPPED, running=1)]
)
def test_it_is_not_over_before(study: StudyView) -> None:
    assert decide(seen(RUNNING, study=study)) != ChooseBest()


def test_a_fixed_run_takes_one_worker_and_is_exported() -> None:
    assert decide(seen(FIXED)) == Staff(start=(0,))
    assert decide(seen(FIXED, working=frozenset({0}))) == Wait()
    assert decide(seen(FIXED, result=BEST)) == BeginExport(BEST)


def test_the_export_waits_for_the_last_worker() -> None:
    assert decide(seen(EXPORTING, working=frozenset({1}))) == Wait()
    assert decide(seen(EXPORTING)) == Staff(start=(0,))
    assert decide(seen(EXPORTING, model=MODEL)) == Succeed(MODEL)


@pytest.mark.parametrize("training", [RUNNING, FIXED, EXPORTING])
def test_what_cannot_be_mended_fails(training: Training) -> None:
    failure = Failure("broken", "mend it")
    assert decide(seen(training, failure=failure, study=ACTIVE)) == Fail(failure)


@pytest.mark.parametrize("training", [RUNNING, FIXED, EXPORTING])
def test_workers_that_only_die_fail_the_training(training: Training) -> None:
    step = decide(seen(training, losses=MOST_LOSSES, trouble="a full disk", study=ACTIVE))
    assert isinstance(step, Fail)
    assert "a full disk" in step.failure.reason


@pytest.mark.parametrize("state", [TrainingState.CANCELLED, TrainingState.SUCCEEDED])
def test_what_has_ended_is_left_alone(state: TrainingState) -> None:
    ended = replace(RUNNING, state=state)
    assert decide(seen(ended, study=ACTIVE, failure=Failure("x"))) == Wait()
    assert wanted_workers(seen(ended, study=ACTIVE), most=4) == 0
