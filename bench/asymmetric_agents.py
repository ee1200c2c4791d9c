"""Goal D2 with real agents: asymmetric delays, several nodes per data center, clocks that are wrong and step.

Every node is a process in a network namespace of its own; the truth is what the emulator was told. Clocks are off by up
to half a second, gain or lose up to 50 ppm, and step by half a second while the run goes on (a file that every agent
watches: all namespaces share one real clock). Two figures:

*One-way error of a link.* The reported one-way delays of a mesh are right up to one constant per data center, the error
of its reference clock, which no measurement can see and which cancels in every comparison of two paths. So the
constants that fit best are taken out, and what remains is the error of each link.

*Ranking.* Of each ordered pair, the best of the direct path and the paths over one relay by reported delays, against
the best by the true ones, there and back. A path within ``MARGIN_US`` of the best counts as the best.

``python -m bench.asymmetric_agents --matrix FILE`` takes delays from a measured matrix. Half of a round trip is not the
truth of either direction: each pair's round trip is cut at a share drawn from 35 % to 65 %.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench._case import line, progress
from bench._testbed import Testbed, why_not
from providers import catalog
from router.demo.ground import Options, prepare_world
from router.demo.matrix import load_matrix
from router.demo.world import Site, World, assemble

NAME, GOAL = "asymmetric_agents", "D2"
DATA_CENTERS, NODES, SEED = 12, 30, 7
MARGIN_US = 1_000
MAX_SKEW_PPM = 50
STEP_US = 500_000
SETTLE_S, SAMPLES, EVERY_S = 100.0, 10, 2.0  # drift is fitted through two minutes of offsets
RIGHT, ERROR_MS, DIFFERENCE_MS = 0.99, 0.25, 0.5
Delays = np.ndarray[Any, np.dtype[np.float64]]  # [from, to] in microseconds, NaN where there is no figure


def main(arguments: Sequence[str] = ()) -> bool:
    """Run the case; whether every bound was met. Without root it is skipped, with the reason."""
    parser = argparse.ArgumentParser(prog="python -m bench.asymmetric_agents")
    parser.add_argument("--matrix", type=Path, help="measured round trips; without it the model world")
    options = parser.parse_args(arguments)
    reason = why_not()
    if reason is not None:
        progress(f"{NAME} is skipped: {reason}")
        return True
    with tempfile.TemporaryDirectory(prefix="tendril-bench-") as folder:
        world = leaning_world(options.matrix, Path(folder) / "made")
        progress(f"{len(world.data_centers)} data centers, {len(world.nodes)} agents")
        with Testbed.running(world, Path(folder) / "var") as testbed:
            return _measure(testbed)


def leaning_world(matrix: Path | None, folder: Path) -> World:
    """A world of ``DATA_CENTERS`` places whose delays are not the same in both directions."""
    if matrix is None:
        base, _ = prepare_world(Options(folder, data_centers=DATA_CENTERS))
    else:
        base = load_matrix(matrix, find_position=catalog.find_position)
    draw = random.Random(f"{SEED}/lean")
    chosen = _chosen(base, draw)
    size = len(chosen)
    delay_us: list[list[int | None]] = [[None] * size for _ in range(size)]
    for a in range(size):
        for b in range(a):
            rtt_us = base.rtt_us(base.data_centers[chosen[a]].id, base.data_centers[chosen[b]].id)
            if rtt_us is not None:
                share = draw.uniform(0.35, 0.65)
                delay_us[a][b], delay_us[b][a] = round(rtt_us * share), rtt_us - round(rtt_us * share)
    sites = [
        Site(dc.id, dc.provider, dc.region, dc.latitude, dc.longitude, dc.city, dc.country)
        for dc in (base.data_centers[i] for i in chosen)
    ]
    counts = [NODES // size + (i < NODES % size) for i in range(size)]
    return assemble("leaning", sites, delay_us, hubs=(0,), nodes_per_data_center=counts, seed=SEED,
                    max_skew_ppm=MAX_SKEW_PPM)  # fmt: skip


def _chosen(base: World, draw: random.Random) -> list[int]:
    """Places at least ten milliseconds apart, so that no pair is a matter of microseconds."""
    order = list(range(len(base.data_centers)))
    draw.shuffle(order)
    chosen: list[int] = []
    for i in order:
        name = base.data_centers[i].id
        apart = [base.rtt_us(name, base.data_centers[j].id) for j in chosen]
        if len(chosen) < DATA_CENTERS and all(rtt is not None and rtt >= 10_000 for rtt in apart):
            chosen.append(i)
    return sorted(chosen)


def _measure(testbed: Testbed) -> bool:
    truth, started_us = true_delays(testbed.world), time.time_ns() // 1_000
    testbed.until(lambda: complete(testbed, truth), "every link is measured")
    progress(f"every link is measured; {SETTLE_S:g} s for the clocks, then half of them step")
    time.sleep(SETTLE_S)
    before = _sampled(testbed, truth)
    for node in testbed.world.nodes[::2]:
        back = -STEP_US if node.clock_offset_us > 0 else STEP_US
        testbed.set_clock(node.id, node.clock_offset_us + back, node.clock_skew_ppm, started_us)
    time.sleep(SETTLE_S)
    after = _sampled(testbed, truth)
    met = [
        _line("clocks off and drifting", testbed, *before),
        _line("after half of the clocks stepped", testbed, *after),
    ]
    return all(met)


def _sampled(testbed: Testbed, truth: Delays) -> tuple[Delays, float, float]:
    """The median error of each link over several looks; of the last, the share ranked right and differences' error."""
    looks, reported = [], truth
    for _ in range(SAMPLES):
        reported = testbed.until(lambda: complete(testbed, truth), "every link is measured")
        looks.append(np.abs(link_errors(reported, truth)))
        time.sleep(EVERY_S)
    right, difference_us = right_share(reported, truth, MARGIN_US), difference_error_us(reported, truth)
    return np.median(np.stack(looks), axis=0), right, difference_us


