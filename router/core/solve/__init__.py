"""GraphSnapshot -> Candidate -> RouteTable -> answers: best path each way, switching rule, backups, explanation."""

from router.core.solve.answer import Backup, PathAnswer, RouteAnswer, route
from router.core.solve.best import solve
from router.core.solve.changes import RouteLog
from router.core.solve.explain import ExplainedCandidate, ExplainedHop, Explanation, explain
from router.core.solve.question import Answer, Question
from router.core.solve.reaction import reaction_plan, same_reactions
from router.core.solve.switching import Caution, Switcher

__all__ = [
    "Answer",
    "Backup",
    "Caution",
    "ExplainedCandidate",
    "ExplainedHop",
    "Explanation",
    "PathAnswer",
    "Question",
    "RouteAnswer",
    "RouteLog",
    "Switcher",
    "explain",
    "reaction_plan",
    "route",
    "same_reactions",
    "solve",
]
