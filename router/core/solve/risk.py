"""How likely a relayed path is to be worse than the direct one in the next bucket.

A relay that looks better now is often better by chance: of many noisy candidates the luckiest wins, and the next
measurement takes the luck away. So a path is judged against the direct one *pairwise* over the buckets of the history.
What will be measured next is unknown: it may be like any of the recent buckets, and hops that are not measured again
keep their value. With ``h`` the chance that a data center's row of measurements is renewed, source ``i``, relays ``k``:

``p = (1-h_i)(1-h_k)[x-a-b < 0] + h_i(1-h_k)P(x_s-a_s < b) + (1-h_i)h_k P(x-a < b_s) + h_i h_k P(x_s-a_s < b_s)``

with ``x`` the direct path, ``a`` the first hop (both measured by ``i``), ``b`` the rest, and ``s`` running over the
past buckets of the present level. Few buckets make coarse frequencies, so each is smoothed by a kernel that narrows
with their number: Student's t with two degrees of freedom, heavy-tailed and algebraic, the same on every CPU.

Frequencies of the past are not yet probabilities of the future. :class:`Record` compares what was said with what came,
for the candidates of every bucket, and scales later statements: in a world that disappoints more often than its past
let expect, every path is believed less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.core.history import KEEP
from router.core.kernel import UNREACHABLE
from router.core.tables import DIRECT, F64, FALLEN, I16, I64, Bool, Evidence, GraphSnapshot

NARROWEST_US = 1.0
PRIOR_WORSE = 30.0  # what is said counts like so many disappointed candidates
RECORD_KEEP = 0.98  # per bucket: the record forgets, as the Internet changes
BLOCK = 512  # paths judged at once: what they need of all buckets stays in a cache
JUDGED = 4_096  # candidates per bucket that are followed up, spread evenly over all pairs


@dataclass(frozen=True, slots=True)
class Paths:
    """Paths of one context: vertices int64 ``[k]`` of the ends, relays int16 ``[k, MAX_RELAYS]``."""

    context: int
    source: I64
    target: I64
    relays: I16

    def pick(self, which: Bool | I64) -> Paths:
        """Some of them."""
        return Paths(self.context, self.source[which], self.target[which], self.relays[which])


@dataclass(frozen=True, slots=True)
class _Hops:
    """Where each path's hops stand in the arrays ``[transport, from, to]``, and their cost beside the delay."""

    there: Bool  # [hop, k]
    place: tuple[I64, I64, I64]  # transport, from, to, each [hop, k]
    extra: I64  # [hop, k]

    def read(self, array: np.ndarray) -> F64:
        """Value per hop float64 ``[hop, k]``, 0 where there is no hop, NaN where the array has no value."""
        value = array[self.place]
        return np.where(self.there, np.where(value != FALLEN, value + self.extra, np.nan), 0.0)


def worse_than_direct(snapshot: GraphSnapshot, paths: Paths) -> F64:
    """Probability float64 ``[k]`` per path, as the history has it; 0 for direct paths and without any evidence."""
    evidence, k = snapshot.evidence, len(paths.source)
    if evidence is None or not evidence.ring or k == 0:
        return np.zeros(k)
    blocks = range(0, k, BLOCK)
    return np.concatenate([_judged(snapshot, evidence, paths.pick(np.arange(i, min(k, i + BLOCK)))) for i in blocks])


