"""Placement: which edge, which agent's data center, and why not the others.

``place`` is a pure function of the View. It scores every (edge, hub) pair by the whole way a word travels: access leg
there and back, the route in force from edge to hub and the route back. Edges pass an ordered chain of filters; each
rejection keeps its rule. Among near-equals the emptier edge wins, then rendezvous hashing of the session's seed.

Nothing is ever placed on what an operator cordoned, drained or retired, whatever the shortage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from router.core import policy as rules
from router.core.clients import Access, access_legs
from router.core.kernel import UNREACHABLE
from router.core.model import (
    Client,
    Constraints,
    DataCenter,
    DataCenterId,
    Micros,
    NodeId,
    Policy,
    PoolId,
    Role,
    TrafficClass,
)
from router.core.tables import I64, UNKNOWN, Context, Health, View

NEAR_EQUAL_US = 2_000  # edges whose whole way differs by less are equally good; load decides
RANKED = 5  # edges handed to the client to race
DEGRADED_PENALTY_US = 50_000  # a degraded edge is a choice only where nothing healthy is within 50 ms


@dataclass(frozen=True, slots=True)
class PlaceRequest:
    """What is to be placed. ``agent_data_center`` fixes the far end (moves keep the agent); ``seed`` spreads."""

    client: Client
    traffic_class: TrafficClass
    pool: PoolId | None = None
    to: DataCenterId | None = None
    constraints: Constraints = field(default_factory=Constraints)
    seed: str = ""
    sticky: DataCenterId | None = None
    exclude: tuple[DataCenterId, ...] = ()
    agent_data_center: DataCenterId | None = None
    labels: Mapping[str, str] = field(default_factory=dict)  # a session's metadata, for policies that match labels


@dataclass(frozen=True, slots=True)
class RankedEdge:
    """An edge with its predicted one-way legs and the round trip of the whole way; -1 or None where unknown."""

    data_center: DataCenterId
    node: NodeId | None
    url: str
    hub: DataCenterId | None
    access_us: int
    access_provenance: str
    forward_us: int | None
    return_us: int | None
    total_us: int
    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A data center that was not chosen, and the rule that excluded it."""

    data_center: DataCenterId
    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class Placement:
    """Ranked edges, the hubs to take an agent from in order, and the trace of the decision."""

    edges: tuple[RankedEdge, ...]
    hubs: tuple[DataCenterId, ...]
    rejected: tuple[Rejected, ...]
    reasons: tuple[str, ...]
    generation: int


@dataclass(frozen=True, slots=True)
class Refused:
    """No placement, as a value: a stable code, a sentence, and what was tried."""

    code: str
    reason: str
    rejected: tuple[Rejected, ...]


def place(view: View, request: PlaceRequest, now: Micros) -> Placement | Refused:
    """Choose edges and hubs for a new or moving session."""
    policy_id = rules.matching(view.inventory, request.traffic_class, request.pool, request.labels)
    policy = view.inventory.policies[policy_id] if policy_id is not None else None
    access = access_legs(view.inventory, request.client)
    fit, rejected = _eligible_edges(view, request, policy)
    if not fit:
        return Refused("no_edge", "no data center may take this session; see rejected for each rule", rejected)
    hubs = _hubs(view, request, policy)
    if hubs is not None and not hubs:
        return Refused("no_idle_agent", f"pool {request.pool} has no idle agent in an allowed data center", rejected)
    scored = _score(view, request, Context(request.traffic_class, policy_id), fit, hubs, access)
    if not scored:
        return Refused("no_path", "no allowed edge has a path to the agent both ways", rejected)
    cap = _cap_us(view, request)
    within = [e for e in scored if cap is None or e.total_us <= cap]
    if not within:
        best = scored[0].total_us / 1000
        return Refused("max_rtt", f"best whole way is {best:.1f} ms, the limit is {(cap or 0) / 1000:.1f} ms", rejected)
    ranked = _prefer_sticky(_spread(view, within, request.seed), request.sticky)
    edges = tuple(ranked[:RANKED])
    order = _hub_order(view, Context(request.traffic_class, policy_id), ranked[0], hubs)
    return Placement(edges, order, rejected, _reasons(edges, policy), view.generation)


