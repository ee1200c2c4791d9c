"""Sessions are counted per edge and per flow from one index.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

LIVE = sa.text("state <> 'ended'")


def upgrade() -> None:
    _replace("ix_sessions_live_edge", "ix_sessions_live_flow", ["edge", "agent_data_center", "traffic_class", "state"])


def downgrade() -> None:
    _replace("ix_sessions_live_flow", "ix_sessions_live_edge", ["edge"])


def _replace(old: str, new: str, columns: list[str]) -> None:
    op.create_index(new, "sessions", columns, unique=False, sqlite_where=LIVE, postgresql_where=LIVE)
    op.drop_index(old, "sessions")
