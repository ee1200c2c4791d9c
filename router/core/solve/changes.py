"""Which routes a new generation changed, for history: plain ``voice``, the pairs that had a path before.

A pair's *first* path is not a change: a fleet that starts up finds N² of them. A pair that loses its path is listed,
and so is its return, unless the control plane restarted in between. A storm is bounded: at most ``MAX_LISTED`` changes
per roll-up bucket are listed, in order of pairs; the rest are counted and told as one event when the bucket ends.
"""

from __future__ import annotations

import numpy as np

from router.core.messages import RouteChange
from router.core.model import DataCenterId, TrafficClass
from router.core.tables import DIRECT, I16, I64, Bool, Context, RouteTable

LOGGED = Context(TrafficClass.VOICE)
MAX_LISTED = 2_000
GONE = -2  # a relay that the inventory no longer has

Pair = tuple[DataCenterId, DataCenterId]


class RouteLog:
    """Remembers which pairs lost their path, and how much was listed in this bucket; private state of the core."""

    def __init__(self) -> None:
        self._lost: dict[Pair, None] = {}
        self._listed = 0
        self._omitted = 0

    def note(self, previous: RouteTable | None, table: RouteTable) -> tuple[RouteChange, ...]:
        """The changes from one table to the next that are to be kept, in order of pairs."""
        if previous is None or LOGGED not in previous.snapshot.contexts or LOGGED not in table.snapshot.contexts:
            return ()
        before, after = previous.snapshot.contexts.index(LOGGED), table.snapshot.contexts.index(LOGGED)
        here, there = _common(previous, table)
        if previous.snapshot.data_centers != table.snapshot.data_centers:
            kept = dict.fromkeys(table.snapshot.data_centers)
            self._lost = {pair: None for pair in self._lost if pair[0] in kept and pair[1] in kept}
        had = previous.reachable[before][np.ix_(there, there)]
        has = table.reachable[after][np.ix_(here, here)]
        moved = had & (~has | _differ(previous, before, there, here, table, after))
        candidates = moved | (~had & has) if self._lost else moved
        ids = table.snapshot.data_centers
        found: list[RouteChange] = []
        for i, j in np.argwhere(candidates).tolist():
            u, v = int(here[i]), int(here[j])
            if not self._is_listed((ids[u], ids[v]), bool(had[i, j]), bool(has[i, j])):
                continue
            old = _path(previous, before, int(there[i]), int(there[j]))
            new = _path(table, after, u, v)
            at, generation = table.computed_at, table.generation
            found.append(RouteChange(at, generation, LOGGED.traffic_class, ids[u], ids[v], old, new))
        return tuple(found)

    def _is_listed(self, pair: Pair, had: bool, has: bool) -> bool:
        """Whether a change is one worth keeping and there is room for it; keeps the books either way."""
        if not had and pair not in self._lost:
            return False  # its first path
        if has:
            self._lost.pop(pair, None)
        else:
            self._lost[pair] = None
        room = self._listed < MAX_LISTED
        self._listed += room
        self._omitted += not room
        return room

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
