"""Two brakes on solving, because no data is not bad data.

*Hold*: after a restart the saved table stays in force, marked stale, until measurements are back. *Freeze*: if most
agents fall silent, nothing is solved and the last table ages. Those who have been silent for ten minutes no longer
count, as long as somebody talks: they cannot ask for routes either, and the ways to them are measured by the others.
"""

from __future__ import annotations

from router.core.estimate import Estimator
from router.core.model import Micros
from router.core.tables import UNKNOWN, LinkTable, RouteTable

WARM_SHARE, WARM_AFTER_US = 0.9, 12_000_000  # when the hold after a restart ends
BACK_SHARE = 0.5  # of the routes in force that have evidence again; below it the hold goes on for as long as:
REMEMBERED_US = 600_000_000
SILENT_US = 10_000_000
DWELL_US = 5_000_000  # talking must have been the rule for so long before a freeze ends


class Brake:
    """Says whether routes may move."""

    def __init__(self) -> None:
        self._frozen = False
        self._silent_at: Micros = 0

    def look(
        self, table: RouteTable | None, links: LinkTable, estimator: Estimator, booted_at: Micros, now: Micros
    ) -> str | None:
        """``None``: go on. Else a text to be told, empty when there is nothing new to tell."""
        age = now - booted_at
        talking, heard = estimator.node_count(now, SILENT_US, REMEMBERED_US)
        if table is not None and table.stale:
            if age < WARM_AFTER_US and estimator.known_share(now) < WARM_SHARE:
                return ""
            back = _share_back(table, links)
            if back < BACK_SHARE and (age < REMEMBERED_US or not talking):
                text = f"only {back:.0%} of the saved routes are measured again; they stay in force and age"
                return self._hold(text, now)
        if (heard and not talking) or (heard >= 2 and talking * 2 < heard):
            return self._hold(f"only {talking} of {heard} agents report; the last routes stay in force and age", now)
        if self._frozen and now - self._silent_at < DWELL_US:
            return ""
        self._frozen = False
        return None

    def _hold(self, text: str, now: Micros) -> str:
        entered, self._frozen, self._silent_at = not self._frozen, True, now
        return text if entered else ""


def _share_back(table: RouteTable, links: LinkTable) -> float:
    """Share of the pairs with a saved route whose direct link has evidence; pairs that are gone do not count."""
    index = {dc: i for i, dc in enumerate(links.data_centers)}
    there = [i for i, dc in enumerate(table.snapshot.data_centers) if dc in index]
    here = [index[table.snapshot.data_centers[i]] for i in there]
    routed = table.reachable[:, there][:, :, there].any(axis=0)
    known = (links.rtt_us[:, here][:, :, here] != UNKNOWN).any(axis=0)
    return float((routed & known).sum() / routed.sum()) if routed.any() else 1.0
