"""Agents that may be taken stand in the order in which they are: a pool of thousands is not sorted for each take.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

READY = sa.text("state = 'ready'")


def upgrade() -> None:
    op.drop_index("ix_agents_ready", table_name="agents")
    columns = ["pool", "data_center", sa.text("held DESC"), "id"]
    op.create_index("ix_agents_ready", "agents", columns, sqlite_where=READY, postgresql_where=READY)


def downgrade() -> None:
    op.drop_index("ix_agents_ready", table_name="agents")
    columns = ["pool", "data_center", "id"]
    op.create_index("ix_agents_ready", "agents", columns, sqlite_where=READY, postgresql_where=READY)
