"""What one transaction writes of a study's trials: gathered first, then many rows at once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, update

from keeptune.runtime import documents, micros
from keeptune.runtime.bulk import Bulk
from keeptune.search import assignments
from keeptune.search.model import Attempt, AttemptState, Measurement, Trial
from keeptune.search.tables import attempts, final_metrics, measurements, trials

_CHANGING = (
    "state", "reason", "tell_sequence", "final", "artifacts", "attempts", "worker", "lease_token",
    "lease_expire_time", "stop", "update_time", "end_time", "revision",
)  # fmt: skip
_insert_trials = Bulk(insert(trials))
_update_trials = Bulk(
    update(trials).where(
        trials.c.study == bindparam("of_study"), trials.c.number == bindparam("of_number")
    ),
    _CHANGING,
)
_insert_attempts = Bulk(insert(attempts))
_end_attempts = Bulk(
    update(attempts).where(
        attempts.c.study == bindparam("of_study"),
        attempts.c.trial == bindparam("of_trial"),
        attempts.c.number == bindparam("of_number"),
    ),
    ("state", "end_time"),
)
_insert_measurements = Bulk(insert(measurements))
_insert_final_metrics = Bulk(insert(final_metrics))

Row = tuple[Any, ...]


class TrialRows:
    """`asked_after` and `tell_sequence` of trials by number; see `tables.trials`."""

    def __init__(self, study: str) -> None:
        self._study = study
        self.asked_after: dict[int, int | None] = {}
        self.tell_sequence: dict[int, int] = {}
        # In the order of their first change; the new ones among them.
        self._changed: dict[int, Trial] = {}
        self._new: set[int] = set()
        self._attempts: list[Row] = []
        self._ended_attempts: list[Row] = []
        self._measurements: list[Row] = []
        self._final_metrics: list[Row] = []

    @property
    def is_empty(self) -> bool:
        # Whatever else there is comes with a change of its trial, but measurements.
        return not self._changed and not self._measurements

    def add(self, trial: Trial) -> None:
        self._new.add(trial.number)
        self._changed[trial.number] = trial

    def change(self, trial: Trial) -> None:
        self._changed[trial.number] = trial

    def begin_attempt(self, trial: Trial, attempt: Attempt, token: str) -> None:
        row = (
            self._study, trial.number, attempt.number, attempt.worker, token, attempt.state.value,
            micros.of(attempt.start_time), None,
        )  # fmt: skip
        self._attempts.append(row)

    def end_attempt(self, trial: Trial, state: AttemptState, now: datetime) -> None:
        """Of the trial's last attempt."""
        row = (state.value, micros.of(now), self._study, trial.number, trial.attempts)
        self._ended_attempts.append(row)

    def measure(self, trial: Trial, measurement: Measurement, sequence: int) -> None:
        body = documents.encode(measurement)
        self._measurements.append((self._study, trial.number, measurement.step, sequence, body))

    def keep_final_metrics(self, trial: Trial) -> None:
        if trial.final:
            for name, value in trial.final.metrics.items():
                self._final_metrics.append((self._study, trial.number, name, value))

    def write(self, connection: Connection) -> None:
        _insert_trials(
            connection,
            [
                self._inserted(trial)
                for number, trial in self._changed.items()
                if number in self._new
            ],
        )
        _update_trials(
            connection,
            [
                (*self._changing(trial), self._study, number)
                for number, trial in self._changed.items()
                if number not in self._new
            ],
        )
        _insert_attempts(connection, self._attempts)
        _end_attempts(connection, self._ended_attempts)
        _insert_measurements(connection, self._measurements)
        _insert_final_metrics(connection, self._final_metrics)
        self._changed, self._new = {}, set()
        self._attempts, self._ended_attempts = [], []
        self._measurements, self._final_metrics = [], []

    def _inserted(self, trial: Trial) -> Row:
        (
            state, reason, told, final, artifacts, tries, worker, token, expires, stop, updated,
            ended, revision,
        ) = self._changing(trial)  # fmt: skip
        return (
            self._study, trial.number, state, reason, assignments.encode(trial.parameters),
            trial.source, trial.because or None, trial.continue_from or None,
            self.asked_after.get(trial.number), told, final, artifacts, tries, worker, token,
            expires, stop, micros.of(trial.create_time), updated, ended, revision,
        )  # fmt: skip

    def _changing(self, trial: Trial) -> Row:
        lease = trial.lease
        return (
            trial.state.value,
            trial.reason,
            self.tell_sequence.get(trial.number),
            None if trial.final is None else documents.encode(trial.final),
            documents.encode(trial.artifacts) if trial.artifacts else "[]",
            trial.attempts,
            lease.worker if lease else "",
            lease.token if lease else "",
            micros.of(lease.expire_time) if lease else None,
            trial.stop,
            micros.of(trial.update_time),
            None if trial.end_time is None else micros.of(trial.end_time),
            trial.revision,
        )


assert _insert_trials.names == (
    "study", "number", "state", "reason", "parameters", "source", "because", "continue_from",
    "asked_after", "tell_sequence", "final", "artifacts", "attempts", "worker", "lease_token",
    "lease_expire_time", "stop", "create_time", "update_time", "end_time", "revision",
)  # fmt: skip
assert _update_trials.names == (*_CHANGING, "of_study", "of_number")
assert _insert_attempts.names == (
    "study", "trial", "number", "worker", "lease_token", "state", "start_time", "end_time",
)  # fmt: skip
assert _end_attempts.names == ("state", "end_time", "of_study", "of_trial", "of_number")
assert _insert_measurements.names == ("study", "trial", "step", "sequence", "body")
assert _insert_final_metrics.names == ("study", "trial", "name", "value")
