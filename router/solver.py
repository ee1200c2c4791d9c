"""The worker around ``core.solve``: one thread of its own, so that a solve never holds up the event loop's queue.

A thread and not a process for now: a solve of a hundred data centers is a few milliseconds of array arithmetic, less
than handing its arrays to another process would cost. The seam is the pair of messages ``Solve`` and ``Solved``.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from router.core.solve import solve
from router.core.tables import Candidate, GraphSnapshot


class Solver:
    """Runs one solve at a time."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="solver")

    async def solve(self, snapshot: GraphSnapshot) -> Candidate:
        """Best paths of a snapshot; raises whatever the computation raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, solve, snapshot)

    def close(self) -> None:
        """Stop the thread after the solve at hand."""
        self._thread.shutdown(wait=True, cancel_futures=True)