def _line(case: str, testbed: Testbed, errors: Delays, right: float, difference_us: float) -> bool:
    known = np.sort(errors[~np.isnan(errors)]) / 1_000
    accuracy = testbed.emulator("GET", "/state")["accuracy"]
    more = {
        "agents": len(testbed.world.nodes),
        "links": len(known),
        "p50_ms": round(float(np.percentile(known, 50)), 4),
        "max_ms": round(float(known[-1]), 4),
        "emulator_late_p99_us": accuracy["p99_us"],
    }
    met = line(NAME, f"one-way error of a link, p95, {case}", float(np.percentile(known, 95)), ERROR_MS, "bound", "ms",
               GOAL, 1.0, **more)  # fmt: skip
    met &= line(NAME, f"difference between two paths, p95, {case}", difference_us / 1_000, DIFFERENCE_MS, "bound", "ms",
                GOAL, 1.0)  # fmt: skip
    wrong = max(1.0 - right, 1e-6)
    return met & line(NAME, f"ordered pairs ranked wrong there or back, {case}", wrong, 1.0 - RIGHT, "bound", "share",
                      GOAL, 1.0, right=round(right, 4))  # fmt: skip


# --- the arithmetic --------------------------------------------------------------------------------------------------


def true_delays(world: World) -> Delays:
    """What the emulator was told, mean extra delay included."""
    return np.array(
        [
            [np.nan if us is None else us + jitter for us, jitter in zip(row, jitters, strict=True)]
            for row, jitters in zip(world.delay_us, world.jitter_us, strict=True)
        ],
        dtype=np.float64,
    )


def reported_delays(testbed: Testbed) -> Delays | None:
    """What the control plane expects of each link; ``None`` while it does not answer."""
    answer = testbed.api("/v1/links")
    if answer is None:
        return None
    index = testbed.world.index
    found = np.full((len(index), len(index)), np.nan)
    for link in answer["items"]:
        if link["expected_ms"] is not None:
            found[index[link["from"]], index[link["to"]]] = link["expected_ms"] * 1_000
    return found


def complete(testbed: Testbed, truth: Delays) -> Delays | None:
    """The reported delays once there is one for every link."""
    found = reported_delays(testbed)
    return None if found is None or np.isnan(found[~np.isnan(truth)]).any() else found


def link_errors(reported: Delays, truth: Delays) -> Delays:
    """Reported less true, less the constants per data center that fit best (least squares)."""
    difference = reported - truth
    ends = np.argwhere(~np.isnan(difference))
    rows = np.zeros((len(ends), len(truth)))
    rows[np.arange(len(ends)), ends[:, 0]] = 1.0
    rows[np.arange(len(ends)), ends[:, 1]] -= 1.0
    values = difference[ends[:, 0], ends[:, 1]]
    constants = np.linalg.lstsq(rows, values, rcond=None)[0]
    left = np.full_like(truth, np.nan)
    left[ends[:, 0], ends[:, 1]] = values - rows @ constants
    return left


def right_share(reported: Delays, truth: Delays, margin_us: float) -> float:
    """Share of unordered pairs whose best path by reported delays is truly the best, there and back."""
    size, right = len(truth), list[bool]()
    for a in range(size):
        for b in range(a):
            right.append(all(_loss_us(reported, truth, *way) <= margin_us for way in ((a, b), (b, a))))
    return statistics.fmean(right)


def difference_error_us(reported: Delays, truth: Delays) -> float:
    """95th percentile, of all ordered pairs and relays, of the error of how much longer the way over the relay is."""
    size, errors = len(truth), []
    for a in range(size):
        for b in range(size):
            if a != b:
                told, real = _ways(reported, a, b), _ways(truth, a, b)
                errors.append(np.abs((told[1:] - told[0]) - (real[1:] - real[0])))
    return float(np.nanpercentile(np.concatenate(errors), 95))


def _loss_us(reported: Delays, truth: Delays, a: int, b: int) -> float:
    """By how much the path that looks best is truly worse than the best."""
    told, real = _ways(reported, a, b), _ways(truth, a, b)
    return float(real[int(np.nanargmin(told))] - np.nanmin(real))


def _ways(delays: Delays, a: int, b: int) -> Delays:
    """Delay of the direct path (first) and over each relay; NaN where there is none."""
    over = delays[a] + delays[:, b]
    over[[a, b]] = np.nan
    ways: Delays = np.concatenate(([delays[a, b]], over))
    return ways


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
