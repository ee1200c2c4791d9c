"""Inventory + estimates + intent + health -> GraphSnapshot; and the probe plan of every node.

Costs are integers in microseconds per context: corrected one-way delay plus the class's jitter and loss terms, of the
cheapest transport per hop. A link is left out when nothing is known about it, when it or one of its ends is measured as
down, when operators took it out, or when the policy forbids it. Old evidence is widened with age before it fades into
unknown, so a stale link can only look worse, never better.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from probes.wire import Budget, PlanPeer, PlanRelay, ProbePlan
from router.core import policy as rules
from router.core.attention import Attention
from router.core.bands import MAX_DELAY_US
from router.core.estimate import STALE_US
from router.core.model import DEFAULT_TRANSPORT, DataCenter, Inventory, Micros, Node, NodeId, Policy
from router.core.quality import PROFILES, metric_us
from router.core.tables import (
    I64,
    NO_COST,
    Bool,
    Context,
    DataCenterHealth,
    Evidence,
    GraphSnapshot,
    Health,
    LinkState,
    LinkTable,
    LoadPrice,
)

AGE_PENALTY = 0.001  # a stale link grows worse by 1 ms per second of age
PROBES_PER_S = 17.0  # per node, towards all peers together
FASTEST_INTERVAL_US, SLOWEST_INTERVAL_US = 250_000, 5_000_000
SIBLING_INTERVAL_US = 500_000
PLAN_LIFE_US = 600_000_000
REFLEX_PACKETS_PER_S = 400  # beyond the plan's own probes: 20 paths that carry something, watched 20 times a second
PACKET_BYTES = 200  # on the wire, with headers and the hops of a relayed path
RESERVE_PPM = 150_000  # of the packets, for confirm probes
PACKETS_LABEL = "probe-packets-per-s"  # of a node: the most that its agent may send
MONTHLY_LABEL = "probe-monthly-bytes"  # and in a calendar month
MOST_DIGITS = 15  # a petabyte a month is no limit
LONG_RUN = 0.9  # of its limit is what an agent sends in the long run, to keep it in any ten seconds


def snapshot(
    inventory: Inventory,
    links: LinkTable,
    potential_us: I64,
    health: tuple[DataCenterHealth, ...],
    generation: int,
    inventory_count: int,
    now: Micros,
    evidence: Evidence | None = None,
    load: LoadPrice | None = None,
) -> GraphSnapshot:
    """Freeze what one solve works on."""
    contexts = rules.contexts(inventory)
    n = len(inventory.data_centers)
    cost = np.full((len(contexts), n, n), NO_COST, np.int64)
    transport = np.zeros((len(contexts), n, n), np.uint8)
    may_relay = np.zeros((len(contexts), n), np.bool_)
    extra = np.zeros(cost.shape, np.int64)
    price, load_us = _price(inventory), None if load is None else load.smooth_us
    usable = _usable(inventory, links, health)
    centers = tuple(inventory.data_centers.values())
    alive = [h.state is not Health.DOWN for h in health]
    providers = sorted({dc.provider for dc in centers})
    relaying = np.array([dc.intent.relays and up for dc, up in zip(centers, alive, strict=True)], np.bool_)
    stale = np.maximum(0, now - links.last_at - STALE_US) * AGE_PENALTY
    delay = np.where(links.expected_us < NO_COST, links.expected_us, links.forward_us)
    usable &= np.abs(delay) <= MAX_DELAY_US
    base = delay + stale.astype(np.int64)
    for c, context in enumerate(contexts):
        policy = inventory.policies[context.policy] if context.policy is not None else None
        inside = np.array([rules.forbids(policy, dc) is None for dc in centers], np.bool_)
        allowed = usable & inside[None, :, None] & inside[None, None, :] & _transports_allowed(inventory, policy)
        jitter, loss = links.jitter_us, links.certain_loss_ppm
        metric = np.where(allowed, metric_us(context.traffic_class, base, jitter, loss, price, load_us), NO_COST)
        transport[c] = metric.argmin(axis=0)
        cost[c] = metric.min(axis=0)
        chosen = np.take_along_axis(delay, transport[c][None].astype(np.int64), axis=0)[0]
        extra[c] = np.where(cost[c] < NO_COST, cost[c] - chosen, 0)
        may_relay[c] = relaying & inside
    _freeze(cost, transport, may_relay, extra, potential_us)
    return GraphSnapshot(
        generation=generation,
        at=now,
        data_centers=links.data_centers,
        transports=links.transports,
        contexts=contexts,
        cost=cost,
        transport=transport,
        may_relay=may_relay,
        max_relays=np.array([rules.max_relays(_policy(inventory, c)) for c in contexts], np.int16),
        relay_cost_us=np.array([PROFILES[c.traffic_class].relay_cost_us for c in contexts], np.int64),
        inventory_count=inventory_count,
        potential_us=potential_us,
        evidence=evidence,
        extra_us=extra,
        load=load,
        provider=np.array([providers.index(dc.provider) for dc in centers], np.int16),
    )


def _policy(inventory: Inventory, context: Context) -> Policy | None:
    return inventory.policies[context.policy] if context.policy is not None else None


def _usable(inventory: Inventory, links: LinkTable, health: tuple[DataCenterHealth, ...]) -> Bool:
    n = len(inventory.data_centers)
    state = (links.state == LinkState.UP) | (links.state == LinkState.DEGRADED)
    alive = np.array([h.state is not Health.DOWN for h in health], np.bool_)
    usable: Bool = state & alive[None, :, None] & alive[None, None, :]
    index = {name: t for t, name in enumerate(links.transports)}
    for t, name in enumerate(links.transports):
        if name != DEFAULT_TRANSPORT:  # only the internet is presumed; other transports exist where configured
            usable[t] &= _configured(inventory, name)
    for link in inventory.links.values():
        if not link.intent.relays:
            usable[index[link.transport], inventory.index[link.source], inventory.index[link.target]] = False
    usable[:, np.arange(n), np.arange(n)] = False
    return usable


def _configured(inventory: Inventory, transport: str) -> Bool:
    n = len(inventory.data_centers)
    there = np.zeros((n, n), np.bool_)
    for link in inventory.links.values():
        if link.transport == transport:
            there[inventory.index[link.source], inventory.index[link.target]] = True
    return there


def _transports_allowed(inventory: Inventory, policy: Policy | None) -> Bool:
    """Bool ``[transport, from, to]``: neither the transport nor the price is forbidden."""
    n = len(inventory.data_centers)
    allowed = np.ones((len(inventory.transports), n, n), np.bool_)
    if policy is None:
        return allowed
    if policy.allow_transports is not None:
        for t, name in enumerate(inventory.transports):
            allowed[t] &= name in policy.allow_transports
    limit = policy.max_price_microusd_per_gb
    if limit is not None:
        allowed &= _price(inventory) <= limit
    return allowed


def _price(inventory: Inventory) -> I64:
    """Micro-USD per GB int64 ``[transport, from, to]``: the link's own price, else the egress price where it starts."""
    n = len(inventory.data_centers)
    egress = np.array([dc.egress_microusd_per_gb or 0 for dc in inventory.data_centers.values()], np.int64)
    price = np.broadcast_to(egress[None, :, None], (len(inventory.transports), n, n)).copy()
    for link in inventory.links.values():
        if link.price_microusd_per_gb is not None:
            place = (
                inventory.transports.index(link.transport),
                inventory.index[link.source],
                inventory.index[link.target],
            )
            price[place] = link.price_microusd_per_gb
    return price


