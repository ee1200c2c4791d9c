"""Frozen facts and typed ids: what operators configured and what the database holds.

Units are in the names: ``_us`` microseconds, ``_ppm`` parts per million, ``_s`` seconds; times (``…_at``) are integer
microseconds since the Unix epoch. Mappings are plain dicts built in sorted order and never changed after construction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import NewType

Micros = int
ProviderId = NewType("ProviderId", str)
RegionId = NewType("RegionId", str)
DataCenterId = NewType("DataCenterId", str)
NodeId = NewType("NodeId", str)
LinkId = NewType("LinkId", str)
PolicyId = NewType("PolicyId", str)
PoolId = NewType("PoolId", str)
AgentId = NewType("AgentId", str)
SessionId = NewType("SessionId", str)
LegId = NewType("LegId", str)
WebhookId = NewType("WebhookId", str)
DrainId = NewType("DrainId", str)
RampId = NewType("RampId", str)
KeyId = NewType("KeyId", str)

ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
ID_REGEX = re.compile(ID_PATTERN)
MAX_TRANSPORTS = 4  # parallel links between two data centers; the kernel keeps two bits for the choice
MAX_CONTEXTS = 32  # (traffic class x policy) route tables
MAX_RELAYS = 3  # what a path, a table and the relay header have room for
DEFAULT_MAX_RELAYS = 2  # one is nearly always enough (RON, SOSP 2001); a third must be asked for by a policy
DEFAULT_TRANSPORT = "internet"  # every ordered pair of data centers is presumed to have it


class Intent(StrEnum):
    """What operators asked of a target; measurement never overwrites it."""

    SERVING = "serving"
    CANARY = "canary"
    CORDONED = "cordoned"
    DRAINING = "draining"
    DRAINED = "drained"
    RETIRED = "retired"

    @property
    def takes_new_sessions(self) -> bool:
        """Whether placement may choose it."""
        return self in (Intent.SERVING, Intent.CANARY)

    @property
    def relays(self) -> bool:
        """Whether new routes may pass through it; a canary would expose everybody on such a route, not its share."""
        return self is Intent.SERVING


class Role(StrEnum):
    """What a data center is for; one may be both."""

    EDGE = "edge"
    HUB = "hub"


class TrafficClass(StrEnum):
    """What the bytes are; each class has its own metric."""

    VOICE = "voice"
    AGENT = "agent"
    VIDEO = "video"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Provider:
    """Who runs machines."""

    id: ProviderId
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Region:
    """A market on the map."""

    id: RegionId
    name: str = ""
    country: str = ""  # ISO 3166-1 alpha-2, upper case, or empty
    latitude: float | None = None
    longitude: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0


@dataclass(frozen=True, slots=True)
class DataCenter:
    """One provider's presence in one region: the vertex of the graph."""

    id: DataCenterId
    provider: ProviderId
    region: RegionId
    roles: tuple[Role, ...] = (Role.EDGE,)
    latitude: float | None = None  # None: no position is known, and nothing may be inferred from geography
    longitude: float | None = None
    capacity_sessions: int = 0  # 0: unlimited
    capacity_mbps: int = 0  # 0: unlimited
    egress_microusd_per_gb: int | None = None
    media_url: str = ""
    intent: Intent = Intent.SERVING
    labels: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """One machine in a data center; ``addresses`` maps a transport to the host or IP others reach it at."""

    id: NodeId
    data_center: DataCenterId
    addresses: Mapping[str, str] = field(default_factory=dict)
    reflector_port: int = 862
    relay_port: int = 0  # 0: does not relay
    media_url: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0
    intent: Intent = Intent.SERVING  # of this machine; its data center's own intent counts as well


