"""Trials with their leases, measurements and results.

Revision ID: search_0001
Revises: none
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "search_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "progress",
        sa.Column("study", sa.String(63), primary_key=True),
        sa.Column("incarnation", sa.String(63), nullable=False),
        sa.Column("trials", sa.BigInteger, nullable=False),
        sa.Column("suggested", sa.BigInteger, nullable=False),
        sa.Column("told", sa.BigInteger, nullable=False),
        sa.Column("measured", sa.BigInteger, nullable=False),
        sa.Column("exhausted", sa.Boolean, nullable=False),
        sa.Column("waiting", sa.BigInteger, nullable=False),
        sa.Column("running", sa.BigInteger, nullable=False),
        sa.Column("completed", sa.BigInteger, nullable=False),
        sa.Column("pruned", sa.BigInteger, nullable=False),
        sa.Column("infeasible", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("deadline", sa.BigInteger),
    )
    op.create_index("progress_by_deadline", "progress", ["deadline"])
    op.create_table(
        "trials",
        sa.Column("study", sa.String(63), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(15), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("source", sa.String(127), nullable=False),
        sa.Column("asked_after", sa.BigInteger),
        sa.Column("tell_sequence", sa.BigInteger),
        sa.Column("final", sa.Text),
        sa.Column("artifacts", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("worker", sa.String(127), nullable=False),
        sa.Column("lease_token", sa.String(63), nullable=False),
        sa.Column("lease_expire_time", sa.BigInteger),
        sa.Column("stop", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
        sa.Column("end_time", sa.BigInteger),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("trials_by_result", "trials", ["study", "tell_sequence"])
    op.create_index("trials_by_state", "trials", ["study", "state", "number"])
    op.create_index("trials_by_lease", "trials", ["lease_expire_time", "study"])
    op.create_table(
        "attempts",
        sa.Column("study", sa.String(63), primary_key=True),
        sa.Column("trial", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("worker", sa.String(127), nullable=False),
        sa.Column("lease_token", sa.String(63), nullable=False),
        sa.Column("state", sa.String(15), nullable=False),
        sa.Column("start_time", sa.BigInteger, nullable=False),
        sa.Column("end_time", sa.BigInteger),
    )
    op.create_table(
        "measurements",
        sa.Column("study", sa.String(63), primary_key=True),
        sa.Column("trial", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("measurements_by_sequence", "measurements", ["study", "sequence"])
    op.create_table(
        "final_metrics",
        sa.Column("study", sa.String(63), primary_key=True),
        sa.Column("trial", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(127), primary_key=True),
        sa.Column("value", sa.Float(53), nullable=False),
    )
    op.create_index("final_metrics_by_value", "final_metrics", ["study", "name", "value"])
    op.create_table(
        "warm_start",
        sa.Column("study", sa.String(63), primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("body", sa.Text, nullable=False),
    )


def downgrade() -> None:
    for table in (
        "warm_start", "final_metrics", "measurements", "attempts", "trials", "progress",
    ):  # fmt: skip
        op.drop_table(table)
