"""Join tokens may be asked for again under the name they were first asked for.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("join_tokens", sa.Column("name", sa.String(), nullable=True))
    op.add_column("join_tokens", sa.Column("seed", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("join_tokens", "seed")
    op.drop_column("join_tokens", "name")