@dataclass(frozen=True, slots=True)
class Link:
    """A configured directed adjacency; the presumed ``internet`` mesh needs none."""

    id: LinkId
    source: DataCenterId
    target: DataCenterId
    transport: str = DEFAULT_TRANSPORT
    capacity_mbps: int = 0
    price_microusd_per_gb: int | None = None
    intent: Intent = Intent.SERVING
    labels: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """Constraints on paths for the traffic it matches; an empty match is everything. Highest priority wins."""

    id: PolicyId
    priority: int = 0
    match_class: TrafficClass | None = None
    match_pool: PoolId | None = None
    match_labels: Mapping[str, str] = field(default_factory=dict)
    allow_providers: tuple[ProviderId, ...] | None = None
    deny_providers: tuple[ProviderId, ...] = ()
    allow_regions: tuple[RegionId, ...] | None = None
    deny_regions: tuple[RegionId, ...] = ()
    allow_transports: tuple[str, ...] | None = None
    max_relays: int | None = None
    max_price_microusd_per_gb: int | None = None
    pin: tuple[DataCenterId, ...] = ()
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """A set of interchangeable stateful agents."""

    id: PoolId
    traffic_class: TrafficClass = TrafficClass.AGENT
    max_rtt_us: int | None = None  # cap on user -> agent round trip at placement; None: best effort
    labels: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0
    queue_s: int = 0  # how long a session may wait for an agent; 0: it is refused at once
    agent_grace_s: int = 5  # a session whose agent is lost waits so long for it before it gets another one
    wrap_s: int = 0  # how long an agent may finish up after its session; 0: it is free at once
    reset: bool = False  # an agent must attest that it forgot its last session before it is ready again
    max_sessions: int = 0  # sessions after which an agent retires; 0: never
    ramp_versions: bool = False  # a version of agents that the pool does not have yet takes a share of users first


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told of events, signed by the Standard Webhooks scheme."""

    id: WebhookId
    url: str
    secret: str  # ``whsec_`` and base64
    events: tuple[str, ...] = ()  # kinds, or their first part (``session``); none: all
    enabled: bool = True
    revision: int = 0


Resource = Provider | Region | DataCenter | Node | Link | Policy | Pool
KINDS: Mapping[str, type[Resource]] = {
    "providers": Provider,
    "regions": Region,
    "data-centers": DataCenter,
    "nodes": Node,
    "links": Link,
    "policies": Policy,
    "pools": Pool,
}


def kind_of(resource: Resource) -> str:
    """Return the collection name of a resource, as in the HTTP path."""
    return next(kind for kind, cls in KINDS.items() if type(resource) is cls)


@dataclass(frozen=True)
class Inventory:
    """All configured resources; every mapping is in id order. Derived indexes are computed once and kept."""

    providers: Mapping[ProviderId, Provider] = field(default_factory=dict)
    regions: Mapping[RegionId, Region] = field(default_factory=dict)
    data_centers: Mapping[DataCenterId, DataCenter] = field(default_factory=dict)
    nodes: Mapping[NodeId, Node] = field(default_factory=dict)
    links: Mapping[LinkId, Link] = field(default_factory=dict)
    policies: Mapping[PolicyId, Policy] = field(default_factory=dict)
    pools: Mapping[PoolId, Pool] = field(default_factory=dict)

    @cached_property
    def index(self) -> Mapping[DataCenterId, int]:
        """Vertex number of each data center: its place in id order."""
        return {dc: i for i, dc in enumerate(self.data_centers)}

    @cached_property
    def transports(self) -> tuple[str, ...]:
        """Transports in index order: the presumed one first, then the configured ones by name."""
        named = {link.transport for link in self.links.values()} - {DEFAULT_TRANSPORT}
        return (DEFAULT_TRANSPORT, *sorted(named))

    @cached_property
    def nodes_by_data_center(self) -> Mapping[DataCenterId, tuple[Node, ...]]:
        """Nodes of each data center in id order; data centers without nodes are present with ``()``."""
        found: dict[DataCenterId, list[Node]] = {dc: [] for dc in self.data_centers}
        for node in self.nodes.values():
            found[node.data_center].append(node)
        return {dc: tuple(nodes) for dc, nodes in found.items()}

    @cached_property
    def meeting_nodes(self) -> Mapping[DataCenterId, Node | None]:
        """Per data center the node that all its siblings probe: the first one with an address; None without any."""
        return {
            dc: next((node for node in nodes if node.addresses.get(DEFAULT_TRANSPORT)), None)
            for dc, nodes in self.nodes_by_data_center.items()
        }


class SessionState(StrEnum):
    """Where a session is in its life; the table is ``pools.SESSION_TRANSITIONS``."""

    QUEUED = "queued"  # waits for an agent of its pool
    ATTACHING = "attaching"  # placed, the user has not arrived at the edge yet
    ACTIVE = "active"
    MOVING = "moving"  # another edge is chosen; the user is still at the old one
    DETACHED = "detached"  # the user is gone; grace is running
    ENDED = "ended"

    @property
    def live(self) -> bool:
        """Whether it holds an agent and counts towards load."""
        return self is not SessionState.ENDED


class AgentState(StrEnum):
    """Life of a stateful agent; the table is ``pools.AGENT_TRANSITIONS``. Only ``ready`` ones are taken."""

    ANNOUNCED = "announced"  # known, has not said that it is coming up
    WARMING = "warming"  # loads its model
    READY = "ready"  # has room for a session
    RESERVED = "reserved"  # taken; the user has not arrived yet
    BUSY = "busy"  # talks, and has no room left
    WRAPPING = "wrapping"  # the user is gone, it finishes up
    RESETTING = "resetting"  # forgets its last session, and must attest it
    BROKEN = "broken"  # did not warm up or reset in time
    SUSPECT = "suspect"  # was not heard of lately
    LOST = "lost"  # was not heard of for too long; fenced
    RETIRED = "retired"  # will not come back


@dataclass(frozen=True, slots=True)
class Client:
    """Who is calling, as coarse as we keep it: ``prefix`` is already truncated to /24 or /48."""

    prefix: str | None = None
    asn: int | None = None
    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True, slots=True)
class Constraints:
    """What a caller of ``POST /v1/sessions`` insists on."""

    allow_providers: tuple[ProviderId, ...] | None = None
    deny_providers: tuple[ProviderId, ...] = ()
    allow_regions: tuple[RegionId, ...] | None = None
    deny_regions: tuple[RegionId, ...] = ()
    max_rtt_us: int | None = None


@dataclass(frozen=True, slots=True)
class Agent:
    """One stateful worker; ``epoch`` is the fencing number of its current lease."""

    id: AgentId
    pool: PoolId
    data_center: DataCenterId
    node: NodeId | None = None
    state: AgentState = AgentState.READY
    epoch: int = 0
    session: SessionId | None = None
    address: str = ""  # where edges send its media, e.g. ``127.2.0.4:7423``
    seen_at: Micros = 0
    capacity: int = 1  # sessions it can hold at once
    held: int = 0  # sessions it holds
    served: int = 0  # sessions it has held since it registered
    cordoned: bool = False  # keeps what it holds, takes no more
    nonce: str = ""  # of its present instance; a reset is attested by another one
    agent_version: str = ""  # of its software, for canaries
    since: Micros = 0  # when it came into its state
    deadline_at: Micros | None = None  # when its state must have ended


@dataclass(frozen=True, slots=True)
class Session:
    """One stateful binding: a user's leg at an edge, an agent, and the paths between."""

    id: SessionId
    state: SessionState
    traffic_class: TrafficClass
    client: Client
    edge: DataCenterId
    edge_node: NodeId | None
    edges: tuple[DataCenterId, ...]  # ranked; the first is the chosen one
    epoch: int  # of the token; an older token is fenced
    created_at: Micros
    lease_expires_at: Micros
    pool: PoolId | None = None
    agent: AgentId | None = None
    agent_data_center: DataCenterId | None = None
    moved_from: DataCenterId | None = None  # while MOVING: the edge that still carries the user
    constraints: Constraints = field(default_factory=Constraints)
    metadata: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    ended_at: Micros | None = None
    end_reason: str | None = None
    agent_epoch: int = 0  # of the agent's lease on this session
    queued_until: Micros | None = None  # while QUEUED: when it is refused
    held_by: NodeId | None = None  # the node that has the user, and whose lease keeps the session


