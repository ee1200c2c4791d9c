"""What a link's delay has been lately, and what to expect next: the evidence that a change of route is judged by.

Time is cut into buckets. The ring keeps one delay per link and bucket (the least of the last few buckets, which is what
a packet without queueing meets), so that two paths can be compared *pairwise*: bucket by bucket, under the same
conditions, and with every clock offset cancelled, because all hops were measured against the same clocks.

``expected = w * latest + (1 - w) * mean``: a fast and a slow average in one, ``w = 1 - refresh * (1 - RECENT)``.
Where a new measurement is certain to come the newest one says little about it; where none will come it is all there is.
The mean forgets with a half-life of ``HALF_LIFE`` buckets, takes no value as farther off than ``TAME`` spreads, so that
a spike of a busy machine is not mistaken for the network, and starts anew when the level changes: ``STREAK_UP`` fresh
buckets in a row above what the link's own spread explains, or ``STREAK_DOWN`` below (queues only ever add).

A data center that has not been heard of keeps its old values; how likely it is to be heard of in the next bucket, and
to change them, is learnt from how long the silences of this fleet last (``refresh``).
"""

from __future__ import annotations

import copy
from collections import deque

import numpy as np

from router.core.compiled import Arrays, close_bucket
from router.core.tables import F64, FALLEN, I32, I64, NO_COST, Bool, Evidence

RING = 60  # buckets of paired history
LEAST_OF = 4  # eight seconds: some probes of every link, of which the least met no queue on a busy machine
HALF_LIFE = 15.0  # buckets
KEEP = 0.5 ** (1 / HALF_LIFE)
RECENT = 0.2  # weight of the newest bucket where the next one will be measured anew
STREAK_UP, STREAK_DOWN = 3, 2  # fresh buckets beyond the spread before a new level is believed
TAME = 3.0
STEP_SPREADS, STEP_SHARE, STEP_US = 6.0, 0.05, 3_000  # how far off a level is; the noise of a short path is not a step
PRIOR_NOISE = 0.1  # relative noise of a link before any has been seen twice
PRIOR_BUCKETS = 2.0  # what the fleet's typical noise counts against a link's own
TO_SD = 1.25  # mean absolute deviation to standard deviation of a normal distribution
LONGEST_SILENCE = 60


