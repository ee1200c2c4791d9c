"""Decision rules of published systems, one sample per slice and direction, at most one relay.

What is reproduced is the *rule* that says when to change a route, with the constants of its source; not the product.
A slice counts as one probe (one report, one Hello): a system's timers become counts of slices. All of them see the same
half round trips; where a source states a threshold on round trips it is applied to twice the one-way delay.
"""

from __future__ import annotations

import numpy as np

from bench.decisions._paths import F64, choose, delay_along, direct_paths, fastest, last_known
from router.core.tables import I16, I64, Bool


class Ron:
    """Resilient Overlay Networks (Andersen et al., SOSP 2001, sections 5.2 and 5.3), latency-minimising.

    Latency of a link is an EWMA, 0.9 old and 0.1 new; a path's is the sum of its links'. The last good path is kept
    unless another is more than 5 % better. A link whose last ``outage_after`` probes (four quick ones after the first
    loss) all went unanswered is in outage and avoided at once.
    """

    name = "ron"

    def __init__(self, old_weight: float = 0.9, margin: float = 0.05, outage_after: int = 4) -> None:
        self._old_weight = old_weight
        self._margin = margin
        self._outage_after = int(outage_after)
        self._latency: F64 | None = None
        self._unanswered: I64 | None = None
        self._paths: I16 | None = None

    def decide(self, seen: F64) -> I16:
        """Smooth, then move to what is better by the margin or off what is in outage."""
        if not len(seen) or self._paths is None or self._latency is None or self._unanswered is None:
            n = seen.shape[1]
            self._paths, self._latency = direct_paths(n), np.full((n, n), np.nan)
            self._unanswered = np.zeros((n, n), np.int64)
            if not len(seen):
                return self._paths
        now = seen[-1]
        smooth = self._old_weight * self._latency + (1 - self._old_weight) * now
        self._latency = np.where(np.isnan(self._latency), now, last_known(self._latency, smooth))
        self._unanswered = np.where(np.isnan(now), self._unanswered + 1, 0)
        usable = np.where(self._unanswered >= self._outage_after, np.nan, self._latency)
        best_ms, best = fastest(usable)
        kept_ms = delay_along(usable, self._paths)
        better: Bool = best_ms < kept_ms * (1 - self._margin)
        self._paths = choose(better | (np.isnan(kept_ms) & ~np.isnan(best_ms)), best, self._paths)
        return self._paths


class Babel:
    """Babel with the delay-based metric (RFC 9616; RFC 8966 for the rest), restricted to one relay.

    RTT is smoothed, ``0.836`` old (RFC 9616 section 4.2). A link's cost is ``hop_cost`` (96, RFC 8966 appendix A.2.1)
    plus a term that is 0 up to rtt-min 10 ms, rises linearly to max-rtt-penalty 150 at rtt-max 120 ms, and stays there
    (RFC 9616 section 4.1 and its recommended constants). A link is up while two of its last three Hellos arrived (RFC
    8966 A.2.1). Hysteresis (RFC 8966 section 3.6; babeld ``consider_route``): each route also has a smoothed metric of
    the given half-life (babeld: 4 s, its Hello interval); the route in force is replaced only by one whose metric is
    not worse *and* whose smoothed metric is better, or at once when it is gone. Smoothing is linear, so that the
    smoothed metric of a route is the sum over its links; the routes considered for a pair are the one of the best
    smoothed and the one of the best present metric.
    """

    name = "babel"
    OLD_WEIGHT = 0.836
    RTT_MIN_MS = 10.0
    MAX_PENALTY = 150.0

    def __init__(self, hop_cost: int = 96, rtt_max_ms: float = 120.0, half_life: float = 1.0) -> None:
        self._hop_cost = hop_cost
        self._rtt_max_ms = rtt_max_ms
        self._keep = 0.5 ** (1 / half_life)
        self._rtt_ms: F64 | None = None
        self._smoothed: F64 | None = None
        self._paths: I16 | None = None

    def link_cost(self, rtt_ms: F64) -> F64:
        """Cost of a link of that (smoothed) round trip, whole numbers."""
        ramp = np.clip((rtt_ms - self.RTT_MIN_MS) / (self._rtt_max_ms - self.RTT_MIN_MS), 0, 1)
        return self._hop_cost + np.floor(self.MAX_PENALTY * ramp)

    def decide(self, seen: F64) -> I16:
        """Consider two challengers per pair against the route in force."""
        n = seen.shape[1]
        if self._paths is None or self._rtt_ms is None or self._smoothed is None:
            self._paths = direct_paths(n)
            self._rtt_ms, self._smoothed = np.full((n, n), np.nan), np.full((n, n), np.nan)
        if not len(seen):
            return self._paths
        now = 2 * seen[-1]
        rtt = self.OLD_WEIGHT * self._rtt_ms + (1 - self.OLD_WEIGHT) * now
        self._rtt_ms = np.where(np.isnan(self._rtt_ms), now, last_known(self._rtt_ms, rtt))
        recent = seen[-3:]
        up = np.isnan(recent).sum(axis=0) <= (1 if len(recent) > 1 else 0)
        cost = np.where(up, self.link_cost(self._rtt_ms), np.nan)
        smoothed = self._keep * self._smoothed + (1 - self._keep) * cost
        self._smoothed = np.where(np.isnan(self._smoothed), cost, last_known(self._smoothed, smoothed))
        slow = np.where(up, self._smoothed, np.nan)
        for challenger in (fastest(slow)[1], fastest(cost)[1]):
            metric, held = delay_along(cost, challenger), delay_along(cost, self._paths)
            better = (metric <= held) & (delay_along(slow, challenger) < delay_along(slow, self._paths))
            gone = np.isnan(held) & ~np.isnan(metric)
            self._paths = choose(better | gone, challenger, self._paths)
        return self._paths


