"""The cases: cuts of the media in either direction, of the answers alone, and of a whole provider at once."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench._case import line, progress
from bench._testbed import Testbed, why_not
from bench.failover.cuts import Breaker, Kind, Outcome, judge
from bench.failover.media import Flow, read
from bench.failover.world import EDGES, PROVIDERS, calls, failover_world

NAME, GOAL = "failover", "P7"
SEED = int(os.environ.get("BENCH_FAILOVER_SEED", "1"))
CUTS = int(os.environ.get("BENCH_FAILOVER_CUTS", "200"))  # in each direction; fewer for a first look
SPARE = CUTS // 16  # on top: a few cuts are set aside, where the sender paused or the stream was not whole before
DEATHS = max(2, CUTS // 20)  # of a whole provider; each meets several calls
CUT_S, HEALED_S, DEAD_S, ALIVE_S = 1.2, (0.0, 0.3), 2.0, (0.2, 0.7)
WITHIN_S = 0.6  # the three calls of a round are cut at random moments within
HEALS_S = 8.0  # how long a node may take to see a healed path up again; a call that takes longer waits out a round
LINKS_S = 600.0  # for all cuts of links
SETTLE_S = 10.0  # of talking before the control plane is stopped
MEDIAN_MS, P99_MS = 60.0, 200.0  # besides one round trip
LATE_GATE_US = 5_000.0  # p99 of the emulator's own lateness; above it the figures are the machine's


def run() -> bool:
    """All cases; whether every bound was met. Without root they are skipped, with the reason."""
    reason = why_not()
    if reason is not None:
        progress(f"{NAME} is skipped: {reason}")
        return True
    with tempfile.TemporaryDirectory(prefix="tendril-bench-") as folder:
        world = failover_world(SEED)
        progress(f"{len(world.data_centers)} data centers with an agent each")
        with Testbed.running(world, Path(folder) / "var") as testbed:
            return _measure(testbed, Path(folder) / "media")


def _measure(testbed: Testbed, records: Path) -> bool:
    flows = calls(testbed.world)
    breaker = Breaker(testbed, flows, SEED)
    testbed.until(lambda: _routed(testbed, flows), "every call is routed over a relay, and every node knows")
    lateness: list[dict[str, Any]] = []
    media = _talk(testbed, flows, records)
    try:
        threading.Event().wait(SETTLE_S)
        with testbed.frozen_control_plane() as processes:
            progress(f"the control plane's {processes} processes are stopped; {CUTS} cuts in each direction")
            _cut_links(breaker, lateness)
            _kill_providers(breaker, lateness)
    finally:
        media.send_signal(signal.SIGTERM)
        media.wait(30)
    streams = read(records, len(flows))
    judged = [judge(cut, streams[cut.flow]) for cut in breaker.cuts]
    outcomes = [outcome for outcome in judged if outcome is not None]
    late = max((look["p99_us"] or 0.0 for look in lateness), default=0.0)
    more = {
        "emulator_late_p99_us": float(np.median([look["p99_us"] for look in lateness])),
        "emulator_late_p99_us_worst": late,
        "valid": bool(np.median([look["p99_us"] for look in lateness]) <= LATE_GATE_US),
        "set_aside": len(judged) - len(outcomes),
        "skipped": breaker.skipped,
    }
    _keep(outcomes)
    met = [_line(kind, [o for o in outcomes if o.cut.kind is kind], more) for kind in Kind]  # told to the end
    return all(met)


def _routed(testbed: Testbed, flows: Sequence[Flow]) -> bool:
    for flow in flows:
        answer = testbed.ask_agent(flow.source, f"/v1/routes/{flow.data_center}?class={flow.context}")
        if not answer or not answer.get("forward") or len(answer["forward"]["path"]) < 3:
            return False
        if len(answer["backups"]["forward"]) < 2:
            return False
    return True


def _talk(testbed: Testbed, flows: Sequence[Flow], records: Path) -> Any:
    arguments = ["--lab", str(testbed.lab.number), "--out", str(records)]
    arguments += ["--flows", json.dumps([asdict(flow) for flow in flows])]
    return testbed.run([sys.executable, "-m", "bench.failover.media", *arguments])


def _cut_links(breaker: Breaker, lateness: list[dict[str, Any]]) -> None:
    """In every round each call loses one link of one of its paths, at a moment of its own.

    A call that is not well again yet waits for a later round; after ``LINKS_S`` what is left is given up.
    """
    draw, pause = random.Random(f"{SEED}/rounds"), threading.Event()
    kinds = [*[Kind.THERE, Kind.BACK] * (CUTS + SPARE), *[Kind.ANSWERS] * (CUTS // 4)]
    draw.shuffle(kinds)
    pairs, deadline, done = EDGES // 2, time.monotonic() + LINKS_S, 0
    while kinds and time.monotonic() < deadline:  # one cut of a call at a time, and nothing broken before it
        moments, at_s = sorted((draw.uniform(0, WITHIN_S), pair) for pair in range(pairs)), 0.0
        for moment_s, pair in moments[: len(kinds)]:
            pause.wait(moment_s - at_s)
            at_s, kind = moment_s, kinds.pop()
            odd = kind is Kind.BACK or (kind is Kind.ANSWERS and draw.random() < 0.5)
            if not breaker.cut_link(kind, 2 * pair + odd):
                kinds.insert(0, kind)
        pause.wait(CUT_S)
        breaker.heal()
        lateness.append(breaker.accuracy())
        _until_healed(breaker)
        pause.wait(draw.uniform(*HEALED_S))
        if (done := done + 1) % 20 == 0:
            progress(f"{len(breaker.cuts)} cuts made, {len(kinds)} to come")


def _kill_providers(breaker: Breaker, lateness: list[dict[str, Any]]) -> None:
    draw, pause = random.Random(f"{SEED}/providers"), threading.Event()
    for _ in range(DEATHS):
        _until_healed(breaker)
        breaker.kill_provider(breaker.busiest_provider(PROVIDERS))
        pause.wait(DEAD_S)
        breaker.heal()
        lateness.append(breaker.accuracy())
        pause.wait(draw.uniform(*ALIVE_S))


def _until_healed(breaker: Breaker) -> None:
    deadline, pause = time.monotonic() + HEALS_S, threading.Event()
    while time.monotonic() < deadline and not all(breaker.healed(flow) for flow in range(EDGES)):
        pause.wait(0.25)


def _line(kind: Kind, outcomes: Sequence[Outcome], more: dict[str, Any]) -> bool:
    """Two lines of a kind. What counts is each gap less its own path's round trip; a typical one is added again."""
    if not outcomes:
        progress(f"no valid trial of: {kind.value}")
        return False
    gaps = np.array([outcome.gap_us for outcome in outcomes]) / 1_000
    rtts = np.array([outcome.cut.rtt_us for outcome in outcomes]) / 1_000
    rtt_ms = float(np.median(rtts))
    met = bool(more["valid"])
    told = {
        "trials": len(outcomes),
        "rtt_p50_ms": round(rtt_ms, 1),
        "gap_p50_ms": float(np.percentile(gaps, 50)),
        "gap_p99_ms": float(np.percentile(gaps, 99)),
        "gap_max_ms": float(gaps.max()),
        "silence_p50_ms": round(float(np.median([o.silence_us for o in outcomes])) / 1_000, 1),
        "no_gap": int((gaps <= 20).sum()),
    }
    for percent, bound_ms in ((50, MEDIAN_MS), (99, P99_MS)):
        excess_ms = float(np.percentile(gaps - rtts, percent))
        ours, peer = max(excess_ms + rtt_ms, 0.001), bound_ms + rtt_ms
        case = f"{kind.value}, gap p{percent}"
        met &= line(
            NAME, case, ours, peer, "bound + RTT", "ms", GOAL, 1.0, excess_ms=round(excess_ms, 1), **told, **more
        )
    return met


def _keep(outcomes: Sequence[Outcome]) -> None:
    """Write every trial down where the environment says, for recounting."""
    if file := os.environ.get("BENCH_FAILOVER_OUT"):
        with Path(file).open("w", encoding="utf-8") as out:
            for outcome in outcomes:
                out.write(json.dumps(asdict(outcome)) + "\n")
