"""Small inventories, reports and tables for the core's tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probes.wire import ProbeReport, ReportRows, bucket_of
from router.core.estimate import Estimator
from router.core.health import HealthBook
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
    TrafficClass,
)
from router.core.tables import FALLEN, I64, NO_COST, Context, Evidence, GraphSnapshot

SECOND = 1_000_000


def inventory(names: str, nodes: int = 1, **replaced: DataCenter) -> Inventory:
    """Data centers named by the words of ``names``, provider = text before the dash, each an edge and a hub."""
    ids = sorted(names.split())
    providers = sorted({name.partition("-")[0] for name in ids})
    centers = {
        DataCenterId(name): DataCenter(
            DataCenterId(name), ProviderId(name.partition("-")[0]), RegionId("earth"), (Role.EDGE, Role.HUB)
        )
        for name in ids
    }
    return Inventory(
        providers={ProviderId(p): Provider(ProviderId(p)) for p in providers},
        regions={RegionId("earth"): Region(RegionId("earth"))},
        data_centers=centers,
        nodes={
            NodeId(f"{name}-{k}"): Node(NodeId(f"{name}-{k}"), DataCenterId(name), {"internet": "127.0.0.1"})
            for name in ids
            for k in range(nodes)
        },
    )


def report(
    node: str,
    rows: dict[str, tuple[int, int, int]],
    sequence: int,
    *,
    sent: int = 1,
    lost: int = 0,
    reflected: dict[str, int] | None = None,
    jitter_us: int = 0,
) -> ProbeReport:
    """A report with one row per peer; ``rows[peer] = (rtt, forward, backward)`` raw microseconds."""
    peers = tuple(rows)
    got = sent - lost
    heard = reflected or {}
    return ProbeReport(
        node=node,
        boot="b",
        sequence=sequence,
        plan_version=1,
        sent_at_us=0,
        interval_us=SECOND,
        rows=ReportRows(
            peer=peers,
            transport=("internet",) * len(peers),
            sent=(sent,) * len(peers),
            received=(got,) * len(peers),
            reflected=tuple(heard.get(p, 0) for p in peers),
            late=(0,) * len(peers),
            duplicate=(0,) * len(peers),
            rtt_min_us=tuple(rows[p][0] if got else -1 for p in peers),
            forward_min_us=tuple(rows[p][1] for p in peers),
            backward_min_us=tuple(rows[p][2] for p in peers),
            jitter_us=tuple(jitter_us if got else -1 for _ in peers),
            forward_base_us=(0,) * len(peers),
            backward_base_us=(0,) * len(peers),
            rtt_sketch=tuple((bucket_of(rows[p][0]), got) if got else () for p in peers),
            forward_sketch=((),) * len(peers),
            backward_sketch=((),) * len(peers),
        ),
    )


def snapshot(cost: I64, relay_cost_us: int = 0, max_relays: int = 2, generation: int = 1, at: int = 0) -> GraphSnapshot:
    """A snapshot of one context over data centers ``d000``, ``d001``, … with every relay allowed."""
    n = cost.shape[0]
    cost = cost.astype(np.int64).copy()
    np.fill_diagonal(cost, NO_COST)
    return GraphSnapshot(
        generation=generation,
        at=at,
        data_centers=tuple(DataCenterId(f"d{i:03d}") for i in range(n)),
        contexts=(Context(TrafficClass.VOICE),),
        cost=cost[None],
        transport=np.zeros((1, n, n), np.uint8),
        may_relay=np.ones((1, n), np.bool_),
        max_relays=np.array([max_relays], np.int16),
        relay_cost_us=np.array([relay_cost_us], np.int64),
        inventory_count=0,
        potential_us=np.zeros(n, np.int64),
    )


def feed(
    estimator: Estimator,
    true_us: dict[tuple[str, str], int],
    clocks_us: dict[str, int],
    now: int,
    sequence: int = 1,
    book: HealthBook | None = None,
) -> None:
    """Every node of ``clocks_us`` reports one probe to every other; ``true_us`` is keyed by data centers."""
    for a, clock_a in clocks_us.items():
        rows = {}
        for b, clock_b in clocks_us.items():
            if a == b:
                continue
            there, back = _delay(true_us, a, b), _delay(true_us, b, a)
            rows[b] = (there + back, there + clock_b - clock_a, back + clock_a - clock_b)
        evidence = estimator.observe(report(a, rows, sequence), now)
        if book is not None and evidence is not None:
            book.observe(evidence, now)


def _delay(true_us: dict[tuple[str, str], int], a: str, b: str) -> int:
    pair = (a.rpartition("-")[0], b.rpartition("-")[0])
    return 50 if pair[0] == pair[1] else true_us[pair]


def evidence(
    ring: Sequence[I64], refresh: float | Sequence[float] = 1.0, noise_us: int = 0, latest: I64 | None = None
) -> Evidence:
    """A history of one transport: delays ``[from, to]`` per bucket, oldest first; no link has changed its level."""
    n = ring[-1].shape[0]
    buckets = tuple(np.minimum(bucket, FALLEN).astype(np.int32)[None] for bucket in ring)
    return Evidence(
        bucket=len(buckets),
        ring=buckets,
        latest=(ring[-1] if latest is None else latest).astype(np.int64)[None],
        since=np.zeros((1, n, n), np.int32),
        noise=np.full((1, n, n), noise_us, np.int64),
        refresh=np.broadcast_to(np.asarray(refresh, np.float64), (n,)),
    )
