"""Where simulated worlds come from: the model, random asymmetric delays, measured matrices, measured series.

``model``       a handful of real places; each directed link takes its own random detour.
``asymmetric``  regions of the catalogue; each direction of each link has an independent delay above the fibre floor, so
                that routing by round trips goes wrong often. The hardest case, not a likely one.
``matrix``      a measured matrix, see ``router.sim.matrix``; one-way delays are half of the round trips, or, with
                ``asymmetry`` A, shares of them between (1 - A) / 2 and (1 + A) / 2, never below the fibre floor.
``series``      the same from a measured series, slice by slice, see ``router.sim.series``.

All draws come from streams named after what they are for, so that a data center more does not reshuffle the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from probes.clock import Clock
from providers import catalog
from router.core.errors import InputRejected
from router.core.geography import distance_km, light_floor_us
from router.core.model import (
    DataCenter,
    DataCenterId,
    Inventory,
    Node,
    NodeId,
    Pool,
    PoolId,
    Provider,
    ProviderId,
    Region,
    RegionId,
    Role,
)
from router.sim.engine import START, stream
from router.sim.matrix import UNNAMED_PROVIDER, read_matrix, slug
from router.sim.series import Series
from router.sim.world import Pair, World

# A handful of real places, spread so that relays sometimes pay; coordinates are city centres.
PLACES = (
    ("fra", "DE", 50.1, 8.7), ("iad", "US", 39.0, -77.5), ("sin", "SG", 1.35, 103.8), ("nrt", "JP", 35.7, 139.7),
    ("gru", "BR", -23.5, -46.6), ("syd", "AU", -33.9, 151.2), ("bom", "IN", 19.1, 72.9), ("lax", "US", 34.0, -118.2),
    ("jnb", "ZA", -26.2, 28.0), ("lhr", "GB", 51.5, -0.1), ("dxb", "AE", 25.2, 55.3), ("waw", "PL", 52.2, 21.0),
)  # fmt: skip
PROVIDERS = ("gcp", "oracle", "linode")
ENDS_US = 300  # both access networks of a link
LEAST_STRETCH = 1.05  # no way is as short as the great circle
EXCESS_US = 30_000  # mean of what a direction of the asymmetric world takes longer than it had to
HUB_EVERY = 3
MAX_NODES = 16
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Clocks:
    """How wrong the nodes' clocks are at the start: uniformly within these bounds, each node its own."""

    offset_us: int = 500_000
    drift_ppm: int = 20


def make_world(size: int, nodes_per_data_center: int, seed: int, clocks: Clocks | None = None) -> World:
    """The model world: a random detour per directed link, one for each direction."""
    rng = stream(seed, "world")
    centers = {}
    for i in range(size):
        code, _, latitude, longitude = PLACES[i % len(PLACES)]
        provider = PROVIDERS[i % len(PROVIDERS)]
        id = DataCenterId(f"{provider}-{code}{i // len(PLACES) + 1}")
        roles = (Role.EDGE, Role.HUB) if i % HUB_EVERY == 0 else (Role.EDGE,)
        centers[id] = DataCenter(id, ProviderId(provider), RegionId(code), roles, latitude, longitude)
    used = sorted({PLACES[i % len(PLACES)] for i in range(size)})
    regions = [Region(RegionId(p[0]), p[0], p[1], p[2], p[3]) for p in used]
    inventory = _inventory(centers.values(), regions, nodes_per_data_center)
    delay = {}
    for a, b in product(inventory.data_centers.values(), repeat=2):
        if a.id != b.id:
            stretch = max(LEAST_STRETCH, rng.lognormvariate(0.5, 0.35))
            delay[a.id, b.id] = int(_km(a, b) * 5 * stretch) + ENDS_US
    return World(inventory, delay, _clocks(inventory, seed, clocks or Clocks()))


def asymmetric_world(size: int, nodes_per_data_center: int, seed: int, clocks: Clocks | None = None) -> World:
    """Independent delays in both directions. Raises ``bad_scenario`` if the catalogue has fewer places than asked."""
    areas = {region.area: region for region in catalog.load()}
    if size > len(areas):
        raise _rejected("data_centers", f"must be at most {len(areas)}, the places of the catalogue", len(areas))
    rng = stream(seed, "world")
    chosen = sorted(rng.sample(sorted(areas), size))
    centers, regions = [], []
    for i, area in enumerate(chosen):
        place, provider = areas[area], PROVIDERS[i % len(PROVIDERS)]
        roles = (Role.EDGE, Role.HUB) if i % HUB_EVERY == 0 else (Role.EDGE,)
        id = DataCenterId(f"{provider}-{area}"[:58])
        centers.append(DataCenter(id, ProviderId(provider), RegionId(area), roles, place.latitude, place.longitude))
        regions.append(Region(RegionId(area), place.city, place.country, place.latitude, place.longitude))
    inventory = _inventory(centers, regions, nodes_per_data_center)
    delay = {}
    for a, b in product(inventory.data_centers.values(), repeat=2):
        if a.id != b.id:
            own = stream(seed, f"way/{a.id}>{b.id}")
            delay[a.id, b.id] = int(light_floor_us(a, b) * LEAST_STRETCH + own.expovariate(1 / EXCESS_US)) + ENDS_US
    return World(inventory, delay, _clocks(inventory, seed, clocks or Clocks()))


