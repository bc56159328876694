"""Rows of trials, attempts, measurements and progress: plain reads and writes in a transaction.

What they mean and when they change is `unit_of_work`'s. Nothing here checks a state; a trial or
study that is not there is NotFound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, insert, or_, select, update

from keeptune.runtime import documents, micros
from keeptune.runtime import tables as runtime_tables
from keeptune.runtime.artifacts import Artifact
from keeptune.runtime.bulk import Bulk, Query
from keeptune.runtime.names import study_name, trial_name
from keeptune.runtime.records import Records, missing
from keeptune.search import assignments
from keeptune.search.model import (
    Attempt,
    AttemptState,
    Lease,
    Measurement,
    Progress,
    Study,
    Trial,
    TrialState,
)
from keeptune.search.tables import (
    attempts,
    final_metrics,
    measurements,
    progress,
    trials,
    warm_start,
)

studies = Records(
    "study",
    Study,
    columns={
        "display_name": lambda study: study.display_name,
        "algorithm": lambda study: study.plan.algorithm,
    },
)

_PROGRESS = tuple(Progress.__dataclass_fields__)
_progress_columns = [progress.c[name] for name in _PROGRESS]
_one_progress = select(*_progress_columns).where(progress.c.study == bindparam("of_study"))
_locked_progress = Query(_one_progress.with_for_update())
_save_progress = update(progress).where(progress.c.study == bindparam("of_study"))
_save_all_progress = Bulk(_save_progress, [name for name in _PROGRESS if name != "study"])
assert _save_all_progress.names == (*_PROGRESS[1:], "of_study")
_one_trial = select(trials).where(
    trials.c.study == bindparam("of_study"), trials.c.number == bindparam("of_number")
)
_in_state = (
    select(trials)
    .where(trials.c.study == bindparam("of_study"), trials.c.state == bindparam("in_state"))
    .order_by(trials.c.number)
)
_of_trial = and_(
    measurements.c.study == bindparam("of_study"), measurements.c.trial == bindparam("of_number")
)
_known_steps = select(measurements.c.step).where(
    _of_trial, measurements.c.step.in_(bindparam("steps", expanding=True))
)
_last_measurement = (
    select(measurements.c.body).where(_of_trial).order_by(measurements.c.step.desc()).limit(1)
)
_worker_with = select(attempts.c.worker).where(
    attempts.c.study == bindparam("of_study"),
    attempts.c.trial == bindparam("of_number"),
    attempts.c.lease_token == bindparam("by_token"),
)


def add_progress(connection: Connection, values: Progress, deadline: datetime | None) -> None:
    row = {name: getattr(values, name) for name in _PROGRESS}
    connection.execute(insert(progress), row | {"deadline": _micros(deadline)})


def get_progress(connection: Connection, study: str, *, lock: bool = False) -> Progress:
    """Raises NotFound. With `lock`, others that lock it wait for this transaction to end."""
    if lock:
        locked = _locked_progress(connection, study)
        if locked:
            values = dict(zip(_PROGRESS, locked[0], strict=True))
            return Progress(**values | {"exhausted": bool(values["exhausted"])})
        raise missing("study", study_name(study))
    row = connection.execute(_one_progress, {"of_study": study}).one_or_none()
    if row is None:
        raise missing("study", study_name(study))
    return Progress(**row._mapping)


def all_progress(connection: Connection, of: Sequence[str]) -> dict[str, Progress]:
    rows = connection.execute(select(*_progress_columns).where(progress.c.study.in_(of)))
    return {row.study: Progress(**row._mapping) for row in rows}


def save_progress(connection: Connection, values: Progress) -> None:
    row = [getattr(values, name) for name in _PROGRESS if name != "study"]
    _save_all_progress(connection, [(*row, values.study)])


def set_deadline(connection: Connection, study: str, deadline: datetime | None) -> None:
    connection.execute(_save_progress, {"of_study": study, "deadline": _micros(deadline)})


def clear_deadline(connection: Connection, study: str, now: datetime) -> None:
    """Once the study's time is up, that need not be seen again."""
    query = update(progress).where(progress.c.study == study, progress.c.deadline <= micros.of(now))
    connection.execute(query.values(deadline=None))


def get_trial(connection: Connection, study: str, number: int) -> Trial:
    """Raises NotFound."""
    row = connection.execute(_one_trial, {"of_study": study, "of_number": number}).one_or_none()
    if row is None:
        raise missing("trial", trial_name(study, number))
    return to_trial(row)


def get_trials(connection: Connection, study: str, numbers: Sequence[int]) -> list[Trial]:
    """Those that are there, in the order of `numbers`."""
    query = select(trials).where(trials.c.study == study, trials.c.number.in_(numbers))
    found = {row.number: to_trial(row) for row in connection.execute(query)}
    return [found[number] for number in numbers if number in found]


