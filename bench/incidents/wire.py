"""Three published incidents with real packets: a world in namespaces, users in sessions, and something that happens.

*Short loss isolates a region* (providers' own histories are full of it): an edge's line is dead for some seconds and
comes back. *False isolation* (LiveKit, US East): a data center sees none of its peers for a while and its users are
fine; nobody may be sent away. *The controllers are gone* (LiveKit, February 2024): the control plane stands still, and
an edge dies meanwhile. Nobody is lost, everybody keeps the same agent, and whom it does not concern hears nothing.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench._case import line, progress
from bench._testbed import Testbed, why_not
from bench.drain.cases import SETTLE_S, measured
from bench.drain.judge import heard_again_s, judge
from bench.drain.stage import Stage, staged
from bench.drain.users import User
from bench.drain.world import drain_world

SEED, SESSIONS = 1, 60
OUT_S, BLIND_S, FROZEN_S = 8.0, 15.0, 12.0
AGAIN_S = 10.0  # after which 99 % of those who were cut off hear their agent; R2's five seconds are `bench drain`'s
QUIET_MS = 200.0  # of those whom it does not concern
REST_S = 14.0  # until what came back has passed its quiet period

Incident = Callable[[Stage, set[int]], Awaitable[None]]


def run() -> bool:
    """All three; whether each was met. Without root they are skipped, with the reason."""
    reason = why_not()
    if reason is not None:
        progress(f"incidents with real packets are skipped: {reason}")
        return True
    sessions = int(os.environ.get("BENCH_INCIDENT_SESSIONS", str(SESSIONS)))
    with (
        tempfile.TemporaryDirectory(prefix="tendril-bench-") as folder,
        Testbed.running(drain_world(SEED), Path(folder) / "var") as testbed,
    ):
        testbed.until(lambda: measured(testbed), "every pair is measured")
        return asyncio.run(_all(testbed, sessions))


async def _all(testbed: Testbed, sessions: int) -> bool:
    async with staged(testbed, sessions) as stage:
        await asyncio.sleep(SETTLE_S)
        met = await _case(stage, "false isolation", _blind, cut_off=False)
        met &= await _case(stage, "short loss isolates a region", _out, cut_off=True)
        return await _case(stage, "controllers gone while an edge dies", _headless, cut_off=True) and met


async def _case(stage: Stage, name: str, happens: Incident, *, cut_off: bool) -> bool:
    """Play one at the busiest edge, and judge those who were there, and all others."""
    edge = {stage.names.index(stage.busiest())}
    there = stage.on(edge)
    others = [user for user in stage.users.all if user not in there]
    progress(f"{name}: {stage.busiest()}, which carries {len(there)} of {len(stage.users.all)} users")
    began_us = stage.voices.now_us()
    await happens(stage, edge)
    await asyncio.sleep(SETTLE_S)
    met = _judged(stage, name, happens, (there, others), began_us, cut_off=cut_off)
    await asyncio.sleep(REST_S)
    return met


def _judged(
    stage: Stage,
    name: str,
    happens: Incident,
    users: tuple[list[User], list[User]],
    began_us: int,
    *,
    cut_off: bool,
) -> bool:
    there, others = users
    verdict = judge(stage, stage.users.all, began_us)
    more = {"sessions": len(stage.users.all), "there": len(there), **verdict.told()}
    met = _nobody(f"{name}: sessions lost", verdict.dropped, more)
    met &= _nobody(f"{name}: sessions with another agent", verdict.other_agent, more)
    if cut_off:
        again_s = float(np.quantile(heard_again_s(stage, there, began_us), 0.99, method="higher"))
        limit_s = AGAIN_S if happens is not _headless else AGAIN_S + FROZEN_S
        case = f"{name}: 99 % hear their agent"
        met &= line("incidents", case, max(again_s, 0.001), limit_s, "the bound", "s", "R2", 1.0)
    calm = others if cut_off else stage.users.all
    if calm:
        gap_ms = judge(stage, calm, began_us).gap_p99_ms
        case = f"{name}: media gap p99 of those not cut off"
        met &= line("incidents", case, max(gap_ms, 1.0), QUIET_MS, "the bound", "ms", "R1", 1.0, users=len(calm))
    return met and verdict.is_valid


def _nobody(case: str, count: int, more: dict[str, Any]) -> bool:
    return line("incidents", case, 1 + count, 1, "none", "1 + count", "R3", 1.0, **more)


async def _out(stage: Stage, edges: set[int]) -> None:
    """The line of an edge is dead for a while."""
    _line(stage, edges, "down")
    await asyncio.sleep(OUT_S)
    _line(stage, edges, "up")


async def _blind(stage: Stage, edges: set[int]) -> None:
    """Its peers hear nothing of a data center, nor it of them; its users do not notice."""
    faults = [
        stage.testbed.fault(target=f"data_center={stage.names[edge]}", kind="blackhole") for edge in sorted(edges)
    ]
    await asyncio.sleep(BLIND_S)
    for fault in faults:
        stage.testbed.heal(fault)


async def _headless(stage: Stage, edges: set[int]) -> None:
    """No controller answers; in the middle of it an edge dies, and stays dead until they are back."""
    with stage.testbed.frozen_control_plane():
        await asyncio.sleep(FROZEN_S / 3)
        _line(stage, edges, "down")
        await asyncio.sleep(FROZEN_S * 2 / 3)
    await asyncio.sleep(OUT_S)
    _line(stage, edges, "up")


def _line(stage: Stage, edges: set[int], way: str) -> None:
    for edge in sorted(edges):
        node = stage.testbed.world.data_centers[edge].nodes[0]
        subprocess.run(["ip", "-n", stage.testbed.lab.name(node.index), "link", "set", "control", way], check=True)
