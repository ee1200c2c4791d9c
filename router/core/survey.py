"""From a window of measurements to link estimates: what takes long, apart from what every report does.

``estimate`` takes reports in, on the event loop. Once a second it hands out a :class:`Window`, everything that the
estimates are made of, frozen; a worker makes a :class:`Survey` of it, and what the survey found out about the clocks
goes back into the estimator (``Estimator.settle``).

The remaining offset between the clocks of data centers is removed by weighted least squares under the
symmetric-minimum assumption; the error band ``(rtt - 2 * light floor) / 2`` says how wrong that can be. Choices between
paths do not depend on it. How fast the clocks drift apart is fitted through the offsets of the last two minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.core.bands import one_way_band
from router.core.change import certain_ppm
from router.core.history import History
from router.core.model import DataCenterId, Micros
from router.core.offsets import F64, MAX_DRIFT, drift, offsets_us
from router.core.tables import FALLEN, I64, U8, UNKNOWN, Bool, Evidence, LinkState, LinkTable

BUCKET_US = 4_000_000
UNKNOWN_US = 30_000_000  # from here on we do not claim to know the link
LOST_IN_A_ROW = 4  # round trips lost in either direction, with no delivery in between, before a link is called down
SILENT_US = 3_000_000  # and nothing was delivered for so long
DEGRADED_PPM = 50_000
STEP_UP_US = 5_000  # a path that is slower by this in two whole buckets has changed; less may be queueing
EMPTY = np.iinfo(np.int64).max // 4
OFFSETS_KEPT = 30  # two minutes: long enough that noise of 0.1 ms bends the fitted drift by less than 1 ppm

Noted = tuple[Micros, F64]  # clock offsets float64 [vertex] of a bucket, NaN where not measured


@dataclass(frozen=True, eq=False)
class Ended:
    """A bucket that is over and whose clock offsets nobody worked out yet; arrays ``[transport, from, to]``."""

    bucket: int
    raw: I64
    rtt: I64
    forgotten: Bool  # [vertex] whose clock stepped since


@dataclass(frozen=True, eq=False)
class Survey:
    """What a window says. Arrays ``[transport, from, to]`` unless said otherwise."""

    number: int
    at: Micros
    links: LinkTable
    potential_us: I64  # [vertex] clock offsets that the estimates were freed of
    evidence: Evidence
    placed_us: F64  # [vertex] clock offsets by which the history's next measurements are corrected
    measured: Bool  # [vertex] whose offset is known
    gone: Bool  # links that are not known any more
    began: tuple[I64, I64, I64]  # links that are known from now on, ...
    began_us: I64  # [k] ... and the delay that their history begins with
    offsets: tuple[Noted, ...]
    drift: F64  # [vertex]


@dataclass(frozen=True, eq=False)
class Window:
    """Everything a survey is made of, frozen; buckets oldest first."""

    number: int
    at: Micros
    data_centers: tuple[DataCenterId, ...]
    transports: tuple[str, ...]
    bucket: int  # number of the last of ``raw`` and ``rtt``
    raw: tuple[I64, ...]
    rtt: tuple[I64, ...]
    ended: tuple[Ended, ...]  # buckets that are not in ``offsets`` yet
    offsets: tuple[Noted, ...]
    drift: F64
    samples: tuple[I64, ...]
    jitter: I64
    last_at: I64
    delivered_at: I64
    lost_since: I64
    loss_sent: F64  # of each pair, in one of its two cells
    loss_lost: F64
    lossy: Bool
    potential: F64  # [vertex] by which the history is corrected until now
    potential_at: Micros
    is_placed: Bool  # [vertex]
    floor: I64  # [from, to]
    history: History  # frozen

    def survey(self) -> Survey:
        """Make the estimates as of ``at``; may be called in any thread, and as often as anybody likes."""
        history = self.history.frozen()
        offsets, slope = self._noted()
        known = (self.last_at > 0) & (self.at - self.last_at <= UNKNOWN_US)
        rtt, raw = self._present_rtt(), self._present_raw(slope)
        placed = (raw < EMPTY) & (raw.transpose(0, 2, 1) < EMPTY)
        known = (known | known.transpose(0, 2, 1)) & (rtt < EMPTY)
        usable = known & placed
        rtt = np.where(known, rtt, UNKNOWN)
        potential = np.rint(offsets_us(raw, rtt, usable)).astype(np.int64)
        gone = ~usable & (history.latest != FALLEN)
        theta, measured = self._placed(potential, usable)
        began, began_us = _begin(history, usable, raw, theta)
        drop = potential[None, :] - potential[:, None]  # theta_to - theta_from
        along = np.where(usable, raw - drop, 0)
        forward, error = one_way_band(along, rtt, self.floor, usable)
        forward, error = np.where(known, forward, UNKNOWN), np.where(known, error, UNKNOWN)
        loss, certain_loss = self._loss(known)
        table = LinkTable(
            data_centers=self.data_centers,
            transports=self.transports,
            rtt_us=rtt,
            forward_us=forward,
            along_us=np.where(usable, along, forward),
            error_us=error,
            expected_us=history.expected_us(),
            raw_us=np.where(usable, raw, 0),
            jitter_us=np.where(known, self.jitter, UNKNOWN),
            loss_ppm=loss,
            certain_loss_ppm=certain_loss,
            samples=np.sum(self.samples, axis=0),
            last_at=np.maximum(self.last_at, self.last_at.transpose(0, 2, 1)),
            state=self._states(known, certain_loss),
        )
        _freeze(table)
        potential.setflags(write=False)
        return Survey(
            self.number, self.at, table, potential, history.evidence(), theta, measured, gone, began, began_us,
            offsets, slope,
        )  # fmt: skip

    def _present_raw(self, slope: F64) -> I64:
        """Minima of the window, older buckets carried forward by how far the clocks have drifted apart since."""
        apart, carried = slope[None, :] - slope[:, None], list[I64]()
        for ago, raw in zip(range(len(self.raw) - 1, -1, -1), self.raw, strict=True):
            moved = np.rint(apart * (ago * BUCKET_US)).astype(np.int64)
            carried.append(np.where(raw < EMPTY, raw + moved, EMPTY))
        return _least(np.stack(carried))

    def _present_rtt(self) -> I64:
        rtt = np.stack(self.rtt)
        return _least(np.minimum(rtt, rtt.transpose(0, 1, 3, 2)))  # both ends measure the same two one-way delays

    def _noted(self) -> tuple[tuple[Noted, ...], F64]:
        """The offsets of the buckets that ended, and the drift fitted through the last minutes' offsets."""
        offsets = list(self.offsets)
        for ended in self.ended:
            raw, rtt = ended.raw, np.minimum(ended.rtt, ended.rtt.transpose(0, 2, 1))
            usable = (raw < EMPTY) & (raw.transpose(0, 2, 1) < EMPTY) & (rtt < EMPTY)
            if usable.any():
                measured = usable.any(axis=(0, 2)) & ~ended.forgotten
                offsets.append((ended.bucket * BUCKET_US, np.where(measured, offsets_us(raw, rtt, usable), np.nan)))
        kept = tuple(offsets[-OFFSETS_KEPT:])
        if len(offsets) == len(self.offsets):
            return kept, self.drift
        return kept, drift([at for at, _ in kept], [o for _, o in kept], len(self.drift))

    def _placed(self, potential: I64, usable: Bool) -> tuple[F64, Bool]:
        """Offsets to correct the history's next measurements by.

        Any offsets would do, as long as they stay: paths with the same ends are compared, and averages over time are
        taken. So they follow the clocks no faster than an oscillator can drift. A path that changes one way bends the
        solution at once, and must not bend every other link with it; a clock that steps is forgotten and placed anew.
        """
        measured = np.asarray(usable.any(axis=(0, 2)), np.bool_)
        held = self.is_placed & measured
        theta = potential.astype(np.float64)
        if held.any():
            theta += np.median((self.potential - theta)[held])  # their common constant is free
            most = MAX_DRIFT * max(0, self.at - self.potential_at) + 1.0
            theta = np.where(held, self.potential + np.clip(theta - self.potential, -most, most), theta)
        return theta, measured

    def _loss(self, known: Bool) -> tuple[I64, I64]:
        """Loss in ppm as counted, and the part of it that is certain enough to be priced.

        Round-trip loss, half of it for each direction: telling them apart needs more probes than a minute has.
        """
        sent = self.loss_sent + self.loss_sent.transpose(0, 2, 1)
        lost = self.loss_lost + self.loss_lost.transpose(0, 2, 1)
        share = np.divide(lost * 5e5, sent, out=np.zeros(sent.shape), where=sent > 0)
        certain = certain_ppm(sent, lost, self.lossy | self.lossy.transpose(0, 2, 1)) // 2
        seen = known & (sent > 0)
        return np.where(seen, np.rint(share).astype(np.int64), UNKNOWN), np.where(seen, certain, UNKNOWN)

    def _states(self, known: Bool, certain_loss: I64) -> U8:
        degraded = certain_loss * 2 >= DEGRADED_PPM
        state = np.where(known, np.where(degraded, LinkState.DEGRADED, LinkState.UP), LinkState.UNKNOWN)
        silent = (self.lost_since >= LOST_IN_A_ROW) & (self.delivered_at > 0)
        silent &= self.at - self.delivered_at > SILENT_US
        return np.where(silent, LinkState.DOWN, state).astype(np.uint8)


def _begin(history: History, usable: Bool, raw: I64, theta: F64) -> tuple[tuple[I64, I64, I64], I64]:
    """Links that have no history yet start from the window; which, and with what."""
    history.fade(usable)
    t, u, v = (index.astype(np.int64) for index in np.nonzero(usable & (history.latest == FALLEN)))
    began_us = raw[t, u, v] - np.rint(theta[v] - theta[u]).astype(np.int64)
    history.latest[t, u, v] = began_us
    return (t, u, v), began_us


def _least(buckets: I64) -> I64:
    """Window minimum ``[bucket, …] -> […]``, oldest bucket first; a step up is believed after two whole buckets."""
    slow: I64 = buckets.min(axis=0)
    fast: I64 = buckets[-3:].min(axis=0)
    both = (buckets[-3:-1] < EMPTY).all(axis=0)
    return np.where(both & (fast - slow > STEP_UP_US), fast, slow)


def _freeze(table: LinkTable) -> None:
    for value in vars(table).values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
