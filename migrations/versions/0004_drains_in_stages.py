"""Drains in stages, of nodes, by practice and by blame; machines have an intent of their own.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def _added() -> dict[str, tuple[sa.Column[Any], ...]]:
    return {
        "nodes": (sa.Column("intent", sa.String(), server_default=sa.text("'serving'"), nullable=False),),
        "drains": (
            sa.Column("origin", sa.String(), server_default=sa.text("'operator'"), nullable=False),
            sa.Column("share_ppm", sa.Integer(), server_default="0", nullable=False),
            sa.Column("since", sa.BigInteger(), server_default="0", nullable=False),
            sa.Column("stage_s", sa.Integer(), server_default="0", nullable=False),
            sa.Column("paused_from", sa.String(), nullable=True),
            sa.Column("note", sa.String(), server_default=sa.text("''"), nullable=False),
            sa.Column("nodes", JSON, server_default=sa.text("'[]'"), nullable=False),
            sa.Column("previous_nodes", JSON, server_default=sa.text("'{}'"), nullable=False),
            sa.Column("receivers", JSON, server_default=sa.text("'[]'"), nullable=False),
            sa.Column("routes_through", sa.BigInteger(), server_default="0", nullable=False),
            sa.Column("agents_behind", JSON, server_default=sa.text("'{}'"), nullable=False),
            sa.Column("cut_at", sa.BigInteger(), nullable=True),
            sa.Column("outcome", sa.String(), server_default=sa.text("''"), nullable=False),
        ),
    }


def upgrade() -> None:
    for table, columns in _added().items():
        for column in columns:
            op.add_column(table, column)
    op.execute("UPDATE drains SET since = created_at")


def downgrade() -> None:
    for table, columns in _added().items():
        for column in columns:
            op.drop_column(table, column.name)
