"""Indexes of trials that hold only what is looked for by them: fewer pages for each write.

Revision ID: search_0005
Revises: search_0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "search_0005"
down_revision = "search_0004"
branch_labels = None
depends_on = None

_INDEXES = (
    ("trials_by_result", ["study", "tell_sequence"], "tell_sequence IS NOT NULL"),
    ("trials_by_lease", ["lease_expire_time", "study"], "lease_expire_time IS NOT NULL"),
)


def upgrade() -> None:
    for name, columns, where in _INDEXES:
        op.drop_index(name, "trials")
        condition = sa.text(where)
        op.create_index(name, "trials", columns, sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    for name, columns, _ in _INDEXES:
        op.drop_index(name, "trials")
        op.create_index(name, "trials", columns)
