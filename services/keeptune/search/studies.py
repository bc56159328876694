"""Studies from their creation to their end: what is done with them as a whole."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from keeptune.runtime.errors import InvalidInput
from keeptune.runtime.names import new_id, parse_study, study_name
from keeptune.runtime.records import Record
from keeptune.search import history, sql_store, study_rules, warm_start
from keeptune.search.model import Plan, Progress, Study, StudyState, ending
from keeptune.search.optimizers import registry
from keeptune.search.suggestions import problem_of
from keeptune.search.unit_of_work import UnitOfWork


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
    results, study = warm_start.gathered(connection, study)
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
