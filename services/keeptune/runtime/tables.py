"""The tables every service's database has: records, events and answered requests.

Times are microseconds since 1970 UTC: one sortable integer on both engines. The migration beside
this module creates them; the two are compared by a test.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

base_metadata = MetaData()

# BIGINT would not be an alias of SQLite's rowid, and so not count by itself.
Revision = BigInteger().with_variant(Integer(), "sqlite")
# Compared byte by byte on both engines, so that ranges and pages agree.
_NAME = String(255).with_variant(String(255, collation="C"), "postgresql")
Json = JSON().with_variant(JSONB(), "postgresql")

records = Table(
    "records",
    base_metadata,
    Column("name", _NAME, primary_key=True),
    Column("kind", String(63), nullable=False),
    Column("parent", _NAME, nullable=False),
    Column("state", String(63), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    Column("labels", Json, nullable=False),
    Column("fields", Json, nullable=False),
    Column("body", Text, nullable=False),
    Index("records_by_kind", "kind", "parent", "create_time", "name"),
    Index("records_by_state", "kind", "state"),
)

events = Table(
    "events",
    base_metadata,
    Column("revision", Revision, primary_key=True, autoincrement=True),
    Column("stream", _NAME, nullable=False),
    Column("kind", String(127), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("events_by_stream", "stream", "revision"),
    sqlite_autoincrement=True,
)

# PostgreSQL counts revisions by transaction ids (see `events`). A restored backup may meet a
# server whose ids are lower; `shift` then lifts them above every revision there is.
event_epoch = Table("event_epoch", base_metadata, Column("shift", BigInteger, nullable=False))

requests = Table(
    "requests",
    base_metadata,
    Column("request_id", _NAME, primary_key=True),
    Column("fingerprint", LargeBinary(16), nullable=False),
    Column("response", LargeBinary, nullable=False),
    Column("time", BigInteger, nullable=False),
    Index("requests_by_time", "time"),
)
