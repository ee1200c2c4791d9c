"""The small world of a history: data centers, their routes as given, and the View that readers would get."""

from __future__ import annotations

from functools import cache

import numpy as np

from router.core.estimate import Estimator
from router.core.model import (
    Agent,
    AgentId,
    Client,
    DataCenter,
    DataCenterId,
    Inventory,
    Micros,
    Node,
    NodeId,
    Pool,
    PoolId,
    Provider,
    ProviderId,
    Region,
    RegionId,
    Role,
    TrafficClass,
)
from router.core.tables import Candidate, Context, DataCenterHealth, GraphSnapshot, Health, RouteTable, View

START: Micros = 1_700_000_000_000_000
EPOCH_BITS = 32
PLAIN, STRICT, HASTY, TIDY = (PoolId(name) for name in ("plain", "strict", "hasty", "tidy"))
POOLS = (PLAIN, STRICT, HASTY, TIDY)
PLACES = (
    ("gcp", "fra", True, 50.1, 8.7), ("gcp", "iad", True, 39.0, -77.5), ("linode", "lhr", False, 51.5, -0.1),
    ("linode", "sin", True, 1.35, 103.8), ("oracle", "fra", False, 50.1, 8.8), ("oracle", "nrt", False, 35.7, 139.7),
)  # fmt: skip
CAPACITY = 12  # of an edge; few, so that full ones are common
CLIENTS = tuple(
    Client(prefix=f"198.51.{k}.0/24", latitude=latitude, longitude=longitude)
    for k, (_, _, _, latitude, longitude) in enumerate(PLACES)
)


@cache
def inventory() -> Inventory:
    """Six data centers of three providers, three of them hubs; pools that ask for different things."""
    centers = {}
    for provider, region, hub, latitude, longitude in PLACES:
        id = DataCenterId(f"{provider}-{region}")
        roles = (Role.EDGE, Role.HUB) if hub else (Role.EDGE,)
        centers[id] = DataCenter(id, ProviderId(provider), RegionId(region), roles, latitude, longitude, CAPACITY)
    ordered = dict(sorted(centers.items()))
    return Inventory(
        providers={p: Provider(p) for p in sorted({dc.provider for dc in ordered.values()})},
        regions={r: Region(r) for r in sorted({dc.region for dc in ordered.values()})},
        data_centers=ordered,
        nodes={NodeId(f"{dc}-{k}"): Node(NodeId(f"{dc}-{k}"), dc) for dc in ordered for k in (0, 1)},
        pools={
            PLAIN: Pool(PLAIN),
            STRICT: Pool(STRICT, wrap_s=5, reset=True, max_sessions=2, queue_s=10),
            HASTY: Pool(HASTY, wrap_s=5, max_sessions=2),
            TIDY: Pool(TIDY, reset=True),
        },
    )


@cache
def agents() -> tuple[Agent, ...]:
    """Agents of both pools in every hub; the first of each place has room for three."""
    found = []
    for dc in inventory().data_centers.values():
        for pool in POOLS if Role.HUB in dc.roles else ():
            for k in range(2):
                id = AgentId(f"{dc.id}-{pool}-{k}")
                found.append(Agent(id, pool, dc.id, capacity=3 if k == 0 else 1, seen_at=START, nonce="n-0"))
    return tuple(found)


@cache
def routes() -> RouteTable:
    """Direct routes between all places; two in one region are nearly equal."""
    ids = tuple(inventory().data_centers)
    n, contexts = len(ids), tuple(Context(c) for c in TrafficClass)
    regions = [inventory().data_centers[id].region for id in ids]
    ways = [[_way_us(a, b, regions[a] == regions[b]) for b in range(n)] for a in range(n)]
    cost = np.array(ways, np.int64)
    costs = np.repeat(cost[None], len(contexts), axis=0)
    relays = np.full((len(contexts), n, n, 3), -1, np.int16)
    zeros, none = np.zeros_like(costs), np.zeros(n, np.int64)
    snapshot = GraphSnapshot(
        1, START, ids, contexts, costs, np.zeros(costs.shape, np.uint8), np.ones((len(contexts), n), np.bool_),
        np.full(len(contexts), 2, np.int16), np.zeros(len(contexts), np.int64), 1, none,
    )  # fmt: skip
    candidate = Candidate(1, START, costs, relays, np.zeros((len(contexts), n, n, 0), np.int16))
    return RouteTable(
        1, START, snapshot, candidate, relays, np.ones(costs.shape, np.bool_), costs, zeros, zeros,
        np.zeros(costs.shape, np.uint8), np.zeros(costs.shape), np.zeros(costs.shape, np.int32),
    )  # fmt: skip


def _way_us(a: int, b: int, near: bool) -> int:
    return 0 if a == b else 300 if near else 10_000 + 7_000 * abs(a - b)


@cache
def first_view() -> View:
    """The View before anything has happened."""
    links, _ = Estimator(inventory()).table(START)
    well = tuple(DataCenterHealth(Health.UP, START, START, 5) for _ in inventory().data_centers)
    return View(START, 1, inventory(), links, routes(), well)
