"""How much memory one solve takes at its worst moment, ours and a peer's, each in a process of its own.

Python's own accounting sees nothing of what C allocates, so the kernel of the operating system is asked: resident size
before the call, and the highest it ever was during it (``VmHWM``, reset through ``/proc/self/clear_refs``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.solve.worlds import costs_us, everyone


def solve_bytes(what: str, n: int) -> int:
    """Extra resident bytes of one call: ``ours`` (at most three relays) or ``scipy`` (Floyd-Warshall, predecessors)."""
    command = [sys.executable, "-m", "bench.solve.memory", what, str(n)]
    # A fixed threshold: else the allocator keeps big blocks that were freed before, and hands them out unseen.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return int(json.loads(done.stdout))


def _status_bytes(field: str) -> int:
    for row in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if row.startswith(field + ":"):
            return int(row.split()[1]) * 1024
    raise KeyError(field)


def _measured(what: str, n: int) -> int:
    cost, may_relay = costs_us(n), everyone(n)
    if what == "ours":
        from router.core.kernel import solve_context

        solve_context(costs_us(50), everyone(50), 3, 0)  # what the first call loads is not what a solve takes
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _status_bytes("VmRSS")
        answer: object = solve_context(cost, may_relay, 3, 0)
    else:
        from bench.solve.peers import scipy_floyd_warshall

        scipy_floyd_warshall(costs_us(50)).work()
        peer = scipy_floyd_warshall(cost)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _status_bytes("VmRSS")
        answer = peer.work()
    after = _status_bytes("VmHWM")
    del answer
    return after - before


if __name__ == "__main__":
    print(json.dumps(_measured(sys.argv[1], int(sys.argv[2]))))
