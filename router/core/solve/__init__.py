"""GraphSnapshot -> Candidate -> RouteTable -> answers: best path each way, switching rule, backups, explanation."""

from router.core.solve.answer import Backup, PathAnswer, RouteAnswer, route
from router.core.solve.best import solve
from router.core.solve.changes import RouteLog
from router.core.solve.explain import ExplainedCandidate, ExplainedHop, Explanation, explain
from router.core.solve.switching import adopt

__all__ = [
    "Backup",
    "ExplainedCandidate",
    "ExplainedHop",
    "Explanation",
    "PathAnswer",
    "RouteAnswer",
    "RouteLog",
    "adopt",
    "explain",
    "route",
    "solve",
]
