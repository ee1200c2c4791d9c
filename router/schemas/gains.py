"""What routing gains over the direct path, for all pairs: MOS of the route in force against MOS of the direct way.

The numbers are those of ``GET /v1/routes/{from}/{to}`` (delays add under one set of clock offsets and are then anchored
at the pair's own band, variances add, survival probabilities multiply), made for whole matrices.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from router.core.model import TrafficClass
from router.core.quality import Delays, best_playout, mos_of
from router.core.tables import DIRECT, F64, I64, NO_COST, Bool, Context, LinkTable, RouteTable, View


def gains(view: View, traffic_class: TrafficClass) -> tuple[F64, F64] | None:
    """MOS of the route in force and of the direct way ``[from, to]``, NaN where unknown; ``None`` before any table."""
    table, links = view.routes, view.links
    context = Context(traffic_class)
    if table is None or table.stale or table.snapshot.data_centers != links.data_centers:
        return None
    if context not in table.snapshot.contexts:
        return None
    c = table.snapshot.contexts.index(context)
    size = len(links.data_centers)
    start, end = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    routed = _mos(table, links, c, [start, *_stops(table, c, end), end], table.reachable[c])
    direct = _mos(table, links, c, [start, end], table.snapshot.cost[c] != NO_COST)
    return routed, direct


def _stops(table: RouteTable, c: int, end: I64) -> list[I64]:
    """The relays in order; beyond the last the destination itself, so that the remaining hops are none."""
    relays = table.relays[c].astype(np.int64)
    return [np.where(relays[:, :, k] == DIRECT, end, relays[:, :, k]) for k in range(relays.shape[2])]


def _mos(table: RouteTable, links: LinkTable, c: int, stops: list[I64], usable: Bool) -> F64:
    shape = stops[0].shape
    least, queue, variance, survival = (np.zeros(shape), np.zeros(shape), np.zeros(shape), np.ones(shape))
    known = usable.copy()
    for a, b in pairwise(stops):
        hop = a != b
        t = _transport(table, links, c)[a, b]
        known &= ~hop | (links.rtt_us[t, a, b] >= 0)
        jitter = np.maximum(0, links.jitter_us[t, a, b])
        least += np.where(hop, links.along_us[t, a, b], 0)
        queue += np.where(hop, jitter, 0)
        variance += np.where(hop, jitter.astype(np.float64) ** 2, 0)
        survival *= np.where(hop, 1 - np.clip(links.loss_ppm[t, a, b], 0, 1_000_000) / 1e6, 1)
    least = np.maximum(0, least + _anchor(links))
    points = best_playout(Delays(least, queue, variance), 1 - survival).points
    np.fill_diagonal(known, val=False)
    scores: F64 = np.where(known, mos_of(points), np.nan)
    return scores


def _transport(table: RouteTable, links: LinkTable, c: int) -> I64:
    """Index among the links' transports of what the solver takes from one data center to another."""
    places = [links.transports.index(name) if name in links.transports else 0 for name in table.snapshot.transports]
    found: I64 = np.array(places, np.int64)[table.snapshot.transport[c]]
    return found


def _anchor(links: LinkTable) -> I64:
    """How the clocks of the two ends of each pair differ, by the narrowest band of any of its transports."""
    errors = np.where(links.rtt_us >= 0, links.error_us, np.iinfo(np.int64).max)
    t = errors.argmin(axis=0)[None]
    shift = np.take_along_axis(links.forward_us - links.along_us, t, 0)[0]
    measured = (links.rtt_us >= 0).any(axis=0)
    result: I64 = np.where(measured, shift, 0)
    return result
