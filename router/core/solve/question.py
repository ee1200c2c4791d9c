"""One question to the worker: from a link table to the next routes in force, everything that takes long.

Snapshot, exact best paths and backups, the switching rule for all pairs, and what history is told of it. A question is
immutable, and so is everything in it; what the rule remembers is copied before it is written to. The core has at most
one question open, so an answer always continues the table that the question was asked about.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from router.core.model import Inventory, Micros
from router.core.solve.best import solve
from router.core.solve.changes import Noted, RouteLog
from router.core.solve.switching import Switcher
from router.core.tables import I64, DataCenterHealth, Evidence, LinkTable, LoadPrice, RouteTable
from router.core.topology import snapshot


@dataclass(frozen=True, eq=False)
class Question:
    """What the next routes are made of."""

    generation: int
    at: Micros
    inventory: Inventory
    inventory_count: int
    links: LinkTable
    potential_us: I64
    health: tuple[DataCenterHealth, ...]
    evidence: Evidence
    load: LoadPrice | None
    previous: RouteTable | None
    switcher: Switcher
    log: RouteLog

    def answer(self) -> Answer:
        """Compute; may be called in any thread, and as often as anybody likes."""
        shot = snapshot(
            self.inventory,
            self.links,
            self.potential_us,
            self.health,
            self.generation,
            self.inventory_count,
            self.at,
            self.evidence,
            self.load,
        )
        switcher = copy.deepcopy(self.switcher)
        table, changed = switcher.adopt(self.previous, shot, solve(shot), self.at)
        return Answer(self.generation, table, changed, switcher, self.log.find(self.previous, table))


@dataclass(frozen=True, eq=False)
class Answer:
    """The next routes in force, and what the rule and the log remember of them."""

    generation: int
    table: RouteTable
    changed_pairs: int
    switcher: Switcher
    noted: Noted