def _freeze(*arrays: np.ndarray) -> None:
    for array in arrays:
        array.setflags(write=False)


# --- who probes whom -------------------------------------------------------------------------------------------------


def probe_plan(
    inventory: Inventory, node_id: NodeId, version: int, now: Micros, attention: Attention | None = None
) -> ProbePlan:
    """The plan of one node: its siblings, and per other data center one node that rendezvous hashing picks.

    The nodes of a data center share its pairs: the interval grows with their number, so that the rate per pair of data
    centers does not. Every node probes the first node of its own data center that has an address, and is probed by it.
    The budget is what all this takes, with room for the paths that the node watches of its own accord.
    """
    node = inventory.nodes[node_id]
    home = inventory.data_centers[node.data_center]
    siblings = inventory.nodes_by_data_center[home.id]
    meeting = inventory.meeting_nodes[home.id]
    others = siblings if node is meeting else () if meeting is None else (meeting,)
    peers = [_peer(o, DEFAULT_TRANSPORT, SIBLING_INTERVAL_US) for o in others if o is not node and _there(o)]
    reachable = [
        (transport, [other for other in nodes if _there(other, transport)])
        for dc, nodes in inventory.nodes_by_data_center.items()
        if dc != home.id
        for transport in _transports_between(inventory, home, inventory.data_centers[dc])
    ]
    targets = [(_pick(node_id, nodes), transport) for transport, nodes in reachable if nodes]
    interval = round(len(targets) / PROBES_PER_S * 1e6)
    interval = min(SLOWEST_INTERVAL_US, max(FASTEST_INTERVAL_US, interval)) * max(1, len(siblings))
    for other, transport in targets:
        tier, weight = attention.of(home.id, other.data_center, transport) if attention is not None else ("cold", 0)
        peers.append(_peer(other, transport, interval, tier, weight))
    return ProbePlan(
        node=node.id,
        data_center=home.id,
        plan_version=version,
        issued_at_us=now,
        expires_at_us=now + PLAN_LIFE_US,
        report_interval_us=1_000_000,
        timeout_us=1_000_000,
        peers=tuple(peers),
        budget=_budget(peers, node.labels),
        floor_interval_us=max(interval, SLOWEST_INTERVAL_US),
        relays=_further_relays(inventory, node_id, peers),
    )


