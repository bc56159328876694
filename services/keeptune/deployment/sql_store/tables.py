"""Tables of the deployment service. Times are microseconds since 1970 UTC.

Models, versions, rollouts and hosts are records. What changes every few seconds, or is never
shown as a resource, has a table here.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# The last report of each host; `sequence` is the last one given to an order, `session` names the
# one live link.
reports = Table(
    "reports",
    metadata,
    Column("host", String(127), primary_key=True),
    Column("session", String(63), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

orders = Table(
    "orders",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("host", String(127), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("model", String(127), nullable=False),
    Column("kind", String(31), nullable=False),
    Column("version", String(127), nullable=False),
    Column("rollout", String(127), nullable=False),
    Column("state", String(31), nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    # Of the monitoring that it carries; empty for orders that carry none.
    Column("monitoring", String(64), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("end_time", BigInteger, nullable=True),
    UniqueConstraint("host", "sequence", name="orders_in_sequence"),
    Index("orders_by_model", "model", "host", "sequence"),
    Index("orders_by_state", "host", "state", "sequence"),
)

# Which artifacts a host's orders have named, and so which it may fetch.
grants = Table(
    "grants",
    metadata,
    Column("host", String(127), primary_key=True),
    Column("sha256", String(64), primary_key=True),
)

# Hashes of the hosts' own bearer tokens.
credentials = Table(
    "credentials",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("host", String(127), nullable=False),
    Column("time", BigInteger, nullable=False),
    Index("credentials_by_host", "host"),
)

captures = Table(
    "captures",
    metadata,
    Column("host", String(127), primary_key=True),
    Column("request_id", String(255), primary_key=True),
    Column("model", String(127), nullable=False),
    Column("version", String(127), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("first_time", BigInteger, nullable=False),
    Column("last_time", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
    Index("captures_by_model", "model", "last_time"),
)
