"""One study in one transaction: every way in which its trials and its state change.

Whoever makes one holds the study's progress row until the transaction ends, so that changes of a
study are made one after the other whichever replica makes them, and never wait for other studies.
Any number of calls may share one. What they change is gathered and written in bulk by `finish`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Self

import structlog
from sqlalchemy import Connection

from keeptune.runtime import micros
from keeptune.runtime.artifacts import Artifact
from keeptune.runtime.events import NewEvents
from keeptune.runtime.names import trial_name
from keeptune.search import convert, sql_store
from keeptune.search.domains import Value
from keeptune.search.known import Known
from keeptune.search.model import (
    Attempt,
    AttemptState,
    Lease,
    Measurement,
    Study,
    StudyState,
    Trial,
    TrialState,
    after_lost_lease,
    altered,
    ending,
    is_out_of_time,
    trials_left,
)
from keeptune.search.replay import Suggested
from keeptune.search.trial_rows import TrialRows
from keeptune.v1 import search_pb2

log = structlog.get_logger()

TRIAL_CHANGED = "trial.changed"
TRIAL_MEASURED = "trial.measured"
IMPORTED = "import"

_TOKENS_DRAWN = 16
_NEVER = datetime.max.replace(tzinfo=UTC)


class UnitOfWork:
    """`now` is the same moment for all of it. Nothing is written before it must be."""

    def __init__(self, connection: Connection, known: Known, now: datetime) -> None:
        self.connection = connection
        self.record = known.record
        self.progress = known.progress
        self.now = now
        self._known = known
        self._events = NewEvents(connection, now)
        self._rows = TrialRows(known.progress.study)
        # What differs from `known` by now; trials that run no more too.
        self._trials: dict[int, Trial] = {}
        self._held: dict[str, frozenset[int]] = {}
        self._first_expiry = known.first_expiry
        self._messages: dict[int, search_pb2.Trial] = {}
        self._tokens: list[str] = []
        # How much was changed: a call that is refused must not have.
        self.changes = 0
        # What became trials, and the trials that ended, in their order.
        self.created: list[Suggested] = []
        self.ended: list[Trial] = []

    @classmethod
    def begin(cls, connection: Connection, study: str, known: Known | None = None) -> Self:
        """Locks the study. `known` is used if it is still true. Raises NotFound."""
        progress = sql_store.get_progress(connection, study, lock=True)
        if known is None or not known.is_true(progress):
            known = Known.read(connection, progress)
        return cls(connection, known, micros.clock_of(connection).now())

    def began_with(self, known: Known | None) -> bool:
        return self._known is known

    def leave(self) -> Known:
        """What the next transaction may begin with, once this one is committed; call it once."""
        known = self._known
        for number, trial in self._trials.items():
            if trial.state is TrialState.RUNNING:
                known.running[number] = trial
            else:
                known.running.pop(number, None)
        for worker, numbers in self._held.items():
            if numbers:
                known.held[worker] = numbers
            else:
                known.held.pop(worker, None)
        known.record, known.progress = self.record, self.progress
        known.first_expiry = self._first_expiry
        return known

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

    def trial(self, number: int) -> Trial:
        """Raises NotFound."""
        trial = self._trials.get(number) or self._known.running.get(number)
        if trial is None:
            trial = sql_store.get_trial(self.connection, self.progress.study, number)
        return trial

    def trials_held(self, worker: str) -> list[Trial]:
        return [self.trial(number) for number in sorted(self._numbers_of(worker))]

    def trials_waiting(self, limit: int | None = None) -> list[Trial]:
        """The oldest first."""
        if not self.progress.waiting:
            return []
        self._write()
        return sql_store.trials_waiting(self.connection, self.progress.study, limit)

    def worker_with(self, number: int, token: str) -> str | None:
        """Who holds, or held, the trial by this lease."""
        trial = self._trials.get(number) or self._known.running.get(number)
        if trial is not None and trial.lease is not None and trial.lease.token == token:
            return trial.lease.worker
        self._write()
        return sql_store.worker_with(self.connection, self.progress.study, number, token)

    def message(self, trial: Trial) -> search_pb2.Trial:
        message = self._messages.get(trial.number)
        return convert.trial_to_proto(trial) if message is None else message

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
            continue_from=suggested.suggestion.continue_from,
            create_time=self.now,
            update_time=self.now,
            attempts=1,
            lease=self._lease(worker),
            revision=self._events.next_revision(),
        )
        self._rows.asked_after[trial.number] = suggested.told
        self._rows.add(trial)
        self._keep(None, trial)
        self._tell(trial)
        self._begin_attempt(trial, worker)
        self.created.append(suggested)
        progress = self.progress
        self.progress = altered(
            progress,
            running=progress.running + 1,
            trials=suggested.number,
            suggested=progress.suggested + 1,
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
            revision=self._events.next_revision(),
        )
        sequence = self.progress.told + 1
        self.progress = altered(self.progress.moved(None, state), trials=number, told=sequence)
        self._rows.tell_sequence[number] = sequence
        self._rows.add(trial)
        self.ended.append(trial)
        self._keep(None, trial)
        self._tell(trial)
        self._rows.keep_final_metrics(trial)
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
        lease = altered(trial.lease, expire_time=self.now + self.study.lease_duration)
        renewed = altered(trial, lease=lease)
        self._rows.change(renewed)
        self._keep(trial, renewed)
        return renewed

    def measure(self, trial: Trial, reported: Sequence[Measurement]) -> None:
        """Keeps what is new: the first report of a step counts."""
        if not reported:
            return
        self._write()
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
            self._write()
            final = sql_store.last_measurement(self.connection, trial)
        if attempt is not None:
            self._rows.end_attempt(trial, attempt, self.now)
        ended = self._changed(
            trial,
            state=state,
            reason=reason,
            final=final,
            artifacts=artifacts,
            lease=None,
            end_time=self.now,
        )
        self._rows.keep_final_metrics(ended)
        return ended

    def lose_expired_leases(self) -> None:
        """Trials whose worker has been silent for too long wait for another, or end."""
        if self.now < self._first_expiry:
            return
        running = [
            trial
            for trial in (self._known.running | self._trials).values()
            if trial.state is TrialState.RUNNING
        ]
        expiries = [trial.lease.expire_time for trial in running if trial.lease]
        self._first_expiry = min((each for each in expiries if each > self.now), default=_NEVER)
        for trial in sorted(running, key=lambda trial: trial.number):
            if trial.lease and trial.lease.expire_time <= self.now:
                self.lose(trial)

    def lose(self, trial: Trial) -> Trial:
        """Takes a running trial from its worker."""
        state, reason = after_lost_lease(self.study, trial, wanted=self.runs_waiting_trials)
        name = trial_name(trial.study, trial.number)
        log.warning("lease lost", study=self.record.name, trial=name, state=state, reason=reason)
        if state.is_final:
            return self.end(trial, state, reason=reason, attempt=AttemptState.LOST)
        self._rows.end_attempt(trial, AttemptState.LOST, self.now)
        return self._changed(trial, state=state, reason=reason, lease=None)

    def drop_waiting_trials(self, reason: str) -> None:
        """Ends the trials that nobody will run."""
        for trial in self.trials_waiting():
            self.end(trial, TrialState.FAILED, reason=reason, attempt=None)

    def exhaust(self) -> None:
        """The algorithm has nothing left to suggest."""
        self.changes += 1
        self.progress = altered(self.progress, exhausted=True)

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
        self.changes += 1
        self._events.write()
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

    def settle(self) -> None:
        """To be called after each change: completes the study if that was the last of it."""
        if not self.is_active:
            return
        if is_out_of_time(self.study, self.record.create_time, self.now):
            self.drop_waiting_trials("the study's time was up before it ran again")
        why = ending(self.study, self.progress, self.record.create_time, self.now)
        if why:
            self.change_study(replace(self.study, reason=why), state=StudyState.COMPLETED)

    def finish(self) -> None:
        """To be called last."""
        self.settle()
        if self.changes:
            self._write()
            self.progress = altered(self.progress, version=self.progress.version + 1)
            sql_store.save_progress(self.connection, self.progress)

    def _write(self) -> None:
        if not self._rows.is_empty:
            self._rows.write(self.connection)
        self._events.write()

    def _changed(self, trial: Trial, *, attempt_of: str = "", **changes: object) -> Trial:
        """Notes a trial, its count and its event."""
        revision = self._events.next_revision()
        after = altered(trial, update_time=self.now, revision=revision, **changes)
        self.progress = self.progress.moved(trial.state, after.state)
        if after.state.is_final and not trial.state.is_final:
            sequence = self.progress.told + 1
            self.progress = altered(self.progress, told=sequence)
            self._rows.tell_sequence[after.number] = sequence
            self.ended.append(after)
        self._rows.change(after)
        self._keep(trial, after)
        self._tell(after)
        if attempt_of:
            self._begin_attempt(after, attempt_of)
        return after

    def _keep(self, before: Trial | None, after: Trial) -> None:
        """Notes who holds what by now."""
        self.changes += 1
        number = after.number
        self._trials[number] = after
        self._messages.pop(number, None)
        old = before.lease.worker if before and before.lease else None
        new = after.lease.worker if after.lease else None
        if after.lease and after.lease.expire_time < self._first_expiry:
            self._first_expiry = after.lease.expire_time
        if old == new:
            return
        if old is not None:
            self._held[old] = self._numbers_of(old) - {number}
        if new is not None:
            self._held[new] = self._numbers_of(new) | {number}

    def _numbers_of(self, worker: str) -> frozenset[int]:
        held = self._held.get(worker)
        return self._known.held.get(worker, frozenset()) if held is None else held

    def _tell(self, trial: Trial) -> None:
        """Appends the event of the trial's present revision."""
        message = self._messages[trial.number] = convert.trial_to_proto(trial)
        revision = self._events.append(message.name, TRIAL_CHANGED, message.SerializeToString())
        assert revision == trial.revision

    def _begin_attempt(self, trial: Trial, worker: str) -> None:
        assert trial.lease is not None
        attempt = Attempt(trial.attempts, worker, AttemptState.RUNNING, self.now)
        self._rows.begin_attempt(trial, attempt, trial.lease.token)

    def _add_measurements(self, trial: Trial, measurements: Sequence[Measurement]) -> None:
        name = trial_name(trial.study, trial.number)
        for measurement in measurements:
            self.changes += 1
            sequence = self.progress.measured + 1
            self.progress = altered(self.progress, measured=sequence)
            self._rows.measure(trial, measurement, sequence)
            message = convert.trial_measurement(name, measurement)
            self._events.append(name, TRIAL_MEASURED, message.SerializeToString())

    def _lease(self, worker: str) -> Lease:
        if not self._tokens:
            # One system call for many.
            drawn = secrets.token_hex(16 * _TOKENS_DRAWN)
            self._tokens = [drawn[i : i + 32] for i in range(0, len(drawn), 32)]
        expire_time = self.now + self.record.doc.lease_duration
        return Lease(self._tokens.pop(), worker, expire_time)
