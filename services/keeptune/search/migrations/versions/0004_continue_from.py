"""Which trial a trial continues the training of.

Revision ID: search_0004
Revises: search_0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "search_0004"
down_revision = "search_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("trials", sa.Column("continue_from", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("trials", "continue_from")
