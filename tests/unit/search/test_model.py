from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from keeptune.search.model import (
    Budget,
    Goal,
    Metric,
    Plan,
    Progress,
    Role,
    Study,
    Trial,
    TrialState,
    after_lost_lease,
    ending,
    trials_left,
)
from tests.unit.search.spaces import MIXED

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STUDY = Study(
    space=MIXED,
    metrics=(
        Metric("quality", Goal.MAXIMIZE),
        Metric("memory", Goal.MINIMIZE, Role.CONSTRAINT, limit=10),
        Metric("recall", Goal.MAXIMIZE, Role.CONSTRAINT, limit=0.5),
        Metric("price", Goal.MINIMIZE, Role.COST),
    ),
    plan=Plan("random", "", 10, 1),
    budget=Budget(max_trials=10),
)
TRIAL = Trial("s", 1, TrialState.RUNNING, {}, "random", NOW, NOW, attempts=1)


def test_losses_are_less_for_the_better() -> None:
    assert STUDY.losses({"quality": 0.75, "price": 3}) == (-0.75,)
    assert STUDY.losses({"price": 3}) is None


def test_constraints_are_broken_beyond_their_limits() -> None:
    assert STUDY.broken({"memory": 12, "recall": 0.5}) == (2, 0)
    assert STUDY.broken({"memory": 10, "recall": 0.25}) == (0, 0.25)
    assert STUDY.broken({}) == (0, 0)


def test_the_budget_counts_suggestions() -> None:
    progress = Progress("s", "i", trials=50, suggested=7)
    assert trials_left(STUDY, progress, NOW, NOW) == 3
    assert trials_left(STUDY, replace(progress, suggested=11), NOW, NOW) == 0
    assert trials_left(STUDY, replace(progress, exhausted=True), NOW, NOW) == 0
    timed = replace(STUDY, budget=Budget(max_duration=timedelta(hours=1)))
    assert trials_left(timed, progress, NOW, NOW) > 10**9
    assert trials_left(timed, progress, NOW, NOW + timedelta(hours=1)) == 0


def test_a_study_ends_when_nothing_is_left_to_do() -> None:
    done = Progress("s", "i", trials=10, suggested=10, completed=10)
    assert "10 trials" in ending(STUDY, done, NOW, NOW)
    assert not ending(STUDY, replace(done, running=1), NOW, NOW)
    assert not ending(STUDY, replace(done, waiting=1), NOW, NOW)
    assert not ending(STUDY, replace(done, suggested=9), NOW, NOW)
    assert "every point" in ending(STUDY, replace(done, exhausted=True), NOW, NOW)


def test_a_lost_lease_is_retried_up_to_the_limit() -> None:
    study = replace(STUDY, max_retries=1)
    assert after_lost_lease(study, TRIAL, wanted=True)[0] is TrialState.WAITING
    tried = replace(TRIAL, attempts=2)
    assert after_lost_lease(study, tried, wanted=True)[0] is TrialState.FAILED
    assert after_lost_lease(study, TRIAL, wanted=False)[0] is TrialState.FAILED
    told = replace(TRIAL, stop="pruned: too slow")
    assert after_lost_lease(study, told, wanted=True) == (TrialState.PRUNED, "pruned: too slow")


def test_counts_move_with_the_trials() -> None:
    progress = Progress("s", "i").moved(None, TrialState.RUNNING)
    assert progress.running == 1
    progress = progress.moved(TrialState.RUNNING, TrialState.COMPLETED)
    assert (progress.running, progress.completed) == (0, 1)
    assert progress.moved(TrialState.COMPLETED, TrialState.COMPLETED) is progress
