"""Launches keep the rung that a canary is on.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("launches", sa.Column("rung", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("launches", "rung")