def _judged(snapshot: GraphSnapshot, evidence: Evidence, paths: Paths) -> F64:
    direct, hops = _direct(snapshot, paths), _hops(snapshot, paths)
    x_now, a_now, b_now = _now(evidence, direct, hops)
    x, a, b = _past(evidence, direct, hops)
    level = np.maximum(_since(evidence, direct), _since(evidence, hops))
    ages = np.arange(len(evidence.ring))
    valid = ((evidence.bucket - 1 - ages)[:, None] >= level) & np.isfinite(x + a + b)
    w = np.where(valid, (KEEP**ages)[:, None], 0.0)
    x, a, b = np.where(valid, x, 0.0), np.where(valid, a, 0.0), np.where(valid, b, 0.0)
    weight = w.sum(axis=0)
    enough = weight > 0
    count = np.divide(weight**2, (w * w).sum(axis=0), out=np.ones(len(weight)), where=enough)
    width = np.maximum(_noise(evidence, direct, hops) / count, NARROWEST_US)
    own = evidence.refresh[paths.source]
    others = 1 - np.prod(np.where(hops.there[1:], 1 - evidence.refresh[hops.place[1][1:]], 1.0), axis=0)
    total = own * others * (w * _below(x - a - b, width)).sum(axis=0)
    if (own < 1).any() or (others < 1).any():
        total += own * (1 - others) * (w * _below(x - a - b_now, width)).sum(axis=0)
        total += (1 - own) * others * (w * _below(x_now - a_now - b, width)).sum(axis=0)
    now = _below(x_now - a_now - b_now, width)
    still = (1 - own) * (1 - others) * (x_now - a_now - b_now < 0)
    risk = np.where(enough, np.divide(total, weight, out=np.zeros(len(weight)), where=enough) + still, now)
    judged = hops.there[1] & np.isfinite(x_now)  # direct paths, and pairs without a direct path, have nothing to lose
    return np.where(judged, np.where(np.isfinite(a_now + b_now), np.clip(risk, 0.0, 1.0), 1.0), 0.0)


def _past(evidence: Evidence, direct: _Hops, hops: _Hops) -> tuple[F64, F64, F64]:
    """The direct path, the first hop and the rest in each closed bucket, newest first: float64 ``[age, k]``."""
    shape = evidence.latest.shape
    flat = np.vstack([np.ravel_multi_index(direct.place, shape), np.ravel_multi_index(hops.place, shape)])
    found = np.empty((len(evidence.ring), *flat.shape), np.int32)
    for row, bucket in zip(found, reversed(evidence.ring), strict=True):
        np.take(bucket.reshape(-1), flat, out=row, mode="clip")
    there = np.vstack([direct.there, hops.there])
    extra = np.vstack([direct.extra, hops.extra])
    value = np.where(there, np.where(found != FALLEN, found + extra, np.nan), 0.0)
    return value[:, 0], value[:, 1], value[:, 2:].sum(axis=1)


def _direct(snapshot: GraphSnapshot, paths: Paths) -> _Hops:
    u, v = paths.source[None], paths.target[None]
    usable = snapshot.cost[paths.context, u, v] < UNREACHABLE
    hops = _place(snapshot, paths.context, u, v, np.ones(u.shape, np.bool_))
    # Whoever leaves a loaded direct link takes a slower way knowingly: that much is no disappointment.
    extra = hops.extra + np.maximum(0, -burden_us(snapshot, paths))
    return _Hops(hops.there, hops.place, np.where(usable, extra, FALLEN))


def _hops(snapshot: GraphSnapshot, paths: Paths) -> _Hops:
    return _place(snapshot, paths.context, *_ways(paths))


def _ways(paths: Paths) -> tuple[I64, I64, Bool]:
    """Starts and ends of each path's hops ``[hop, k]``, and whether there is such a hop."""
    slots = paths.relays.shape[1]
    relay = paths.relays.T.astype(np.int64)
    starts = np.vstack([paths.source[None], np.where(relay == DIRECT, 0, relay)])
    ends = np.vstack([np.where(relay == DIRECT, paths.target[None], relay), paths.target[None]])
    there = np.vstack([np.ones((1, len(paths.source)), np.bool_), relay != DIRECT])
    assert len(starts) == slots + 1
    return starts, ends, there


def _place(snapshot: GraphSnapshot, c: int, a: I64, b: I64, there: Bool) -> _Hops:
    transport = snapshot.transport[c][a, b].astype(np.int64)
    extra = np.zeros(a.shape, np.int64) if snapshot.extra_us is None else snapshot.extra_us[c][a, b]
    if snapshot.load is not None:  # a price that we set ourselves is no chance; ``load_guard`` asks about it
        extra = extra - snapshot.load.smooth_us[transport, a, b]
    return _Hops(there, (transport, a, b), extra)


