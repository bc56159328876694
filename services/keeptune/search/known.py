"""What is remembered of a study from one transaction to the next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from sqlalchemy import Connection

from keeptune.runtime.names import study_name
from keeptune.runtime.records import Record
from keeptune.search import sql_store
from keeptune.search.model import Progress, Study, Trial

_AT_ONCE = datetime.min.replace(tzinfo=UTC)


@dataclass
class Known:
    """A study as a transaction left it: its running trials, by number and by worker.

    It spares the next transaction reading them again, and is true as long as the study's version
    in the store is that of `progress`.
    """

    record: Record[Study]
    progress: Progress
    running: dict[int, Trial]
    held: dict[str, frozenset[int]]
    # No lease runs out before.
    first_expiry: datetime

    @classmethod
    def read(cls, connection: Connection, progress: Progress) -> Self:
        running = sql_store.trials_running(connection, progress.study)
        held: dict[str, frozenset[int]] = {}
        for trial in running:
            assert trial.lease is not None
            worker = trial.lease.worker
            held[worker] = held.get(worker, frozenset()) | {trial.number}
        record = sql_store.studies.get(connection, study_name(progress.study))
        return cls(record, progress, {trial.number: trial for trial in running}, held, _AT_ONCE)

    def is_true(self, progress: Progress) -> bool:
        mine = self.progress
        return (mine.incarnation, mine.version) == (progress.incarnation, progress.version)
