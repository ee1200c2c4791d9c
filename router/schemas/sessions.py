"""Sessions: placement bodies and answers, resume, heartbeats of nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from router.core.model import (
    Client,
    DataCenterId,
    Inventory,
    Leg,
    NodeId,
    PoolId,
    Session,
    SessionState,
    TrafficClass,
)
from router.core.ramp import RESERVED
from router.core.solve import RouteAnswer
from router.core.steering import Placement, PlaceRequest, RankedEdge, Rejected
from router.schemas.clients import (
    ClientAnswer,
    ClientBody,
    ConstraintsAnswer,
    ConstraintsBody,
    client_json,
    constraints_json,
)
from router.schemas.fields import Answer, Body, Count, DelayMs, Epoch, Id, LossPct, Text, no_repeats
from router.schemas.routes import Backups, Path, backups_json, path_json
from router.schemas.units import known_ms, known_rfc3339, rfc3339

MetadataKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$", max_length=63)]


def _nobody_elses(labels: dict[str, str]) -> dict[str, str]:
    mine = sorted(key for key in labels if key.startswith(RESERVED))
    if mine:
        raise ValueError(f"{mine[0]}: keys that begin with {RESERVED} are Tendril's own")
    return labels


def _in_order(labels: dict[str, str]) -> dict[str, str]:
    return dict(sorted(labels.items()))  # so that the fingerprint of a request does not depend on it


Labels = Annotated[dict[MetadataKey, Text], AfterValidator(_in_order)]
Metadata = Annotated[Labels, AfterValidator(_nobody_elses)]
Token = Annotated[str, StringConstraints(pattern=r"^[!-~]+$", max_length=512)]
HeldId = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}(/[a-z0-9][a-z0-9-]{0,62})?$", max_length=127),
    Field(description="a session, or `SESSION/LEG`"),
]
MAX_CHANGED = 10_000  # sessions named in one heartbeat
MAX_UNREACHABLE = 16  # three times as many edges as a user is offered at once


class PlaceBody(Body):
    """A session to place."""

    client: ClientBody
    pool: Id | None = None
    to: Id | None = None
    traffic_class: TrafficClass | None = Field(default=None, alias="class", description="default: the pool's, or voice")
    constraints: ConstraintsBody = Field(default_factory=ConstraintsBody)  # a default would be copied deeply each time
    queue_s: Annotated[int, Field(ge=0, le=300)] | None = Field(
        default=None, description="how long it may wait for an agent; 0: not at all; default: the pool's"
    )
    metadata: Annotated[Metadata, Field(max_length=32)] = Field(default_factory=dict)

    def core(self, inventory: Inventory, seed: str, located: Callable[[Client], Client]) -> PlaceRequest:
        """Map to the core type; ``located`` adds what is known of the client's address."""
        pool = None if self.pool is None else inventory.pools.get(PoolId(self.pool))
        default = TrafficClass.VOICE if pool is None else pool.traffic_class
        return PlaceRequest(
            client=located(self.client.core()),
            traffic_class=self.traffic_class or default,
            pool=None if self.pool is None else PoolId(self.pool),
            to=None if self.to is None else DataCenterId(self.to),
            constraints=self.constraints.core(),
            seed=seed,
            labels=self.metadata,
        )


class ResumeBody(Body):
    """A session's newest token, where its user is now, and which edges did not answer it."""

    token: Token
    client: ClientBody
    unreachable: Annotated[
        list[Id],
        Field(max_length=MAX_UNREACHABLE, description="data centers whose edge did not answer: not offered again now"),
        AfterValidator(no_repeats),
    ] = Field(default_factory=list)


class ChangedSession(Body):
    """What happened to one session, or one further leg of one, on a node since its last heartbeat."""

    id: HeldId
    event: Literal["attached", "detached", "ended", "rebound"] | None = None
    rtt_ms: DelayMs | None = None
    loss_pct: LossPct | None = None
    jitter_ms: DelayMs | None = None


class Totals(Body):
    """A node's sums since its last heartbeat."""

    sessions: Count = 0
    good: Count = 0
    bad: Count = 0
    setup_failures: Count = 0


class HeartbeatBody(Body):
    """A node renews the lease over all its sessions and says what changed."""

    node: Id
    epoch: Epoch
    changed: Annotated[list[ChangedSession], Field(max_length=MAX_CHANGED)] = Field(default_factory=list)
    totals: Totals = Totals()


