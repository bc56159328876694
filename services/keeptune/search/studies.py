"""Studies from their creation to their end: what is done with them as a whole."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from keeptune.runtime.errors import InvalidInput, NotFound, Violation
from keeptune.runtime.names import new_id, parse_study, study_name
from keeptune.runtime.records import Record
from keeptune.search import history, sql_store, study_rules
from keeptune.search.model import Plan, Progress, Study, StudyState, ending
from keeptune.search.optimizers import registry
from keeptune.search.optimizers.base import Result
from keeptune.search.suggestions import problem_of
from keeptune.search.unit_of_work import UnitOfWork

# Of each study that another starts from.
_MOST_RESULTS = 10_000


def plan(study: Study, seed: int | None, rng: random.Random, field: str) -> Study:
    """A right study with its algorithm settled; takes seconds the first time.

    Raises InvalidInput for all that is wrong with it. A seed is drawn if none is given.
    """
    found = list(study_rules.violations(study, field))
    if found:
        raise InvalidInput.many(found, reason="INVALID_STUDY")
    trials = study.budget.max_trials or None
    drawn = rng.getrandbits(63) if seed is None else seed
    study = replace(study, plan=Plan(algorithm="", because="", trials=trials, seed=drawn))
    chosen = registry.choose(study.algorithm, problem_of(study), f"{field}.algorithm.name")
    study = replace(
        study,
        plan=replace(study.plan, algorithm=chosen.algorithm, because=chosen.because),
    )
    unlimited = [*study_rules.changeable(study, field)]
    if unlimited:
        raise InvalidInput.many(unlimited, reason="INVALID_STUDY")
    return study


def create(
    connection: Connection,
    study_id: str,
    study: Study,
    labels: Mapping[str, str],
    now: datetime,
) -> tuple[Record[Study], Progress]:
    """Raises AlreadyExists, and InvalidInput when there is nothing to start from."""
    study_id = study_id or new_id("study")
    results = _warm_start(connection, study)
    record = sql_store.studies.create(
        connection, study_name(study_id), study, state=StudyState.ACTIVE.value, labels=labels
    )
    progress = Progress(study=study_id, incarnation=new_id())
    limit = study.budget.max_duration
    sql_store.add_progress(connection, progress, now + limit if limit else None)
    history.add_warm_start(connection, study_id, results)
    return record, progress


def update(
    work: UnitOfWork, change: Callable[[Study], Study], labels: Mapping[str, str], etag: str
) -> None:
    """Changes a study; a larger budget makes a completed one active again.

    Raises InvalidInput, and Conflict when the etag is stale.
    """
    study = change(work.study)
    found = list(study_rules.changeable(study, "study"))
    if found:
        raise InvalidInput.many(found, reason="INVALID_STUDY")
    state = StudyState(work.record.state)
    if state is StudyState.COMPLETED:
        why = ending(study, work.progress, work.record.create_time, work.now)
        if not why:
            state, study = StudyState.ACTIVE, replace(study, reason="")
    work.change_study(study, state=state, etag=etag, labels=labels)
    limit = study.budget.max_duration
    deadline = work.record.create_time + limit if limit and work.is_active else None
    sql_store.set_deadline(work.connection, work.progress.study, deadline)
    work.finish()


def stop(work: UnitOfWork, reason: str) -> None:
    """No more suggestions; running trials may still complete. Ended studies stay as they are."""
    if work.is_active:
        why = reason or "stopped by request"
        work.change_study(replace(work.study, reason=why), state=StudyState.STOPPED)
        work.drop_waiting_trials("the study was stopped before it ran again")
        sql_store.set_deadline(work.connection, work.progress.study, None)
    work.finish()


def delete(connection: Connection, name: str, etag: str) -> None:
    """With all its trials. Raises NotFound, and Conflict when the etag is stale."""
    study_id = parse_study(name)
    sql_store.get_progress(connection, study_id, lock=True)
    # Its rows and events first, so that the event of its end stays for those who watch.
    sql_store.delete_study(connection, study_id)
    sql_store.studies.delete(connection, name, etag=etag)


def _warm_start(connection: Connection, study: Study) -> list[Result]:
    """What the study's algorithm learns from at the start."""
    results: list[Result] = []
    for i, name in enumerate(study.warm_start):
        field = f"study.warm_start[{i}]"
        source = parse_study(name, field=field)
        try:
            sql_store.get_progress(connection, source)
        except NotFound:
            raise InvalidInput(
                field=field,
                problem=f"is {name!r}, which does not exist",
                fix="name existing studies",
            ) from None
        usable = [
            result
            for result in history.completed_of(connection, source, study, _MOST_RESULTS)
            if result.losses and study.space.problem_with(result.parameters) is None
        ]
        if not usable:
            raise InvalidInput.many(
                [
                    Violation(
                        field,
                        f"is {name!r}, of which no completed trial fits this space and metrics",
                        "name studies with the same parameters and objectives",
                    )
                ]
            )
        results += usable
    # Only the order of their numbers is the algorithm's business, and no trial here has them.
    return [replace(result, number=-i) for i, result in enumerate(results, start=1)]
