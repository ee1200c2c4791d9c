"""The worker around the core's long computations: one thread of its own, so that none holds up the event loop.

A thread and not a process: everything that goes in and comes out is immutable and is handed over by reference, and the
arithmetic lets go of the interpreter. The seams are the pairs of messages ``MakeSurvey`` and ``Surveyed``, ``Solve``
and ``Solved``, ``FitClients`` and ``ClientsFitted``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from router.core.blame import Case, Judgement
from router.core.capacity import Linear, Solution
from router.core.clients import Census, Tomography
from router.core.solve import Answer, Question
from router.core.survey import Survey, Window

T = TypeVar("T")


class Solver:
    """Runs one computation at a time."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="solver")

    async def solve(self, question: Question) -> Answer:
        """The next routes; raises whatever the computation raises."""
        return await self._run(question.answer)

    async def survey(self, window: Window) -> Survey:
        """The next link table; raises whatever the computation raises."""
        return await self._run(window.survey)

    async def fit_clients(self, census: Census) -> Tomography:
        """What all client networks teach; raises whatever the computation raises."""
        return await asyncio.to_thread(census.fit)  # not in the worker's thread: routes would wait for it

    async def judge(self, case: Case) -> Judgement:
        """Who is at fault; raises whatever the computation raises."""
        return await asyncio.to_thread(case.judged)  # beside the routes: they must not wait for blame, nor it for them

    async def optimise(self, asked: Linear) -> Solution:
        """The answer of a linear programme; raises whatever the computation raises."""
        return await asyncio.to_thread(optimum, asked)

    async def _run(self, compute: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, compute)

    def close(self) -> None:
        """Stop the thread after the computation at hand."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def optimum(asked: Linear) -> Solution:
    """Solve a linear programme with HiGHS. Raises ``RuntimeError`` where it finds no optimum."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

    if not len(asked.cost):
        return Solution(np.zeros(0), np.zeros(len(asked.bound)))
    shape = len(asked.bound), len(asked.cost)
    found = linprog(
        asked.cost,
        A_ub=csr_array((asked.values, (asked.rows, asked.columns)), shape=shape),
        b_ub=asked.bound,
        bounds=np.column_stack((np.zeros(len(asked.cost)), asked.most)),
        method="highs",
    )
    if not found.success:
        raise RuntimeError(f"the programme has no optimum: {found.message}")
    return Solution(found.x, -found.ineqlin.marginals)
