"""Ground truth of a simulated Internet: one-way delays, jitter, loss, node clocks, and faults that change them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from random import Random

from probes.clock import Clock
from router.core.geography import distance_km
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
from router.sim.engine import stream

# A handful of real places, spread so that relays sometimes pay; coordinates are city centres.
PLACES = (
    ("fra", "DE", 50.1, 8.7), ("iad", "US", 39.0, -77.5), ("sin", "SG", 1.35, 103.8), ("nrt", "JP", 35.7, 139.7),
    ("gru", "BR", -23.5, -46.6), ("syd", "AU", -33.9, 151.2), ("bom", "IN", 19.1, 72.9), ("lax", "US", 34.0, -118.2),
    ("jnb", "ZA", -26.2, 28.0), ("lhr", "GB", 51.5, -0.1), ("dxb", "AE", 25.2, 55.3), ("waw", "PL", 52.2, 21.0),
)  # fmt: skip
PROVIDERS = ("gcp", "oracle", "linode")
INTRA_US = 60  # between two machines of one data center


@dataclass(slots=True)
class World:
    """Truth about every link; ``delay_us[a, b]`` is directed and without queueing."""

    inventory: Inventory
    delay_us: dict[tuple[DataCenterId, DataCenterId], int]
    clocks: dict[NodeId, Clock]
    jitter_us: int = 200  # mean of an exponential queueing delay
    loss: float = 0.0005
    extra_us: dict[tuple[DataCenterId, DataCenterId], int] = field(default_factory=dict)
    cut: dict[tuple[DataCenterId, DataCenterId], bool] = field(default_factory=dict)
    lossy: dict[tuple[DataCenterId, DataCenterId], float] = field(default_factory=dict)

    def transit(self, a: Node, b: Node, rng: Random) -> int | None:
        """Delay of one packet in microseconds, ``None`` if it is lost."""
        if a.data_center == b.data_center:
            return INTRA_US
        pair = (a.data_center, b.data_center)
        if self.cut.get(pair) or rng.random() < self.lossy.get(pair, self.loss):
            return None
        return self.delay_us[pair] + self.extra_us.get(pair, 0) + int(rng.expovariate(1 / self.jitter_us))

    def blackhole(self, data_center: DataCenterId, on: bool) -> None:
        """Cut or restore everything to and from a data center."""
        for pair in self.delay_us:
            if data_center in pair:
                self.cut[pair] = on


def make_world(size: int, nodes_per_data_center: int, seed: int) -> World:
    """A world of ``size`` data centers with random detours per directed link and clocks up to half a second off."""
    rng = stream(seed, "world")
    names = [
        (f"{PROVIDERS[i % len(PROVIDERS)]}-{PLACES[i % len(PLACES)][0]}{i // len(PLACES) + 1}", i) for i in range(size)
    ]
    centers = {}
    for name, i in sorted(names):
        code, _, latitude, longitude = PLACES[i % len(PLACES)]
        roles = (Role.EDGE, Role.HUB) if i % 3 == 0 else (Role.EDGE,)
        id = DataCenterId(name)
        centers[id] = DataCenter(
            id, ProviderId(PROVIDERS[i % len(PROVIDERS)]), RegionId(code), roles, latitude, longitude
        )
    nodes = {
        NodeId(f"{dc}-{k}"): Node(NodeId(f"{dc}-{k}"), dc, {"internet": f"{dc}-{k}"}, relay_port=7422)
        for dc in centers
        for k in range(nodes_per_data_center)
    }
    used = sorted({PLACES[i % len(PLACES)] for i in range(size)})
    inventory = Inventory(
        providers={ProviderId(p): Provider(ProviderId(p)) for p in sorted(PROVIDERS)},
        regions={RegionId(p[0]): Region(RegionId(p[0]), p[0], p[1], p[2], p[3]) for p in used},
        data_centers=centers,
        nodes=dict(sorted(nodes.items())),
        pools={PoolId("agents"): Pool(PoolId("agents"))},
    )
    delay = {}
    for a, b in product(centers.values(), repeat=2):
        if a.id != b.id:
            km = distance_km(a.latitude or 0, a.longitude or 0, b.latitude or 0, b.longitude or 0)
            delay[a.id, b.id] = int(km * 5 * rng.lognormvariate(0.5, 0.35)) + 300
    clocks = {node: Clock(rng.randint(-500_000, 500_000), rng.randint(-20, 20)) for node in inventory.nodes}
    return World(inventory, delay, clocks)
