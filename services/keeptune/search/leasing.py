"""The lease protocol: hand out, report, complete. Each in one transaction of one study.

A worker holds a trial by its lease's token until the lease runs out; it renews it by reporting.
Whatever comes without the token of the present lease changes nothing and is told so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from keeptune.runtime.artifacts import Artifact
from keeptune.runtime.convert import to_duration
from keeptune.runtime.errors import InvalidInput, Violation
from keeptune.search import convert, sql_store
from keeptune.search.model import Measurement, Study, StudyState, Trial, TrialState
from keeptune.search.optimizers.base import Nothing
from keeptune.search.replay import Suggested
from keeptune.search.unit_of_work import UnitOfWork
from keeptune.v1 import search_pb2

# What becomes trial `number` of a study with so many results: a suggestion, why there is none, or
# None when it has still to be computed.
Supply = Callable[[UnitOfWork], Suggested | Nothing | None]

_RETRY_AFTER = timedelta(seconds=1)


class NeedSuggestionsError(Exception):
    """Leaves the transaction: so many suggestions must be computed first."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


@dataclass(frozen=True)
class HandedOut:
    """Trials for a worker; `created` are the numbers of the new ones."""

    response: search_pb2.SuggestTrialsResponse
    created: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a worker says a trial ended; `measurement` only if COMPLETED."""

    state: TrialState
    reason: str = ""
    measurement: Measurement | None = None
    artifacts: tuple[Artifact, ...] = ()


def suggest(work: UnitOfWork, worker: str, count: int, supply: Supply) -> HandedOut:
    """Gives the worker `count` trials in all: those it holds, those that wait, then new ones."""
    work.lose_expired_leases()
    held = sql_store.trials_held(work.connection, work.progress.study, worker)
    renewed = [work.renew(trial) for trial in held]
    return _hand_out(work, worker, renewed, count - len(held), supply)


def suggest_further(work: UnitOfWork, worker: str, count: int, supply: Supply) -> HandedOut:
    """Gives the worker `count` trials beside those that it holds."""
    work.lose_expired_leases()
    return _hand_out(work, worker, [], count, supply)


def report(
    work: UnitOfWork, number: int, token: str, reported: list[Measurement], verdict: str
) -> search_pb2.ReportMeasurementsResponse:
    """Keeps measurements and renews the lease. `verdict` = why the trial is to be pruned, if so."""
    trial, why = _held(work, number, token)
    if trial is None:
        work.finish()
        return search_pb2.ReportMeasurementsResponse(
            directive=search_pb2.TRIAL_DIRECTIVE_LOST, reason=why
        )
    check_metrics(reported, "measurements")
    work.measure(trial, reported)
    if verdict and not trial.stop:
        trial = work.tell_to_stop(trial, f"pruned: {verdict}")
    trial = work.renew(trial)
    work.finish()
    assert trial.lease is not None
    stop = trial.stop or _stopped(work)
    return search_pb2.ReportMeasurementsResponse(
        directive=(
            search_pb2.TRIAL_DIRECTIVE_STOP if stop else search_pb2.TRIAL_DIRECTIVE_CONTINUE
        ),
        reason=stop,
        lease=convert.lease_to_proto(trial.lease),
    )


def complete(
    work: UnitOfWork, number: int, token: str, outcome: Outcome
) -> search_pb2.CompleteTrialResponse:
    """Ends a trial, once."""
    trial, why = _held(work, number, token)
    if trial is None:
        work.finish()
        now = sql_store.get_trial(work.connection, work.progress.study, number)
        return search_pb2.CompleteTrialResponse(
            trial=convert.trial_to_proto(now), accepted=False, reason=why
        )
    if outcome.measurement is not None:
        check_final(work.study, outcome.measurement, "measurement")
    reason = outcome.reason
    if outcome.state is TrialState.PRUNED:
        reason = trial.stop or _stopped(work) or "ended early by its worker"
    trial = work.end(
        trial,
        outcome.state,
        reason=reason,
        final=outcome.measurement,
        artifacts=outcome.artifacts,
    )
    work.finish()
    return search_pb2.CompleteTrialResponse(trial=convert.trial_to_proto(trial), accepted=True)


def check_metrics(measurements: list[Measurement], field: str) -> None:
    """Raises InvalidInput for values that are no finite numbers."""
    wrong = [
        Violation(
            f'{field}[{i}].metrics["{name}"]',
            f"is {value}",
            "report finite numbers; complete a trial that diverged as infeasible",
        )
        for i, measurement in enumerate(measurements)
        for name, value in measurement.metrics.items()
        if not math.isfinite(value)
    ]
    if wrong:
        raise InvalidInput.many(wrong, reason="NOT_FINITE")


def check_final(study: Study, measurement: Measurement, field: str) -> None:
    """Raises InvalidInput unless all objectives and constraints are there, and finite."""
    missing = [
        Violation(
            f"{field}.metrics",
            f"lacks the {metric.role.lower()} {metric.name!r}",
            "measure it, or complete the trial as infeasible or failed",
        )
        for metric in (*study.objectives, *study.constraints)
        if metric.name not in measurement.metrics
    ]
    if missing:
        raise InvalidInput.many(missing, reason="METRIC_MISSING")
    wrong: Mapping[str, float] = {
        name: value for name, value in measurement.metrics.items() if not math.isfinite(value)
    }
    if wrong:
        raise InvalidInput.many(
            (
                Violation(
                    f'{field}.metrics["{name}"]',
                    f"is {value}",
                    "give a finite number, or complete the trial as infeasible",
                )
                for name, value in wrong.items()
            ),
            reason="NOT_FINITE",
        )


def _hand_out(
    work: UnitOfWork, worker: str, trials: list[Trial], missing: int, supply: Supply
) -> HandedOut:
    waiting: list[Trial] = []
    if missing > 0 and work.progress.waiting and work.runs_waiting_trials:
        waiting = sql_store.trials_waiting(work.connection, work.progress.study, missing)
    trials += [work.lease_again(trial, worker) for trial in waiting]
    created: list[Trial] = []
    for still in range(missing - len(waiting), 0, -1):
        if not work.trials_left:
            break
        suggested = supply(work)
        if suggested is None:
            raise NeedSuggestionsError(min(still, work.trials_left))
        if isinstance(suggested, Nothing):
            if suggested is Nothing.LEFT:
                work.exhaust()
            break
        created.append(work.new_trial(suggested, worker))
    work.finish()
    trials += created
    response = search_pb2.SuggestTrialsResponse(
        trials=[convert.leased_to_proto(trial, trial.lease) for trial in trials if trial.lease],
        study_state=convert.study_state(StudyState(work.record.state)),
        retry_after=to_duration(_RETRY_AFTER) if not trials and work.is_active else None,
    )
    return HandedOut(response, tuple(trial.number for trial in created))


def _held(work: UnitOfWork, number: int, token: str) -> tuple[Trial | None, str]:
    """The trial, if this token holds it now; else why not."""
    trial = sql_store.get_trial(work.connection, work.progress.study, number)
    if trial.state.is_final:
        return None, f"the trial has ended already: {trial.state}"
    if trial.lease is None:
        return None, "the lease was lost; the trial waits for another worker"
    if trial.lease.token != token:
        return None, "the lease is another's, or was lost before"
    if trial.lease.expire_time <= work.now:
        lost = work.lose(trial)
        return None, f"the lease ran out at {trial.lease.expire_time:%FT%TZ}; {lost.reason}"
    return trial, ""


def _stopped(work: UnitOfWork) -> str:
    if work.record.state == StudyState.STOPPED:
        return f"the study was stopped: {work.study.reason}"
    return ""
