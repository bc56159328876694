"""What followers of a study read: its history since the place they have reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select

from keeptune.runtime import documents
from keeptune.search import assignments
from keeptune.search.model import Goal, Measurement, Study, TrialState
from keeptune.search.optimizers.base import Outcome, Result
from keeptune.search.optimizers.earlier import Earlier
from keeptune.search.replay import Asked
from keeptune.search.space import Assignment
from keeptune.search.tables import final_metrics, measurements, trials, warm_start

_FINAL = (trials.c.number, trials.c.state, trials.c.parameters, trials.c.final)
_INSERTED_AT_ONCE = 500
_ALL = 2**62


_asked_since = (
    select(trials.c.number, trials.c.asked_after, trials.c.parameters)
    .where(trials.c.study == bindparam("of_study"), trials.c.number > bindparam("after"))
    .order_by(trials.c.number)
)
_ended_since = (
    select(*_FINAL, trials.c.tell_sequence)
    .where(
        trials.c.study == bindparam("of_study"),
        trials.c.tell_sequence > bindparam("after"),
        trials.c.tell_sequence <= bindparam("until"),
    )
    .order_by(trials.c.tell_sequence)
)
_measured_since = (
    select(measurements.c.sequence, measurements.c.trial, measurements.c.body)
    .where(
        measurements.c.study == bindparam("of_study"),
        measurements.c.sequence > bindparam("after"),
    )
    .order_by(measurements.c.sequence)
)


@dataclass(frozen=True)
class Ended:
    """The end of a trial; `result` is what its algorithm is told."""

    sequence: int
    state: TrialState
    result: Result


@dataclass(frozen=True)
class Measured:
    sequence: int
    trial: int
    measurement: Measurement


def asked_since(connection: Connection, study: str, number: int, *, limit: int) -> list[Asked]:
    """The first `limit` trials above `number`, in order."""
    query = _asked_since.limit(limit)
    rows = connection.execute(query, {"of_study": study, "after": number})
    return [Asked(row.number, row.asked_after, assignments.decode(row.parameters)) for row in rows]


def ended_since(
    connection: Connection, name: str, study: Study, told: int, *, until: int | None = None
) -> list[Ended]:
    """The ends of trials after the first `told`, up to the first `until`, as they came."""
    ended = []
    values = {"of_study": name, "after": told, "until": _ALL if until is None else until}
    for row in connection.execute(_ended_since, values):
        state = TrialState(row.state)
        parameters = assignments.decode(row.parameters)
        result = result_of(study, row.number, state, parameters, _final(row.final))
        ended.append(Ended(row.tell_sequence, state, result))
    return ended


def measured_since(connection: Connection, study: str, sequence: int) -> list[Measured]:
    """The measurements after `sequence`, in the order they came."""
    rows = connection.execute(_measured_since, {"of_study": study, "after": sequence})
    return [
        Measured(row.sequence, row.trial, documents.decode(row.body, Measurement)) for row in rows
    ]


def result_of(
    study: Study,
    number: int,
    state: TrialState,
    parameters: Assignment,
    final: Measurement | None,
) -> Result:
    """What an algorithm is told of an ended trial; a pruned one counts by its last values."""
    if state is TrialState.INFEASIBLE:
        return Result(number, parameters, Outcome.INFEASIBLE)
    losses = study.losses(final.metrics) if final else None
    if final is None or losses is None or state is TrialState.FAILED:
        return Result(number, parameters, Outcome.FAILED)
    return Result(number, parameters, Outcome.MEASURED, losses, study.broken(final.metrics))


def completed_of(connection: Connection, name: str, study: Study, most: int) -> list[Result]:
    """Completed trials of one study, in order, read as results of `study`.

    Of a long one the best half of `most` by the first objective of `study`, and the latest.
    """
    objective = study.objectives[0]
    value = final_metrics.c.value
    best_first = value.desc() if objective.goal is Goal.MAXIMIZE else value
    of_it = select(*_FINAL).where(
        trials.c.study == name, trials.c.state == TrialState.COMPLETED.value
    )
    latest = of_it.order_by(trials.c.number.desc()).limit(most)
    best = (
        of_it.join(
            final_metrics,
            (final_metrics.c.study == trials.c.study) & (final_metrics.c.trial == trials.c.number),
        )
        .where(final_metrics.c.name == objective.name)
        .order_by(best_first, trials.c.number)
        .limit(most // 2)
    )
    rows = {row.number: row for row in connection.execute(latest)}
    if len(rows) == most:
        found = {row.number: row for row in connection.execute(best)}
        rows = found | dict(list(rows.items())[: most - most // 2])
    return [
        result_of(
            study,
            number,
            TrialState.COMPLETED,
            assignments.decode(rows[number].parameters),
            _final(rows[number].final),
        )
        for number in sorted(rows)
    ]


def add_warm_start(connection: Connection, study: str, results: Sequence[Earlier]) -> None:
    rows = [
        {"study": study, "position": i, "body": documents.encode(result)}
        for i, result in enumerate(results)
    ]
    for start in range(0, len(rows), _INSERTED_AT_ONCE):
        connection.execute(insert(warm_start), rows[start : start + _INSERTED_AT_ONCE])


def get_warm_start(connection: Connection, study: str) -> list[Earlier]:
    query = select(warm_start.c.body).where(warm_start.c.study == study)
    bodies = connection.execute(query.order_by(warm_start.c.position)).scalars()
    return [documents.decode(body, Earlier) for body in bodies]


def _final(body: str | None) -> Measurement | None:
    return None if body is None else documents.decode(body, Measurement)
