"""Robots: what probe agents try of a data center before its first user, and what their answers say.

While a ramp is ``synthetic``, the probe plans of all nodes name paths to try: over the new data center as relay, and to
and from it over another relay. Each probe is one robot. It fails if it is not answered in time, or if the fastest of
its interval takes much longer than its links promise. Probes straight from and to it count as well. Where another data
center on the path is not well, or one of its links is down, nothing is counted: that is not the newcomer's fault.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from probes.wire import PlanCheck, ProbeReport
from router.core.messages import Robot
from router.core.model import DEFAULT_TRANSPORT, DataCenterId, Inventory, Node, NodeId
from router.core.tables import DataCenterHealth, Health, LinkState, LinkTable

DIRECT, THROUGH, INWARD, OUTWARD = "direct", "through", "inward", "outward"
INTERVAL_US = 2_000_000  # of each check: three nodes try 400 times in five minutes
OUTWARD_PATHS = 8  # of the newcomer's own node, which is the only one to try that way
MOST = 64  # robots of one row of a report; more are counted in proportion
SLOW_SHARE, SLOW_US = 0.5, 30_000  # beyond what the links promise, the larger: the fastest of a few, on a busy machine


def relaying(inventory: Inventory) -> tuple[DataCenterId, ...]:
    """Data centers with a node that relays, in id order."""
    found = inventory.nodes_by_data_center.items()
    return tuple(dc for dc, nodes in found if any(node.relay_port for node in nodes))


def plan_checks(
    inventory: Inventory, health: Sequence[DataCenterHealth], newcomers: Collection[DataCenterId], node: NodeId
) -> tuple[PlanCheck, ...]:
    """What one node is to try."""
    home = inventory.nodes[node].data_center
    found: list[PlanCheck] = []
    for dc in sorted(newcomers):
        others = [other for other in well(inventory, health, newcomers) if other not in (home, dc)]
        for errand, path in _paths(inventory, dc, home, sorted(others, key=lambda o: _rank(dc, node, o))):
            hops = [_relay(inventory, node, at) for at in path]
            if all(hops):
                found.append(_check(errand, dc, path, [hop for hop in hops if hop is not None]))
    return tuple(found)


def _paths(
    inventory: Inventory, dc: DataCenterId, home: DataCenterId, others: Sequence[DataCenterId]
) -> Iterator[tuple[str, tuple[DataCenterId, ...]]]:
    if home == dc:
        pairs = zip(others, (*others[1:], *others[:1]), strict=True) if len(others) > 1 else ()
        yield from ((OUTWARD, pair) for pair in [*pairs][:OUTWARD_PATHS])
    elif others and dc in relaying(inventory):
        yield THROUGH, (dc, others[0])
        yield INWARD, (others[-1], dc)


def well(
    inventory: Inventory, health: Sequence[DataCenterHealth], newcomers: Collection[DataCenterId]
) -> list[DataCenterId]:
    """Data centers that relay, are well and are not tried themselves."""
    up = {dc for dc, state in zip(inventory.data_centers, health, strict=True) if state.state is Health.UP}
    relays = inventory.data_centers
    return [dc for dc in relaying(inventory) if dc in up and dc not in newcomers and relays[dc].intent.relays]


def _rank(dc: DataCenterId, node: NodeId, other: DataCenterId) -> bytes:
    return hashlib.blake2b(f"{dc}|{node}|{other}".encode(), digest_size=8).digest()


def _relay(inventory: Inventory, seeker: NodeId, dc: DataCenterId) -> Node | None:
    able = [n for n in inventory.nodes_by_data_center[dc] if n.relay_port and n.addresses.get(DEFAULT_TRANSPORT)]
    return max(able, key=lambda n: _rank(dc, seeker, DataCenterId(n.id)), default=None)


def _check(errand: str, dc: DataCenterId, path: Sequence[DataCenterId], hops: Sequence[Node]) -> PlanCheck:
    return PlanCheck(
        name="/".join((errand, dc, *path)),
        hosts=tuple(node.addresses[DEFAULT_TRANSPORT] for node in hops),
        ports=tuple(node.relay_port for node in hops),
        reflector_port=hops[-1].reflector_port,
        interval_us=INTERVAL_US,
    )


@dataclass(frozen=True, slots=True)
class World:
    """What a report's answers are judged by."""

    inventory: Inventory
    health: Sequence[DataCenterHealth]
    links: LinkTable


def robots_of(world: World, newcomers: Collection[DataCenterId], report: ProbeReport) -> tuple[Robot, ...]:
    """What one report says about data centers that are tried."""
    sender = world.inventory.nodes.get(NodeId(report.node))
    if sender is None or not newcomers:
        return ()
    found = [*_straight(world, newcomers, sender, report)]
    for check in report.checks:
        errand, *path = [DataCenterId(part) for part in check.name.split("/")]
        if len(path) > 1 and path[0] in newcomers and errand in (THROUGH, INWARD, OUTWARD):
            way = (sender.data_center, *path[1:])
            found += _judged(world, path[0], errand, way, check.sent, check.received, check.rtt_min_us)
    return tuple(found)


def _straight(world: World, newcomers: Collection[DataCenterId], sender: Node, report: ProbeReport) -> Iterator[Robot]:
    rows = report.rows
    for peer, sent, received, rtt_us in zip(rows.peer, rows.sent, rows.received, rows.rtt_min_us, strict=True):
        node = world.inventory.nodes.get(NodeId(peer))
        if node is None or node.data_center == sender.data_center:
            continue
        for dc in (sender.data_center, node.data_center):
            if dc in newcomers:
                path = sender.data_center, node.data_center
                yield from _judged(world, dc, DIRECT, path, sent, received, rtt_us)


def _judged(
    world: World, dc: DataCenterId, errand: str, path: Sequence[DataCenterId], sent: int, received: int, rtt_us: int
) -> Iterable[Robot]:
    """One robot per probe; none where somebody else may be at fault."""
    index = world.inventory.index
    if any(at not in index or (at != dc and world.health[index[at]].state is not Health.UP) for at in path):
        return []
    if not links_are_up(world.inventory, world.links, path):
        return []
    hops = [(index[a], index[b]) for a, b in pairwise(path)]
    way = " > ".join(path)
    promised = [int(world.links.rtt_us[0][hop]) for hop in hops]
    limit_us = sum(promised) + max(SLOW_US, int(SLOW_SHARE * sum(promised)))
    slow = errand != DIRECT and min(promised) >= 0 and received > 0 and rtt_us > limit_us
    most = min(sent, MOST)
    failed = most if slow else -(-(sent - received) * most // max(1, sent))
    why = f"{way}: {rtt_us / 1000:.0f} ms, its links promise {sum(promised) / 1000:.0f}" if slow else f"{way}: lost"
    return [Robot(dc, errand, True)] * (most - failed) + [Robot(dc, errand, False, why)] * failed


def links_are_up(inventory: Inventory, links: LinkTable, path: Sequence[DataCenterId]) -> bool:
    """Whether no link of a path is down, either way, as far as the table knows the inventory."""
    index = inventory.index
    hops = [(index[a], index[b]) for a, b in pairwise(path)]
    return len(links.data_centers) == len(index) and not any(_down(links, hop) for hop in hops)


def _down(links: LinkTable, hop: tuple[int, int]) -> bool:
    there, back = hop, hop[::-1]
    return LinkState.DOWN in (links.state[0][there], links.state[0][back])
