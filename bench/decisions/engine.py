"""Tendril's own engine under the benchmark's protocol: the very history, solver and switching rule of the product.

One slice is one bucket, and its value is taken as it is (the product takes the least of several probes). A source whose
whole row repeats the previous slice exactly was not measured in it (published series carry old values on), so nothing
is reported for it; everything else is a report. No relay cost and no quality terms: a series has delays only, and the
score counts nothing else.
"""

from __future__ import annotations

import numpy as np

from bench.decisions._paths import F64, direct_paths
from router.core.history import History
from router.core.model import DEFAULT_MAX_RELAYS, DataCenterId, TrafficClass
from router.core.solve import Caution, Switcher, solve
from router.core.solve.switching import ENTER, LEAVE
from router.core.tables import I16, NO_COST, Context, GraphSnapshot, RouteTable

BUCKET_US = 2_000_000


class EngineRule:
    """Feeds slices to the engine and answers with its routes in force."""

    def __init__(
        self, max_relays: int = DEFAULT_MAX_RELAYS, enter: float = ENTER, leave: float = LEAVE, max_dwell_s: int = 10
    ) -> None:
        self.name = "tendril"
        self._max_relays = max_relays
        self._history: History | None = None
        self._switcher = Switcher(Caution(enter, leave, max_dwell_s * 1_000_000))
        self._table: RouteTable | None = None

    def decide(self, seen: F64) -> I16:
        """Take in the newest slice; paths int16 ``[from, to, MAX_RELAYS]``."""
        n = seen.shape[1]
        if not len(seen) or n < 2:
            return direct_paths(n)
        if self._history is None:
            self._history = History(1, n, least_of=1)
        self._feed(self._history, seen)
        self._history.close()
        snapshot = self._snapshot(self._history, n, len(seen))
        self._table, _ = self._switcher.adopt(self._table, snapshot, solve(snapshot), snapshot.at)
        paths: I16 = np.where(self._table.reachable[0][..., None], self._table.relays[0], -1).astype(np.int16)
        return paths

    def _feed(self, history: History, seen: F64) -> None:
        now = seen[-1]
        before = seen[-2] if len(seen) > 1 else np.full_like(now, np.nan)
        repeated = ((now == before) | (np.isnan(now) & np.isnan(before))).all(axis=1)
        for source in np.flatnonzero(~repeated).tolist():
            target = np.flatnonzero(~np.isnan(now[source]))
            target = target[target != source]
            delay = np.rint(now[source, target] * 1000).astype(np.int64)
            history.put(np.zeros_like(target), np.full_like(target, source), target, delay)
            history.heard(source)

    def _snapshot(self, history: History, n: int, slice_: int) -> GraphSnapshot:
        cost = history.expected_us().copy()
        cost[0][np.arange(n), np.arange(n)] = NO_COST
        return GraphSnapshot(
            generation=slice_,
            at=slice_ * BUCKET_US,
            data_centers=tuple(DataCenterId(f"n{i:04d}") for i in range(n)),
            contexts=(Context(TrafficClass.VOICE),),
            cost=cost,
            transport=np.zeros((1, n, n), np.uint8),
            may_relay=np.ones((1, n), np.bool_),
            max_relays=np.array([self._max_relays], np.int16),
            relay_cost_us=np.zeros(1, np.int64),
            inventory_count=0,
            potential_us=np.zeros(n, np.int64),
            evidence=history.evidence(),
        )