@dataclass(frozen=True, slots=True)
class Leg:
    """A further participant of a session: a person at an edge of their own, or another agent."""

    session: SessionId
    id: LegId
    client: Client
    edge: DataCenterId | None
    edge_node: NodeId | None
    edges: tuple[DataCenterId, ...]
    state: SessionState
    epoch: int
    created_at: Micros
    lease_expires_at: Micros
    pool: PoolId | None = None  # of an agent's leg
    agent: AgentId | None = None
    agent_data_center: DataCenterId | None = None
    agent_epoch: int = 0
    moved_from: DataCenterId | None = None
    held_by: NodeId | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    ended_at: Micros | None = None
    end_reason: str | None = None


class DrainMode(StrEnum):
    """How a drain treats live sessions."""

    SOFT = "soft"  # new ones leave in stages, live ones end by themselves until the deadline comes near
    HARD = "hard"  # no new ones at once, live ones are moved
    EMERGENCY = "emergency"  # the targets are dead: no new ones, and whoever is there resumes elsewhere by itself


class DrainOrigin(StrEnum):
    """Who wants a drain; the first of two wins where they overlap."""

    OPERATOR = "operator"
    PRACTICE = "practice"  # the calendar
    AUTOMATIC = "automatic"  # blame


class DrainState(StrEnum):
    """Progress of a drain; the table is ``drain.TRANSITIONS``."""

    CORDONED = "cordoned"  # emergency: no new sessions; live ones resume elsewhere by themselves
    SHIFTING = "shifting"  # soft: a falling share of new sessions is still taken
    BLEEDING = "bleeding"  # no new sessions, live ones end by themselves
    MOVING = "moving"  # live sessions are being moved
    FORCING = "forcing"  # the deadline of the agents is over: their sessions get other agents
    PAUSED = "paused"
    DRAINED = "drained"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Selector:
    """``provider=…, region=…, data_center=…, node=…``: all given parts must match."""

    provider: ProviderId | None = None
    region: RegionId | None = None
    data_center: DataCenterId | None = None
    node: NodeId | None = None


