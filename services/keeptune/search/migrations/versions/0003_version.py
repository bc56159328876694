"""How often a study has changed, so that what a process remembers of it can be checked.

Revision ID: search_0003
Revises: search_0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "search_0003"
down_revision = "search_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "progress", sa.Column("version", sa.BigInteger, nullable=False, server_default="0")
    )


def downgrade() -> None:
    op.drop_column("progress", "version")