class Edge(Answer):
    """The edge a user connects to."""

    data_center: str
    node: str | None
    url: str


class RankedEdgeAnswer(Answer):
    """An edge in order of preference; the numbers are those of the moment of placement."""

    data_center: str
    node: str | None
    url: str
    hub: str | None
    access_ms: float | None
    access_provenance: str | None
    forward_ms: float | None
    return_ms: float | None
    total_ms: float | None
    reason: str | None


class RejectedAnswer(Answer):
    """A data center that was not chosen, and by which rule."""

    data_center: str
    rule: str
    detail: str


class SteerAnswer(Answer):
    """A dry placement."""

    generation: int
    edges: list[RankedEdgeAnswer]
    hubs: list[str]
    rejected: list[RejectedAnswer]
    reasons: list[str]


class BoundAgent(Answer):
    """The agent a session is bound to."""

    id: str
    data_center: str
    address: str


class LegSummary(Answer):
    """A leg as a session shows it."""

    id: str
    state: SessionState
    client: ClientAnswer | None
    edge: str | None
    node: str | None
    pool: str | None
    agent: str | None
    agent_data_center: str | None
    epoch: int
    moved_from: str | None
    created_at: str
    metadata: dict[str, str]
    ended_at: str | None
    end_reason: str | None


class SessionAnswer(Answer):
    """A session; ``token`` is given to who starts or resumes it, and to nobody else."""

    id: str
    state: SessionState
    traffic_class: TrafficClass = Field(alias="class")
    client: ClientAnswer
    edge: Edge
    edges: list[RankedEdgeAnswer]
    agent: BoundAgent | None
    pool: str | None
    to: str | None
    generation: int
    forward: Path | None
    back: Path | None = Field(alias="return")
    backups: Backups
    epoch: int
    token: str | None
    created_at: str
    lease_expires_at: str
    grace_s: int
    moved_from: str | None
    position: int | None = Field(description="place in the queue of its pool, from 1; null unless it waits")
    queued_until: str | None = Field(description="when it is refused unless an agent becomes free")
    constraints: ConstraintsAnswer
    metadata: dict[str, str]
    reasons: list[str]
    ended_at: str | None
    end_reason: str | None
    legs: list[LegSummary] = Field(description="further legs, ended ones too")


class SessionList(Answer):
    """One page of sessions."""

    items: list[SessionAnswer]
    next: str | None


class Move(Answer):
    """A session that a node must hand to another edge."""

    id: str
    source: str = Field(alias="from")
    target: str = Field(alias="to")
    url: str
    edges: list[str]
    token: str
    deadline_s: int


class End(Answer):
    """A session that a node must close."""

    id: str
    reason: str | None


class ReboundAnswer(Answer):
    """A session whose agent was lost: its media goes to another one; confirmed by the event ``rebound``."""

    id: str
    agent: BoundAgent


class HeartbeatAnswer(Answer):
    """What a node must carry out, and until when its sessions are its own."""

    moves: list[Move]
    ends: list[End]
    rebound: list[ReboundAnswer]
    lease_expires_at: str


def ranked_json(edge: RankedEdge) -> dict[str, object]:
    """Return the JSON form of a ranked edge."""
    return {
        "data_center": edge.data_center,
        "node": edge.node,
        "url": edge.url,
        "hub": edge.hub,
        "access_ms": known_ms(edge.access_us),
        "access_provenance": edge.access_provenance,
        "forward_ms": known_ms(edge.forward_us),
        "return_ms": known_ms(edge.return_us),
        "total_ms": known_ms(edge.total_us),
        "reason": edge.reason,
    }


def rejected_json(rejected: Sequence[Rejected]) -> list[dict[str, object]]:
    """Return the JSON form of what was not chosen."""
    return [{"data_center": r.data_center, "rule": r.rule, "detail": r.detail} for r in rejected]


def steer_json(placement: Placement) -> dict[str, object]:
    """Return the JSON form of a dry placement."""
    return {
        "generation": placement.generation,
        "edges": [ranked_json(edge) for edge in placement.edges],
        "hubs": list(placement.hubs),
        "rejected": rejected_json(placement.rejected),
        "reasons": list(placement.reasons),
    }


