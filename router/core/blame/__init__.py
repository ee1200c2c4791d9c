"""Whose fault is it: from sessions, probes and reports to verdicts on nodes, places, providers, ways and clients.

``cells`` counts observations against their own baselines, ``infer`` finds the fewest and likeliest causes, ``evidence``
and ``words`` say what speaks for them, ``book`` keeps verdicts as leases. How it thinks and what it cannot know:
``docs/explanation/whose-fault-is-it.md``.
"""

from router.core.blame.book import BlameBook
from router.core.blame.infer import Case, Judgement, judge
from router.core.blame.outcomes import Outcome, OutcomeBook, OutcomeCount, OutcomeKey, total

__all__ = ["BlameBook", "Case", "Judgement", "Outcome", "OutcomeBook", "OutcomeCount", "OutcomeKey", "judge", "total"]