class Tailscale:
    """Choice of the preferred region in ``net/netcheck/netcheck.go``, ``addReportHistoryAndSetPreferredDERP``.

    A path is a region, its latency the sum of its legs' round trips. The challenger is the path that answers now and
    has the best latency of the last five minutes (a report every 20-26 s: 13 reports). The old path, if it answers, is
    kept unless the challenger's best is at least ``gain_ms`` (10 ms) and a third better than the old one's *current*
    latency.
    """

    name = "tailscale"

    def __init__(self, window: int = 13, gain_ms: float = 10.0, ratio: float = 2 / 3) -> None:
        self._window = int(window)
        self._gain_ms = gain_ms
        self._ratio = ratio
        self._paths: I16 | None = None

    def decide(self, seen: F64) -> I16:
        """Best of the window against the present value of the path in force."""
        if self._paths is None:
            self._paths = direct_paths(seen.shape[1])
        if not len(seen):
            return self._paths
        now = 2 * seen[-1]
        lowest = np.fmin.reduce(2 * seen[-self._window :], axis=0)
        best_ms, best = fastest(np.where(np.isnan(now), np.nan, lowest))
        old_ms = delay_along(now, self._paths)
        keep: Bool = (old_ms - best_ms < self._gain_ms) | (best_ms > old_ms * self._ratio)
        self._paths = choose(~keep & ~np.isnan(best_ms), best, self._paths)
        return self._paths


class Scion:
    """SCION IP gateway: ``gateway/pathhealth/pathwatcher.go`` (health) and ``selector.go`` (choice).

    A path is dead when nothing came back for more than two probe intervals, which is two replies missing in a row, and
    alive again after three replies. Of the paths alive the one with the fewest interfaces is taken (equal ones by
    fingerprint, here the relay's index); latency plays no part. Health is kept per link and a path is alive when its
    links are. With no path alive the last one stays.
    """

    name = "scion"

    def __init__(self, dead_after: int = 2, alive_after: int = 3) -> None:
        self._dead_after = int(dead_after)
        self._alive_after = int(alive_after)
        self._missed: I64 | None = None
        self._replies: I64 | None = None
        self._paths: I16 | None = None

    def decide(self, seen: F64) -> I16:
        """Fewest interfaces among what is alive."""
        n = seen.shape[1]
        if self._paths is None or self._missed is None or self._replies is None:
            self._paths = direct_paths(n)
            self._missed, self._replies = np.zeros((n, n), np.int64), np.zeros((n, n), np.int64)
        if not len(seen):
            return self._paths
        answered = ~np.isnan(seen[-1])
        self._missed = np.where(answered, 0, self._missed + 1)
        self._replies = np.where(answered, self._replies + 1, self._replies)
        self._replies[self._missed >= self._dead_after] = 0
        alive = np.where(self._replies >= self._alive_after, 1.0, np.nan)
        hops, best = fastest(alive)
        self._paths = choose(~np.isnan(hops), best, self._paths)
        return self._paths


class HawkEye:
    """HawkEye (hawkv6), ``docs/env.md`` and ``docs/design.md``: change only to a path that is 10 % better.

    ``HAWKEYE_FLAPPING_THRESHOLD`` is 0.1 by default. Its graph carries the latest published link values; a series has
    delay alone, so that the weights of delay, loss and jitter have nothing to weigh.
    """

    name = "hawkeye"

    def __init__(self, threshold: float = 0.1) -> None:
        self._threshold = threshold
        self._known: F64 | None = None
        self._paths: I16 | None = None

    def decide(self, seen: F64) -> I16:
        """Latest values; the shortest path wins only by the threshold."""
        if self._paths is None:
            self._paths = direct_paths(seen.shape[1])
        if not len(seen):
            return self._paths
        self._known = seen[-1] if self._known is None else last_known(self._known, seen[-1])
        best_ms, best = fastest(self._known)
        held_ms = delay_along(self._known, self._paths)
        better: Bool = best_ms < held_ms * (1 - self._threshold)
        self._paths = choose(better | (np.isnan(held_ms) & ~np.isnan(best_ms)), best, self._paths)
        return self._paths
