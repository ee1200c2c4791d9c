"""Agents with room for several sessions and timed states, queues, further legs, leases per node, webhooks.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
LIVE = sa.text("state <> 'ended'")
QUEUED = sa.text("state = 'queued'")
ALONE = sa.text("state <> 'ended' AND held_by IS NULL")
UNBOUND = sa.text("state <> 'ended' AND agent IS NULL AND pool IS NOT NULL")
REBOUND = sa.text("rebound_at IS NOT NULL")
TIMED = sa.text("deadline_at IS NOT NULL")
HELD = sa.text("held_by IS NOT NULL")


def _added() -> dict[str, tuple[sa.Column[Any], ...]]:
    """Columns are made anew for each use: one belongs to one table."""
    return {
        "pools": (
            sa.Column("queue_s", sa.Integer(), server_default="0", nullable=False),
            sa.Column("agent_grace_s", sa.Integer(), server_default="5", nullable=False),
            sa.Column("wrap_s", sa.Integer(), server_default="0", nullable=False),
            sa.Column("reset", sa.Boolean(), server_default=sa.false(), nullable=False),
            sa.Column("max_sessions", sa.Integer(), server_default="0", nullable=False),
        ),
        "agents": (
            sa.Column("capacity", sa.Integer(), server_default="1", nullable=False),
            sa.Column("held", sa.Integer(), server_default="0", nullable=False),
            sa.Column("served", sa.BigInteger(), server_default="0", nullable=False),
            sa.Column("cordoned", sa.Boolean(), server_default=sa.false(), nullable=False),
            sa.Column("nonce", sa.String(), server_default=sa.text("''"), nullable=False),
            sa.Column("agent_version", sa.String(), server_default=sa.text("''"), nullable=False),
            sa.Column("since", sa.BigInteger(), server_default="0", nullable=False),
            sa.Column("deadline_at", sa.BigInteger(), nullable=True),
        ),
        "sessions": (
            sa.Column("agent_epoch", sa.BigInteger(), server_default="0", nullable=False),
            sa.Column("queued_until", sa.BigInteger(), nullable=True),
            sa.Column("rebound_at", sa.BigInteger(), nullable=True),
            sa.Column("held_by", sa.String(), nullable=True),
        ),
    }


def upgrade() -> None:
    for table, columns in _added().items():
        for column in columns:
            op.add_column(table, column)
    op.execute("UPDATE agents SET held = 1 WHERE session IS NOT NULL AND state = 'busy'")
    op.execute(
        "UPDATE sessions SET agent_epoch = COALESCE((SELECT epoch FROM agents WHERE agents.id = sessions.agent), 0)"
        " WHERE state <> 'ended' AND agent IS NOT NULL"
    )
    _index("ix_sessions_queued", "sessions", ["pool", "created_at", "id"], QUEUED)
    _index("ix_sessions_ended_at", "sessions", ["ended_at"], sa.text("ended_at IS NOT NULL"))
    _index("ix_sessions_live_agent", "sessions", ["agent"], LIVE)
    _index("ix_sessions_unbound", "sessions", ["pool"], UNBOUND)
    _index("ix_sessions_rebound", "sessions", ["id"], REBOUND)
    _index("ix_agents_deadline_at", "agents", ["deadline_at"], TIMED)
    # A session that a node holds lives by the node's lease; its own counts when nobody holds it.
    op.drop_index("ix_sessions_live_lease_expires_at", "sessions")
    _index("ix_sessions_live_lease_expires_at", "sessions", ["lease_expires_at"], ALONE)
    _index("ix_sessions_held_by", "sessions", ["held_by"], HELD)
    op.create_table(
        "node_leases",
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node", name="pk_node_leases"),
    )
    op.create_index("ix_node_leases_expires_at", "node_leases", ["expires_at"], unique=False)
    _create_legs()
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("events", JSON, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("webhook", sa.String(), nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["webhook"], ["webhooks.id"], name="fk_outbox_webhook_webhooks", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_webhook", "outbox", ["webhook"], unique=False)
    op.create_index("ix_outbox_next_at", "outbox", ["next_at"], unique=False)


def _create_legs() -> None:
    op.create_table(
        "legs",
        sa.Column("session", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("client_prefix", sa.String(), nullable=True),
        sa.Column("client_asn", sa.BigInteger(), nullable=True),
        sa.Column("client_country", sa.String(), nullable=True),
        sa.Column("client_latitude", sa.Double(), nullable=True),
        sa.Column("client_longitude", sa.Double(), nullable=True),
        sa.Column("edge", sa.String(), nullable=True),
        sa.Column("edge_node", sa.String(), nullable=True),
        sa.Column("edges", JSON, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_expires_at", sa.BigInteger(), nullable=False),
        sa.Column("pool", sa.String(), nullable=True),
        sa.Column("agent", sa.String(), nullable=True),
        sa.Column("agent_data_center", sa.String(), nullable=True),
        sa.Column("agent_epoch", sa.BigInteger(), nullable=False),
        sa.Column("moved_from", sa.String(), nullable=True),
        sa.Column("held_by", sa.String(), nullable=True),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("reasons", JSON, nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["session"], ["sessions.id"], name="fk_legs_session_sessions", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("session", "id", name="pk_legs"),
    )
    _index("ix_legs_live_edge_node", "legs", ["edge_node"], LIVE)
    _index("ix_legs_live_lease_expires_at", "legs", ["lease_expires_at"], ALONE)
    _index("ix_legs_held_by", "legs", ["held_by"], HELD)
    _index("ix_legs_live_agent", "legs", ["agent"], LIVE)


def _index(name: str, table: str, columns: list[str], where: sa.TextClause) -> None:
    op.create_index(name, table, columns, unique=False, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for name in ("outbox", "webhooks", "legs", "node_leases"):
        op.drop_table(name)
    op.drop_index("ix_sessions_held_by", "sessions")
    op.drop_index("ix_sessions_live_lease_expires_at", "sessions")
    op.drop_index("ix_sessions_live_agent", "sessions")
    op.drop_index("ix_sessions_queued", "sessions")
    op.drop_index("ix_sessions_ended_at", "sessions")
    op.drop_index("ix_sessions_unbound", "sessions")
    op.drop_index("ix_sessions_rebound", "sessions")
    op.drop_index("ix_agents_deadline_at", "agents")
    for table, columns in _added().items():
        for column in columns:
            op.drop_column(table, column.name)
    _index("ix_sessions_live_lease_expires_at", "sessions", ["lease_expires_at"], LIVE)