def edge_url(inventory: Inventory, data_center: DataCenterId, node: NodeId | None) -> str:
    """Where users reach an edge: the node's own address, else the data center's, else that of its first node."""
    found = None if node is None else inventory.nodes.get(node)
    if found is not None and found.media_url:
        return found.media_url
    dc = inventory.data_centers.get(data_center)
    if dc is None:
        return ""
    beside = (other.media_url for other in inventory.nodes_by_data_center[dc.id] if other.media_url)
    return dc.media_url or next(beside, "")


def _remembered(inventory: Inventory, session: Session) -> list[dict[str, object]]:
    numbers = ("access_ms", "access_provenance", "forward_ms", "return_ms", "total_ms", "reason")
    rows: list[dict[str, object]] = []
    for dc in session.edges:
        node = session.edge_node if dc == session.edge else None
        place = {
            "data_center": dc,
            "node": node,
            "url": edge_url(inventory, dc, node),
            "hub": session.agent_data_center,
        }
        rows.append(place | dict.fromkeys(numbers))
    return rows


def summary_json(leg: Leg) -> dict[str, object]:
    """Return a leg as a session shows it."""
    return {
        "id": leg.id,
        "state": leg.state,
        "client": None if leg.edge is None else client_json(leg.client),
        "edge": leg.edge,
        "node": leg.edge_node,
        "pool": leg.pool,
        "agent": leg.agent,
        "agent_data_center": leg.agent_data_center,
        "epoch": leg.epoch,
        "moved_from": leg.moved_from,
        "created_at": rfc3339(leg.created_at),
        "metadata": dict(leg.metadata),
        "ended_at": known_rfc3339(leg.ended_at),
        "end_reason": leg.end_reason,
    }


def session_json(
    session: Session,
    inventory: Inventory,
    route: RouteAnswer | None,
    *,
    agent_address: str,
    generation: int,
    grace_s: int,
    token: str | None = None,
    ranked: Sequence[RankedEdge] = (),
    legs: Sequence[dict[str, object]] = (),
    position: int | None = None,
) -> dict[str, object]:
    """Return the JSON form of a session; ``route`` is edge -> agent at the moment of reading."""
    head, tail = session_ends_json(
        session, inventory, agent_address=agent_address, generation=generation, grace_s=grace_s, token=token,
        ranked=ranked, position=position, legs=legs,
    )  # fmt: skip
    return head | ways_json(route) | tail


def ways_json(route: RouteAnswer | None) -> dict[str, object]:
    """Return the middle of a session's JSON form: the paths in force."""
    forward, back = (None, None) if route is None else (route.forward, route.back)
    return {
        "forward": None if forward is None else path_json(forward),
        "return": None if back is None else path_json(back),
        "backups": backups_json(
            () if route is None else route.backups_forward, () if route is None else route.backups_return
        ),
    }


def session_ends_json(
    session: Session,
    inventory: Inventory,
    *,
    agent_address: str,
    generation: int,
    grace_s: int,
    token: str | None = None,
    ranked: Sequence[RankedEdge] = (),
    legs: Sequence[dict[str, object]] = (),
    position: int | None = None,
) -> tuple[dict[str, object], dict[str, object]]:
    """Return what comes before the paths in a session's JSON form, and what comes after them."""
    agent = {"id": session.agent, "data_center": session.agent_data_center, "address": agent_address}
    head: dict[str, object] = {
        "id": session.id,
        "state": session.state,
        "class": session.traffic_class,
        "client": client_json(session.client),
        "edge": {
            "data_center": session.edge,
            "node": session.edge_node,
            "url": edge_url(inventory, session.edge, session.edge_node),
        },
        "edges": [ranked_json(edge) for edge in ranked] or _remembered(inventory, session),
        "agent": None if session.agent is None else agent,
        "pool": session.pool,
        "to": session.agent_data_center,
        "generation": generation,
    }
    tail: dict[str, object] = {
        "epoch": session.epoch,
        "token": token,
        "created_at": rfc3339(session.created_at),
        "lease_expires_at": rfc3339(session.lease_expires_at),
        "grace_s": grace_s,
        "moved_from": session.moved_from,
        "position": position,
        "queued_until": known_rfc3339(session.queued_until),
        "constraints": constraints_json(session.constraints),
        "metadata": dict(session.metadata),
        "reasons": list(session.reasons),
        "ended_at": known_rfc3339(session.ended_at),
        "end_reason": session.end_reason,
        "legs": list(legs),
    }
    return head, tail
