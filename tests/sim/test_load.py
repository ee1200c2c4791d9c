"""Sessions spread over two limited relays in a simulated Internet with probes, clocks and noise, and stay there."""

from __future__ import annotations

from itertools import product

import numpy as np

from probes.clock import Clock
from router.core.load import UNDAMPED, Damping, carried
from router.core.messages import CountersLoaded
from router.core.model import (
    Counters,
    DataCenter,
    DataCenterId,
    Flow,
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
from router.core.plane import ControlPlane
from router.core.solve import explain
from router.sim.engine import START, stream
from router.sim.simulation import Simulation
from router.sim.world import World

CAPACITY_MBPS, DEMAND_MBPS = 100, 180
RELAYS = (DataCenterId("relay-a"), DataCenterId("relay-b"))
EDGES = tuple(DataCenterId(f"edge-{i}") for i in range(4))
HUBS = tuple(DataCenterId(f"hub-{i}") for i in range(4))
STEP_MBPS = DEMAND_MBPS / len(EDGES) / len(HUBS)  # what one pair puts on a relay, both directions
WARM_S, SETTLE_S, WATCH_S = 12, 35, 20
SEEDS = (1, 2, 3, 4, 5)  # 1 and 5 still shift a little in the time that is watched


def world() -> World:
    """Over one relay 60 to 61 ms, over the other 1 ms more; directly 70 ms, for those who find no room."""
    provider, region = Provider(ProviderId("any")), Region(RegionId("any"))
    centers = {
        id: DataCenter(
            id,
            provider.id,
            region.id,
            (Role.EDGE, Role.HUB),
            capacity_mbps=CAPACITY_MBPS if id in RELAYS else 0,
        )
        for id in (*EDGES, *HUBS, *RELAYS)
    }
    nodes = {NodeId(f"{id}-0"): Node(NodeId(f"{id}-0"), id, {"internet": "127.0.0.1"}) for id in centers}
    inventory = Inventory({provider.id: provider}, {region.id: region}, centers, nodes)
    rng, delay = stream(1, "load"), {}
    for a, b in product(centers, repeat=2):
        over = a in RELAYS or b in RELAYS
        if a != b:
            behind = 500 if RELAYS[1] in (a, b) else 0
            delay[a, b] = 30_000 + behind + rng.randint(0, 500) if over else 70_000
    clocks = {node: Clock(rng.randint(-500_000, 500_000), rng.randint(-20, 20), START) for node in nodes}
    return World(inventory, delay, clocks)


def crowd() -> dict[Flow, int]:
    sessions = round(STEP_MBPS * 1000 / 2 / 64)
    return {(a, b, TrafficClass.VOICE): sessions for a, b in product(EDGES, HUBS)}


def play(seed: int, damping: Damping | None = None) -> tuple[Simulation, np.ndarray, list[int]]:
    """Mbit/s over each relay ``[second, relay]`` from the moment the sessions come, and moves so far per second."""
    sim = Simulation(world(), seed, ControlPlane(damping))
    sim.run(WARM_S)
    sim.submit(CountersLoaded(Counters(), crowd()))
    seen, moves = [], []
    places = [sim.world.inventory.index[relay] for relay in RELAYS]
    for _ in range(SETTLE_S + WATCH_S):
        sim.run(1)
        seen.append(carried(sim.world.inventory, crowd(), sim.plane.view.routes).center[places])
        moves.append(len(sim.moves))
    return sim, np.array(seen), moves


def test_near_equal_relays_share_what_neither_can_carry_alone() -> None:
    calm = 0
    for seed in SEEDS:
        sim, seen, moves = play(seed)
        assert sim.violations == []
        assert seen[0].max() > 1.2 * CAPACITY_MBPS  # before the price is there, one of them is overloaded
        late, late_moves = seen[SETTLE_S:], moves[-1] - moves[SETTLE_S]
        assert late.max() <= 1.02 * CAPACITY_MBPS and late.min() > CAPACITY_MBPS / 2
        assert late_moves <= 2 * len(crowd())  # not once around for every pair, however the noise falls
        rests = late.max() <= CAPACITY_MBPS and np.ptp(late, axis=0).max() <= STEP_MBPS and late_moves <= 6
        calm += rests and moves[-1] - moves[0] <= 3 * len(crowd())
    assert calm >= 3
    told = explain(sim.plane.view, EDGES[0], HUBS[0], TrafficClass.VOICE, None, sim.engine.now)
    over = {c.path[1]: c.terms["load_us"] for c in told.forward if len(c.path) == 3 and c.path[1] in RELAYS}
    assert min(over.values()) > 0 and all(c.terms["load_us"] == 0 for c in told.forward if len(c.path) == 2)


def test_without_damping_the_whole_load_runs_to_and_fro() -> None:
    _, seen, moves = play(1, UNDAMPED)
    total = seen.sum(axis=1)
    assert total.min() < DEMAND_MBPS / 2 and np.ptp(total[5:]) > CAPACITY_MBPS / 2
    assert moves[-1] - moves[0] > 8 * len(crowd())
