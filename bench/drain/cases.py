"""The cases: a plan that names who bleeds, a hard drain, one whose controller is killed, and a provider that dies."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench._case import line, progress
from bench._testbed import Testbed, why_not
from bench.drain.judge import Verdict, heard_again_s, judge
from bench.drain.stage import Stage, keep_file, sessions_wanted, staged
from bench.drain.users import User
from bench.drain.world import HUB_PROVIDER, drain_world, hubs

NAME, SEED = "drain", 1
MOVED_S, GAP_MS, NEW_S = 60.0, 200.0, 1.0  # R1
RIGHT_S, RESUMED_S, RESUMED_SHARE = 2.0, 5.0, 0.99  # R2
NEWCOMERS_S, NEWCOMERS_CUT_S = 5.0, 10.0
PATIENCE_S = 120.0  # for a drain that misses its bound: the figure is worth more than a time-out
SETTLE_S, RETURN_S = 3.0, 10.0
KILL_AT = 0.25  # of the sessions moved when the controller is killed


def run(only: str = "", keep: Path | None = None) -> bool:
    """All cases, or those with ``only`` in their name; whether every bound was met. Skipped without root.

    What the world writes (its database, its log) stays in ``keep`` when that is given.
    """
    reason = why_not()
    if reason is not None:
        progress(f"{NAME} is skipped: {reason}")
        return True
    with tempfile.TemporaryDirectory(prefix="tendril-bench-") as folder:
        world = drain_world(SEED)
        progress(f"{len(world.data_centers)} data centers with an agent each; {sessions_wanted()} sessions")
        with Testbed.running(world, (keep or Path(folder)) / "var") as testbed:
            testbed.until(lambda: measured(testbed), "every pair is measured")
            return asyncio.run(_cases(testbed, only))


def measured(testbed: Testbed) -> bool:
    """Whether the control plane has a figure for every pair."""
    matrix = testbed.api("/v1/matrix")
    rows = matrix["rtt_ms"] if matrix else []
    return bool(rows) and all(ms is not None for i, row in enumerate(rows) for j, ms in enumerate(row) if i != j)


async def _cases(testbed: Testbed, only: str) -> bool:
    met: list[bool] = []
    async with staged(testbed, sessions_wanted()) as stage:
        await asyncio.sleep(SETTLE_S)
        for name, case in CASES.items():
            if only in name:
                met += await case(stage)
        _keep(stage)
        progress(f"accounts of the voices: {stage.voices.accounts}")
        return all(met)


async def plan_case(stage: Stage) -> list[bool]:
    """The dry run of a drain of a hub says how many sessions' agents would have to bleed."""
    homes = hubs(stage.testbed.world)
    hub = stage.testbed.world.data_centers[homes[0]].id
    body = {"selector": {"data_center": hub}, "mode": "hard", "dry_run": True}
    plan = await stage.must("POST", "/v1/drains", body)
    held = sum(int(user.agent.rsplit("-", 1)[1]) % len(homes) == 0 for user in stage.users.all)
    told = plan["agents"].get(hub, {}).get("held", 0)
    return [none("plan of a hub: agents that bleed, not told", abs(held - told), "R1", held=held, told=plan["agents"])]


async def drain_case(stage: Stage, kill: bool) -> list[bool]:
    """A hard drain of the busiest edge; with ``kill`` the controller dies in the middle of it."""
    target = stage.busiest()
    edge = stage.names.index(target)
    users = stage.on({edge})
    progress(f"hard drain of {target}, which carries {len(users)} users" + (", with kill -9" if kill else ""))
    began_us, began = stage.voices.now_us(), time.monotonic()
    body = {"selector": {"data_center": target}, "mode": "hard", "reason": "benchmark", "dry_run": False}
    drain = (await stage.must("POST", "/v1/drains", body))["drain"]["id"]
    answered = time.monotonic()
    new = asyncio.create_task(stage.newcomers(NEWCOMERS_S))
    dead_s = await _kill(stage, users, edge) if kill else None
    drained_s = await _until_drained(stage, drain, began)
    arrivals = await new
    await asyncio.sleep(SETTLE_S)
    verdict = judge(stage, users, began_us)
    late = [dc for at_s, dc in arrivals if at_s + answered - began >= NEW_S]
    more = {"sessions": len(stage.users.all), "drained_s": drained_s, "newcomers": len(late),
            "newcomers_refused": sum(dc in ("refused", "no answer") for dc in late),
            "controller_dead_s": dead_s, **verdict.told()}  # fmt: skip
    await stage.must("POST", f"/v1/drains/{drain}/undo", {"force": True})
    await asyncio.sleep(RETURN_S if not kill else 0.0)
    left = len(stage.on({edge}))
    return _drain_lines("hard drain, controller killed" if kill else "hard drain", "R3" if kill else "R1",
                        verdict, left, late.count(target), more)  # fmt: skip


