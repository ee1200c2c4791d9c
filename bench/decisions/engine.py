"""Tendril's own engine under the benchmark's protocol: the very history, solver and switching rule of the product.

One slice is one bucket, and its value is taken as it is (the product takes the least of several probes). A source whose
whole row repeats the previous slice exactly was not measured in it (published series carry old values on), so nothing
is reported for it; everything else is a report. No relay cost and no quality terms: a series has delays only, and the
score counts nothing else. Where a slice is known to be one probe, a missing value is a lost one, and loss is priced.
"""

from __future__ import annotations

import numpy as np

from bench.decisions._paths import F64, direct_paths
from router.core.change import LossWatch, certain_ppm
from router.core.estimate import LOSS_KEEP
from router.core.history import History
from router.core.model import DEFAULT_MAX_RELAYS, DataCenterId, TrafficClass
from router.core.quality import loss_term_us
from router.core.solve import Caution, Switcher, solve
from router.core.solve.switching import ACCEPTED
from router.core.survey import BUCKET_US as LOSS_BUCKET_US
from router.core.tables import FALLEN, I16, I64, NO_COST, Context, GraphSnapshot, RouteTable

SLICE_S = 2.0  # a bucket of the product's history; what a slice of a series counts as if nobody says how long it is


class EngineRule:
    """Feeds slices to the engine and answers with its routes in force."""

    def __init__(
        self,
        max_relays: int = DEFAULT_MAX_RELAYS,
        accepted: float = ACCEPTED,
        max_dwell_s: int = 10,
        slice_s: float = SLICE_S,
        probes: bool = False,
    ) -> None:
        """``probes``: a slice is one probe; in published series a missing value says only that nobody measured."""
        self.name = "tendril"
        self._slice_us = round(slice_s * 1_000_000)
        self._probes = probes
        self._loss: LossWatch | None = None
        self._max_relays = max_relays
        self._history: History | None = None
        self._switcher = Switcher(Caution(accepted, max_dwell_s * 1_000_000))
        self._table: RouteTable | None = None

    def decide(self, seen: F64) -> I16:
        """Take in the newest slice; paths int16 ``[from, to, MAX_RELAYS]``."""
        n = seen.shape[1]
        if not len(seen) or n < 2:
            return direct_paths(n)
        if self._history is None or self._loss is None:
            self._history = History(1, n, least_of=1)
            self._loss = LossWatch((1, n, n), int((~np.isnan(seen[-1])).sum()))
        self._feed(self._history, self._loss, seen)
        self._history.close()
        snapshot = self._snapshot(self._history, self._priced_us(self._loss), n, len(seen))
        self._table, _ = self._switcher.adopt(self._table, snapshot, solve(snapshot), snapshot.at)
        paths: I16 = np.where(self._table.reachable[0][..., None], self._table.relays[0], -1).astype(np.int16)
        return paths

    def _feed(self, history: History, loss: LossWatch, seen: F64) -> None:
        now, n = seen[-1], seen.shape[1]
        known = history.latest[0] != FALLEN
        before = seen[-2] if len(seen) > 1 else np.full_like(now, np.nan)
        repeated = ((now == before) | (np.isnan(now) & np.isnan(before))).all(axis=1)
        for source in np.flatnonzero(~repeated).tolist():
            target = np.flatnonzero(~np.isnan(now[source]))
            target = target[target != source]
            delay = np.rint(now[source, target] * 1000).astype(np.int64)
            history.put(np.zeros_like(target), np.full_like(target, source), target, delay)
            history.heard(source)
            if not self._probes:
                continue
            probed = np.flatnonzero(known[source] | ~np.isnan(now[source]))
            loss.take(source * n + probed, np.ones_like(probed), np.isnan(now[source, probed]).astype(np.int64))
        loss.fade(LOSS_KEEP ** (self._slice_us / LOSS_BUCKET_US))

    def _priced_us(self, loss: LossWatch) -> I64:
        return loss_term_us(TrafficClass.VOICE, certain_ppm(loss.sent, loss.lost, loss.lossy))

    def _snapshot(self, history: History, extra: I64, n: int, slice_: int) -> GraphSnapshot:
        expected = history.expected_us()
        cost = np.where(expected < NO_COST, expected + extra, NO_COST)
        cost[0][np.arange(n), np.arange(n)] = NO_COST
        return GraphSnapshot(
            generation=slice_,
            at=slice_ * self._slice_us,
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
            extra_us=np.where(cost < NO_COST, extra, 0),
        )
