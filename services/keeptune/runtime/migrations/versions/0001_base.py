"""Records, events and answered requests.

Revision ID: runtime_0001
Revises: none
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "runtime_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    name = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
    json = sa.JSON().with_variant(JSONB(), "postgresql")
    op.create_table(
        "records",
        sa.Column("name", name, primary_key=True),
        sa.Column("kind", sa.String(63), nullable=False),
        sa.Column("parent", name, nullable=False),
        sa.Column("state", sa.String(63), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
        sa.Column("labels", json, nullable=False),
        sa.Column("fields", json, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("records_by_kind", "records", ["kind", "parent", "create_time", "name"])
    op.create_index("records_by_state", "records", ["kind", "state"])
    op.create_table(
        "events",
        sa.Column(
            "revision",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=op.get_bind().dialect.name == "sqlite",
        ),
        sa.Column("stream", name, nullable=False),
        sa.Column("kind", sa.String(127), nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_stream", "events", ["stream", "revision"])
    epoch = op.create_table("event_epoch", sa.Column("shift", sa.BigInteger, nullable=False))
    op.bulk_insert(epoch, [{"shift": 0}])
    op.create_table(
        "requests",
        sa.Column("request_id", name, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary(16), nullable=False),
        sa.Column("response", sa.LargeBinary, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    op.create_index("requests_by_time", "requests", ["time"])


def downgrade() -> None:
    for table in ("requests", "event_epoch", "events", "records"):
        op.drop_table(table)
