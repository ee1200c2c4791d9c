"""The world of the drain benchmark: four edges of two providers, and two hubs of a third.

All users live in one city, far from all edges but one, so that they are placed there and its drain concerns them all.
Agents live with the provider that is never cut, in data centers that are no edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from router.demo.world import Site, World, assemble

CITY = (50.11, 8.68)  # where everybody lives
HUB_PROVIDER = "amber"
SITES = (
    Site("beryl-frankfurt", "beryl", "r-frankfurt", 50.11, 8.68, "Frankfurt", "DE"),
    Site("coral-madrid", "coral", "r-madrid", 40.42, -3.7, "Madrid", "ES"),
    Site("coral-dublin", "coral", "r-dublin", 53.35, -6.26, "Dublin", "IE"),
    Site("beryl-oslo", "beryl", "r-oslo", 59.91, 10.75, "Oslo", "NO"),
    Site("amber-milan", HUB_PROVIDER, "r-milan", 45.46, 9.19, "Milan", "IT"),
    Site("amber-warsaw", HUB_PROVIDER, "r-warsaw", 52.23, 21.01, "Warsaw", "PL"),
)


def drain_world(seed: int, sites: Sequence[Site] = SITES) -> World:
    """The world of a seed: 0.9 ms for a degree, and one for every pair. The sites of one provider are the hubs."""
    delay_us: list[list[int | None]] = [
        [None if a is b else round(1_000 + 900 * _degrees(a, b)) for b in sites] for a in sites
    ]
    world = assemble("drain", sites, delay_us, seed=seed)
    return replace(
        world,
        data_centers=tuple(
            replace(dc, roles=("hub",)) if dc.provider == HUB_PROVIDER else dc for dc in world.data_centers
        ),
    )


def _degrees(a: Site, b: Site) -> float:
    assert a.latitude is not None and a.longitude is not None and b.latitude is not None and b.longitude is not None
    return abs(a.latitude - b.latitude) + abs(a.longitude - b.longitude) * 0.65


def hubs(world: World) -> list[int]:
    """Places of the data centers with agents."""
    return [i for i, dc in enumerate(world.data_centers) if "hub" in dc.roles]
