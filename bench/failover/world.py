"""The world of the failover benchmark: twelve edges that talk in pairs, and three providers who relay between them.

Directly, edges are far apart; over each provider's two relays they are near, each provider a little slower than the one
before. So the path in force and its backups take different providers, and the death of one provider hits every call.
All delays differ by pair and by direction.
"""

from __future__ import annotations

import random

from bench.failover.media import Flow
from router.demo.world import Site, World, assemble

EDGES, RELAYS = 12, 6
PROVIDERS = ("amber", "beryl", "coral")
DIRECT_MS, RELAYED_MS, RELAYS_MS = (95, 120), (24, 30), (18, 26)  # ranges of one-way delays
SLOWER_MS = 6  # each provider than the one before, per hop
LOSS_PPM = 1_000


def failover_world(seed: int) -> World:
    """The world of a seed."""
    draw = random.Random(f"{seed}/failover")
    sites = [Site(f"edge-{i}", "own", f"market-{i}") for i in range(EDGES)]
    sites += [Site(f"{PROVIDERS[i // 2]}-{i % 2}", PROVIDERS[i // 2], f"transit-{i % 2}") for i in range(RELAYS)]
    size = len(sites)
    delay_us: list[list[int | None]] = [[None] * size for _ in range(size)]
    for a in range(size):
        for b in range(size):
            if a != b:
                delay_us[a][b] = round(1_000 * (draw.uniform(*_range(a, b)) + _slower(a, b)))
    loss = [[LOSS_PPM] * size for _ in range(size)]
    return assemble("failover", sites, delay_us, loss_ppm=loss, hubs=range(EDGES), seed=seed)


def calls(world: World) -> list[Flow]:
    """Two flows per pair of edges, there and back; edges 0 and 1 talk, 2 and 3, and so on."""
    nodes = [dc.nodes[0] for dc in world.data_centers]
    return [
        Flow(nodes[a].index, nodes[b].index, nodes[b].real_host, world.data_centers[b].id)
        for a in range(EDGES)
        for b in (a ^ 1,)
    ]


def _range(a: int, b: int) -> tuple[int, int]:
    if a < EDGES and b < EDGES:
        return DIRECT_MS
    return RELAYED_MS if min(a, b) < EDGES else RELAYS_MS


def _slower(a: int, b: int) -> int:
    return SLOWER_MS * max((max(a, b) - EDGES) // 2, 0)
