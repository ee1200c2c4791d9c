"""Every table of the database, in one MetaData; the migrations must lead to exactly this.

One typed table per kind of resource, with a real foreign key wherever one names another; JSON only for labels, lists
and other values that are never joined on. Times are integer microseconds since the Unix epoch. Columns are named like
the fields of ``core.model``, so that :mod:`router.store.rows` can copy by name.

Sessions and drains outlive what they name, so they carry plain ids; the store itself refuses to delete what a live one
needs (:mod:`router.store.referrers`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Named,
    String,
    Table,
    TypedColumns,
    UniqueConstraint,
    and_,
    desc,
    false,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# NULL in a JSON column is SQL NULL, so that "no list" and "empty list" stay apart and can be asked for.
Json: TypeEngine[Any] = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
# SQLite numbers rows by itself only in a column of exactly this type.
Serial: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")


class ResourceColumns(TypedColumns):
    """What every kind of resource has."""

    id = Column(String, primary_key=True)
    revision: Named[int] = Column(BigInteger)


class LabelledColumns(ResourceColumns):
    """Resources that carry labels."""

    labels: Named[dict[str, str]] = Column(Json)


class ProviderColumns(LabelledColumns):
    """See :class:`router.core.model.Provider`."""

    name: Named[str] = Column(String)


class RegionColumns(LabelledColumns):
    """See :class:`router.core.model.Region`."""

    name: Named[str] = Column(String)
    country: Named[str] = Column(String)
    latitude: Named[float | None] = Column(Double)
    longitude: Named[float | None] = Column(Double)


class DataCenterColumns(LabelledColumns):
    """See :class:`router.core.model.DataCenter`."""

    provider: Named[str] = Column(String, ForeignKey("providers.id"), index=True)
    region: Named[str] = Column(String, ForeignKey("regions.id"), index=True)
    roles: Named[list[str]] = Column(Json)
    latitude: Named[float | None] = Column(Double)
    longitude: Named[float | None] = Column(Double)
    capacity_sessions: Named[int] = Column(BigInteger)
    capacity_mbps: Named[int] = Column(BigInteger)
    egress_microusd_per_gb: Named[int | None] = Column(BigInteger)
    media_url: Named[str] = Column(String)
    intent: Named[str] = Column(String)


class NodeColumns(LabelledColumns):
    """See :class:`router.core.model.Node`."""

    data_center: Named[str] = Column(String, ForeignKey("data_centers.id"), index=True)
    addresses: Named[dict[str, str]] = Column(Json)
    reflector_port: Named[int] = Column(Integer)
    relay_port: Named[int] = Column(Integer)
    media_url: Named[str] = Column(String)
    intent: Named[str] = Column(String, server_default=text("'serving'"))


class LinkColumns(LabelledColumns):
    """See :class:`router.core.model.Link`."""

    source: Named[str] = Column(String, ForeignKey("data_centers.id"))
    target: Named[str] = Column(String, ForeignKey("data_centers.id"), index=True)
    transport: Named[str] = Column(String)
    capacity_mbps: Named[int] = Column(BigInteger)
    price_microusd_per_gb: Named[int | None] = Column(BigInteger)
    intent: Named[str] = Column(String)


class PolicyColumns(ResourceColumns):
    """See :class:`router.core.model.Policy`."""

    priority: Named[int] = Column(BigInteger)
    match_class: Named[str | None] = Column(String)
    match_pool: Named[str | None] = Column(String, ForeignKey("pools.id"), index=True)
    match_labels: Named[dict[str, str]] = Column(Json)
    allow_providers: Named[list[str] | None] = Column(Json)
    deny_providers: Named[list[str]] = Column(Json)
    allow_regions: Named[list[str] | None] = Column(Json)
    deny_regions: Named[list[str]] = Column(Json)
    allow_transports: Named[list[str] | None] = Column(Json)
    max_relays: Named[int | None] = Column(Integer)
    max_price_microusd_per_gb: Named[int | None] = Column(BigInteger)
    pin: Named[list[str]] = Column(Json)


class PoolColumns(LabelledColumns):
    """See :class:`router.core.model.Pool`."""

    traffic_class: Named[str] = Column(String)
    max_rtt_us: Named[int | None] = Column(BigInteger)
    queue_s: Named[int] = Column(Integer, server_default="0")
    agent_grace_s: Named[int] = Column(Integer, server_default="5")
    wrap_s: Named[int] = Column(Integer, server_default="0")
    reset: Named[bool] = Column(Boolean, server_default=false())
    max_sessions: Named[int] = Column(Integer, server_default="0")
    ramp_versions: Named[bool] = Column(Boolean, server_default=false())


class WebhookColumns(ResourceColumns):
    """See :class:`router.core.model.Webhook`; the secret must be readable, because it signs."""

    url: Named[str] = Column(String)
    secret: Named[str] = Column(String)
    events: Named[list[str]] = Column(Json)
    enabled: Named[bool] = Column(Boolean)


class OutboxColumns(TypedColumns):
    """A message to a webhook that has not been delivered yet; written in the transaction of its event."""

    id = Column(Serial, primary_key=True, autoincrement=True)
    webhook: Named[str] = Column(String, ForeignKey("webhooks.id", ondelete="CASCADE"))
    event: Named[int] = Column(BigInteger)
    subject: Named[str] = Column(String)
    created_at: Named[int] = Column(BigInteger)
    attempts: Named[int] = Column(Integer)
    next_at: Named[int] = Column(BigInteger)
    last_error: Named[str] = Column(String)


class WebhookStateColumns(TypedColumns):
    """How deliveries to a webhook go, and which control plane sees to them; its definition knows nothing of that."""

    webhook = Column(String, ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True)
    claimed_by: Named[str] = Column(String, server_default=text("''"))
    claimed_until: Named[int] = Column(BigInteger, server_default="0")
    failures: Named[int] = Column(Integer, server_default="0")  # attempts in a row
    failing_since: Named[int | None] = Column(BigInteger)
    rests_until: Named[int] = Column(BigInteger, server_default="0")
    delivered: Named[int] = Column(BigInteger, server_default="0")
    given_up: Named[int] = Column(BigInteger, server_default="0")
    delivered_at: Named[int | None] = Column(BigInteger)
    last_error: Named[str] = Column(String, server_default=text("''"))
    old_secret: Named[str | None] = Column(String)  # signs too, until its time is over
    old_secret_until: Named[int] = Column(BigInteger, server_default="0")


class AgentColumns(TypedColumns):
    """See :class:`router.core.model.Agent`; ``session`` stays when a busy agent is lost, so that it can be adopted."""

    id = Column(String, primary_key=True)
    pool: Named[str] = Column(String, ForeignKey("pools.id"))
    data_center: Named[str] = Column(String, ForeignKey("data_centers.id"), index=True)
    node: Named[str | None] = Column(String, ForeignKey("nodes.id"), index=True)
    state: Named[str] = Column(String)
    epoch: Named[int] = Column(BigInteger)
    session: Named[str | None] = Column(String, unique=True)
    address: Named[str] = Column(String)
    seen_at: Named[int] = Column(BigInteger)
    capacity: Named[int] = Column(Integer, server_default="1")
    held: Named[int] = Column(Integer, server_default="0")
    served: Named[int] = Column(BigInteger, server_default="0")
    cordoned: Named[bool] = Column(Boolean, server_default=false())
    nonce: Named[str] = Column(String, server_default=text("''"))
    agent_version: Named[str] = Column(String, server_default=text("''"))
    since: Named[int] = Column(BigInteger, server_default="0")
    deadline_at: Named[int | None] = Column(BigInteger)


class SessionColumns(TypedColumns):
    """See :class:`router.core.model.Session`; the client is flattened."""

    id = Column(String, primary_key=True)
    state: Named[str] = Column(String)
    traffic_class: Named[str] = Column(String)
    client_prefix: Named[str | None] = Column(String)
    client_asn: Named[int | None] = Column(BigInteger)
    client_country: Named[str | None] = Column(String)
    client_latitude: Named[float | None] = Column(Double)
    client_longitude: Named[float | None] = Column(Double)
    edge: Named[str] = Column(String)
    edge_node: Named[str | None] = Column(String)
    edges: Named[list[str]] = Column(Json)
    epoch: Named[int] = Column(BigInteger)
    created_at: Named[int] = Column(BigInteger)
    lease_expires_at: Named[int] = Column(BigInteger)
    pool: Named[str | None] = Column(String)
    agent: Named[str | None] = Column(String)
    agent_data_center: Named[str | None] = Column(String)
    moved_from: Named[str | None] = Column(String)
    constraints: Named[dict[str, Any]] = Column(Json)
    metadata: Named[dict[str, str]] = Column(Json)
    reasons: Named[list[str]] = Column(Json)
    ended_at: Named[int | None] = Column(BigInteger)
    end_reason: Named[str | None] = Column(String)
    agent_epoch: Named[int] = Column(BigInteger, server_default="0")
    queued_until: Named[int | None] = Column(BigInteger)
    rebound_at: Named[int | None] = Column(BigInteger)  # until its edge has confirmed that it follows to another agent
    held_by: Named[str | None] = Column(String)


class LegColumns(TypedColumns):
    """See :class:`router.core.model.Leg`; the client is flattened."""

    session = Column(String, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True)
    id = Column(String, primary_key=True)
    state: Named[str] = Column(String)
    client_prefix: Named[str | None] = Column(String)
    client_asn: Named[int | None] = Column(BigInteger)
    client_country: Named[str | None] = Column(String)
    client_latitude: Named[float | None] = Column(Double)
    client_longitude: Named[float | None] = Column(Double)
    edge: Named[str | None] = Column(String)
    edge_node: Named[str | None] = Column(String)
    edges: Named[list[str]] = Column(Json)
    epoch: Named[int] = Column(BigInteger)
    created_at: Named[int] = Column(BigInteger)
    lease_expires_at: Named[int] = Column(BigInteger)
    pool: Named[str | None] = Column(String)
    agent: Named[str | None] = Column(String)
    agent_data_center: Named[str | None] = Column(String)
    agent_epoch: Named[int] = Column(BigInteger)
    moved_from: Named[str | None] = Column(String)
    held_by: Named[str | None] = Column(String)
    metadata: Named[dict[str, str]] = Column(Json)
    reasons: Named[list[str]] = Column(Json)
    ended_at: Named[int | None] = Column(BigInteger)
    end_reason: Named[str | None] = Column(String)


class NodeLeaseColumns(TypedColumns):
    """Until when a media node holds the sessions whose users it has; one row instead of one write per session."""

    node = Column(String, primary_key=True)
    epoch: Named[int] = Column(BigInteger)  # of the node's process: it rises with each start
    expires_at: Named[int] = Column(BigInteger, index=True)


class DepartureColumns(TypedColumns):
    """A session that a node holds, or held last, and must let go of: it moved away, ended, or never belonged there.

    The row goes when the node says so, or when the user has arrived elsewhere.
    """

    node = Column(String, primary_key=True)
    session = Column(String, primary_key=True)
    stray: Named[bool] = Column(Boolean)  # the node claims it, we never placed it there: it has no say over it
    created_at: Named[int] = Column(BigInteger)


class IdempotencyColumns(TypedColumns):
    """What was answered to an ``Idempotency-Key``."""

    key = Column(String, primary_key=True)
    request_hash: Named[bytes] = Column(LargeBinary)
    session: Named[str] = Column(String)
    expires_at: Named[int] = Column(BigInteger, index=True)


class RampColumns(TypedColumns):
    """See :class:`router.core.model.Ramp`."""

    id = Column(String, primary_key=True)
    kind: Named[str] = Column(String)
    data_center: Named[str] = Column(String)
    state: Named[str] = Column(String)
    share_ppm: Named[int] = Column(Integer)
    reason: Named[str] = Column(String)
    created_at: Named[int] = Column(BigInteger)
    created_by: Named[str] = Column(String)
    since: Named[int] = Column(BigInteger)
    attempt: Named[int] = Column(Integer)
    exposed: Named[int] = Column(BigInteger)
    paused_from: Named[str | None] = Column(String)
    retry_at: Named[int | None] = Column(BigInteger)
    finished_at: Named[int | None] = Column(BigInteger)
    revision: Named[int] = Column(BigInteger)
    pool: Named[str] = Column(String, server_default=text("''"))  # empty: a data center's
    version: Named[str] = Column(String, server_default=text("''"))


class LaunchColumns(TypedColumns):
    """See :class:`router.core.capacity.machines.Launch`."""

    id = Column(String, primary_key=True)
    state: Named[str] = Column(String)
    pool: Named[str] = Column(String)
    need: Named[str] = Column(String)
    provider: Named[str] = Column(String)
    data_center: Named[str] = Column(String)
    region: Named[str] = Column(String)
    cloud_region: Named[str] = Column(String)
    size: Named[str] = Column(String)
    zone: Named[str | None] = Column(String)
    agents: Named[int] = Column(Integer)
    price_uusd_h: Named[int] = Column(BigInteger)
    node: Named[str] = Column(String)
    reason: Named[str] = Column(String)
    why: Named[list[str]] = Column(Json)
    created_at: Named[int] = Column(BigInteger)
    since: Named[int] = Column(BigInteger)
    machine: Named[str | None] = Column(String)
    refusal: Named[str] = Column(String)
    tries: Named[int] = Column(Integer)
    finished_at: Named[int | None] = Column(BigInteger)
    revision: Named[int] = Column(BigInteger)
    rung: Named[int] = Column(Integer, server_default="0")


class DrainColumns(TypedColumns):
    """See :class:`router.core.model.Drain`."""

    id = Column(String, primary_key=True)
    selector: Named[dict[str, str | None]] = Column(Json)
    mode: Named[str] = Column(String)
    state: Named[str] = Column(String)
    targets: Named[list[str]] = Column(Json)
    previous: Named[dict[str, str]] = Column(Json)
    reason: Named[str] = Column(String)
    created_at: Named[int] = Column(BigInteger)
    created_by: Named[str] = Column(String)
    deadline_at: Named[int | None] = Column(BigInteger)
    expires_at: Named[int | None] = Column(BigInteger)
    sessions_at_start: Named[int] = Column(BigInteger)
    finished_at: Named[int | None] = Column(BigInteger)
    revision: Named[int] = Column(BigInteger)
    origin: Named[str] = Column(String, server_default=text("'operator'"))
    share_ppm: Named[int] = Column(Integer, server_default="0")
    since: Named[int] = Column(BigInteger, server_default="0")
    stage_s: Named[int] = Column(Integer, server_default="0")
    paused_from: Named[str | None] = Column(String)
    note: Named[str] = Column(String, server_default=text("''"))
    nodes: Named[list[str]] = Column(Json, server_default=text("'[]'"))
    previous_nodes: Named[dict[str, str]] = Column(Json, server_default=text("'{}'"))
    receivers: Named[list[str]] = Column(Json, server_default=text("'[]'"))
    routes_through: Named[int] = Column(BigInteger, server_default="0")
    agents_behind: Named[dict[str, int]] = Column(Json, server_default=text("'{}'"))
    cut_at: Named[int | None] = Column(BigInteger)
    outcome: Named[str] = Column(String, server_default=text("''"))


class KeyColumns(TypedColumns):
    """See :class:`router.access.Key`; of the secret only a hash is kept."""

    id = Column(String, primary_key=True)
    scope: Named[str] = Column(String, index=True)
    name: Named[str] = Column(String)
    hash: Named[bytes] = Column(LargeBinary)
    created_at: Named[int] = Column(BigInteger)
    revoked_at: Named[int | None] = Column(BigInteger)


class JoinTokenColumns(TypedColumns):
    """Single-use permission for one node to join a data center, by its hash."""

    hash = Column(LargeBinary, primary_key=True)
    data_center: Named[str] = Column(String, ForeignKey("data_centers.id", ondelete="CASCADE"), index=True)
    created_at: Named[int] = Column(BigInteger)
    created_by: Named[str] = Column(String)
    expires_at: Named[int] = Column(BigInteger)
    used_at: Named[int | None] = Column(BigInteger)
    used_by: Named[str | None] = Column(String)
    name: Named[str | None] = Column(String)
    seed: Named[bytes | None] = Column(LargeBinary)


class EventColumns(TypedColumns):
    """See :class:`router.core.model.Event`: audit and decisions, numbered in the order they were written."""

    id = Column(Serial, primary_key=True, autoincrement=True)
    at: Named[int] = Column(BigInteger, index=True)
    kind: Named[str] = Column(String, index=True)
    subject: Named[str] = Column(String, index=True)
    actor: Named[str] = Column(String)
    reason: Named[str] = Column(String)
    detail: Named[dict[str, str | int | float | bool | None]] = Column(Json)


class HistoryColumns(TypedColumns):
    """One packed roll-up per source and time bucket, see :mod:`router.store.history`."""

    data_center = Column(String, primary_key=True)
    bucket_s = Column(Integer, primary_key=True, autoincrement=False)
    bucket_at = Column(BigInteger, primary_key=True, autoincrement=False, index=True)
    body: Named[bytes] = Column(LargeBinary)


class RouteChangeColumns(TypedColumns):
    """See :class:`router.core.messages.RouteChange`; NULL where there was no path."""

    source = Column(String, primary_key=True)
    target = Column(String, primary_key=True)
    traffic_class = Column(String, primary_key=True)
    generation = Column(BigInteger, primary_key=True, autoincrement=False)
    at: Named[int] = Column(BigInteger, index=True)
    from_path: Named[list[str] | None] = Column(Json)
    to_path: Named[list[str] | None] = Column(Json)


class ControlPlaneColumns(TypedColumns):
    """The one row about the control plane itself: how often it booted, and the secret that signs session tokens."""

    id = Column(Integer, primary_key=True, autoincrement=False)
    epoch: Named[int] = Column(BigInteger)
    secret: Named[bytes] = Column(LargeBinary)


class SavedTableColumns(TypedColumns):
    """The one row with the last route table, so that a restart can answer at once."""

    id = Column(Integer, primary_key=True, autoincrement=False)
    body: Named[bytes] = Column(LargeBinary)


def _where(condition: str) -> dict[str, Any]:
    clause: ColumnElement[bool] = literal_column(condition)
    return {"sqlite_where": clause, "postgresql_where": clause}


# Partial indexes: ended sessions pile up, and no question about load or leases may slow down with them. A query uses
# one only if it repeats the condition literally, see ``LIVE`` and ``READY``.
_LIVE = _where("state <> 'ended'")
_SESSION_INDEXES: tuple[SchemaItem, ...] = (
    # All that counting sessions per edge and per flow reads, so that no row of a million is touched for it; ``state``
    # because SQLite looks at it although the condition says enough.
    Index("ix_sessions_live_flow", "edge", "agent_data_center", "traffic_class", "state", **_LIVE),
    Index("ix_sessions_live_edge_node", "edge_node", **_LIVE),
    Index("ix_sessions_live_agent_data_center", "agent_data_center", **_LIVE),
    Index("ix_sessions_live_moved_from", "moved_from", **_where("moved_from IS NOT NULL")),
    Index("ix_sessions_live_pool", "pool", **_LIVE),
    Index("ix_sessions_live_lease_expires_at", "lease_expires_at", **_where("state <> 'ended' AND held_by IS NULL")),
    Index("ix_sessions_held_by", "held_by", **_where("held_by IS NOT NULL")),
    Index("ix_sessions_ended_at", "ended_at", **_where("ended_at IS NOT NULL")),
    Index("ix_sessions_queued", "pool", "created_at", "id", **_where("state = 'queued'")),
    Index("ix_sessions_live_agent", "agent", **_LIVE),
    Index("ix_sessions_unbound", "pool", **_where("state <> 'ended' AND agent IS NULL AND pool IS NOT NULL")),
    Index("ix_sessions_rebound", "id", **_where("rebound_at IS NOT NULL")),
)
_LEG_INDEXES: tuple[SchemaItem, ...] = (
    Index("ix_legs_live_edge_node", "edge_node", **_LIVE),
    Index("ix_legs_live_lease_expires_at", "lease_expires_at", **_where("state <> 'ended' AND held_by IS NULL")),
    Index("ix_legs_held_by", "held_by", **_where("held_by IS NOT NULL")),
    Index("ix_legs_live_agent", "agent", **_LIVE),
)

providers = Table("providers", metadata, ProviderColumns)
regions = Table("regions", metadata, RegionColumns)
data_centers = Table("data_centers", metadata, DataCenterColumns)
nodes = Table("nodes", metadata, NodeColumns)
links = Table("links", metadata, LinkColumns, UniqueConstraint("source", "target", "transport"))
policies = Table("policies", metadata, PolicyColumns)
pools = Table("pools", metadata, PoolColumns)
agents = Table(
    "agents",
    metadata,
    AgentColumns,
    # In the order in which they are taken, so that a pool of thousands is not sorted for each batch.
    Index("ix_agents_ready", "pool", "data_center", desc("held"), "id", **_where("state = 'ready'")),
    Index("ix_agents_deadline_at", "deadline_at", **_where("deadline_at IS NOT NULL")),
)
sessions = Table("sessions", metadata, SessionColumns, *_SESSION_INDEXES)
legs = Table("legs", metadata, LegColumns, *_LEG_INDEXES)
webhooks = Table("webhooks", metadata, WebhookColumns)
outbox = Table(
    "outbox",
    metadata,
    OutboxColumns,
    Index(None, "webhook", "event"),
    Index(None, "webhook", "next_at"),
    Index(None, "webhook", "subject", "event"),
    sqlite_autoincrement=True,
)
webhook_states = Table("webhook_states", metadata, WebhookStateColumns)
node_leases = Table("node_leases", metadata, NodeLeaseColumns)
departures = Table("departures", metadata, DepartureColumns, Index("ix_departures_session", "session"))
idempotency = Table("idempotency_keys", metadata, IdempotencyColumns)
drains = Table("drains", metadata, DrainColumns)
ramps = Table(
    "ramps",
    metadata,
    RampColumns,
    Index(
        "uq_ramps_open",
        "data_center",
        "pool",
        "version",
        unique=True,
        **_where("state <> 'serving' AND state <> 'withdrawn'"),
    ),
)
launches = Table(
    "launches",
    metadata,
    LaunchColumns,
    Index("ix_launches_finished_at", "finished_at", **_where("finished_at IS NOT NULL")),
)
keys = Table("keys", metadata, KeyColumns)
join_tokens = Table("join_tokens", metadata, JoinTokenColumns)
events = Table("events", metadata, EventColumns, sqlite_autoincrement=True)
history = Table("history", metadata, HistoryColumns)
route_changes = Table("route_changes", metadata, RouteChangeColumns)
control_plane = Table("control_plane", metadata, ControlPlaneColumns)
saved_table = Table("saved_table", metadata, SavedTableColumns)

RESOURCES = {
    "providers": providers,
    "regions": regions,
    "data-centers": data_centers,
    "nodes": nodes,
    "links": links,
    "policies": policies,
    "pools": pools,
}
LIVE = sessions.c.state != literal_column("'ended'")
QUEUED = sessions.c.state == literal_column("'queued'")
LIVE_LEG = legs.c.state != literal_column("'ended'")
# Joined to a session or leg when it is read: a held one lives by its node's lease.
HOLDER_UNTIL = (
    select(node_leases.c.expires_at).where(node_leases.c.node == sessions.c.held_by).scalar_subquery()
).label("holder_until")
LEG_HOLDER_UNTIL = (
    select(node_leases.c.expires_at).where(node_leases.c.node == legs.c.held_by).scalar_subquery()
).label("holder_until")
READY = agents.c.state == literal_column("'ready'")
# Whether the version of an agent is on a ramp; a further condition on that ramp fits into it.
ON_RAMP = """EXISTS (SELECT 1 FROM ramps WHERE ramps.data_center = '' AND ramps.pool = agents.pool
    AND ramps.version = agents.agent_version AND ramps.state <> 'serving' AND ramps.state <> 'withdrawn'{})"""
# Agents of a machine that is drained keep what they hold and take nobody, as if they were cordoned.
ON_OPEN_MACHINE = """agents.node IS NULL OR NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.id = agents.node
    AND nodes.intent NOT IN ('serving', 'canary'))"""
# Agents that somebody may take: what was rolled back counts as little as what is cordoned.
OPEN_TO_TAKERS = and_(
    READY, ~agents.c.cordoned, text("NOT " + ON_RAMP.format(" AND ramps.share_ppm = 0")), text(f"({ON_OPEN_MACHINE})")
)
