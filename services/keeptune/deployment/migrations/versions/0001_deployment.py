"""Reports, orders, grants, credentials and captures.

Revision ID: deployment_0001
Revises: none
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "deployment_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reports",
        sa.Column("host", sa.String(127), primary_key=True),
        sa.Column("session", sa.String(63), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("last_seen", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.String(63), primary_key=True),
        sa.Column("host", sa.String(127), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("model", sa.String(127), nullable=False),
        sa.Column("kind", sa.String(31), nullable=False),
        sa.Column("version", sa.String(127), nullable=False),
        sa.Column("rollout", sa.String(127), nullable=False),
        sa.Column("state", sa.String(31), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("monitoring", sa.String(64), nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("end_time", sa.BigInteger, nullable=True),
        sa.UniqueConstraint("host", "sequence", name="orders_in_sequence"),
    )
    op.create_index("orders_by_model", "orders", ["model", "host", "sequence"])
    op.create_index("orders_by_state", "orders", ["host", "state", "sequence"])
    op.create_table(
        "grants",
        sa.Column("host", sa.String(127), primary_key=True),
        sa.Column("sha256", sa.String(64), primary_key=True),
    )
    op.create_table(
        "credentials",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("host", sa.String(127), nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    op.create_index("credentials_by_host", "credentials", ["host"])
    op.create_table(
        "captures",
        sa.Column("host", sa.String(127), primary_key=True),
        sa.Column("request_id", sa.String(255), primary_key=True),
        sa.Column("model", sa.String(127), nullable=False),
        sa.Column("version", sa.String(127), nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("first_time", sa.BigInteger, nullable=False),
        sa.Column("last_time", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    op.create_index("captures_by_model", "captures", ["model", "last_time"])


def downgrade() -> None:
    for table in ("captures", "credentials", "grants", "orders", "reports"):
        op.drop_table(table)
