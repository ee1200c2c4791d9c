"""Placements alone: core time of one at 300 data centers with measured routes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench._case import best_s, line, progress
from bench.freshness.inside import Inside
from bench.freshness.world import World
from router.core.model import Client, Counters, Pool, PoolId, TrafficClass
from router.core.steering import Placement, PlaceRequest, place

DATA_CENTERS, CLIENTS, GOAL_PER_S = 300, 200, 5_000.0
POOL = PoolId("tutors")


def placements() -> bool:
    """How many placements a core makes in a second; a hundred of the data centers have free agents."""
    progress(f"placements: a world of {DATA_CENTERS} data centers")
    inside = Inside(World(DATA_CENTERS))
    inside.warm_up()
    view = inside.plane.view
    inventory = replace(view.inventory, pools={POOL: Pool(POOL)})
    idle = {(POOL, dc): 50 for dc in list(inventory.data_centers)[::3]}
    view = replace(view, inventory=inventory, counters=Counters({}, idle, {}))
    rng = np.random.default_rng(1)
    spots = np.column_stack((rng.uniform(-50, 60, CLIENTS), rng.uniform(-180, 180, CLIENTS)))
    asked = [
        PlaceRequest(Client(None, None, None, float(a), float(b)), TrafficClass.VOICE, POOL, seed=f"s-{i}")
        for i, (a, b) in enumerate(spots)
    ]

    def all_of_them() -> None:
        # A commit between two placements gives them other counters.
        now = replace(view, counters=Counters({}, dict(idle), {}))
        for request in asked:
            assert isinstance(place(now, request, inside.now), Placement)

    rate = CLIENTS / best_s(all_of_them, repeat=7, at_least_s=3.0)
    return line(
        "take", f"placements, {DATA_CENTERS} data centers", rate, GOAL_PER_S, "the goal", "placements/s", "P8", 1.0,
        clients=CLIENTS, hubs_with_free_agents=len(idle),
    )  # fmt: skip
