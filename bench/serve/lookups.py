"""Lookups in the client library's table through its public calls: random targets of a row of 300, in one thread."""

from __future__ import annotations

import itertools
import random
import time

from bench._case import line
from router.client import RouteTable, ServerEvent

ROWS, LOOKUPS, ROUNDS = 300, 1_000_000, 7
GOAL_PER_S = 5_000_000.0
_WAY = {"path": ["a", "b"], "transports": ["internet"], "delay_ms": 1.0}


def run() -> bool:
    """Time both calls; what is promised holds for the dict hit, the other one is told."""
    table = RouteTable("here")
    rows = [
        {"from": "here", "to": f"dc{i:03d}", "class": "voice", "generation": 1, "stale": False, "age_ms": 1.0,
         "forward": _WAY, "return": _WAY}
        for i in range(ROWS)
    ]  # fmt: skip
    table.take("voice", ServerEvent("table", {"generation": 1, "routes": rows}, "1"), 0.0)
    rng = random.Random(1)
    asked = [(f"dc{rng.randrange(ROWS):03d}", "voice") for _ in range(LOOKUPS)]
    targets = [target for target, _ in asked]
    found, named = _best(lambda: _find(table, asked)), _best(lambda: _route(table, targets))
    return line("serve", "client library: find((to, class))", found, GOAL_PER_S, "promised", "lookups/s", "P3", 1.0,
                by_name_per_s=round(named), rows=ROWS)  # fmt: skip


def _find(table: RouteTable, asked: list[tuple[str, str]]) -> int:
    find, missing = table.find, 0
    for one in asked:
        if find(one) is None:
            missing += 1
    return missing


def _route(table: RouteTable, targets: list[str]) -> int:
    route, missing = table.route, 0
    for target in itertools.chain(targets):
        if route(target) is None:
            missing += 1
    return missing


def _best(work: object) -> float:
    """Lookups per processor second of the thread, the best of some rounds; the loop around them is counted."""
    assert callable(work)
    best = 0.0
    for _ in range(ROUNDS):
        start = time.thread_time()
        missing = work()
        best = max(best, LOOKUPS / (time.thread_time() - start))
        if missing:
            raise AssertionError(f"{missing} lookups found nothing")
    return best