def _drain_lines(case: str, goal: str, verdict: Verdict, left: int, wrong: int, more: dict[str, Any]) -> list[bool]:
    last_s = verdict.last_moved_s if not left else float(PATIENCE_S)
    return [
        none(f"{case}: new sessions on the drained edge after 1 s", wrong, goal, **more),
        line(NAME, f"{case}: all moved", last_s, MOVED_S, "the goal", "s", goal, 1.0, left=left, **more),
        none(f"{case}: sessions with another agent", verdict.other_agent, goal, **more),
        none(f"{case}: dropped sessions", verdict.dropped, goal, **more),
        line(NAME, f"{case}: media gap p99", max(verdict.gap_p99_ms, 1.0), GAP_MS, "the goal", "ms", goal, 1.0, **more),
        verdict.is_valid,
    ]


async def _kill(stage: Stage, users: list[User], edge: int) -> float:
    """Kill the controller when a part has moved; seconds until it answers again."""
    while sum(user.edge != edge for user in users) < KILL_AT * len(users):
        await asyncio.sleep(0.05)
    killed, pid = time.monotonic(), stage.testbed.kill_control_plane()
    while (reply := await stage.admin.call("GET", "/readyz")) is None or not reply.ok:
        await asyncio.sleep(0.1)
    progress(f"kill -9 of {pid}; it answers again after {time.monotonic() - killed:.1f} s")
    return round(time.monotonic() - killed, 2)


async def _until_drained(stage: Stage, drain: str, began: float) -> float | None:
    while time.monotonic() - began < PATIENCE_S:
        reply = await stage.admin.call("GET", f"/v1/drains/{drain}")
        if reply is not None and reply.ok and reply.body["state"] == "drained":
            return round(time.monotonic() - began, 2)
        await asyncio.sleep(0.25)
    return None


async def provider_case(stage: Stage) -> list[bool]:
    """Every node of the provider that carries most users falls silent at once."""
    providers = {dc.id: dc.provider for dc in stage.testbed.world.data_centers}
    carried = {providers[stage.names[user.edge]] for user in stage.users.all} - {HUB_PROVIDER}
    if not carried:
        progress("nobody talks through a provider that may be cut")
        return [False]
    provider = max(sorted(carried), key=lambda p: sum(providers[stage.names[u.edge]] == p for u in stage.users.all))
    dead = {i for i, name in enumerate(stage.names) if providers[name] == provider}
    users = stage.on(dead)
    progress(f"every node of {provider} is cut, which carry {len(users)} users")
    cut_us = await asyncio.to_thread(stage.cut, provider)
    arrivals = await stage.newcomers(NEWCOMERS_CUT_S)
    await asyncio.sleep(SETTLE_S)
    verdict, again = judge(stage, users, cut_us), np.array(heard_again_s(stage, users, cut_us))
    wrong = [at_s for at_s, dc in arrivals if dc not in stage.names or providers[dc] == provider]
    percentile = min(float(np.quantile(again, RESUMED_SHARE, method="higher")), PATIENCE_S)
    more = {"sessions": len(stage.users.all), "resumed_p50_s": round(float(np.median(again)), 2),
            "resumed_max_s": round(float(again.max()), 2) if np.isfinite(again.max()) else None,
            "newcomers": len(arrivals), "newcomers_wrong": len(wrong), **verdict.told()}  # fmt: skip
    last_wrong_s = max(max(wrong, default=0.0), 0.001)
    figures = (
        ("last new session placed there", last_wrong_s, RIGHT_S),
        ("99 % hear their agent", percentile, RESUMED_S),
    )
    return [
        *(
            line(NAME, f"provider cut: {what}", ours, s, "the goal", "s", "R2", 1.0, **more)
            for what, ours, s in figures
        ),
        none("provider cut: sessions with another agent", verdict.other_agent, "R2", **more),
        verdict.is_valid,
    ]


def none(case: str, count: int, goal: str, **more: object) -> bool:
    """A line for what must not happen at all; one is added on both sides, for a ratio needs something."""
    return line(NAME, case, 1 + count, 1, "none", "1 + count", goal, 1.0, **more)


CASES = {
    "plan of a hub": plan_case,
    "hard drain": partial(drain_case, kill=False),
    "drain with its controller killed": partial(drain_case, kill=True),
    "provider cut": provider_case,
}


def _keep(stage: Stage) -> None:
    if file := keep_file():
        with file.open("w", encoding="utf-8") as out:
            for user in stage.users.all:
                changes = [[c.kind, stage.names[c.source], stage.names[c.target], c.at_us] for c in user.changes]
                out.write(json.dumps({"flow": user.flow, "session": user.session, "changes": changes}) + "\n")
