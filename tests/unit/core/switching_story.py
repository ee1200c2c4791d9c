"""The switching rule's stage: three or four data centers, one switcher, one step after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from worlds import SECOND, evidence, inventory, snapshot

from router.core.estimate import Estimator
from router.core.health import HealthBook
from router.core.model import TrafficClass
from router.core.solve import Caution, Switcher, explain, solve
from router.core.tables import I64, NO_COST, Evidence, GraphSnapshot, HeldBack, RouteTable, View

LOST = int(NO_COST)


def costs(direct: int, relayed: int) -> I64:
    """Three data centers; 0 -> 2 costs ``direct``, or ``relayed`` over 1; everything else is expensive."""
    cost = np.full((3, 3), 400_000, np.int64)
    cost[0, 2] = direct
    cost[0, 1], cost[1, 2] = relayed // 2, relayed - relayed // 2
    return cost


class Story:
    """One switcher and its newest table, step by step."""

    def __init__(self, caution: Caution | None = None) -> None:
        self.switcher = Switcher(caution)
        self.table: RouteTable | None = None
        self.changed = 0
        self.at_us = 0

    def take(self, shot: GraphSnapshot, at_s: float) -> RouteTable:
        self.at_us = round(at_s * SECOND)
        self.table, self.changed = self.switcher.adopt(self.table, shot, solve(shot), self.at_us)
        return self.table

    def step(self, at_s: float, direct: int, relayed: int, story: Evidence | None = None) -> int:
        """Relay in force from 0 to 2 after these costs."""
        self.take(replace(snapshot(costs(direct, relayed)), evidence=story), at_s)
        return self.relay

    @property
    def relay(self) -> int:
        assert self.table is not None
        return int(self.table.relays[0, 0, 2, 0])

    @property
    def flaps(self) -> float:
        """Recent changes of the pair 0 -> 2."""
        assert self.table is not None
        return float(self.table.flaps[0, 0, 2])

    @property
    def reason(self) -> HeldBack:
        assert self.table is not None
        return HeldBack(int(self.table.held_back[0, 0, 2]))

    def why(self, verdict: str = "candidate") -> str:
        """What ``explain`` says of the pair's candidate, or of the path in force."""
        assert self.table is not None
        made = inventory("d000 d001 d002")
        health, links = HealthBook(made).current, Estimator(made).table(0)[0]
        view = View(self.at_us, 1, made, links, self.table, health)
        told = explain(view, "d000", "d002", TrafficClass.VOICE, None, self.at_us)
        return next(c.why for c in told.forward if c.verdict == verdict)


def seen(*buckets: tuple[int, int], latest: tuple[int, int] | None = None) -> Evidence:
    """A history in which 0 -> 2 was ``direct`` and ``relayed`` per bucket, oldest first; free of noise."""
    return evidence([costs(*b) for b in buckets], latest=None if latest is None else costs(*latest))


def two_ways(direct: int, first: int, second: int) -> I64:
    """0 -> 2 directly, over 1, or over 3; other ways are dear, those over a missing link ``LOST``."""
    cost = np.full((4, 4), 400_000, np.int64)
    cost[0, 2] = direct
    for k, total in ((1, first), (3, second)):
        cost[0, k] = cost[k, 2] = LOST if total >= LOST else total // 2
    return cost
