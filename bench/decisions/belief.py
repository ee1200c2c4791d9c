"""What a prober believes of every link's present delay from what it has seen, and how that grows old.

A link has a *level* (a running mean of the logarithm, each step limited) and a last reading. Between readings the
belief falls back from the reading to the level; how fast is learned from all links' readings together, per kind of
evidence: how long ago, and whether other readings from the same source, or to the same target, have moved since. Nodes
that measure in bursts, and trouble at one end of many links, show up there without being assumed.
"""

from __future__ import annotations

import numpy as np

from router.core.coordinates import F64
from router.core.tables import I64, Bool

AGES = np.array([1, 2, 3, 5, 9])  # slices: first of each age class after the one of this very slice
KINDS = (len(AGES) + 1) * 9
LIMIT = 3.0  # of a reading's distance from the level, log
STEP = 0.7  # of one correction of the level, log
MOVED = 0.05  # relative change that counts as one
GAIN = 0.08  # least weight of a reading in the level
PRIOR = 8.0  # readings' worth of what is assumed before there is evidence
START_SD = 0.15
START_KEEP = 0.7
MEMORY = 20.0  # readings over which a link's own unrest is remembered
LINK_PRIOR = 4.0  # readings before a link's own unrest counts as much as that of all
LEAST_MS = 0.3
ALIKE = 0.02  # relative difference of two directions that counts as none
ALIKE_SHARE = 0.85
FEWEST_BOTH = 10


