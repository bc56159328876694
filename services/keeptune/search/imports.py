"""Known results from elsewhere, checked against the study and added to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keeptune.runtime.artifacts import Artifact
from keeptune.runtime.artifacts import from_proto as artifact_from_proto
from keeptune.runtime.errors import InvalidInput
from keeptune.search import convert
from keeptune.search.domains import FloatRange, Value
from keeptune.search.leasing import check_final, check_metrics
from keeptune.search.model import Measurement, Study, Trial, TrialState
from keeptune.search.unit_of_work import UnitOfWork
from keeptune.v1 import search_pb2

_FINAL = {
    search_pb2.TRIAL_STATE_COMPLETED: TrialState.COMPLETED,
    search_pb2.TRIAL_STATE_PRUNED: TrialState.PRUNED,
    search_pb2.TRIAL_STATE_INFEASIBLE: TrialState.INFEASIBLE,
    search_pb2.TRIAL_STATE_FAILED: TrialState.FAILED,
}


@dataclass(frozen=True)
class Known:
    """A trial that ended elsewhere."""

    state: TrialState
    parameters: dict[str, Value]
    reason: str
    final: Measurement | None
    measurements: tuple[Measurement, ...]
    artifacts: tuple[Artifact, ...]


def known_from_proto(message: search_pb2.Trial, field: str) -> Known:
    """Raises InvalidInput for what stands wrong in the message itself."""
    state = _FINAL.get(message.state)
    if state is None:
        raise InvalidInput(
            field=f"{field}.state",
            problem=f"is {search_pb2.TrialState.Name(message.state)}",
            fix="give a final state: COMPLETED, PRUNED, INFEASIBLE or FAILED",
        )
    if message.name:
        raise InvalidInput(
            field=f"{field}.name", problem="is set", fix="leave it out: trials are numbered here"
        )
    final = None
    if message.HasField("final_measurement"):
        final = convert.measurement_from_proto(message.final_measurement)
    return Known(
        state=state,
        parameters=convert.parameters_from_proto(message.parameters, f"{field}.parameters"),
        reason=message.reason,
        final=final,
        measurements=tuple(map(convert.measurement_from_proto, message.measurements)),
        artifacts=tuple(map(artifact_from_proto, message.artifacts)),
    )


def add(work: UnitOfWork, trials: Sequence[Known]) -> list[Trial]:
    """All of them or none. Raises InvalidInput naming the first that is wrong."""
    added = []
    for i, known in enumerate(trials):
        parameters = _checked(work.study, known, f"trials[{i}]")
        added.append(
            work.import_trial(
                parameters,
                known.state,
                reason=known.reason,
                final=known.final,
                measurements=known.measurements,
                artifacts=known.artifacts,
            )
        )
    work.finish()
    return added


def _checked(study: Study, known: Known, field: str) -> dict[str, Value]:
    parameters = {name: _widened(study, name, value) for name, value in known.parameters.items()}
    problem = study.space.problem_with(parameters)
    if problem is not None:
        name, what = problem
        raise InvalidInput(
            field=f'{field}.parameters["{name}"]',
            problem=what,
            fix="give every active parameter of the space, and no other, within its domain",
        )
    if known.state is TrialState.COMPLETED:
        if known.final is None:
            raise InvalidInput(
                field=f"{field}.final_measurement",
                problem="is not set, but the trial is COMPLETED",
                fix="set it, or give another state",
            )
        check_final(study, known.final, f"{field}.final_measurement")
    elif known.final is not None:
        check_metrics([known.final], f"{field}.final_measurement")
    check_metrics(list(known.measurements), f"{field}.measurements")
    steps = [measurement.step for measurement in known.measurements]
    if len(set(steps)) < len(steps):
        raise InvalidInput(
            field=f"{field}.measurements", problem="has a step twice", fix="give each step once"
        )
    return parameters


def _widened(study: Study, name: str, value: Value) -> Value:
    """An integer for a float is meant as one."""
    parameter = study.space.by_name.get(name)
    is_float = parameter is not None and isinstance(parameter.domain, FloatRange)
    if is_float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
