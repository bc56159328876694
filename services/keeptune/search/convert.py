"""Studies and trials to protobuf and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, assert_never

from keeptune.runtime import artifacts
from keeptune.runtime.convert import from_duration, from_timestamp, to_duration, to_timestamp
from keeptune.runtime.convert import metadata as record_metadata
from keeptune.runtime.names import trial_name
from keeptune.search.convert_space import space_to_proto, value_from_proto, value_to_proto
from keeptune.search.domains import Value
from keeptune.search.model import (
    Attempt,
    Lease,
    Measurement,
    Metric,
    Progress,
    Role,
    Study,
    StudyState,
    Trial,
    TrialState,
)
from keeptune.search.optimizers.base import Algorithm
from keeptune.search.pruning import (
    AshaPruning,
    ForecastPruning,
    HyperbandPruning,
    MedianPruning,
    Pruning,
)
from keeptune.v1 import search_pb2, types_pb2

if TYPE_CHECKING:
    from keeptune.runtime.records import Record

_TRIAL_STATES = {state: search_pb2.TrialState.Value(f"TRIAL_STATE_{state}") for state in TrialState}
_BEST = "`keeptune study best {name}` shows the best trials (ListOptimalTrials)"
_NEXT_STEPS = {
    StudyState.ACTIVE: "work on its trials: optimize() of the Python client, or SuggestTrials",
    StudyState.STOPPED: _BEST,
    StudyState.COMPLETED: f"{_BEST}; UpdateStudy raises the budget",
}


def study_to_proto(record: Record[Study], progress: Progress) -> search_pb2.Study:
    study = record.doc
    state = StudyState(record.state)
    return search_pb2.Study(
        name=record.name,
        display_name=study.display_name,
        space=space_to_proto(study.space),
        metrics=[_metric_to_proto(metric) for metric in study.metrics],
        algorithm=search_pb2.Algorithm(name=study.algorithm),
        budget=search_pb2.Budget(
            max_trials=study.budget.max_trials,
            max_duration=to_duration(study.budget.max_duration),
        ),
        pruning=pruning_to_proto(study.pruning),
        seed=study.plan.seed,
        lease_duration=to_duration(study.lease_duration),
        max_retries=study.max_retries,
        warm_start=study.warm_start,
        labels=record.labels,
        state=study_state(state),
        reason=study.reason,
        next_step=_NEXT_STEPS[state].format(name=record.name),
        metadata=record_metadata(record),
        trial_counts=search_pb2.TrialCounts(
            waiting=progress.waiting,
            running=progress.running,
            completed=progress.completed,
            pruned=progress.pruned,
            infeasible=progress.infeasible,
            failed=progress.failed,
        ),
        chosen_algorithm=study.plan.algorithm,
        chosen_because=study.plan.because,
    )


def study_state(state: StudyState) -> search_pb2.StudyState.ValueType:
    return search_pb2.StudyState.Value(f"STUDY_STATE_{state}")


def _metric_to_proto(metric: Metric) -> search_pb2.Metric:
    return search_pb2.Metric(
        name=metric.name,
        role=search_pb2.MetricRole.Value(f"METRIC_ROLE_{metric.role}"),
        goal=types_pb2.Goal.Value(f"GOAL_{metric.goal}"),
        limit=metric.limit if metric.role is Role.CONSTRAINT else None,
        noisy=metric.noisy,
    )


def pruning_to_proto(pruning: Pruning | None) -> search_pb2.Pruning | None:
    match pruning:
        case None:
            return None
        case MedianPruning():
            return search_pb2.Pruning(
                median=search_pb2.MedianPruning(
                    startup_trials=pruning.startup_trials, warmup_steps=pruning.warmup_steps
                )
            )
        case AshaPruning():
            return search_pb2.Pruning(
                asha=search_pb2.AshaPruning(
                    min_steps=pruning.min_steps, reduction_factor=pruning.reduction_factor
                )
            )
        case HyperbandPruning():
            return search_pb2.Pruning(
                hyperband=search_pb2.HyperbandPruning(
                    max_steps=pruning.max_steps,
                    min_steps=pruning.min_steps,
                    reduction_factor=pruning.reduction_factor,
                )
            )
        case ForecastPruning():
            return search_pb2.Pruning(
                forecast=search_pb2.ForecastPruning(
                    level=pruning.level,
                    max_steps=pruning.max_steps,
                    min_steps=pruning.min_steps,
                )
            )
        case _:
            assert_never(pruning)


def trial_to_proto(
    trial: Trial,
    *,
    attempts: Iterable[Attempt] = (),
    measurements: Iterable[Measurement] = (),
) -> search_pb2.Trial:
    return search_pb2.Trial(
        name=trial_name(trial.study, trial.number),
        state=_TRIAL_STATES[trial.state],
        reason=trial.reason,
        parameters={name: value_to_proto(value) for name, value in trial.parameters.items()},
        final_measurement=measurement_to_proto(trial.final) if trial.final else None,
        measurements=map(measurement_to_proto, measurements),
        artifacts=map(artifacts.to_proto, trial.artifacts),
        attempts=map(_attempt_to_proto, attempts),
        metadata=types_pb2.Metadata(
            create_time=to_timestamp(trial.create_time),
            update_time=to_timestamp(trial.update_time),
            revision=trial.revision,
            etag=f"{trial.revision:x}" if trial.revision else "",
        ),
        end_time=to_timestamp(trial.end_time),
        source=trial.source,
        because=trial.because,
        continue_from=(trial_name(trial.study, trial.continue_from) if trial.continue_from else ""),
    )


def leased_to_proto(trial: Trial, lease: Lease) -> search_pb2.LeasedTrial:
    return search_pb2.LeasedTrial(trial=trial_to_proto(trial), lease=lease_to_proto(lease))


def lease_to_proto(lease: Lease) -> search_pb2.Lease:
    return search_pb2.Lease(token=lease.token, expire_time=to_timestamp(lease.expire_time))


def measurement_to_proto(measurement: Measurement) -> types_pb2.Measurement:
    return types_pb2.Measurement(
        step=measurement.step,
        metrics=measurement.metrics,
        elapsed=to_duration(measurement.elapsed),
        measure_time=to_timestamp(measurement.measure_time),
    )


def measurement_from_proto(message: types_pb2.Measurement) -> Measurement:
    return Measurement(
        step=message.step,
        metrics=dict(message.metrics),
        elapsed=from_duration(message.elapsed),
        measure_time=from_timestamp(message.measure_time),
    )


def trial_measurement(trial: str, measurement: Measurement) -> search_pb2.TrialMeasurement:
    return search_pb2.TrialMeasurement(trial=trial, measurement=measurement_to_proto(measurement))


def parameters_from_proto(
    values: Mapping[str, types_pb2.ParameterValue], field: str
) -> dict[str, Value]:
    return {name: value_from_proto(value, f'{field}["{name}"]') for name, value in values.items()}


def algorithm_to_proto(algorithm: Algorithm) -> search_pb2.AlgorithmInfo:
    """All of them know conditions, and none is told of fidelities: pruning works with any."""
    return search_pb2.AlgorithmInfo(
        name=algorithm.name,
        description=algorithm.description,
        source=algorithm.source,
        conditional=True,
        multi_objective=algorithm.multi_objective,
        constraints=algorithm.constraints,
        parallel=algorithm.parallel,
        multi_fidelity=False,
        graphs=algorithm.graphs,
    )


def _attempt_to_proto(attempt: Attempt) -> search_pb2.Attempt:
    return search_pb2.Attempt(
        number=attempt.number,
        worker=attempt.worker,
        state=search_pb2.AttemptState.Value(f"ATTEMPT_STATE_{attempt.state}"),
        start_time=to_timestamp(attempt.start_time),
        end_time=to_timestamp(attempt.end_time),
    )
