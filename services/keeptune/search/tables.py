"""The tables of the search service beside the studies, which are records of the runtime.

JSON stands in text columns: a number comes back as it was written, 1.0 not as 1. Times are
microseconds since 1970 UTC. The migration makes these tables; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

# One row a study: what changes with every trial. Writers lock it first.
progress = Table(
    "progress",
    metadata,
    Column("study", String(63), primary_key=True),
    Column("incarnation", String(63), nullable=False),
    Column("trials", BigInteger, nullable=False),
    Column("suggested", BigInteger, nullable=False),
    Column("told", BigInteger, nullable=False),
    Column("measured", BigInteger, nullable=False),
    Column("exhausted", Boolean, nullable=False),
    Column("waiting", BigInteger, nullable=False),
    Column("running", BigInteger, nullable=False),
    Column("completed", BigInteger, nullable=False),
    Column("pruned", BigInteger, nullable=False),
    Column("infeasible", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    # When an active study's time is up; unset = never, or seen to already.
    Column("deadline", BigInteger),
    # Grows with every change of the study or of one of its trials.
    Column("version", BigInteger, nullable=False, server_default="0"),
    Index("progress_by_deadline", "deadline"),
)

trials = Table(
    "trials",
    metadata,
    Column("study", String(63), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("state", String(15), nullable=False),
    Column("reason", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("source", String(127), nullable=False),
    # Unset = its source did not say.
    Column("because", Text),
    # The number of the trial whose training it continues; unset = it begins anew.
    Column("continue_from", BigInteger),
    # How many results the optimiser knew when it suggested this one; unset = imported.
    Column("asked_after", BigInteger),
    # The place of this trial's result among those of the study; unset = not ended.
    Column("tell_sequence", BigInteger),
    Column("final", Text),
    Column("artifacts", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("worker", String(127), nullable=False),
    Column("lease_token", String(63), nullable=False),
    # Set while RUNNING.
    Column("lease_expire_time", BigInteger),
    Column("stop", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    Column("end_time", BigInteger),
    Column("revision", BigInteger, nullable=False),
    Index("trials_by_state", "study", "state", "number"),
)
for _name, _columns, _condition in (
    ("trials_by_result", ("study", "tell_sequence"), trials.c.tell_sequence.is_not(None)),
    ("trials_by_lease", ("lease_expire_time", "study"), trials.c.lease_expire_time.is_not(None)),
):
    Index(
        _name,
        *(trials.c[column] for column in _columns),
        sqlite_where=_condition,
        postgresql_where=_condition,
    )

attempts = Table(
    "attempts",
    metadata,
    Column("study", String(63), primary_key=True),
    Column("trial", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("worker", String(127), nullable=False),
    Column("lease_token", String(63), nullable=False),
    Column("state", String(15), nullable=False),
    Column("start_time", BigInteger, nullable=False),
    Column("end_time", BigInteger),
)

# Intermediate values, in the order they came (`sequence`, counted in each study).
measurements = Table(
    "measurements",
    metadata,
    Column("study", String(63), primary_key=True),
    Column("trial", BigInteger, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Index("measurements_by_sequence", "study", "sequence"),
)

# The final values again, for lists filtered and ordered by them.
final_metrics = Table(
    "final_metrics",
    metadata,
    Column("study", String(63), primary_key=True),
    Column("trial", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String(127), primary_key=True),
    Column("value", Float(53), nullable=False),
    Index("final_metrics_by_value", "study", "name", "value"),
)

# Results of earlier studies, copied when a study that starts from them was created.
warm_start = Table(
    "warm_start",
    metadata,
    Column("study", String(63), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
)