class Beliefs:
    """Running state, arrays ``[from, to]``; logarithms of milliseconds."""

    def __init__(self, n: int) -> None:
        self.level = np.full((n, n), np.nan)
        self.last = np.full((n, n), np.nan)
        self.count = np.zeros((n, n))
        self.seen_slice = np.full((n, n), -1, np.int64)
        self.asked_slice = np.full((n, n), -1, np.int64)  # as ``seen_slice``, answered or not
        self._seen_tick = np.full((n, n), -1, np.int64)
        self._moved = np.full((2, n), -1, np.int64)  # when a reading from (0) or to (1) a node last moved
        self._steady = np.full((2, n), -1, np.int64)  # … was last as before
        self._xx, self._xy, self._square, self._weight = (np.zeros(KINDS) for _ in range(4))
        self._unrest = np.zeros((n, n))  # sum of squared surprises in units of what is usual for their kind
        self._tick = 0
        self.down = np.zeros((n, n), np.bool_)  # the last probe got no answer
        self._both_read = self._both_alike = 0

    @property
    def known(self) -> Bool:
        """Which links have been read."""
        read: Bool = self.count > 0
        return read

    @property
    def same_both_ways(self) -> bool:
        """Whether the two directions of a pair, read in the same slice, nearly always give the same."""
        return self._both_read >= FEWEST_BOTH and self._both_alike >= ALIKE_SHARE * self._both_read

    def observe(self, at: int, source: I64, target: I64, value_ms: F64) -> None:
        """Take in readings of slice ``at``; NaN where the probe was lost."""
        ok = np.isfinite(value_ms)
        self.down[source, target] = ~ok
        self.asked_slice[source, target] = at
        s, t, x = source[ok], target[ok], np.log(np.maximum(value_ms[ok], LEAST_MS))
        self._tick += 1
        again = self.known[s, t]
        self._learn(at, s[again], t[again], x[again])
        moved = again & (np.abs(x - self.last[s, t]) > MOVED)
        for which, stamps in ((again & ~moved, self._steady), (moved, self._moved)):
            stamps[0, s[which]] = self._tick
            stamps[1, t[which]] = self._tick
        gain = np.maximum(1.0 / (self.count[s, t] + 1), GAIN)
        level = np.where(again, self.level[s, t], x)
        self.level[s, t] = level + gain * np.clip(x - level, -STEP, STEP)
        self.last[s, t] = x
        self.count[s, t] += 1
        self.seen_slice[s, t] = at
        self._seen_tick[s, t] = self._tick
        back = self.seen_slice[t, s] == at
        self._both_read += int(back.sum())
        self._both_alike += int((np.abs(x - self.last[t, s])[back] < ALIKE).sum())

    def _learn(self, at: int, s: I64, t: I64, x: F64) -> None:
        often = self.count[s, t] >= 2
        s, t, x = s[often], t[often], x[often]
        kind = self._kind(at)[s, t]
        was = np.clip(self.last[s, t] - self.level[s, t], -LIMIT, LIMIT)
        now = np.clip(x - self.level[s, t], -LIMIT, LIMIT)
        keep, sd = self._curves()
        missed = now - keep[kind] * was
        self._unrest[s, t] = (1 - 1 / MEMORY) * self._unrest[s, t] + np.minimum(
            (missed / np.maximum(sd[kind], 1e-4)) ** 2, 25.0
        )
        np.add.at(self._xx, kind, was * was)
        np.add.at(self._xy, kind, was * now)
        np.add.at(self._square, kind, missed**2)
        np.add.at(self._weight, kind, 1.0)

    def _curves(self) -> tuple[F64, F64]:
        """Per kind: what part of a reading's distance from the level lasts, and the deviation from that.

        A kind of which little was seen is taken to be like all together, and all together like the constants.
        """
        total = self._weight.sum()
        variance = (PRIOR * START_SD**2 + self._square.sum()) / (PRIOR + total)
        lasts = (PRIOR * START_SD**2 * START_KEEP + self._xy.sum()) / (PRIOR * START_SD**2 + self._xx.sum())
        keep = (PRIOR * variance * lasts + self._xy) / (PRIOR * variance + self._xx + 1e-12)
        return np.clip(keep, 0.0, 1.0), np.sqrt((PRIOR * variance + self._square) / (PRIOR + self._weight))

    def _kind(self, at: int) -> I64:
        age = np.searchsorted(AGES, at - self.seen_slice, side="right")
        seen = self._seen_tick
        evidence = [
            np.where(moved > seen, 2, np.where(steady > seen, 1, 0))
            for moved, steady in (
                (self._moved[0][:, None], self._steady[0][:, None]),
                (self._moved[1][None, :], self._steady[1][None, :]),
            )
        ]
        kind: I64 = (age * 9 + evidence[0] * 3 + evidence[1]).astype(np.int64)
        return kind

    def settled(self) -> tuple[F64, F64]:
        """What a link's delay is as a rule, in ms, and the relative deviation of that; NaN where never read or down."""
        there = self.known & ~self.down
        typical = np.sqrt((PRIOR * START_SD**2 + self._square.sum()) / (PRIOR + self._weight.sum()))
        readings = np.minimum(np.maximum(self.count, 1.0), 1.0 / GAIN)
        return np.where(there, np.exp(self.level), np.nan), np.where(there, typical / np.sqrt(readings), np.inf)

    def now(self, at: int) -> tuple[F64, F64, F64]:
        """Present delay in ms, its relative deviation and its age in slices, as believed in slice ``at``.

        NaN and infinity where never read or down. If directions are alike, the newer of the two readings counts.
        """
        keep, sd = self._curves()
        kind = self._kind(at)
        fresh = self.seen_slice == at
        level = np.where(fresh, self.last, self.level + keep[kind] * (self.last - self.level))
        own = np.sqrt((LINK_PRIOR + self._unrest) / (LINK_PRIOR + np.clip(self.count - 2, 0.0, MEMORY)))
        there = self.known & ~self.down
        value = np.where(there, np.exp(level), np.nan)
        spread = np.where(there, np.where(fresh, 0.0, sd[kind] * own), np.inf)
        age = np.where(there, at - self.seen_slice, np.inf)
        if self.same_both_ways:
            newer = self.asked_slice < self.asked_slice.T
            value, spread, age = (np.where(newer, a.T, a) for a in (value, spread, age))
        return value, spread, age
