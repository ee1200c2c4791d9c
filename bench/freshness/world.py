"""A world of N data centers and the reports its nodes send; the same for the core in process and for a served one."""

from __future__ import annotations

import numpy as np

from bench.solve.worlds import LEAST_US
from probes.wire import ProbeReport, ReportRows, bucket_of
from router.core.geography import light_floor_us
from router.core.model import (
    DataCenter,
    DataCenterId,
    Inventory,
    Node,
    NodeId,
    Provider,
    ProviderId,
    Region,
    RegionId,
    Role,
)
from router.core.tables import I64

DETOUR = 1.5  # a path over the great circle in fibre
CLOCKS_US = 500_000  # how far off the nodes' clocks are
FASTER_US = 40  # by so much every link gets faster with each report, so that every report has something to change
PROVIDERS = 8


class World:
    """Places, clocks and delays; ``report`` moves the world on by one report."""

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(n)
        spots = np.column_stack((np.degrees(np.arcsin(rng.uniform(-0.9, 0.9, n))), rng.uniform(-180, 180, n)))
        self.n = n
        self.ids = [f"dc{i:03d}" for i in range(n)]
        centers = {
            DataCenterId(id): DataCenter(
                DataCenterId(id), ProviderId(f"p{i % PROVIDERS}"), RegionId("earth"), (Role.EDGE, Role.HUB),
                latitude=round(float(spots[i, 0]), 3), longitude=round(float(spots[i, 1]), 3),
            )
            for i, id in enumerate(self.ids)
        }  # fmt: skip
        self.inventory = Inventory(
            providers={ProviderId(f"p{i}"): Provider(ProviderId(f"p{i}")) for i in range(PROVIDERS)},
            regions={RegionId("earth"): Region(RegionId("earth"))},
            data_centers=centers,
            nodes={NodeId(f"{id}-1"): Node(NodeId(f"{id}-1"), id, {"internet": "127.0.0.9"}) for id in centers},
        )
        self._sequence = [0] * n
        self._clock = rng.integers(-CLOCKS_US, CLOCKS_US, n)
        places = list(centers.values())
        floor = np.array([[light_floor_us(a, b) if a is not b else 0 for b in places] for a in places], np.int64)
        self._one_way: I64 = np.rint(floor * DETOUR).astype(np.int64) + 100 * LEAST_US  # room to get faster in
        self._rng = rng

    def peers(self, source: int, rows: int) -> I64:
        """As many peers as the report is to have rows, rising."""
        others = np.delete(np.arange(self.n), source)
        return others if rows >= len(others) else np.sort(self._rng.choice(others, rows, replace=False))

    def half(self, source: int) -> I64:
        """Half of the peers, so that the nodes' reports together have every pair once; rising."""
        return np.sort((source + 1 + np.arange(self.n // 2)) % self.n)

    def report(self, source: int, peers: I64, faster_us: int = FASTER_US) -> ProbeReport:
        """One second of probing by a data center's node, whose links have become faster by so much each way."""
        self._sequence[source] += 1
        self._one_way[source, peers] -= faster_us
        self._one_way[peers, source] -= faster_us
        there, back = self._one_way[source, peers], self._one_way[peers, source]
        ahead, n = self._clock[peers] - self._clock[source], len(peers)
        forward, backward = tuple((there + ahead).tolist()), tuple((back - ahead).tolist())
        rtt, one, none = tuple((there + back).tolist()), (1,) * n, (0,) * n
        rows = ReportRows(
            peer=tuple(f"{self.ids[peer]}-1" for peer in peers),
            transport=("internet",) * n,
            sent=one, received=one, reflected=one, late=none, duplicate=none,
            rtt_min_us=rtt, forward_min_us=forward, backward_min_us=backward, jitter_us=(100,) * n,
            forward_base_us=forward, backward_base_us=backward,
            rtt_sketch=tuple((bucket_of(us), 1) for us in rtt),
            forward_sketch=((0, 1),) * n, backward_sketch=((0, 1),) * n,
        )  # fmt: skip
        return ProbeReport(f"{self.ids[source]}-1", "boot", self._sequence[source], 1, 0, 1_000_000, rows)
