"""Goal D2 in simulation: the real core, asymmetric delays, several nodes per data center, clocks that are wrong.

A random world (each direction of each link has its own delay), real schedules and summaries, virtual packets. Clocks
are off by up to half a second, drift by up to 50 ppm, and two of them step while the run goes on: one is the reference
clock of its data center, one is not. After the last step there is time to converge; then the truth judges.

*Right*: of an ordered pair, the path in force there and the one back are both truly fastest (``exact``: no path is
faster; ``within_margin``: none is faster by as much as the switching rule asks for). *Difference*: of the path in force
and each alternative with at most one relay, by how much the reported difference of delays misses the true one. *Band*:
the reported one-way delay of each link, plus and minus its error, against the truth.

The peers route by what they can know: half of the exact round trip, and the worse of both directions.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from router.core.geography import light_floor_us
from router.core.kernel import solve_context
from router.core.tables import I64, NO_COST, LinkTable, RouteTable
from router.sim.engine import START, stream
from router.sim.faults import Fault, Kind
from router.sim.simulation import JUDGED, Simulation
from router.sim.truth import judge
from router.sim.world import World
from router.sim.worlds import Clocks, asymmetric_world

CLOCKS = Clocks(offset_us=500_000, drift_ppm=50)
STEP_MS = 500.0
WARM_S, FIRST_STEP_S, SECOND_STEP_S, END_S = 60, 90, 120, 160
SAMPLE_S = 5
TARGET_RIGHT, TARGET_DIFFERENCE_MS, TARGET_COVERAGE = 0.99, 0.5, 0.99
ROUNDING_US = 2  # microseconds are whole numbers


@dataclass
class _Samples:
    """What was seen every few seconds between the warm-up and the end."""

    at_s: list[float] = field(default_factory=list)
    right: list[float] = field(default_factory=list)
    coverage: list[float] = field(default_factory=list)


def main(seed: int = 1, data_centers: int = 20, nodes: int = 2) -> dict[str, Any]:
    """Run once; returns a JSON-ready report with ``met`` flags."""
    started = time.perf_counter()
    world = asymmetric_world(data_centers, nodes, seed, CLOCKS)
    sim = Simulation(world, seed, faults=_steps(world, seed))
    sim.run(WARM_S)
    samples = _Samples()
    for at in range(WARM_S, END_S, SAMPLE_S):
        sim.run(SAMPLE_S)
        samples.at_s.append(float(at + SAMPLE_S))
        samples.right.append(_right(sim)["within_margin"])
        samples.coverage.append(_band(sim)["coverage"])
    right, difference, band = _right(sim), _difference(sim), _band(sim)
    return {
        "benchmark": "asymmetric",
        "seed": seed,
        "data_centers": data_centers,
        "nodes_per_data_center": nodes,
        "clock_offset_ms": CLOCKS.offset_us / 1_000,
        "clock_drift_ppm": CLOCKS.drift_ppm,
        "clock_steps": [f"{STEP_MS:g} ms at {FIRST_STEP_S} s", f"{-STEP_MS:g} ms at {SECOND_STEP_S} s"],
        "simulated_s": END_S,
        "right": right,
        "right_while_clocks_step": {
            "lowest": min(samples.right),
            "mean": float(np.mean(samples.right)),
            "lowest_coverage": min(samples.coverage),
            "series": dict(zip(samples.at_s, samples.right, strict=True)),
        },
        "difference_error_ms": difference,
        "band": band,
        "peers": _peers(sim),
        "moves_after_warm_up": sum(move.at > START + WARM_S * 1_000_000 for move in sim.moves),
        "violations": sim.violations,
        "wall_s": round(time.perf_counter() - started, 1),
        "met": {
            "right": right["within_margin"] >= TARGET_RIGHT,
            "difference": difference["p95"] <= TARGET_DIFFERENCE_MS,
            "coverage": band["coverage"] >= TARGET_COVERAGE,
            "band_width": band["wider_than_allowed"] == 0,
            "invariants": not sim.violations,
        },
    }


def _steps(world: World, seed: int) -> list[Fault]:
    """One step of a first node (the reference clock of its data center) and one of a last node elsewhere."""
    centers = stream(seed, "steps").sample(list(world.inventory.nodes_by_data_center.values()), 2)
    found = []
    for at_s, step_ms, nodes, which in (
        (FIRST_STEP_S, STEP_MS, centers[0], 0),
        (SECOND_STEP_S, -STEP_MS, centers[1], -1),
    ):
        target = {"node": str(nodes[which].id)}
        found.append(
            Fault(f"step-{at_s}", Kind.CLOCK_STEP, at_s * 1_000_000, target=target, numbers={"step_ms": step_ms})
        )
    return found


def _table(sim: Simulation) -> tuple[RouteTable, int]:
    table = sim.plane.view.routes
    if table is None:
        raise RuntimeError("no routes were published; the simulated world is broken")
    return table, table.snapshot.contexts.index(JUDGED)


def _right(sim: Simulation) -> dict[str, float]:
    table, c = _table(sim)
    true_us = sim.world.true_delay_us()
    inforce = judge(true_us, table.relays[c], table.reachable[c], table, c)
    candidate = judge(true_us, table.candidate.relays[c], table.reachable[c], table, c)
    return {
        "within_margin": inforce.share(inforce.within, both_ways=True),
        "exact": inforce.share(inforce.exact, both_ways=True),
        "candidate_within_margin": candidate.share(candidate.within, both_ways=True),
        "candidate_exact": candidate.share(candidate.exact, both_ways=True),
    }


def _difference(sim: Simulation) -> dict[str, float]:
    """Error (ms) of the reported difference between the path in force and each alternative of at most one relay."""
    links = sim.plane.view.links
    believed, true_us = links.along_us[0], sim.world.true_delay_us()  # what answers add up along a path
    missed = np.where(true_us < NO_COST, believed - true_us, 0)  # [from, to], per link
    n, errors = len(missed), []
    for (u, v), path in sim.paths().items():
        inforce = sum(int(missed[a, b]) for a, b in itertools.pairwise(path))
        errors.append(abs(inforce - missed[u, v]))
        errors += [abs(inforce - missed[u, k] - missed[k, v]) for k in range(n) if k not in (u, v)]
    ms = np.array(errors, float) / 1_000
    return {"p50": float(np.quantile(ms, 0.5)), "p95": float(np.quantile(ms, 0.95)), "max": float(ms.max())}


def _band(sim: Simulation) -> dict[str, float]:
    """Does the band of each link hold the truth, and is it as narrow as physics allows to promise?"""
    links: LinkTable = sim.plane.view.links
    true_us = sim.world.true_delay_us()
    off = ~np.eye(len(true_us), dtype=bool)
    known = off & (links.rtt_us[0] >= 0)
    error, miss = links.error_us[0][known], np.abs(links.forward_us[0] - true_us)[known]
    true_rtt = (true_us + true_us.T)[known]
    floor = _floor_us(sim.world)[known]
    allowed = (np.minimum(true_rtt, links.rtt_us[0][known]) - 2 * floor) / 2
    measured_allowed = (links.rtt_us[0][known] - 2 * floor) / 2
    return {
        "known_share": float(known.sum() / off.sum()),
        "coverage": float((miss <= error + ROUNDING_US).mean()),
        "half_width_p50_ms": float(np.quantile(error, 0.5)) / 1_000,
        "allowed_p50_ms": float(np.quantile(allowed, 0.5)) / 1_000,
        "wider_than_allowed": float((error > measured_allowed + ROUNDING_US).mean()),
        "wider_than_true_rtt_allows_us": float(np.maximum(0, error - allowed).max()),
        "delay_error_p50_ms": float(np.quantile(miss, 0.5)) / 1_000,
        "delay_error_p95_ms": float(np.quantile(miss, 0.95)) / 1_000,
    }


def _floor_us(world: World) -> I64:
    centers = list(world.inventory.data_centers.values())
    return np.array([[light_floor_us(a, b) if a is not b else 0 for b in centers] for a in centers], np.int64)


def _peers(sim: Simulation) -> dict[str, dict[str, float]]:
    """Share right of solvers that see the exact truth, but of both directions together."""
    table, c = _table(sim)
    true_us = sim.world.true_delay_us()
    symmetric = {"rtt_half": (true_us + true_us.T) // 2, "max_of_both": np.maximum(true_us, true_us.T)}
    found = {}
    for name, cost in symmetric.items():
        snapshot = table.snapshot
        _, relays = solve_context(
            cost, snapshot.may_relay[c], int(snapshot.max_relays[c]), int(snapshot.relay_cost_us[c])
        )
        verdict = judge(true_us, relays, table.reachable[c], table, c)
        found[name] = {
            "within_margin": verdict.share(verdict.within, both_ways=True),
            "exact": verdict.share(verdict.exact, both_ways=True),
            "one_way_within_margin": verdict.share(verdict.within),
        }
    return found


if __name__ == "__main__":
    print(json.dumps(main(*(int(text) for text in sys.argv[1:4])), indent=2))
