"""Which routes a new generation changed, for history: plain ``voice``, the pairs that had a path before.

A pair's *first* path is not a change: a fleet that starts up finds N² of them. A pair that loses its path is listed,
and so is its return, unless the control plane restarted in between. A storm is bounded: at most ``MAX_LISTED`` changes
per roll-up bucket are listed, in order of pairs; the rest are counted and told as one event when the bucket ends.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from router.core.messages import RouteChange
from router.core.model import DataCenterId, TrafficClass
from router.core.tables import DIRECT, I16, I64, Bool, Context, RouteTable

LOGGED = Context(TrafficClass.VOICE)
MAX_LISTED = 2_000
GONE = -2  # a relay that the inventory no longer has

Pair = tuple[DataCenterId, DataCenterId]


@dataclass(frozen=True, slots=True)
class Noted:
    """What one table means for the log: changes to keep, pairs that have no path now, and how many were counted."""

    changes: tuple[RouteChange, ...]
    lost: Mapping[Pair, None]
    omitted: int


class RouteLog:
    """Remembers which pairs lost their path, and how much was listed in this bucket; private state of the core."""

    def __init__(self) -> None:
        self._lost: Mapping[Pair, None] = {}  # never written to: a worker may be reading it
        self._listed = 0
        self._omitted = 0

    def frozen(self) -> RouteLog:
        """The log as it is now, for a worker to read."""
        return copy.copy(self)

    def note(self, previous: RouteTable | None, table: RouteTable) -> tuple[RouteChange, ...]:
        """The changes from one table to the next that are to be kept, in order of pairs."""
        noted = self.find(previous, table)
        self.take(noted)
        return noted.changes

    def take(self, noted: Noted) -> None:
        """Remember what ``find`` found."""
        self._lost = noted.lost
        self._listed += len(noted.changes)
        self._omitted += noted.omitted

    def find(self, previous: RouteTable | None, table: RouteTable) -> Noted:
        """What is to be kept of the changes from one table to the next, in order of pairs; changes nothing here."""
        if previous is None or LOGGED not in previous.snapshot.contexts or LOGGED not in table.snapshot.contexts:
            return Noted((), self._lost, 0)
        before, after = previous.snapshot.contexts.index(LOGGED), table.snapshot.contexts.index(LOGGED)
        here, there = _common(previous, table)
        lost = dict(self._lost)
        if previous.snapshot.data_centers != table.snapshot.data_centers:
            kept = dict.fromkeys(table.snapshot.data_centers)
            lost = {pair: None for pair in lost if pair[0] in kept and pair[1] in kept}
        had = previous.reachable[before][np.ix_(there, there)]
        has = table.reachable[after][np.ix_(here, here)]
        moved = had & (~has | _differ(previous, before, there, here, table, after))
        candidates = moved | (~had & has) if lost else moved
        ids, found, omitted = table.snapshot.data_centers, list[RouteChange](), 0
        for i, j in np.argwhere(candidates).tolist():
            u, v = int(here[i]), int(here[j])
            pair = ids[u], ids[v]
            if not had[i, j] and pair not in lost:
                continue  # its first path
            if has[i, j]:
                lost.pop(pair, None)
            else:
                lost[pair] = None
            if self._listed + len(found) >= MAX_LISTED:
                omitted += 1
                continue
            old = _path(previous, before, int(there[i]), int(there[j]))
            new = _path(table, after, u, v)
            at, generation = table.computed_at, table.generation
            found.append(RouteChange(at, generation, LOGGED.traffic_class, *pair, old, new))
        return Noted(tuple(found), lost, omitted)

    def turn(self) -> int:
        """Begin the next bucket; how many changes the last one counted without listing them."""
        omitted, self._listed, self._omitted = self._omitted, 0, 0
        return omitted


def _common(previous: RouteTable, table: RouteTable) -> tuple[I64, I64]:
    """Vertices of the data centers that both tables have: in the new one, in the old one."""
    index = {dc: i for i, dc in enumerate(table.snapshot.data_centers)}
    both = [(index[dc], i) for i, dc in enumerate(previous.snapshot.data_centers) if dc in index]
    return np.array([b[0] for b in both], np.int64), np.array([b[1] for b in both], np.int64)


def _differ(previous: RouteTable, before: int, there: I64, here: I64, table: RouteTable, after: int) -> Bool:
    """Bool ``[from, to]`` over the common data centers: other relays than before."""
    renumber = np.full(len(previous.snapshot.data_centers) + 1, GONE, np.int16)
    renumber[there] = here
    renumber[DIRECT] = DIRECT  # the last place, which is what -1 indexes
    old: I16 = renumber[previous.relays[before][np.ix_(there, there)]]
    new: I16 = table.relays[after][np.ix_(here, here)]
    differ: Bool = (old != new).any(axis=-1)
    return differ


def _path(table: RouteTable, c: int, u: int, v: int) -> tuple[DataCenterId, ...] | None:
    if not table.reachable[c, u, v]:
        return None
    ids = table.snapshot.data_centers
    return (ids[u], *(ids[k] for k in table.relays[c, u, v].tolist() if k != DIRECT), ids[v])
