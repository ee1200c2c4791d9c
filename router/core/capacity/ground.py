"""Where demand and agents are: pools and regions as numbers, and which region's agents serve whose users.

A *place* is a pool in a region that has agents of it, or could have them. Users whose own region has neither belong to
the nearest such region by measured round trips: that is where their agents are counted, and bought.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from router.core.capacity.buffer import Stock
from router.core.capacity.machines import COMING, Launch, LaunchId, LaunchState, NodeStock
from router.core.capacity.offers import Offer
from router.core.model import DataCenterId, Inventory, Micros, NodeId, PoolId, RegionId
from router.core.pools import COMING as AGENTS_COMING
from router.core.pools import HOLDING, STANDINGS, Places
from router.core.tables import I64, Bool, LinkTable

Place = tuple[PoolId, RegionId]
Delays = Mapping[tuple[RegionId, RegionId], int]
PATIENCE_US = 15_000_000  # a provider that has not answered by then is not waited for: others are asked as well
FAR = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Ground:
    """The places in id order; ``home[pool, region of an edge]`` is the number of a place."""

    places: tuple[Place, ...]
    home: Mapping[Place, int]
    reach: Bool  # [place, place] sessions of the first may use agents of the second

    @property
    def number(self) -> Mapping[Place, int]:
        """Number of each place."""
        return {place: i for i, place in enumerate(self.places)}


def delays(inventory: Inventory, links: LinkTable) -> Delays:
    """The shortest measured round trip between each two regions, in microseconds; unknown ones are left out."""
    regions = sorted({dc.region for dc in inventory.data_centers.values()})
    if links.data_centers != tuple(inventory.data_centers) or not regions:
        return {}
    number = {region: i for i, region in enumerate(regions)}
    of_vertex = np.array([number[dc.region] for dc in inventory.data_centers.values()])
    known = np.where(links.rtt_us >= 0, links.rtt_us, FAR).min(axis=0)
    shortest = np.full((len(regions), len(regions)), FAR)
    np.minimum.at(shortest, (of_vertex[:, None], of_vertex[None, :]), known)
    shortest = np.minimum(shortest, shortest.T)
    return {
        (a, b): int(shortest[i, j])
        for i, a in enumerate(regions)
        for j, b in enumerate(regions)
        if i != j and shortest[i, j] < FAR
    }


def ground(
    inventory: Inventory, offers: Sequence[Offer], stocked: Iterable[Places], rtt_us: Delays, most_us: int
) -> Ground:
    """The places of all pools."""
    region_of = {dc.id: dc.region for dc in inventory.data_centers.values()}
    able = {(row.pool, region_of[row.data_center]) for row in stocked if row.data_center in region_of}
    for pool in inventory.pools:
        able |= {(pool, o.region) for o in offers if o.data_center in region_of and (not o.pools or pool in o.pools)}
    places = tuple(sorted(place for place in able if place[0] in inventory.pools))
    regions = sorted(set(region_of.values()))
    home: dict[Place, int] = {}
    for pool in inventory.pools:
        mine = {region: i for i, (of, region) in enumerate(places) if of == pool}
        home |= {(pool, region): at for region in regions if (at := _home(region, mine, rtt_us)) is not None}
    return Ground(places, home, _reach(places, rtt_us, inventory, most_us))


def _home(region: RegionId, mine: Mapping[RegionId, int], rtt_us: Delays) -> int | None:
    if region in mine:
        return mine[region]
    near = [(rtt_us[region, other], other) for other in mine if (region, other) in rtt_us]
    return mine[min(near)[1]] if near else None


def _reach(places: Sequence[Place], rtt_us: Delays, inventory: Inventory, most_us: int) -> Bool:
    reach = np.eye(len(places), dtype=bool)
    for i, (pool, a) in enumerate(places):
        own = inventory.pools[pool].max_rtt_us
        limit = most_us if own is None else min(most_us, own)
        for j, (other, b) in enumerate(places):
            reach[i, j] |= pool == other and rtt_us.get((a, b), FAR) <= limit
    return reach


def stock(
    found: Ground,
    inventory: Inventory,
    stocked: Iterable[Places],
    queued: Mapping[tuple[PoolId, DataCenterId], int],
    launches: Mapping[LaunchId, Launch],
    nodes: Mapping[NodeId, NodeStock],
    now: Micros,
) -> Stock:
    """What there is at each place, what was bought for it and has not come included."""
    busy, idle, coming, waiting = (np.zeros(len(found.places), np.int64) for _ in range(4))
    number = found.number
    region_of = {dc.id: dc.region for dc in inventory.data_centers.values()}
    for row in stocked:
        at = number.get((row.pool, region_of.get(row.data_center, RegionId(""))))
        if at is None:
            continue
        busy[at] += row.held if row.state in HOLDING else 0
        idle[at] += row.capacity - row.held if STANDINGS[row.state].buffer and not row.cordoned else 0
        coming[at] += row.capacity if row.state in AGENTS_COMING else 0
    for (pool, edge), count in queued.items():
        at = found.home.get((pool, region_of.get(edge, RegionId(""))))
        if at is not None:
            waiting[at] += count
    for launch in launches.values():
        if launch.state is not LaunchState.REQUESTED or now - launch.since < PATIENCE_US:
            _count(launch, number, nodes, idle, coming)
    return Stock(busy, idle, coming, waiting)


def _count(
    launch: Launch, number: Mapping[Place, int], nodes: Mapping[NodeId, NodeStock], idle: I64, coming: I64
) -> None:
    """Machines on their way belong to those they were bought for, idle agents of serving ones as well."""
    there = nodes.get(launch.node, NodeStock())
    need, here = number.get((launch.pool, launch.need)), number.get((launch.pool, launch.region))
    if launch.state in COMING and need is not None:
        coming[need] += max(0, launch.agents - there.ready - there.coming) + there.shut  # few of a canary's are open
    if launch.state is LaunchState.SERVING and need != here and need is not None and here is not None:
        lent = min(there.ready - there.held, int(idle[here]))
        idle[here] -= lent
        idle[need] += lent
