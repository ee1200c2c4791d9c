"""The first shape of the database.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_inventory()
    _create_adjacency()
    _create_agents()
    _create_sessions()
    _index_sessions()
    _create_session_papers()
    _create_operations()
    _create_own()


def downgrade() -> None:
    for table in (
        "saved_table",
        "control_plane",
        "history",
        "events",
        "join_tokens",
        "keys",
        "drains",
        "idempotency_keys",
        "departures",
        "sessions",
        "agents",
        "policies",
        "links",
        "nodes",
        "data_centers",
        "pools",
        "regions",
        "providers",
    ):
        op.drop_table(table)


def _create_inventory() -> None:
    op.create_table(
        "providers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_providers"),
    )
    op.create_table(
        "regions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("country", sa.String(), nullable=False),
        sa.Column("latitude", sa.Double(), nullable=True),
        sa.Column("longitude", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_regions"),
    )
    op.create_table(
        "pools",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("traffic_class", sa.String(), nullable=False),
        sa.Column("max_rtt_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_pools"),
    )
    op.create_table(
        "data_centers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("roles", JSON, nullable=False),
        sa.Column("latitude", sa.Double(), nullable=True),
        sa.Column("longitude", sa.Double(), nullable=True),
        sa.Column("capacity_sessions", sa.BigInteger(), nullable=False),
        sa.Column("capacity_mbps", sa.BigInteger(), nullable=False),
        sa.Column("egress_microusd_per_gb", sa.BigInteger(), nullable=True),
        sa.Column("media_url", sa.String(), nullable=False),
        sa.Column("intent", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["provider"], ["providers.id"], name="fk_data_centers_provider"),
        sa.ForeignKeyConstraint(["region"], ["regions.id"], name="fk_data_centers_region"),
        sa.PrimaryKeyConstraint("id", name="pk_data_centers"),
    )
    op.create_index("ix_data_centers_provider", "data_centers", ["provider"], unique=False)
    op.create_index("ix_data_centers_region", "data_centers", ["region"], unique=False)


def _create_adjacency() -> None:
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("data_center", sa.String(), nullable=False),
        sa.Column("addresses", JSON, nullable=False),
        sa.Column("reflector_port", sa.Integer(), nullable=False),
        sa.Column("relay_port", sa.Integer(), nullable=False),
        sa.Column("media_url", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["data_center"], ["data_centers.id"], name="fk_nodes_data_center"),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
    )
    op.create_index("ix_nodes_data_center", "nodes", ["data_center"], unique=False)
    op.create_table(
        "links",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("transport", sa.String(), nullable=False),
        sa.Column("capacity_mbps", sa.BigInteger(), nullable=False),
        sa.Column("price_microusd_per_gb", sa.BigInteger(), nullable=True),
        sa.Column("intent", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["source"], ["data_centers.id"], name="fk_links_source"),
        sa.ForeignKeyConstraint(["target"], ["data_centers.id"], name="fk_links_target"),
        sa.PrimaryKeyConstraint("id", name="pk_links"),
        sa.UniqueConstraint("source", "target", "transport", name="uq_links_source_target_transport"),
    )
    op.create_index("ix_links_target", "links", ["target"], unique=False)
    op.create_table(
        "policies",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("match_class", sa.String(), nullable=True),
        sa.Column("match_pool", sa.String(), nullable=True),
        sa.Column("match_labels", JSON, nullable=False),
        sa.Column("allow_providers", JSON, nullable=True),
        sa.Column("deny_providers", JSON, nullable=False),
        sa.Column("allow_regions", JSON, nullable=True),
        sa.Column("deny_regions", JSON, nullable=False),
        sa.Column("allow_transports", JSON, nullable=True),
        sa.Column("max_relays", sa.Integer(), nullable=True),
        sa.Column("max_price_microusd_per_gb", sa.BigInteger(), nullable=True),
        sa.Column("pin", JSON, nullable=False),
        sa.ForeignKeyConstraint(["match_pool"], ["pools.id"], name="fk_policies_match_pool"),
        sa.PrimaryKeyConstraint("id", name="pk_policies"),
    )
    op.create_index("ix_policies_match_pool", "policies", ["match_pool"], unique=False)


def _create_agents() -> None:
    op.create_table(
        "agents",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("data_center", sa.String(), nullable=False),
        sa.Column("node", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("session", sa.String(), nullable=True),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["data_center"], ["data_centers.id"], name="fk_agents_data_center"),
        sa.ForeignKeyConstraint(["node"], ["nodes.id"], name="fk_agents_node"),
        sa.ForeignKeyConstraint(["pool"], ["pools.id"], name="fk_agents_pool"),
        sa.PrimaryKeyConstraint("id", name="pk_agents"),
        sa.UniqueConstraint("session", name="uq_agents_session"),
    )
    op.create_index("ix_agents_data_center", "agents", ["data_center"], unique=False)
    op.create_index("ix_agents_node", "agents", ["node"], unique=False)
    op.create_index(
        "ix_agents_ready",
        "agents",
        ["pool", "data_center", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'ready'"),
        postgresql_where=sa.text("state = 'ready'"),
    )


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("traffic_class", sa.String(), nullable=False),
        sa.Column("client_prefix", sa.String(), nullable=True),
        sa.Column("client_asn", sa.BigInteger(), nullable=True),
        sa.Column("client_country", sa.String(), nullable=True),
        sa.Column("client_latitude", sa.Double(), nullable=True),
        sa.Column("client_longitude", sa.Double(), nullable=True),
        sa.Column("edge", sa.String(), nullable=False),
        sa.Column("edge_node", sa.String(), nullable=True),
        sa.Column("edges", JSON, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_expires_at", sa.BigInteger(), nullable=False),
        sa.Column("pool", sa.String(), nullable=True),
        sa.Column("agent", sa.String(), nullable=True),
        sa.Column("agent_data_center", sa.String(), nullable=True),
        sa.Column("moved_from", sa.String(), nullable=True),
        sa.Column("constraints", JSON, nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("reasons", JSON, nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )


def _index_sessions() -> None:
    op.create_index(
        "ix_sessions_live_agent_data_center",
        "sessions",
        ["agent_data_center"],
        unique=False,
        sqlite_where=sa.text("state <> 'ended'"),
        postgresql_where=sa.text("state <> 'ended'"),
    )
    op.create_index(
        "ix_sessions_live_edge",
        "sessions",
        ["edge"],
        unique=False,
        sqlite_where=sa.text("state <> 'ended'"),
        postgresql_where=sa.text("state <> 'ended'"),
    )
    op.create_index(
        "ix_sessions_live_edge_node",
        "sessions",
        ["edge_node"],
        unique=False,
        sqlite_where=sa.text("state <> 'ended'"),
        postgresql_where=sa.text("state <> 'ended'"),
    )
    op.create_index(
        "ix_sessions_live_lease_expires_at",
        "sessions",
        ["lease_expires_at"],
        unique=False,
        sqlite_where=sa.text("state <> 'ended'"),
        postgresql_where=sa.text("state <> 'ended'"),
    )
    op.create_index(
        "ix_sessions_live_moved_from",
        "sessions",
        ["moved_from"],
        unique=False,
        sqlite_where=sa.text("moved_from IS NOT NULL"),
        postgresql_where=sa.text("moved_from IS NOT NULL"),
    )
    op.create_index(
        "ix_sessions_live_pool",
        "sessions",
        ["pool"],
        unique=False,
        sqlite_where=sa.text("state <> 'ended'"),
        postgresql_where=sa.text("state <> 'ended'"),
    )


def _create_session_papers() -> None:
    op.create_table(
        "departures",
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("session", sa.String(), nullable=False),
        sa.Column("stray", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node", "session", name="pk_departures"),
    )
    op.create_index("ix_departures_session", "departures", ["session"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("session", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"], unique=False)


def _create_operations() -> None:
    op.create_table(
        "drains",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("selector", JSON, nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("targets", JSON, nullable=False),
        sa.Column("previous", JSON, nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("sessions_at_start", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_drains"),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
    )
    op.create_index("ix_keys_scope", "keys", ["scope"], unique=False)
    op.create_table(
        "join_tokens",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("data_center", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("used_by", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["data_center"], ["data_centers.id"], name="fk_join_tokens_data_center", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("hash", name="pk_join_tokens"),
    )
    op.create_index("ix_join_tokens_data_center", "join_tokens", ["data_center"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_at", "events", ["at"], unique=False)
    op.create_index("ix_events_kind", "events", ["kind"], unique=False)
    op.create_index("ix_events_subject", "events", ["subject"], unique=False)


def _create_own() -> None:
    op.create_table(
        "history",
        sa.Column("data_center", sa.String(), nullable=False),
        sa.Column("bucket_s", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bucket_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("data_center", "bucket_s", "bucket_at", name="pk_history"),
    )
    op.create_index("ix_history_bucket_at", "history", ["bucket_at"], unique=False)
    op.create_table(
        "control_plane",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_control_plane"),
    )
    op.create_table(
        "saved_table",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_saved_table"),
    )
