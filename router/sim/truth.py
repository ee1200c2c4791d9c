"""How right the routes in force are, judged by the truth that only a simulated world knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.core.kernel import path_cost, solve_context
from router.core.solve.switching import margin_us
from router.core.tables import I16, I64, NO_COST, Bool, RouteTable
from router.sim.world import World

UNREACHABLE = int(NO_COST) // 2


@dataclass(frozen=True, eq=False)
class Judgement:
    """Per ordered pair, bool ``[from, to]``: what is true of the paths; ``judged`` are the pairs that have a path."""

    judged: Bool
    exact: Bool  # no path is truly faster
    within: Bool  # none is truly faster by the switching margin, as the rule applied it

    def share(self, right: Bool, both_ways: bool = False) -> float:
        """Share of the judged pairs that are right, there and, if asked, back as well; 1.0 without any pair."""
        judged = self.judged & self.judged.T if both_ways else self.judged
        right = right & right.T if both_ways else right
        return float(right[judged].mean()) if judged.any() else 1.0


def judge(true_us: I64, relays: I16, has_path: Bool, table: RouteTable, c: int) -> Judgement:
    """Judge paths int16 ``[from, to, slot]`` by true costs int64 ``[from, to]``, under the rules of a context."""
    relay_cost = int(table.snapshot.relay_cost_us[c])
    best, _ = solve_context(true_us, table.snapshot.may_relay[c], int(table.snapshot.max_relays[c]), relay_cost)
    cost = np.minimum(path_cost(true_us, relays, relay_cost), NO_COST)
    judged = (best < UNREACHABLE) & ~np.eye(len(best), dtype=np.bool_)
    behind = np.where(has_path, cost - best, NO_COST)
    # The margin is a share of what the core believes, and that contains what it cannot know of the clocks.
    margin = np.maximum(margin_us(cost), np.where(has_path, margin_us(table.cost[c]), 0))
    return Judgement(judged, judged & (behind <= 0), judged & (behind < margin))


def judge_in_force(world: World, table: RouteTable, c: int) -> Judgement:
    """Judge the paths in force of a context by the metric that the truth has for its class."""
    true_us = world.true_cost_us(table.snapshot.contexts[c].traffic_class)
    return judge(true_us, table.relays[c], table.reachable[c], table, c)
