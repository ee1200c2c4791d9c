"""A world of data centers, client networks, hubs and people, made by a seed; nothing in it is the localiser's model.

What happens is decided on packets and people, not on components: every probe and every session has a path, and along it
things get lost or late. The effects that no fault has a hand in, and that the localiser knows nothing of: loss that
comes in bursts, links that always lose some, congestion that comes over many links and client networks together in the
evening and goes again, people whose own network is bad for as long as they talk, reports that are lost or late, probers
that hiccup, users who give up and leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

F = NDArray[np.float64]
I = NDArray[np.int64]  # noqa: E741
B = NDArray[np.bool_]
NAMES = ("oracle", "gcp", "azure", "linode", "vultr", "own")
PLACES = (("frankfurt", 50.1, 8.7), ("london", 51.5, -0.1), ("ashburn", 39.0, -77.5), ("dallas", 32.8, -96.8),
          ("sanjose", 37.3, -121.9), ("saopaulo", -23.5, -46.6), ("mumbai", 19.1, 72.9), ("singapore", 1.35, 103.8),
          ("tokyo", 35.7, 139.7), ("sydney", -33.9, 151.2), ("johannesburg", -26.2, 28.0))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pairs:
    """Who probes whom: one row per (node, peer node)."""

    source: I
    peer: I
    every: I  # so many seconds between probes
    sibling: B
    base_ms: F


@dataclass(frozen=True, eq=False)
class Groups:
    """People with everything in common: client network, edge node, hub, relay (-1: direct)."""

    isp: I
    node: I
    hub: I
    relay: I
    people: F  # at an ordinary moment


@dataclass(frozen=True, eq=False)
class World:
    """What there is."""

    seed: int
    inventory: Inventory
    dcs: tuple[DataCenterId, ...]
    nodes: tuple[NodeId, ...]
    home: I  # [node] data center
    provider: I  # [data center]
    region: I  # [data center]
    providers: tuple[str, ...]
    regions: tuple[str, ...]
    isps: tuple[str, ...]
    hubs: tuple[int, ...]
    pairs: Pairs
    groups: Groups


def make_world(seed: int) -> World:
    """A world of 4 to 6 providers in 6 to 9 regions, 12 to 18 client networks and about 3,600 people."""
    rng = np.random.default_rng([seed, 1])
    providers = NAMES[: int(rng.integers(4, 7))]
    regions = [PLACES[i] for i in sorted(rng.choice(len(PLACES), int(rng.integers(6, 10)), replace=False).tolist())]
    dcs, where = [], []
    for r, (region, lat, lon) in enumerate(regions):
        some = rng.random(len(providers)) < 0.6
        some[rng.integers(len(providers))] = True
        for p in np.flatnonzero(some).tolist():
            for k in range(1 + int(rng.random() < 0.25)):
                dcs.append((f"{providers[p]}-{region}{k + 1}", p, r, lat + k * 0.1, lon))
                where.append((lat + k * 0.1, lon))
    order = sorted(range(len(dcs)), key=lambda i: dcs[i][0])
    dcs = [dcs[i] for i in order]
    hubs = tuple(sorted(rng.choice(len(dcs), min(len(dcs), int(rng.integers(4, 8))), replace=False).tolist()))
    nodes = [(f"{dc[0]}-n{k + 1}", i) for i, dc in enumerate(dcs) for k in range(int(rng.integers(1, 5)))]
    inventory = Inventory(
        providers={ProviderId(p): Provider(ProviderId(p)) for p in sorted(providers)},
        regions={RegionId(r[0]): Region(RegionId(r[0])) for r in sorted(regions)},
        data_centers={
            DataCenterId(dc[0]): DataCenter(
                DataCenterId(dc[0]), ProviderId(providers[dc[1]]), RegionId(regions[dc[2]][0]),
                (Role.EDGE, Role.HUB) if i in hubs else (Role.EDGE,), dc[3], dc[4],
            )
            for i, dc in enumerate(dcs)
        },
        nodes={NodeId(n): Node(NodeId(n), DataCenterId(dcs[i][0])) for n, i in sorted(nodes)},
    )  # fmt: skip
    home = np.array([i for _, i in nodes])
    at = np.array([(dc[3], dc[4]) for dc in dcs])
    isps = tuple(f"as{64500 + i}" for i in range(int(rng.integers(12, 19))))
    return World(
        seed=seed,
        inventory=inventory,
        dcs=tuple(DataCenterId(dc[0]) for dc in dcs),
        nodes=tuple(NodeId(n) for n, _ in nodes),
        home=home,
        provider=np.array([dc[1] for dc in dcs]),
        region=np.array([dc[2] for dc in dcs]),
        providers=providers,
        regions=tuple(r[0] for r in regions),
        isps=isps,
        hubs=hubs,
        pairs=_pairs(home, at, rng),
        groups=_groups(home, at, hubs, len(isps), rng),
    )


def distance_ms(at: F) -> F:
    """Round trip in fibre between places, with a detour of a half."""
    lat, lon = np.radians(at[:, 0]), np.radians(at[:, 1])
    d = (
        np.sin((lat[:, None] - lat) / 2) ** 2
        + np.cos(lat[:, None]) * np.cos(lat) * np.sin((lon[:, None] - lon) / 2) ** 2
    )
    km: F = 2 * 6371 * np.arcsin(np.sqrt(np.clip(d, 0, 1)))
    trip: F = 0.4 + km / 100 * 1.5
    return trip


def _pairs(home: I, at: F, rng: np.random.Generator) -> Pairs:
    """As the product's probe plans: one node of every other data center each, and the first sibling."""
    trip, rows = distance_ms(at), []
    size = np.bincount(home)
    for a, u in enumerate(home.tolist()):
        for v in range(len(at)):
            there = np.flatnonzero(home == v)
            if v != u:
                b = int(rng.choice(there))
                rows.append((a, b, int(size[u]), False, trip[u, v] * float(rng.lognormal(0.1, 0.15)) + 0.5))
            elif a != there[0]:
                rows.append((a, int(there[0]), 1, True, 0.3))
                rows.append((int(there[0]), a, 1, True, 0.3))
    return Pairs(*[np.array(column) for column in zip(*sorted(rows), strict=True)])


def _groups(home: I, at: F, hubs: tuple[int, ...], isps: int, rng: np.random.Generator) -> Groups:
    trip, rows = distance_ms(at), []
    for isp in range(isps):
        people = float(rng.uniform(120, 360))
        near = np.argsort(trip[int(rng.integers(len(at)))] + rng.uniform(0, 8, len(at)))[: int(rng.integers(4, 8))]
        share = rng.dirichlet(np.full(len(near), 2.0))
        for edge, part in zip(near.tolist(), share.tolist(), strict=True):
            mine = np.flatnonzero(home == edge).tolist()
            reach = np.array([trip[edge, h] for h in hubs])
            chosen = sorted({int(reach.argmin()), int(rng.integers(len(hubs)))})
            for node in mine:
                for h in chosen:
                    relay = -1
                    if hubs[h] != edge and rng.random() < 0.15:
                        relay = int(rng.integers(len(at)))
                        relay = -1 if relay in (edge, hubs[h]) else relay
                    rows.append((isp, node, hubs[h], relay, people * part / len(mine) / len(chosen)))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Groups(*columns)