def burden_us(snapshot: GraphSnapshot, paths: Paths) -> I64:
    """How much more (microseconds) load adds to each path than to the direct one, int64 ``[k]``."""
    if snapshot.load is None:
        return np.zeros(len(paths.source), np.int64)
    price, transport = snapshot.load.smooth_us, snapshot.transport[paths.context].astype(np.int64)
    a, b, there = _ways(paths)
    u, v = paths.source, paths.target
    burden: I64 = np.where(there, price[transport[a, b], a, b], 0).sum(axis=0) - price[transport[u, v], u, v]
    return burden


def gain_share(snapshot: GraphSnapshot, paths: Paths, cost: I64) -> F64:
    """Gain over the direct path as a share of it, float64 ``[k]``; what load adds to the paths is no loss.

    One way may be of any length where clocks disagree; half of there and back is what it is a share of."""
    direct = snapshot.cost[paths.context]
    there, back = direct[paths.source, paths.target], direct[paths.target, paths.source]
    half = np.where(back < UNREACHABLE, (there + back) // 2, there)
    share: F64 = (there - cost + np.maximum(0, burden_us(snapshot, paths))) / np.maximum(half, 1)
    return np.minimum(1.0, share)


def _now(evidence: Evidence, direct: _Hops, hops: _Hops) -> tuple[F64, F64, F64]:
    way = hops.read(evidence.latest)
    x = direct.read(evidence.latest)[0]
    return np.where(direct.extra[0] >= FALLEN, np.nan, x), way[0], way[1:].sum(axis=0)


def _since(evidence: Evidence, hops: _Hops) -> I64:
    since: I64 = np.where(hops.there, evidence.since[hops.place], 0).max(axis=0).astype(np.int64)
    return since


def _noise(evidence: Evidence, direct: _Hops, hops: _Hops) -> F64:
    variance = (evidence.noise[direct.place].astype(np.float64) ** 2).sum(axis=0)
    noise: F64 = np.sqrt(variance + (np.where(hops.there, evidence.noise[hops.place], 0.0) ** 2).sum(axis=0))
    return noise


def _below(difference: F64, width: F64) -> F64:
    """Share of a smoothed sample below zero: the t distribution with two degrees of freedom (Student 1908)."""
    z = np.nan_to_num(difference) / width
    share: F64 = 0.5 * (1 - z / np.sqrt(2 + z * z))
    return share


class Record:
    """What was said about candidates and what came of it; private state of the core."""

    def __init__(self) -> None:
        self._came = self._said = 0.0  # candidates that were worse than direct, and how many were said to be
        self._open: tuple[int, Paths, F64] | None = None

    def correct(self, said: F64) -> F64:
        """Probabilities float64 ``[k]`` scaled by experience."""
        scaled: F64 = np.minimum(1.0, said * ((PRIOR_WORSE + self._came) / (PRIOR_WORSE + self._said)))
        return scaled

    def follow_up(self, snapshot: GraphSnapshot, paths: Paths, said: F64) -> None:
        """Once per bucket: judge what was said in the last one, and remember what is said in this one."""
        evidence = snapshot.evidence
        if evidence is None or not evidence.ring:
            return
        if self._open is not None and self._open[0] < evidence.bucket:
            self._judge(snapshot, evidence)
            self._open = None
        if self._open is None and len(paths.source):
            some = np.unique(np.linspace(0, len(paths.source) - 1, JUDGED).astype(np.int64))
            self._open = (evidence.bucket, paths.pick(some), said[some])

    def renumber(self) -> None:
        """Forget whose paths were to be judged: their numbers mean other data centers now."""
        self._open = None

    def _judge(self, snapshot: GraphSnapshot, evidence: Evidence) -> None:
        assert self._open is not None
        _, paths, said = self._open
        direct, hops = _direct(snapshot, paths), _hops(snapshot, paths)
        x, way = direct.read(evidence.ring[-1])[0], hops.read(evidence.ring[-1]).sum(axis=0)
        seen = np.isfinite(x + way) & (direct.extra[0] < FALLEN)
        self._came = RECORD_KEEP * self._came + float((way > x)[seen].sum())
        self._said = RECORD_KEEP * self._said + float(said[seen].sum())