def matrix_world(
    path: Path,
    nodes_per_data_center: int,
    seed: int,
    *,
    limit: int | None = None,
    asymmetry: float = 0.0,
    clocks: Clocks | None = None,
) -> World:
    """World of a measured matrix; of more than ``limit`` data centers an evenly spread choice (in id order) is used.

    Raises :class:`InputRejected` (``bad_matrix``) naming line, field, rule and limit.
    """
    matrix = read_matrix(path)
    names = _evenly(tuple(matrix.ends), limit)
    inventory = _measured({name: matrix.ends[name] for name in names}, nodes_per_data_center)
    rtt_us = {
        (DataCenterId(a), DataCenterId(b)): round(rtt_ms * 1_000)
        for (a, b), rtt_ms in sorted(matrix.rtt_ms.items())
        if rtt_ms is not None and a in inventory.data_centers and b in inventory.data_centers
    }
    delay = _one_way(rtt_us, inventory, seed, asymmetry)
    return World(inventory, delay, _clocks(inventory, seed, clocks or Clocks()))


def series_world(
    series: Series,
    slice_s: float,
    nodes_per_data_center: int,
    seed: int,
    *,
    limit: int | None = None,
    asymmetry: float = 0.0,
    clocks: Clocks | None = None,
) -> World:
    """World of a measured series: each slice is true for ``slice_s``; what it did not measure is no link then."""
    ids = {slug(name): i for i, name in enumerate(series.nodes)}
    names = sorted(_evenly(tuple(ids), limit))
    inventory = _measured({name: (None, name) for name in names}, nodes_per_data_center)
    delays = []
    for rtt_ms in series.rtt_ms:
        rtt_us = {
            (DataCenterId(a), DataCenterId(b)): round(float(rtt_ms[ids[a], ids[b]]) * 1_000)
            for a, b in product(names, repeat=2)
            if a != b and not math.isnan(rtt_ms[ids[a], ids[b]])
        }
        delays.append(_one_way(rtt_us, inventory, seed, asymmetry))
    found = _clocks(inventory, seed, clocks or Clocks())
    return World(inventory, delays[0], found, slices=tuple(delays), slice_us=round(slice_s * MILLION))


def _measured(ends: Mapping[str, tuple[str | None, str]], nodes_per_data_center: int) -> Inventory:
    centers, regions = [], {}
    for i, (name, (provider, region)) in enumerate(ends.items()):
        place = catalog.find_position(provider, region)
        area = RegionId(place.area if place else slug(region))
        roles = (Role.EDGE, Role.HUB) if i % HUB_EVERY == 0 else (Role.EDGE,)
        owner = ProviderId(UNNAMED_PROVIDER if provider is None else slug(provider))
        latitude, longitude = (place.latitude, place.longitude) if place else (None, None)
        centers.append(DataCenter(DataCenterId(name), owner, area, roles, latitude, longitude))
        regions[area] = Region(area, area, place.country if place else "", latitude, longitude)
    return _inventory(centers, regions.values(), nodes_per_data_center)


def _one_way(rtt_us: Mapping[Pair, int], inventory: Inventory, seed: int, asymmetry: float) -> dict[Pair, int]:
    delay = {}
    for (a, b), rtt in rtt_us.items():
        share = 0.5
        if asymmetry:
            first, second = sorted((a, b))
            lean = stream(seed, f"lean/{first}>{second}").uniform(-asymmetry, asymmetry)
            share = (1 + lean) / 2 if a == first else (1 - lean) / 2
        floor = light_floor_us(inventory.data_centers[a], inventory.data_centers[b])
        if 2 * floor <= rtt:  # else the positions are wrong, and what was measured is right
            share = min(max(share, floor / rtt if rtt else 0.0), 1 - (floor / rtt if rtt else 0.0))
        delay[a, b] = round(rtt * share)
    return delay


def _inventory(centers: Iterable[DataCenter], regions: Iterable[Region], nodes_per_data_center: int) -> Inventory:
    by_id = {dc.id: dc for dc in sorted(centers, key=lambda dc: dc.id)}
    nodes = {
        NodeId(f"{dc}-{k}"): Node(NodeId(f"{dc}-{k}"), dc, {"internet": f"{dc}-{k}"}, relay_port=7422)
        for dc in by_id
        for k in range(nodes_per_data_center)
    }
    return Inventory(
        providers={p: Provider(p) for p in sorted({dc.provider for dc in by_id.values()})},
        regions={region.id: region for region in sorted(regions, key=lambda r: r.id)},
        data_centers=by_id,
        nodes=dict(sorted(nodes.items())),
        pools={PoolId("agents"): Pool(PoolId("agents"))},
    )


def _clocks(inventory: Inventory, seed: int, bounds: Clocks) -> dict[NodeId, Clock]:
    found = {}
    for node in inventory.nodes:
        rng = stream(seed, f"clock/{node}")
        offset = rng.randint(-bounds.offset_us, bounds.offset_us)
        found[node] = Clock(offset, rng.randint(-bounds.drift_ppm, bounds.drift_ppm), START)
    return found


def _evenly(names: tuple[str, ...], limit: int | None) -> tuple[str, ...]:
    if limit is None or limit >= len(names):
        return names
    return tuple(names[i * len(names) // limit] for i in range(limit))


def _km(a: DataCenter, b: DataCenter) -> float:
    return distance_km(a.latitude or 0, a.longitude or 0, b.latitude or 0, b.longitude or 0)


def _rejected(field: str, rule: str, limit: int | None = None) -> InputRejected:
    return InputRejected("bad_scenario", f"world.{field}: {rule}", field=f"world.{field}", rule=rule, limit=limit)