@dataclass(frozen=True, slots=True)
class Drain:
    """A committed drain with its frozen targets, what hung on them, and what each target's intent was before."""

    id: DrainId
    selector: Selector
    mode: DrainMode
    state: DrainState
    targets: tuple[DataCenterId, ...]  # whole data centers; empty where ``nodes`` are drained
    previous: Mapping[DataCenterId, Intent]
    reason: str
    created_at: Micros
    created_by: str
    deadline_at: Micros | None = None
    expires_at: Micros | None = None
    sessions_at_start: int = 0
    finished_at: Micros | None = None
    revision: int = 0
    origin: DrainOrigin = DrainOrigin.OPERATOR
    share_ppm: int = 0  # of new sessions that the targets may still take
    since: Micros = 0  # when it came into its state, or into its present share
    stage_s: int = 0  # how long each share is kept; 0: no stages
    paused_from: DrainState | None = None
    note: str = ""  # why it is in its state, if not by the operator's wish: the gate that was red, with its number
    nodes: tuple[NodeId, ...] = ()
    previous_nodes: Mapping[NodeId, Intent] = field(default_factory=dict)
    receivers: tuple[DataCenterId, ...] = ()  # where its sessions were to go when it began; the gates look at these
    routes_through: int = 0  # routes that relayed over the targets when it began
    agents_behind: Mapping[DataCenterId | NodeId, int] = field(default_factory=dict)  # places held when it began
    cut_at: Micros | None = None  # when sessions lose the agents that are still held; None: never
    outcome: str = ""  # of a practice


class RampKind(StrEnum):
    """What has to earn its users, and why."""

    NEW = "new"  # nobody has ever been served there
    RETURN = "return"  # it comes back from a drain
    VERSION = "version"  # not a data center: a version of a pool's agents that the pool did not have


class RampState(StrEnum):
    """Where a data center is on its way to all of its users; the table is ``ramp.TRANSITIONS``."""

    REGISTERED = "registered"  # it is in the inventory; no node of it speaks
    CONNECTED = "connected"  # a node reports; its clock is not known yet
    SHADOW = "shadow"  # probed from and to everyone, takes nobody
    SYNTHETIC = "synthetic"  # robots go through it, relay paths included; takes nobody
    CANARY = "canary"  # takes a share of its users
    SERVING = "serving"  # takes all of them: the end
    PAUSED = "paused"  # keeps its share until somebody resumes; is still rolled back if it is bad
    ROLLED_BACK = "rolled_back"  # was bad: takes nobody until the next try
    WITHDRAWN = "withdrawn"  # somebody wanted something else of it: the end


def subject_of(pool: PoolId, version: str) -> str:
    """What a version of a pool's agents is called where data centers stand as well; no id has an ``@``."""
    return f"{pool}@{version}"


@dataclass(frozen=True, slots=True)
class Ramp:
    """The way of one data center, or of one version of a pool's agents, from nobody to all of its users."""

    id: RampId
    kind: RampKind
    data_center: DataCenterId  # empty for a version
    state: RampState
    share_ppm: int  # of its users that may start sessions there
    reason: str  # of the last change
    created_at: Micros
    created_by: str
    since: Micros  # when it came into its state or its share
    attempt: int = 1
    exposed: int = 0  # sessions that were started there while it had to prove itself, as of the last change
    paused_from: RampState | None = None
    retry_at: Micros | None = None  # while rolled back: when the next attempt begins by itself; None: by a person
    finished_at: Micros | None = None
    revision: int = 0
    pool: PoolId = PoolId("")  # of a version; empty for a data center
    version: str = ""

    @property
    def subject(self) -> str:
        """What climbs: the id of a data center, or ``pool@version``."""
        return subject_of(self.pool, self.version) if self.pool else str(self.data_center)

    @property
    def open(self) -> bool:
        """Whether it still stands between the data center, or the version, and its users."""
        return self.state not in (RampState.SERVING, RampState.WITHDRAWN)


@dataclass(frozen=True, slots=True)
class Counters:
    """How much is where; the only form in which sessions and agents enter the View."""

    sessions: Mapping[DataCenterId, int] = field(default_factory=dict)  # live sessions per edge
    idle: Mapping[tuple[PoolId, DataCenterId], int] = field(default_factory=dict)
    busy: Mapping[tuple[PoolId, DataCenterId], int] = field(default_factory=dict)
    idle_on: Mapping[NodeId, int] = field(default_factory=dict)  # the same of agents that name their machine
    held_on: Mapping[NodeId, int] = field(default_factory=dict)


Flow = tuple[DataCenterId, DataCenterId, TrafficClass]  # edge, data center of the agent, class


@dataclass(frozen=True, slots=True)
class Event:
    """One line of audit or decision, newest last; ``kind`` is dotted, such as ``data_center.down``."""

    at: Micros
    kind: str
    subject: str
    actor: str = "tendril"
    reason: str = ""
    detail: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