def _cap_us(view: View, request: PlaceRequest) -> int | None:
    """The tightest limit on the whole way; a pool's own limit binds new sessions, never one that has its agent."""
    pool = view.inventory.pools.get(request.pool) if request.pool is not None else None
    of_pool = pool.max_rtt_us if pool is not None and request.agent_data_center is None else None
    return min((cap for cap in (request.constraints.max_rtt_us, of_pool) if cap is not None), default=None)


def _eligible_edges(
    view: View, request: PlaceRequest, policy: Policy | None
) -> tuple[list[DataCenter], tuple[Rejected, ...]]:
    fit, rejected, unmeasured = [], [], []
    for i, dc in enumerate(view.inventory.data_centers.values()):
        refusal = _refusal(view, request, policy, dc, view.health[i].state)
        if refusal is None:
            fit.append(dc)
        else:
            rejected.append(Rejected(dc.id, *refusal))
            if refusal[0] == "health" and view.health[i].state is Health.UNKNOWN:
                unmeasured.append(dc)
    # Last step of the ladder: rather an unmeasured edge than none. Never a cordoned, drained or dead one.
    return (fit or unmeasured), tuple(rejected)


def _refusal(
    view: View, request: PlaceRequest, policy: Policy | None, dc: DataCenter, health: Health
) -> tuple[str, str] | None:
    wish = request.constraints
    if Role.EDGE not in dc.roles:
        return "role", "is not an edge"
    if not dc.intent.takes_new_sessions:
        return "intent", f"is {dc.intent.value}"
    if dc.id in request.exclude:
        return "exclude", "the session is leaving it"
    forbidden = rules.forbids(policy, dc) or _against_wish(wish, dc)
    if forbidden is not None:
        return "policy", forbidden
    if health is Health.DOWN:
        return "health", "is down"
    live = view.counters.sessions.get(dc.id, 0)
    if dc.capacity_sessions and live >= dc.capacity_sessions:
        return "capacity", f"has {live} sessions, limit {dc.capacity_sessions}"
    if health is Health.UNKNOWN:
        return "health", "has not been measured yet"
    return None


def _against_wish(wish: Constraints, dc: DataCenter) -> str | None:
    if wish.allow_providers is not None and dc.provider not in wish.allow_providers:
        return f"the request allows only providers {', '.join(wish.allow_providers)}"
    if dc.provider in wish.deny_providers:
        return f"the request denies provider {dc.provider}"
    if wish.allow_regions is not None and dc.region not in wish.allow_regions:
        return f"the request allows only regions {', '.join(wish.allow_regions)}"
    if dc.region in wish.deny_regions:
        return f"the request denies region {dc.region}"
    return None


def _hubs(view: View, request: PlaceRequest, policy: Policy | None) -> list[DataCenterId] | None:
    """Data centers the far end may be in; ``None`` when the session has no far end."""
    fixed = request.agent_data_center or request.to
    if fixed is not None:
        return [fixed]
    if request.pool is None:
        return None
    index = view.inventory.index
    return [
        dc
        for (pool, dc), idle in sorted(view.counters.idle.items())
        if pool == request.pool
        and idle > 0
        and dc in index
        and view.inventory.data_centers[dc].intent.takes_new_sessions
        and view.health[index[dc]].state is not Health.DOWN
        and rules.forbids(policy, view.inventory.data_centers[dc]) is None
        and _against_wish(request.constraints, view.inventory.data_centers[dc]) is None
    ]


def _score(
    view: View,
    request: PlaceRequest,
    context: Context,
    fit: list[DataCenter],
    hubs: list[DataCenterId] | None,
    access: Access,
) -> list[RankedEdge]:
    """Each edge with its best hub, best whole way first; edges without a path both ways are left out."""
    index = view.inventory.index
    there, back = _legs(view, context)
    scored = []
    for dc in fit:
        i = index[dc.id]
        leg = int(access.one_way_us[i])
        far = 10_000_000 if leg == UNKNOWN and access.provenance != "none" else max(0, leg)
        penalty = DEGRADED_PENALTY_US if view.health[i].state is Health.DEGRADED else 0
        if hubs is None:
            scored.append(_ranked(view, dc, None, leg, access, None, None, 2 * far + penalty))
            continue
        ways = [(int(there[i, index[h]] + back[index[h], i]), h) for h in hubs if h in index]
        ways = [(way, h) for way, h in ways if way < UNREACHABLE]
        if ways:
            way, hub = min(ways)
            forward, backward = int(there[i, index[hub]]), int(back[index[hub], i])
            scored.append(_ranked(view, dc, hub, leg, access, forward, backward, 2 * far + way + penalty))
    return sorted(scored, key=lambda e: (e.total_us, e.data_center))


