"""Ramps of versions of agents, and pools that ask for them.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

OPEN = sa.text("state <> 'serving' AND state <> 'withdrawn'")


def upgrade() -> None:
    op.add_column("pools", sa.Column("ramp_versions", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("ramps", sa.Column("pool", sa.String(), server_default=sa.text("''"), nullable=False))
    op.add_column("ramps", sa.Column("version", sa.String(), server_default=sa.text("''"), nullable=False))
    op.drop_index("uq_ramps_open", table_name="ramps")
    columns = ["data_center", "pool", "version"]
    op.create_index("uq_ramps_open", "ramps", columns, unique=True, sqlite_where=OPEN, postgresql_where=OPEN)


def downgrade() -> None:
    op.execute("DELETE FROM ramps WHERE kind = 'version'")
    op.drop_index("uq_ramps_open", table_name="ramps")
    op.create_index("uq_ramps_open", "ramps", ["data_center"], unique=True, sqlite_where=OPEN, postgresql_where=OPEN)
    op.drop_column("ramps", "version")
    op.drop_column("ramps", "pool")
    op.drop_column("pools", "ramp_versions")
