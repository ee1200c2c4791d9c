"""Exact re-scoring: of the paths that the metric ranks best, the one that people would rank best.

The solver's metric adds; what a listener hears does not. The metric is the utility's tangent at one operating point, so
the two disagree where the curve bends: below the knee of the E-model (mouth to ear about 177 ms) a few milliseconds
less are worth next to nothing and half a per cent of loss is worth 2 points of R, while the metric trades them at its
fixed rate; and jitters of several hops add as variances, where the metric adds them outright.

So the solver hands over the ``m`` best paths of a pair, and this module scores them exactly::

    points = utility(class, composed delays, composed loss) - points_per_ms * (relay + price + load costs)

The metric's own first choice is kept unless another candidate that is *near* it (``NEAR_US`` of metric) is better by
``WORTH_MILLIPOINTS``. Nearness bounds what an error of the utility model can cost; the worth keeps differences nobody
hears from moving a route. Points are rounded to thousandths before they are compared, so that replicas on different
CPUs agree; equal points go to the smaller metric, equal metrics to the order in which the solver gave the candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.core.model import TrafficClass
from router.core.quality import PROFILES, Delays, along, lost_along, of_hops, utility
from router.core.quality.delays import F64
from router.core.tables import DIRECT, I16, I64, NO_COST, Bool

NEAR_US = 50_000  # half of the delay that the E-model gives away: more is not a matter of taste any more
WORTH_MILLIPOINTS = 500  # half a point of R is below what listening tests resolve
ABSENT = np.int64(-1) << 40  # points of a slot without a candidate
# Pairs scored at a time: their intermediate arrays stay in a second-level cache.
BLOCK = 4_096


@dataclass(frozen=True, eq=False)
class Candidates:
    """Up to ``m`` paths per pair in the solver's order, arrays ``[pair, m]``; absent slots have metric ``NO_COST``."""

    metric_us: I64
    delays: Delays  # of the whole path
    loss: F64  # share of packets lost on the whole path
    extra_us: I64  # relay, price and load terms of the metric: what the utility does not know of


@dataclass(frozen=True, eq=False)
class Rescored:
    """Exact order of the candidates of every pair."""

    order: I16  # [pair, m] slots from best to worst
    points: I64  # [pair, m] thousandths of a point, costs subtracted; ``ABSENT`` where there is no candidate
    differs: Bool  # [pair] whether the best is not the metric's choice


def compose(
    source: I64,
    target: I64,
    relays: I16,
    delay_us: I64,
    jitter_us: I64,
    loss_ppm: I64,
) -> tuple[Delays, F64]:
    """Delays and loss of paths from the hops' estimates.

    ``source``, ``target`` int64 ``[pair]``; ``relays`` int16 ``[pair, m, MAX_RELAYS]``; estimates int64 ``[from, to]``
    of the transport in use, -1 where unknown (unknown delay counts as 0: such a hop is never part of a usable path).
    """
    n, shape = len(delay_us), (*relays.shape[:2], relays.shape[2] + 1)
    delay, jitter, loss = (np.zeros(shape, np.int64) for _ in range(3))
    here = np.broadcast_to(source[:, None], relays.shape[:2])
    end = np.broadcast_to(target[:, None], relays.shape[:2])
    for slot in range(shape[2]):
        # Behind the last relay the path stands at its target already, and hops from there count nothing.
        relay = relays[:, :, slot].astype(np.int64) if slot < relays.shape[2] else np.full(here.shape, DIRECT, np.int64)
        after = np.where(relay == DIRECT, end, relay)
        moves, hop = after != here, here * n + after
        if not moves.any():
            break
        for hops, estimate in ((delay, delay_us), (jitter, jitter_us), (loss, loss_ppm)):
            hops[:, :, slot] = np.maximum(0, estimate.take(hop)) * moves
        here = after
    return along(of_hops(delay, jitter)), lost_along(loss)


def contested(metric_us: I64, near_us: int = NEAR_US) -> Bool:
    """Pairs (of int64 ``[pair, m]``) with a second candidate near the first: the only ones worth scoring."""
    least = metric_us.min(axis=1, keepdims=True)
    result: Bool = ((metric_us - least <= near_us) & (metric_us < NO_COST)).sum(axis=1) > 1
    return result


def millipoints(traffic_class: TrafficClass, candidates: Candidates) -> I64:
    """Utility minus costs of every candidate, int64 ``[pair, m]`` in thousandths; ``ABSENT`` where there is none."""
    points = np.empty(candidates.metric_us.shape, np.int64)
    per_us = PROFILES[traffic_class].points_per_ms / 1000
    d = candidates.delays
    for start in range(0, len(points), BLOCK):
        part = slice(start, start + BLOCK)
        delays = Delays(d.least_us[part], d.queue_us[part], d.variance_us2[part])
        net = utility(traffic_class, delays, candidates.loss[part]) - per_us * candidates.extra_us[part]
        points[part] = np.rint(1000 * net)
    return np.where(candidates.metric_us >= NO_COST, ABSENT, points)


def rescore(
    traffic_class: TrafficClass,
    candidates: Candidates,
    near_us: int = NEAR_US,
    worth_millipoints: int = WORTH_MILLIPOINTS,
) -> Rescored:
    """Order the candidates of every pair by what they are worth; see the module for the rule."""
    metric, points = candidates.metric_us, millipoints(traffic_class, candidates)
    by_metric = np.argsort(metric, axis=1, kind="stable")
    first = by_metric[:, :1]
    least = np.take_along_axis(metric, first, 1)
    key = points.copy()
    np.put_along_axis(key, first, np.take_along_axis(points, first, 1) + worth_millipoints, 1)
    far = metric - least > near_us
    # Stable sorts from the last criterion to the first: metric, points, near before far.
    order = by_metric
    for criterion in (-key, far):
        ranked = np.argsort(np.take_along_axis(criterion, order, 1), axis=1, kind="stable")
        order = np.take_along_axis(order, ranked, 1)
    return Rescored(order.astype(np.int16), points, order[:, 0] != first[:, 0])
