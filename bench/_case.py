"""One line of benchmark output, and the best of several runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable


def best_s(work: Callable[[], object], repeat: int = 5) -> float:
    """Shortest of several runs in seconds: the noise of a shared machine only ever adds."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def line(name: str, case: str, ours: float, peer: float, peer_name: str, unit: str, goal: str, bound: float) -> bool:
    """Print a case; ``ratio`` is peer / ours (higher is better), met when it reaches ``bound``."""
    ratio = peer / ours
    row = {
        "name": name, "case": case, "ours": round(ours, 6), "peer": round(peer, 6), "peer_name": peer_name,
        "unit": unit, "ratio": round(ratio, 2), "goal": goal, "bound": bound, "met": ratio >= bound,
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    return ratio >= bound