def _legs(view: View, context: Context) -> tuple[I64, I64]:
    """Cost int64 ``[from, to]`` of the routes in force in inventory order; 0 on the diagonal (edge is the hub)."""
    n = len(view.inventory.data_centers)
    table = view.routes
    if table is None or context not in table.snapshot.contexts:
        empty = np.full((n, n), UNREACHABLE, np.int64)
        np.fill_diagonal(empty, 0)
        return empty, empty
    cost = table.cost[table.snapshot.contexts.index(context)]
    if table.snapshot.data_centers != tuple(view.inventory.data_centers):
        index = view.inventory.index
        pairs = [(index[dc], j) for j, dc in enumerate(table.snapshot.data_centers) if dc in index]
        here, there = [p[0] for p in pairs], [p[1] for p in pairs]
        wide = np.full((n, n), UNREACHABLE, np.int64)
        wide[np.ix_(here, here)] = cost[np.ix_(there, there)]
        cost = wide
    cost = cost.copy()
    np.fill_diagonal(cost, 0)
    return cost, cost


def _ranked(
    view: View,
    dc: DataCenter,
    hub: DataCenterId | None,
    leg: int,
    access: Access,
    forward: int | None,
    backward: int | None,
    total: int,
) -> RankedEdge:
    node = next(iter(view.inventory.nodes_by_data_center[dc.id]), None)
    url = (node.media_url if node is not None else "") or dc.media_url
    access_text = "access unknown" if leg == UNKNOWN else f"access {2 * leg / 1000:.1f} ms ({access.provenance})"
    way = "" if forward is None or backward is None else f" + route to {hub} {(forward + backward) / 1000:.1f} ms"
    reason = f"{dc.id}: {access_text}{way} = {total / 1000:.1f} ms round trip"
    return RankedEdge(
        dc.id, node.id if node else None, url, hub, leg, access.provenance, forward, backward, total, reason
    )


def _spread(view: View, edges: list[RankedEdge], seed: str) -> list[RankedEdge]:
    """Order the near-equals at the top by load, then by rendezvous hash; the rest stays by quality."""
    limit = edges[0].total_us + NEAR_EQUAL_US
    near = [e for e in edges if e.total_us <= limit]
    near.sort(key=lambda e: (_load(view, e.data_center), _rendezvous(seed, e.data_center)))
    return near + edges[len(near) :]


def _load(view: View, dc: DataCenterId) -> int:
    """Load in tenths of capacity, so that tiny differences do not herd."""
    capacity = view.inventory.data_centers[dc].capacity_sessions
    return 10 * view.counters.sessions.get(dc, 0) // capacity if capacity else 0


def _rendezvous(seed: str, dc: DataCenterId) -> bytes:
    return hashlib.blake2b(f"{seed}|{dc}".encode(), digest_size=8).digest()


def _prefer_sticky(edges: list[RankedEdge], sticky: DataCenterId | None) -> list[RankedEdge]:
    """Keep the edge a session has while it costs at most a tenth more than the best."""
    held = next((e for e in edges if e.data_center == sticky), None)
    if held is None or held.total_us > edges[0].total_us * 1.1 + NEAR_EQUAL_US:
        return edges
    return [held, *(e for e in edges if e is not held)]


def _hub_order(
    view: View, context: Context, chosen: RankedEdge, hubs: list[DataCenterId] | None
) -> tuple[DataCenterId, ...]:
    """Hubs from best to worst as seen from the chosen edge, for the store to take an agent from."""
    if hubs is None or chosen.hub is None:
        return ()
    there, back = _legs(view, context)
    i, index = view.inventory.index[chosen.data_center], view.inventory.index
    ways = [(int(there[i, index[h]] + back[index[h], i]), h) for h in hubs if h in index]
    return tuple(h for way, h in sorted(ways) if way < UNREACHABLE)


def _reasons(edges: tuple[RankedEdge, ...], policy: Policy | None) -> tuple[str, ...]:
    chosen = edges[0]
    lines = [f"chose {chosen.reason}"]
    if len(edges) > 1:
        lines.append(f"next best {edges[1].reason}")
    if policy is not None:
        lines.append(f"under policy {policy.id}")
    return tuple(lines)
