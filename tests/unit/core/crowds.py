"""Two relays that can carry the demand only together: the loop of load, price and routes, second by second."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

import numpy as np
from worlds import SECOND, inventory
from worlds import snapshot as plain

from router.core.load import Damping, LoadBook, carried
from router.core.model import DataCenterId, Flow, Inventory, TrafficClass
from router.core.solve import Switcher, solve
from router.core.tables import RouteTable

CAPACITY_MBPS = 100
RELAYS = ("relay-a", "relay-b")
NEAR_US, FAR_US = 30_000, 300_000


@dataclass(frozen=True)
class Crowd:
    """A fleet with two relays, the demand, and the cost of every link in microseconds without load."""

    inventory: Inventory
    flows: dict[Flow, int]
    cost: np.ndarray

    @property
    def step_mbps(self) -> float:
        """What a relay gains when one pair moves onto it with both directions."""
        return 2 * max(self.flows.values()) * 64 / 1000


def crowd(edges: int, hubs: int, demand_mbps: float, spread_us: int, far_us: int = FAR_US, seed: int = 1) -> Crowd:
    """Every edge talks to every hub, equal shares of ``demand_mbps``, both directions counted.

    Ways over a relay take twice ``NEAR_US`` and up to ``spread_us`` longer, by pair and relay; the direct ones
    ``far_us``.
    """
    ends = [f"edge-{i:02d}" for i in range(edges)] + [f"hub-{i:02d}" for i in range(hubs)]
    fleet = inventory(" ".join([*ends, *RELAYS]))
    centers = {
        id: replace(dc, capacity_mbps=CAPACITY_MBPS if id in RELAYS else 0) for id, dc in fleet.data_centers.items()
    }
    fleet = replace(fleet, data_centers=centers)
    sessions = round(demand_mbps * 1000 / 64 / 2 / (edges * hubs))
    flows = {
        (DataCenterId(a), DataCenterId(b), TrafficClass.VOICE): sessions for a in ends[:edges] for b in ends[edges:]
    }
    rng, n = Random(seed), len(centers)
    cost = np.full((n, n), far_us, np.int64)
    for relay in RELAYS:
        k = fleet.index[DataCenterId(relay)]
        cost[k], cost[:, k] = NEAR_US, [NEAR_US + rng.randint(0, spread_us) for _ in range(n)]
    return Crowd(fleet, flows, cost)


def play(crowd: Crowd, seconds: int, damping: Damping | None = None) -> tuple[np.ndarray, list[RouteTable]]:
    """Mbit/s that each relay carries float64 ``[second, relay]``, and the tables; the demand sets in at second 5."""
    book, switcher = LoadBook(damping), Switcher()
    places = [crowd.inventory.index[DataCenterId(relay)] for relay in RELAYS]
    ids, table = tuple(crowd.inventory.data_centers), None
    seen, tables = np.zeros((seconds, len(RELAYS))), []
    for second in range(seconds):
        now = (second + 1) * SECOND
        book.count(crowd.flows if second >= 5 else {})
        book.update(crowd.inventory, table, now)
        load = book.price(crowd.inventory)
        cost = crowd.cost if load is None else crowd.cost + load.smooth_us[0]
        found = replace(plain(cost, relay_cost_us=500, generation=second + 1, at=now), data_centers=ids, load=load)
        table, _ = switcher.adopt(table, found, solve(found), now)
        tables.append(table)
        seen[second] = carried(crowd.inventory, crowd.flows, table).center[places]
    return seen, tables


def turns(values: np.ndarray, least: float = 1.0) -> int:
    """How often a course of values changed its direction by at least ``least``."""
    found, going, extreme = 0, 0, float(values[0])
    for value in values.tolist():
        if going == 0 and abs(value - extreme) >= least:
            going, extreme = (1 if value > extreme else -1), value
        elif going and (value - extreme) * going > 0:
            extreme = value
        elif going and (extreme - value) * going >= least:
            found, going, extreme = found + 1, -going, value
    return found


def moves(tables: list[RouteTable]) -> int:
    """How many routes changed within a course of tables."""
    return sum(int((a.relays != b.relays).any(axis=-1).sum()) for a, b in pairwise(tables))