def trials_running(connection: Connection, study: str) -> list[Trial]:
    values = {"of_study": study, "in_state": TrialState.RUNNING.value}
    return [to_trial(row) for row in connection.execute(_in_state, values)]


def trials_waiting(connection: Connection, study: str, limit: int | None = None) -> list[Trial]:
    """The oldest first."""
    values = {"of_study": study, "in_state": TrialState.WAITING.value}
    return [to_trial(row) for row in connection.execute(_in_state.limit(limit), values)]


def overdue_studies(connection: Connection, now: datetime, limit: int = 100) -> list[str]:
    """Studies with leases that have run out, or whose own time is up."""
    moment = micros.of(now)
    leases = select(trials.c.study).where(trials.c.lease_expire_time <= moment)
    budgets = select(progress.c.study).where(progress.c.deadline <= moment)
    return list(connection.execute(leases.union(budgets).limit(limit)).scalars())


def extend_leases(connection: Connection, until: datetime) -> int:
    """Lets no running trial's lease end before `until`; how many that changed."""
    moment = micros.of(until)
    ending = trials.c.lease_expire_time < moment
    of = progress.c.study.in_(select(trials.c.study).where(ending))
    connection.execute(update(progress).where(of).values(version=progress.c.version + 1))
    query = update(trials).where(ending)
    return connection.execute(query.values(lease_expire_time=moment)).rowcount


def worker_with(connection: Connection, study: str, number: int, token: str) -> str | None:
    """Who holds, or held, the trial by this lease."""
    values = {"of_study": study, "of_number": number, "by_token": token}
    return connection.execute(_worker_with, values).scalar_one_or_none()


def get_attempts(
    connection: Connection, study: str, numbers: Sequence[int]
) -> dict[int, list[Attempt]]:
    query = (
        select(attempts)
        .where(attempts.c.study == study, attempts.c.trial.in_(numbers))
        .order_by(attempts.c.trial, attempts.c.number)
    )
    found: dict[int, list[Attempt]] = {}
    for row in connection.execute(query):
        attempt = Attempt(
            row.number,
            row.worker,
            AttemptState(row.state),
            micros.to_datetime(row.start_time),
            _datetime(row.end_time),
        )
        found.setdefault(row.trial, []).append(attempt)
    return found


def known_steps(connection: Connection, trial: Trial, steps: Iterable[int]) -> set[int]:
    """Those of the steps that were measured already."""
    values = {"of_study": trial.study, "of_number": trial.number, "steps": list(steps)}
    return set(connection.execute(_known_steps, values).scalars())


def last_measurement(connection: Connection, trial: Trial) -> Measurement | None:
    """Of the highest step."""
    values = {"of_study": trial.study, "of_number": trial.number}
    body = connection.execute(_last_measurement, values).scalar_one_or_none()
    return None if body is None else documents.decode(body, Measurement)


def get_measurements(
    connection: Connection, study: str, numbers: Sequence[int]
) -> dict[int, list[Measurement]]:
    query = (
        select(measurements.c.trial, measurements.c.body)
        .where(measurements.c.study == study, measurements.c.trial.in_(numbers))
        .order_by(measurements.c.trial, measurements.c.step)
    )
    found: dict[int, list[Measurement]] = {}
    for row in connection.execute(query):
        found.setdefault(row.trial, []).append(documents.decode(row.body, Measurement))
    return found


def delete_study(connection: Connection, study: str) -> None:
    """All rows of a study and its events so far, but not its record."""
    for table in (warm_start, final_metrics, measurements, attempts, trials, progress):
        connection.execute(delete(table).where(table.c.study == study))
    stream = runtime_tables.events.c.stream
    name = study_name(study)
    below = and_(stream > f"{name}/", stream < f"{name}0")
    connection.execute(delete(runtime_tables.events).where(or_(stream == name, below)))


def to_trial(row: Row[Any]) -> Trial:
    lease = None
    if row.lease_expire_time is not None:
        lease = Lease(row.lease_token, row.worker, micros.to_datetime(row.lease_expire_time))
    return Trial(
        study=row.study,
        number=row.number,
        state=TrialState(row.state),
        parameters=assignments.decode(row.parameters),
        source=row.source,
        because=row.because or "",
        continue_from=row.continue_from or 0,
        create_time=micros.to_datetime(row.create_time),
        update_time=micros.to_datetime(row.update_time),
        reason=row.reason,
        final=None if row.final is None else documents.decode(row.final, Measurement),
        artifacts=documents.decode(row.artifacts, tuple[Artifact, ...]),
        attempts=row.attempts,
        lease=lease,
        stop=row.stop,
        end_time=_datetime(row.end_time),
        revision=row.revision,
    )


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else micros.of(moment)


def _datetime(moment: int | None) -> datetime | None:
    return None if moment is None else micros.to_datetime(moment)
