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
from router.core.errors import Unavailable
from router.core.solve import Answer, Question
from router.core.survey import Survey, Window
from router.core.tables import View
from router.core.whatif import Outcome, WhatIf, simulate

T = TypeVar("T")
SIMULATIONS = 2  # in work at once: each takes a processor for up to a second, and routes are solved beside them
SIMULATION_S = 10.0  # of waiting for one: ten times what the largest fleet takes on an idle machine


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


class Simulations:
    """Works out what-if questions beside everything else, a few at a time, each within a deadline."""

    def __init__(self, at_once: int = SIMULATIONS, deadline_s: float = SIMULATION_S) -> None:
        self._threads = ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="what-if")
        self._at_once, self._deadline_s = at_once, deadline_s
        self._running: set[asyncio.Future[Outcome]] = set()

    async def ask(self, view: View, asked: WhatIf) -> Outcome:
        """The answer. Raises what the question deserves, ``simulations_busy`` and ``simulation_too_slow``."""
        if len(self._running) >= self._at_once:
            message = f"{len(self._running)} simulations are being worked on, the limit is {self._at_once}"
            raise Unavailable("simulations_busy", message)
        work = asyncio.get_running_loop().run_in_executor(self._threads, simulate, view, asked)
        self._running.add(work)
        work.add_done_callback(self._done)
        try:
            # Shielded: a thread cannot be stopped, and counts as long as it runs, even if nobody waits for it any more.
            return await asyncio.wait_for(asyncio.shield(work), self._deadline_s)
        except TimeoutError:
            message = f"the answer took longer than {self._deadline_s:g} s: the machine is overloaded"
            raise Unavailable("simulation_too_slow", message, retry_after_s=5) from None

    def _done(self, work: asyncio.Future[Outcome]) -> None:
        self._running.discard(work)
        if not work.cancelled():
            work.exception()  # told to whoever waited; if nobody did any more, nobody is to be told

    def close(self) -> None:
        """Stop the threads after what they work on."""
        self._threads.shutdown(wait=True, cancel_futures=True)


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
