"""Route changes, one row per changed pair and generation.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "route_changes",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("traffic_class", sa.String(), nullable=False),
        sa.Column("generation", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("from_path", JSON, nullable=True),
        sa.Column("to_path", JSON, nullable=True),
        sa.PrimaryKeyConstraint("source", "target", "traffic_class", "generation", name="pk_route_changes"),
    )
    op.create_index("ix_route_changes_at", "route_changes", ["at"], unique=False)


def downgrade() -> None:
    op.drop_table("route_changes")