class History:
    """Bucketed delays of all links; private state of the core."""

    def __init__(self, transports: int, n: int, least_of: int = LEAST_OF) -> None:
        """``least_of``: over how many buckets the least is taken; 1 if a bucket's value is already an average."""
        shape = (transports, n, n)
        self._closed = [np.full(shape, FALLEN, np.int64) for _ in range(least_of - 1)]  # newest last
        self._before = np.full(shape, FALLEN, np.int64)  # least of those
        self.latest = np.full(shape, FALLEN, np.int64)
        self._open = np.full(shape, FALLEN, np.int64)  # least of the bucket that is still open
        self._mean = np.zeros(shape)
        self._weight = np.zeros(shape)
        self._spread = np.zeros(shape)
        self._streak = np.zeros(shape, np.int8)
        self._since = np.zeros(shape, np.int32)
        self._ring: deque[I32] = deque(maxlen=RING)
        self._heard = np.zeros(n, np.bool_)
        self._silence = np.zeros(n, np.int64)
        self._ended = np.full(LONGEST_SILENCE, 0.5)  # silences of this length that ended, and that were
        self._lasted = np.full(LONGEST_SILENCE, 1.0)
        self.bucket = 0
        self.steps = 0  # changes of level found

    def put(self, transport: I64, source: I64, target: I64, delay_us: I64) -> None:
        """Take in delays; the least of a bucket counts. Index arrays ``[k]``, delays int64 ``[k]``, which may be
        negative where clocks could not be told apart from asymmetry."""
        where = (transport, source, target)
        self._open[where] = np.minimum(self._open[where], delay_us)
        self.latest[where] = np.minimum(self._open[where], self._before[where])

    @property
    def levels(self) -> tuple[np.ndarray, ...]:
        """What delays are put into, and what is expected is made of."""
        return (
            self.latest, self._open, self._before, self._mean, self._weight, self._silence, self._ended, self._lasted,
        )  # fmt: skip

    def heard(self, vertex: int) -> None:
        """Note that a data center's measurements came in during this bucket."""
        self._heard[vertex] = True

    def close(self) -> None:
        """End the bucket: levels follow, and what was not measured keeps its value."""
        ring = np.empty(self.latest.shape, np.int32)
        rules = (self.bucket, int(FALLEN), STREAK_UP, STREAK_DOWN, STEP_SPREADS, STEP_SHARE, STEP_US, KEEP, TAME)
        arrays: Arrays = (self._open, self.latest, self._before, self._mean, self._weight, self._spread, self._streak,
                  self._since, ring, *self._closed)  # fmt: skip
        steps = close_bucket(ring.size, rules, arrays)
        self.steps += self._close_each(ring) if steps is None else steps
        ring.setflags(write=False)
        self._ring.append(ring)
        self._closed.append(self._open)
        self._open = self._closed.pop(0)
        self._open.fill(FALLEN)
        self._learn_silences()
        self.bucket += 1

    def _close_each(self, ring: I32) -> int:
        """The levels of all links, and what the ring keeps of the bucket; how many levels changed."""
        fresh, known = self._open != FALLEN, self.latest != FALLEN
        steps = self._find_steps(fresh)
        self.latest = np.where(fresh, np.minimum(self._open, self._before), self.latest)
        value = np.where(known, self.latest, 0).astype(np.float64)
        weight = np.where(known, KEEP * self._weight + 1.0, 0.0)
        share = np.divide(1.0, weight, out=np.zeros_like(weight), where=known)
        away = value - self._mean
        far = np.where(self._weight > 0, np.maximum(TAME * self._spread, self._least_step()), np.inf)
        away = np.clip(away, -far, far)
        self._mean += np.where(known, away * share, 0.0)
        self._spread += np.where(known, (np.abs(away) - self._spread) * share * (self._weight > 0), 0.0)
        self._weight = weight
        ring[:] = np.where(known, np.clip(self.latest, -FALLEN, FALLEN - 1), FALLEN)
        self._before = np.minimum.reduce([*self._closed, self._open][1:]) if self._closed else self._before
        return steps

    def _find_steps(self, fresh: Bool) -> int:
        away = np.where(fresh, self._open, 0) - self._mean
        far = np.maximum(STEP_SPREADS * self._spread, self._least_step())
        side = np.where(away > far, 1, np.where(away < -far, -1, 0)).astype(np.int8)
        side[self._weight <= 1.5] = 0  # one bucket is no level yet
        going_on = np.where(np.sign(self._streak) == side, self._streak + side, side).astype(np.int8)
        self._streak = np.where(fresh, going_on, self._streak)
        step = fresh & ((self._streak >= STREAK_UP) | (self._streak <= -STREAK_DOWN))
        length = np.abs(self._streak[step]).astype(np.int32)
        if self._closed:
            length[self._streak[step] > 0] = 1  # until now the least of the last buckets was of the old level
        for array in (self._weight, self._spread, self._mean):
            array[step] = 0.0
        for age, closed in enumerate(reversed(self._closed), 1):
            closed[step & (np.abs(self._streak) <= age)] = FALLEN  # of the old level
        self._before = np.minimum.reduce(self._closed) if self._closed else self._before
        self._streak[step] = 0
        self._since[step] = self.bucket - length + 1
        return int(step.sum())

    def _least_step(self) -> F64:
        least: F64 = np.maximum(STEP_US, STEP_SHARE * np.abs(self._mean))
        return least

    def _learn_silences(self) -> None:
        length = np.minimum(self._silence, LONGEST_SILENCE - 1)
        np.add.at(self._lasted, length, 1.0)
        np.add.at(self._ended, length[self._heard], 1.0)
        self._silence = np.where(self._heard, 0, self._silence + 1)
        self._heard[:] = False

    def forget(self, vertex: int) -> None:
        """Drop everything about a data center whose clock stepped: its old values are of another time scale."""
        for delays in (self.latest, self._open, self._before, *self._closed):
            delays[:, vertex, :] = delays[:, :, vertex] = FALLEN
        for array in (self._mean, self._weight, self._spread):
            array[:, vertex, :] = array[:, :, vertex] = 0.0
        self._since[:, vertex, :] = self._since[:, :, vertex] = self.bucket

    def fade(self, known: Bool) -> None:
        """Drop links that are not known any more; bool ``[transport, from, to]``."""
        gone = ~known & (self.latest != FALLEN)
        if gone.any():
            for delays in (self.latest, self._open, self._before, *self._closed):
                delays[gone] = FALLEN
            for array in (self._weight, self._mean, self._spread):
                array[gone] = 0.0
            self._since[gone] = self.bucket

    def frozen(self) -> History:
        """A copy of what ``expected_us`` and ``evidence`` are made of; reports must not be put into it."""
        twin = copy.copy(self)
        twin.latest, twin._since = self.latest.copy(), self._since.copy()
        twin._open = twin._before = twin.latest  # not read any more, but ``fade`` writes there
        twin._closed = []
        twin._mean, twin._weight, twin._spread = self._mean.copy(), self._weight.copy(), self._spread.copy()
        twin._ring = self._ring.copy()  # closed buckets never change
        twin._heard, twin._streak = self._heard.copy(), self._streak.copy()
        twin._silence, twin._ended, twin._lasted = self._silence.copy(), self._ended.copy(), self._lasted.copy()
        return twin

    def expected_us(self) -> I64:
        """What to expect of the next bucket, int64 ``[transport, from, to]``; NO_COST where nothing is known."""
        return _expected(self.latest, self._mean, self._weight, self._refresh()[:, None])

    def expected_of(self, transport: I64, source: I64, target: I64) -> I64:
        """The same for some links, int64 ``[k]``."""
        where = (transport, source, target)
        return _expected(self.latest[where], self._mean[where], self._weight[where], self._refresh()[source])

    def evidence(self) -> Evidence:
        """Freeze this moment."""
        latest, since = self.latest.copy(), self._since.copy()
        refresh = self._refresh()
        noise = np.rint(self._noise()).astype(np.int64)
        for array in (latest, since, noise, refresh):
            array.setflags(write=False)
        return Evidence(self.bucket, tuple(self._ring), latest, since, noise, refresh)

    def _refresh(self) -> F64:
        """Chance float64 ``[vertex]`` that a data center is heard of in the next bucket."""
        chance: F64 = (self._ended / self._lasted)[np.minimum(self._silence, LONGEST_SILENCE - 1)]
        return chance

    def _noise(self) -> F64:
        """Each link's own spread, drawn towards the relative noise that is typical of the fleet while it is young."""
        own, level = TO_SD * self._spread, np.maximum(np.abs(self._mean), 1.0)
        seen = self._weight > 1.5
        typical = float(np.median((own / level)[seen])) if seen.any() else PRIOR_NOISE
        prior = typical * np.where(self._weight > 0, level, np.where(self.latest == FALLEN, 0, np.abs(self.latest)))
        weight = self._weight
        noise: F64 = np.sqrt((PRIOR_BUCKETS * prior**2 + weight * own**2) / (PRIOR_BUCKETS + weight))
        return noise

    def adopt(self, older: History, here: list[int], there: list[int], transports: list[tuple[int, int]]) -> None:
        """Take over what an older history knew; ``there[i]`` was the number of what is ``here[i]`` now."""
        block, source = np.ix_(here, here), np.ix_(there, there)
        for t, s in transports:
            for name in ("latest", "_open", "_before", "_mean", "_weight", "_spread", "_streak", "_since"):
                getattr(self, name)[t][block] = getattr(older, name)[s][source]
            for mine, theirs in zip(self._closed, older._closed, strict=True):
                mine[t][block] = theirs[s][source]
        shape = self.latest.shape
        for bucket in older._ring:
            moved = np.full(shape, FALLEN, np.int32)
            for t, s in transports:
                moved[t][block] = bucket[s][source]
            moved.setflags(write=False)
            self._ring.append(moved)
        self._heard[here], self._silence[here] = older._heard[there], older._silence[there]
        self._ended, self._lasted = older._ended.copy(), older._lasted.copy()
        self.bucket, self.steps = older.bucket, older.steps


def _expected(latest: I64, mean: F64, weight: F64, refresh: F64) -> I64:
    recent = 1 - refresh * (1 - RECENT)
    level = np.where(weight > 0, mean, latest)
    blend = np.rint(recent * latest + (1 - recent) * level).astype(np.int64)
    return np.where(latest == FALLEN, NO_COST, blend)
