"""What a worker does for the core: the answer is an input, and so is the failure to give one."""

from __future__ import annotations

import structlog

from router.core.messages import (
    ClientsFitFailed,
    ClientsFitted,
    FitClients,
    Judged,
    JudgeFailed,
    JudgeFault,
    MakeSurvey,
    Optimise,
    Optimised,
    OptimiseFailed,
    Solve,
    Solved,
    SolveFailed,
    Surveyed,
    SurveyFailed,
)
from router.solver import Solver

log = structlog.get_logger("tendril.runtime")

Work = MakeSurvey | FitClients | JudgeFault | Solve | Optimise
Done = Surveyed | ClientsFitted | Judged | Solved | Optimised
Failed = SurveyFailed | ClientsFitFailed | JudgeFailed | SolveFailed | OptimiseFailed


async def outcome_of(solver: Solver, work: Work) -> Done | Failed:
    """Have it done off the event loop; never raises, since the core waits for one of the two."""
    try:
        return await _done(solver, work)
    except Exception as error:
        log.exception("work_failed", work=type(work).__name__)
        return _failed(work, f"{type(error).__name__}: {error}")


async def _done(solver: Solver, work: Work) -> Done:
    match work:
        case MakeSurvey():
            return Surveyed(await solver.survey(work.window))
        case FitClients():
            return ClientsFitted(await solver.fit_clients(work.census))
        case JudgeFault():
            return Judged(await solver.judge(work.case))
        case Optimise():
            shopping = work.shopping
            return Optimised(shopping.number, await solver.optimise(shopping.asked.linear))
        case Solve():
            return Solved(await solver.solve(work.question))


def _failed(work: Work, error: str) -> Failed:
    match work:
        case MakeSurvey():
            return SurveyFailed(work.window.number, error)
        case FitClients():
            return ClientsFitFailed(work.census.number, error)
        case JudgeFault():
            return JudgeFailed(work.case.number, error)
        case Optimise():
            return OptimiseFailed(work.shopping.number, error)
        case Solve():
            return SolveFailed(work.question.generation, error)
