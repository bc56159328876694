"""One study in one transaction: every way in which its trials and its state change.

Whoever makes one holds the study's progress row until the transaction ends, so that changes of a
study are made one after the other whichever replica makes them, and never wait for other studies.
`finish` writes what was counted and completes the study if that was the last of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Self

import structlog
from sqlalchemy import Connection

from keeptune.runtime import micros
from keeptune.runtime.artifacts import Artifact
from keeptune.runtime.names import study_name, trial_name
from keeptune.runtime.records import Record, append_event
from keeptune.search import convert, sql_store
from keeptune.search.domains import Value
from keeptune.search.model import (
    Attempt,
    AttemptState,
    Lease,
    Measurement,
    Progress,
    Study,
    StudyState,
    Trial,
    TrialState,
    after_lost_lease,
    ending,
    is_out_of_time,
    trials_left,
)
from keeptune.search.replay import Suggested

log = structlog.get_logger()

TRIAL_CHANGED = "trial.changed"
TRIAL_MEASURED = "trial.measured"
IMPORTED = "import"


class UnitOfWork:
    """`now` is the same moment for all of it."""

    def __init__(
        self, connection: Connection, record: Record[Study], progress: Progress, now: datetime
    ) -> None:
        self.connection = connection
        self.record = record
        self.progress = progress
        self.now = now
        self._before = progress

    @classmethod
    def begin(cls, connection: Connection, study: str) -> Self:
        """Locks the study. Raises NotFound."""
        progress = sql_store.get_progress(connection, study, lock=True)
        record = sql_store.studies.get(connection, study_name(study))
        return cls(connection, record, progress, micros.clock_of(connection).now())

    @property
    def study(self) -> Study:
        return self.record.doc

    @property
    def is_active(self) -> bool:
        return self.record.state == StudyState.ACTIVE

    @property
    def trials_left(self) -> int:
        """How many more suggestions may become trials."""
        if not self.is_active:
            return 0
        return trials_left(self.study, self.progress, self.record.create_time, self.now)

    @property
    def runs_waiting_trials(self) -> bool:
        return self.is_active and not is_out_of_time(self.study, self.record.create_time, self.now)

    def new_trial(self, suggested: Suggested, worker: str) -> Trial:
        """Makes a suggestion the study's next trial, leased to the worker."""
        assert suggested.number == self.progress.trials + 1
        trial = Trial(
            study=self.progress.study,
            number=suggested.number,
            state=TrialState.RUNNING,
            parameters=suggested.suggestion.parameters,
            source=suggested.suggestion.source,
            because=suggested.suggestion.because,
            create_time=self.now,
            update_time=self.now,
            attempts=1,
            lease=self._lease(worker),
        )
        trial = self._told(trial)
        sql_store.insert_trial(
            self.connection, trial, asked_after=suggested.told, tell_sequence=None
        )
        self._add_attempt(trial, worker)
        self.progress = replace(
            self.progress.moved(None, TrialState.RUNNING),
            trials=suggested.number,
            suggested=self.progress.suggested + 1,
        )
        return trial

    def import_trial(
        self,
        parameters: Mapping[str, Value],
        state: TrialState,
        *,
        reason: str = "",
        final: Measurement | None = None,
        measurements: Sequence[Measurement] = (),
        artifacts: tuple[Artifact, ...] = (),
    ) -> Trial:
        """Adds a trial that has ended already, elsewhere."""
        number = self.progress.trials + 1
        trial = Trial(
            study=self.progress.study,
            number=number,
            state=state,
            parameters=parameters,
            source=IMPORTED,
            create_time=self.now,
            update_time=self.now,
            reason=reason,
            final=final,
            artifacts=artifacts,
            end_time=self.now,
        )
        trial = self._told(trial)
        sequence = self.progress.told + 1
        self.progress = replace(self.progress.moved(None, state), trials=number, told=sequence)
        sql_store.insert_trial(self.connection, trial, asked_after=None, tell_sequence=sequence)
        sql_store.add_final_metrics(self.connection, trial)
        self._add_measurements(trial, measurements)
        return trial

    def lease_again(self, trial: Trial, worker: str) -> Trial:
        """A new attempt at a trial that waits."""
        return self._changed(
            trial,
            state=TrialState.RUNNING,
            attempts=trial.attempts + 1,
            lease=self._lease(worker),
            reason="",
            attempt_of=worker,
        )

    def renew(self, trial: Trial) -> Trial:
        """Lengthens the lease; watchers are not told of it."""
        assert trial.lease is not None
        lease = replace(trial.lease, expire_time=self.now + self.study.lease_duration)
        trial = replace(trial, lease=lease)
        sql_store.update_trial(self.connection, trial, tell_sequence=None)
        return trial

    def measure(self, trial: Trial, reported: Sequence[Measurement]) -> None:
        """Keeps what is new: the first report of a step counts."""
        if not reported:
            return
        known = sql_store.known_steps(self.connection, trial, {each.step for each in reported})
        fresh: dict[int, Measurement] = {}
        for measurement in reported:
            if measurement.step not in known:
                fresh.setdefault(measurement.step, measurement)
        self._add_measurements(trial, list(fresh.values()))

    def tell_to_stop(self, trial: Trial, why: str) -> Trial:
        """The worker hears it whenever it reports."""
        return self._changed(trial, stop=why)

    def end(
        self,
        trial: Trial,
        state: TrialState,
        *,
        reason: str = "",
        final: Measurement | None = None,
        artifacts: tuple[Artifact, ...] = (),
        attempt: AttemptState | None = AttemptState.ENDED,
    ) -> Trial:
        """Ends a trial; `attempt` = how its last attempt ended, None when none was running."""
        if final is None and state is TrialState.PRUNED:
            final = sql_store.last_measurement(self.connection, trial)
        if attempt is not None:
            sql_store.end_attempt(self.connection, trial, attempt, self.now)
        ended = self._changed(
            trial,
            state=state,
            reason=reason,
            final=final,
            artifacts=artifacts,
            lease=None,
            end_time=self.now,
        )
        sql_store.add_final_metrics(self.connection, ended)
        return ended

    def lose_expired_leases(self) -> None:
        """Trials whose worker has been silent for too long wait for another, or end."""
        for trial in sql_store.trials_expired(self.connection, self.progress.study, self.now):
            self.lose(trial)

    def lose(self, trial: Trial) -> Trial:
        """Takes a running trial from its worker."""
        state, reason = after_lost_lease(self.study, trial, wanted=self.runs_waiting_trials)
        name = trial_name(trial.study, trial.number)
        log.warning("lease lost", study=self.record.name, trial=name, state=state, reason=reason)
        if state.is_final:
            return self.end(trial, state, reason=reason, attempt=AttemptState.LOST)
        sql_store.end_attempt(self.connection, trial, AttemptState.LOST, self.now)
        return self._changed(trial, state=state, reason=reason, lease=None)

    def drop_waiting_trials(self, reason: str) -> None:
        """Ends the trials that nobody will run."""
        for trial in sql_store.trials_waiting(self.connection, self.progress.study):
            self.end(trial, TrialState.FAILED, reason=reason, attempt=None)

    def exhaust(self) -> None:
        """The algorithm has nothing left to suggest."""
        self.progress = replace(self.progress, exhausted=True)

    def change_study(
        self,
        study: Study,
        *,
        state: StudyState | None = None,
        etag: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Raises Conflict when the etag is stale."""
        record = self.record
        self.record = sql_store.studies.put(
            self.connection,
            record.name,
            study,
            state=record.state if state is None else state.value,
            labels=record.labels if labels is None else labels,
            etag=etag,
        )
        if self.record.state != record.state:
            log.info("study", study=record.name, state=self.record.state, reason=study.reason)

    def finish(self) -> None:
        """To be called last."""
        if self.is_active and is_out_of_time(self.study, self.record.create_time, self.now):
            self.drop_waiting_trials("the study's time was up before it ran again")
        if self.is_active:
            why = ending(self.study, self.progress, self.record.create_time, self.now)
            if why:
                self.change_study(replace(self.study, reason=why), state=StudyState.COMPLETED)
        if self.progress != self._before:
            sql_store.save_progress(self.connection, self.progress)

    def _changed(self, trial: Trial, *, attempt_of: str = "", **changes: object) -> Trial:
        """Writes a trial, its count and its event."""
        after = replace(trial, update_time=self.now, **changes)  # type: ignore[arg-type]
        after = self._told(after)
        self.progress = self.progress.moved(trial.state, after.state)
        sequence = None
        if after.state.is_final and not trial.state.is_final:
            sequence = self.progress.told + 1
            self.progress = replace(self.progress, told=sequence)
        sql_store.update_trial(self.connection, after, tell_sequence=sequence)
        if attempt_of:
            self._add_attempt(after, attempt_of)
        return after

    def _told(self, trial: Trial) -> Trial:
        """With the revision of an event about it."""
        name = trial_name(trial.study, trial.number)
        payload = convert.trial_to_proto(trial).SerializeToString()
        return replace(trial, revision=append_event(self.connection, name, TRIAL_CHANGED, payload))

    def _add_attempt(self, trial: Trial, worker: str) -> None:
        assert trial.lease is not None
        attempt = Attempt(trial.attempts, worker, AttemptState.RUNNING, self.now)
        sql_store.add_attempt(self.connection, trial, attempt, trial.lease.token)

    def _add_measurements(self, trial: Trial, measurements: Sequence[Measurement]) -> None:
        name = trial_name(trial.study, trial.number)
        for measurement in measurements:
            sequence = self.progress.measured + 1
            self.progress = replace(self.progress, measured=sequence)
            sql_store.add_measurement(self.connection, trial, measurement, sequence)
            message = convert.trial_measurement(name, measurement)
            append_event(self.connection, name, TRIAL_MEASURED, message.SerializeToString())

    def _lease(self, worker: str) -> Lease:
        return Lease(secrets.token_hex(16), worker, self.now + self.study.lease_duration)