def _further_relays(inventory: Inventory, node_id: NodeId, peers: list[PlanPeer]) -> tuple[PlanRelay, ...]:
    """Relays that the node does not probe, by each of their addresses: paths lead over them, and answers come back."""
    known = {(peer.host, peer.relay_port) for peer in peers}
    return tuple(
        PlanRelay(node.id, host, node.relay_port)
        for node in inventory.nodes.values()
        if node.relay_port and node.id != node_id
        for host in dict.fromkeys(node.addresses.values())
        if host and (host, node.relay_port) not in known
    )


def _transports_between(inventory: Inventory, home: DataCenter, other: DataCenter) -> tuple[str, ...]:
    named = sorted(
        {link.transport for link in inventory.links.values() if (link.source, link.target) == (home.id, other.id)}
        - {DEFAULT_TRANSPORT}
    )
    return (DEFAULT_TRANSPORT, *named)


def _there(node: Node, transport: str = DEFAULT_TRANSPORT) -> bool:
    return bool(node.addresses.get(transport))


def _pick(seeker: NodeId, nodes: list[Node]) -> Node:
    return max(nodes, key=lambda n: hashlib.blake2b(f"{seeker}>{n.id}".encode(), digest_size=8).digest())


def _budget(peers: list[PlanPeer], labels: Mapping[str, str]) -> Budget:
    """What the plan takes, with room; less where the node's labels say so. A label that is no number says nothing."""
    asked = sum(1e6 / peer.interval_us for peer in peers) / (1 - RESERVE_PPM / 1e6) / LONG_RUN
    packets = int(asked) + 1 + REFLEX_PACKETS_PER_S
    packets = min(packets, _limit(labels, PACKETS_LABEL) or packets)
    return Budget(packets, packets * PACKET_BYTES, _limit(labels, MONTHLY_LABEL), RESERVE_PPM)


def _limit(labels: Mapping[str, str], name: str) -> int:
    """A limit from a label; 0 if there is none."""
    text = labels.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else 0


def _peer(node: Node, transport: str, interval_us: int, tier: str = "hot", weight: int = 0) -> PlanPeer:
    """``tier`` of a sibling: on its probes rest the clocks of all other measurements."""
    return PlanPeer(
        node=node.id,
        data_center=node.data_center,
        transport=transport,
        host=node.addresses[transport],
        reflector_port=node.reflector_port,
        relay_port=node.relay_port,
        interval_us=interval_us,
        tier=tier,
        weight=weight,
    )
