"""Why a trial was proposed.

Revision ID: search_0002
Revises: search_0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "search_0002"
down_revision = "search_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("trials", sa.Column("because", sa.Text))


def downgrade() -> None:
    op.drop_column("trials", "because")
