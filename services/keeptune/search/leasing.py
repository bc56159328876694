"""The lease protocol: hand out, report, complete. Each in one transaction of one study.

A worker holds a trial by its lease's token until the lease runs out; it renews it by reporting.
Whatever comes without the token of the present lease changes nothing and is told so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from keeptune.runtime.artifacts import Artifact
from keeptune.runtime.errors import InvalidInput, Violation
from keeptune.search import convert
from keeptune.search.model import Measurement, Study, StudyState, Trial, TrialState
from keeptune.search.optimizers.base import Nothing
from keeptune.search.replay import Suggested
from keeptune.search.unit_of_work import UnitOfWork
from keeptune.v1 import search_pb2


class Supply(Protocol):
    def __call__(self, work: UnitOfWork, count: int) -> tuple[list[Suggested], Nothing | None]:
        """What becomes the study's next `count` trials; if they are fewer, why.

        Changes nothing. Raises NeedSuggestionsError when some must be computed first.
        """


_RETRY_AFTER = timedelta(seconds=1)


class NeedSuggestionsError(Exception):
    """So many suggestions must be computed first; nothing was changed."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


@dataclass(frozen=True)
class Outcome:
    """How a worker says a trial ended; `measurement` only if COMPLETED."""

    state: TrialState
    reason: str = ""
    measurement: Measurement | None = None
    artifacts: tuple[Artifact, ...] = ()


def suggest(
    work: UnitOfWork, worker: str, count: int, supply: Supply
) -> search_pb2.SuggestTrialsResponse:
    """Gives the worker `count` trials in all: those it holds, those that wait, then new ones.

    Raises NeedSuggestionsError.
    """
    return _hand_out(work, worker, work.trials_held(worker), count, supply)


def suggest_further(
    work: UnitOfWork, worker: str, count: int, supply: Supply
) -> search_pb2.SuggestTrialsResponse:
    """Gives the worker `count` trials beside those that it holds. Raises NeedSuggestionsError."""
    return _hand_out(work, worker, [], count, supply)


def report(
    work: UnitOfWork, number: int, token: str, reported: list[Measurement], verdict: str
) -> search_pb2.ReportMeasurementsResponse:
    """Keeps measurements and renews the lease. `verdict` = why the trial is to be pruned, if so."""
    trial, why = _held(work, number, token)
    if trial is None:
        work.settle()
        return search_pb2.ReportMeasurementsResponse(
            directive=search_pb2.TRIAL_DIRECTIVE_LOST, reason=why
        )
    check_metrics(reported, "measurements")
    work.measure(trial, reported)
    if verdict and not trial.stop:
        trial = work.tell_to_stop(trial, f"pruned: {verdict}")
    trial = work.renew(trial)
    work.settle()
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
        work.settle()
        return search_pb2.CompleteTrialResponse(
            trial=work.message(work.trial(number)), accepted=False, reason=why
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
    work.settle()
    return search_pb2.CompleteTrialResponse(trial=work.message(trial), accepted=True)


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
    work: UnitOfWork, worker: str, held: list[Trial], count: int, supply: Supply
) -> search_pb2.SuggestTrialsResponse:
    # What may fail comes before the first change.
    missing = max(0, count - len(held))
    waiting = work.trials_waiting(missing) if missing and work.runs_waiting_trials else []
    wanted = min(missing - len(waiting), work.trials_left)
    suggested, nothing = supply(work, wanted) if wanted > 0 else ([], None)
    trials = [work.renew(trial) for trial in held]
    trials += [work.lease_again(trial, worker) for trial in waiting]
    trials += [work.new_trial(each, worker) for each in suggested]
    if nothing is Nothing.LEFT:
        work.exhaust()
    work.settle()
    response = search_pb2.SuggestTrialsResponse(
        study_state=convert.study_state(StudyState(work.record.state))
    )
    for trial in trials:
        assert trial.lease is not None
        lease = convert.lease_to_proto(trial.lease)
        response.trials.append(search_pb2.LeasedTrial(trial=work.message(trial), lease=lease))
    if not trials and work.is_active:
        response.retry_after.FromTimedelta(_RETRY_AFTER)
    return response


def _held(work: UnitOfWork, number: int, token: str) -> tuple[Trial | None, str]:
    """The trial, if this token holds it now; else why not."""
    trial = work.trial(number)
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
