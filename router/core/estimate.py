"""Link estimates from probe reports: windowed minima on reference clocks, loss, jitter, delivery evidence.

Every probe gives two raw one-way differences that contain the clocks' offsets (see ``probes.wire``). They are projected
onto the *reference clock* of each data center, so that along any path the unknown offsets telescope: the difference
between two paths with the same ends is exact without synchronised clocks. Within a data center the nodes' offsets come
from their own probes: ``(forward - backward) / 2`` over a path so short that its asymmetry does not matter.

What is known is made of all links together, and takes long: ``window`` freezes what it is made of, ``survey`` makes
it, in a worker, and ``settle`` takes back what was found out about the clocks.

A ring of time buckets holds minima and counts; soft state, gone after a restart and back within seconds. A clock that
steps shows as a common shift of all of a node's raw differences while round trips stay: its raw evidence is dropped.

What routes are chosen by is kept in ``history``: the same measurements in shorter buckets, freed of the clock offsets
as they come in. Rows that cannot be true (slower than a minute, faster than light, minima that contradict each other)
are left out and counted in ``refused``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from probes.wire import ProbeReport
from router.core.change import MEMORY_PACKETS, LossWatch
from router.core.compiled import MISPLACED, SIBLINGS, STEPPED, Arrays, put_links
from router.core.geography import light_floor_us
from router.core.history import LONGEST_SILENCE, RECENT, History
from router.core.model import DataCenterId, Inventory, Micros, NodeId
from router.core.offsets import MAX_DRIFT
from router.core.survey import BUCKET_US, EMPTY, OFFSETS_KEPT, UNKNOWN_US, Ended, Noted, Survey, Window
from router.core.tables import FALLEN, I64, NO_COST, UNKNOWN, Bool, FreshRow, LinkTable, PeerEvidence

HISTORY_US = 2_000_000  # bucket of the history that routes are chosen by
BUCKETS = 5  # 20 s of minima: several probes per link even at one per four seconds
STALE_US = 15_000_000  # from here on the metric is widened by age
OFFSET_LIFE_US = 60_000_000  # a sibling's clock not measured for so long may be 3 ms off by drift
REFERENCE_SILENCE_US = 10_000_000  # a reference node silent for so long hands its role on
LIGHT_SHARE = 0.5  # of twice the light floor: positions are of cities, so half of it is what nothing undercuts
CONTRADICTION_US = 1_000  # minima of both directions together may exceed the round trip's by rounding, not by this
SIBLING_GAIN, SIBLING_DRIFT_GAIN = 0.3, 0.05  # of a surprise, to a sibling's clock and to its rate: nearly critical
STEP_US = 3_000  # a clock step is a common shift beyond what 50 ppm of drift makes within the window
JITTER_GAIN = 0.25
LOSS_KEEP = 0.935  # per bucket: counts fade with a time constant of a minute
_RULES = (
    CONTRADICTION_US, STEP_US, int(EMPTY), UNKNOWN, int(FALLEN), int(NO_COST), LONGEST_SILENCE,
    2 * LIGHT_SHARE, JITTER_GAIN, MEMORY_PACKETS, RECENT,
)  # fmt: skip
_LEFT_OUT = ("unknown_peer", "faster_than_light", "contradiction", "clock")


class Estimator:
    """Struct-of-arrays estimates of all directed links, ``[transport, from, to]``; private state of the core."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._shape = (len(inventory.transports), len(inventory.data_centers), len(inventory.data_centers))
        # Rings of buckets [transport, from, to]. Only the present one is written to.
        self._raw: list[I64] = [np.full(self._shape, EMPTY, np.int64) for _ in range(BUCKETS)]
        self._rtt: list[I64] = [np.full(self._shape, EMPTY, np.int64) for _ in range(BUCKETS)]
        self._samples: list[I64] = [np.zeros(self._shape, np.int64) for _ in range(BUCKETS)]
        n = self._shape[1]
        self._loss = LossWatch(self._shape, self._shape[0] * n * (n - 1) // 2)  # per pair: cell of its smaller vertex
        self._bucket = -1
        self._offsets: tuple[Noted, ...] = ()
        self._ended: list[Ended] = []  # buckets that are over and not in ``_offsets`` yet
        self._asked = 0  # how many of them are in the window that is being surveyed
        self._forgotten: dict[int, None] = {}  # vertices whose clock stepped since that window
        self._drift = np.zeros(self._shape[1])
        self._jitter = np.full(self._shape, UNKNOWN, np.int64)
        self._last_at = np.zeros(self._shape, np.int64)
        self._delivered_at = np.zeros(self._shape, np.int64)
        self._lost_since = np.zeros(self._shape, np.int64)
        self._offset: dict[NodeId, float] = {}  # node clock minus reference clock of its data center, microseconds
        self._offset_at: dict[NodeId, Micros] = {}  # when that was last measured
        self._offset_drift: dict[NodeId, float] = {}  # and how fast it grows, as a relative frequency
        self._reference: dict[DataCenterId, NodeId] = {}
        self._seen_at: dict[NodeId, Micros] = {}
        self.clock_steps = 0
        self.refused: dict[str, int] = {}  # rows and reports left out, by reason
        self.history = History(self._shape[0], self._shape[1])
        self._history_bucket = -1
        self._potential = np.zeros(self._shape[1])  # clock offsets by which the history's measurements are corrected
        self._potential_at: Micros = 0
        self._is_placed: Bool = np.zeros(self._shape[1], np.bool_)  # [vertex] whose clock offset is known
        self._transport = {name: i for i, name in enumerate(inventory.transports)}
        self._vertex = {node.id: inventory.index[node.data_center] for node in inventory.nodes.values()}
        self._floor: I64 = _floors(inventory)

    # --- evidence in -------------------------------------------------------------------------------------------------

    def observe(self, report: ProbeReport, now: Micros) -> PeerEvidence | None:
        """Take in one report; rows about unknown peers or transports are skipped. ``None`` if the node is unknown."""
        node = NodeId(report.node)
        source = self._vertex.get(node)
        if source is None:
            self._refuse("unknown_node")
            return None
        self._seen_at[node] = now
        self._turn(now)
        self._elect(node, source, now)
        return self._put(node, source, report, now) or self._observe_each(node, source, report, now)

    def _put(self, node: NodeId, u: int, report: ProbeReport, now: Micros) -> PeerEvidence | None:
        """The same as ``_observe_each``, compiled; ``None`` if that was not done."""
        rows, out = report.rows, np.empty((10, len(report.rows)), np.int64)
        columns = (rows.peer, rows.transport, rows.sent, rows.received, rows.reflected, rows.rtt_min_us,
                   rows.forward_min_us, rows.backward_min_us, rows.jitter_us)  # fmt: skip
        place = u, self._shape[1], self._shape[0], now, self._bucket % BUCKETS

        def put(heed_siblings: bool) -> tuple[int, ...] | None:
            names, own = (self._vertex, self._transport, self._offset), self._offset.get(node, np.nan)
            arrays = (*self._arrays(place[-1]), out)
            return put_links(columns, *names, own, place, _RULES, heed_siblings, arrays)

        told = put(True)
        if told is not None and told[0] == SIBLINGS:
            for i in out[0, : told[1]].tolist():
                self._observe_sibling(node, report, i, now)
            told = put(False)
        if told is None:
            return None
        code, k, m, uncalm, *left_out = told
        for reason, count in zip(_LEFT_OUT, left_out, strict=True):
            self._refuse(reason, count)
        if uncalm:
            packets, gone = out[8:, :uncalm].astype(np.float64)
            self._loss.count(out[7, :uncalm].copy(), packets, gone)
        if code == STEPPED:
            return self._observe_peers(node, u, report, now, is_counted=True)
        if code == MISPLACED:
            self._forget_raw(u)
        self.history.heard(u)
        t, v = out[3, :m], out[4, :m]
        fresh = self._fresh(t, u, v, now) if code == MISPLACED else FreshRow(now, t, u, v, out[5, :m], out[6, :m])
        return PeerEvidence(u, out[0, :k], out[1, :k], out[2, :k], fresh)

    def _arrays(self, slot: int) -> Arrays:
        loss = self._loss
        return (
            self._floor, self._samples[slot], self._last_at, self._jitter, self._delivered_at, self._lost_since,
            *self._raw, *self._rtt, *loss.calm, loss.lossy, self._potential, self._is_placed, *self.history.levels,
        )  # fmt: skip

    def _observe_each(self, node: NodeId, source: int, report: ProbeReport, now: Micros) -> PeerEvidence:
        _, v, known = self._named(report)
        self._refuse("unknown_peer", known.size - int(known.sum()))
        for i in np.flatnonzero(known & (v == source)):
            self._observe_sibling(node, report, int(i), now)
        return self._observe_peers(node, source, report, now)

    def _named(self, report: ProbeReport) -> tuple[I64, I64, Bool]:
        """Transport and data center of every row, and whether both are known."""
        peers = cast("tuple[NodeId, ...]", report.rows.peer)
        v = np.array([self._vertex.get(peer, -1) for peer in peers], np.int64)
        t = np.array([self._transport.get(name, -1) for name in report.rows.transport], np.int64)
        return t, v, (v >= 0) & (t >= 0)

    def _refuse(self, reason: str, rows: int = 1) -> None:
        if rows:
            self.refused[reason] = self.refused.get(reason, 0) + rows

    def _believable(
        self, u: int, v: I64, received: I64, forward: I64, backward: I64, rtt: I64
    ) -> tuple[Bool, Bool, Bool]:
        """Bool ``[row]``: answered and possible; faster than light; the minima contradict each other.

        The two one-way minima add up to at most the least round trip, and no clock can hide that; if they add up to
        much less than light needs, the clock stepped between them.
        """
        floor = 2 * LIGHT_SHARE * self._floor[u, v]
        both = forward + backward
        heard = received > 0
        light = heard & ((rtt < floor) | (both < floor))
        contradiction = heard & ~light & (both > rtt + CONTRADICTION_US)
        return heard & ~light & ~contradiction, light, contradiction

    def _elect(self, node: NodeId, source: int, now: Micros) -> None:
        """Keep a live node as the data center's reference; a change of reference drops its raw evidence."""
        data_center = self._inventory.nodes[node].data_center
        held = self._reference.get(data_center)
        if held is not None and now - self._seen_at.get(held, 0) <= REFERENCE_SILENCE_US:
            if node != held and now - self._offset_at.get(node, now) > OFFSET_LIFE_US:
                self._offset.pop(node, None)
            return
        self._reference[data_center] = node
        if held != node:
            base = self._offset.get(node)
            for sibling in self._inventory.nodes_by_data_center[data_center]:
                offset = self._offset.pop(sibling.id, None)
                self._offset_drift.pop(sibling.id, None)
                if offset is not None and base is not None:  # else nobody knows how the two references differ
                    self._offset[sibling.id] = offset - base
            self._offset[node] = 0.0
            self._offset_at[node] = now
            self._forget_raw(source)

    def _observe_sibling(self, node: NodeId, report: ProbeReport, i: int, now: Micros) -> None:
        rows, peer = report.rows, NodeId(report.rows.peer[i])
        anchor = self._anchor(node, peer)
        if rows.received[i] == 0 or anchor is None or node == peer:
            return
        ahead = (rows.forward_min_us[i] - rows.backward_min_us[i]) / 2  # peer's clock minus ours
        other, value = (peer, ahead) if anchor == node else (node, -ahead)
        value += self._offset[anchor]
        held, ran, before = self._offset.get(other), self._offset_drift.get(other, 0.0), self._offset_at.get(other, now)
        held = None if held is None else held + ran * (now - before)
        if held is not None and STEP_US < abs(value - held) <= rows.rtt_min_us[i] / 2:
            return  # so slow a probe may have waited one way only: it says nothing about the clocks
        self._offset_at[other] = now
        if held is None or abs(value - held) > STEP_US:
            if held is not None:
                self.clock_steps += 1
                self._forget_raw(self._vertex[other])
            self._offset[other] = value
            self._offset_drift[other] = 0.0
            return
        # An average alone would stay behind a clock that drifts: follow its rate too (alpha-beta filter).
        self._offset[other] = held + SIBLING_GAIN * (value - held)
        if now > before:
            ran += SIBLING_DRIFT_GAIN * (value - held) / max(now - before, HISTORY_US // 2)
            self._offset_drift[other] = min(MAX_DRIFT, max(-MAX_DRIFT, ran))

    def _anchor(self, node: NodeId, peer: NodeId) -> NodeId | None:
        """Whose clock of a pair of siblings is known: the reference's, else that of the node all siblings probe."""
        data_center = self._inventory.nodes[node].data_center
        meeting = self._inventory.meeting_nodes[data_center]
        for known in (self._reference[data_center], None if meeting is None else meeting.id):
            if known in (node, peer):
                return known if known in self._offset else None
        return None

    def _observe_peers(
        self, node: NodeId, u: int, report: ProbeReport, now: Micros, *, is_counted: bool = False
    ) -> PeerEvidence:
        """Rows about other data centers; ``is_counted``: up to the question whether a clock stepped all is done."""
        rows, n = report.rows, self._shape[1]
        t, v, known = self._named(report)
        pick = np.flatnonzero(known & (v != u))
        t, v = t[pick], v[pick]
        columns = (rows.sent, rows.received, rows.reflected, rows.rtt_min_us, rows.forward_min_us,
                   rows.backward_min_us, rows.jitter_us)  # fmt: skip
        sent, received, reflected, rtt, forward, backward, jitter = np.array(columns, np.int64).take(pick, axis=1)
        lost, all_there, all_back = sent - received, (t * n + u) * n + v, (t * n + v) * n + u
        ok, light, contradiction = self._believable(u, v, received, forward, backward, rtt)
        there, to, slot = all_there[ok], v[ok], self._bucket % BUCKETS
        if not is_counted:
            self._refuse("faster_than_light", int(light.sum()))
            self._refuse("contradiction", int(contradiction.sum()))
            self._loss.take((t * n + np.minimum(u, v)) * n + np.maximum(u, v), sent, lost)
            self._delivery(all_there, all_back, there, all_back[ok | (reflected > 0)], lost, now)
            np.add.at(_flat(self._samples[slot]), there, received[ok])
            _flat(self._last_at)[there] = now
            self._blend_jitter(there, jitter[ok])
        held = [self._offset.get(cast(NodeId, rows.peer[i]), np.nan) for i in pick.tolist()]
        ahead = np.array(held, np.float64) - self._offset.get(node, np.nan)  # of each peer's clock, before projection
        placed = ok & ~np.isnan(ahead)
        shift, there, back = np.rint(ahead[placed]).astype(np.int64), all_there[placed], all_back[placed]
        forward, backward = forward[placed] - shift, backward[placed] + shift
        self._notice_step(u, v[placed], there, back, forward, backward, rtt[placed])
        np.minimum.at(_flat(self._rtt[slot]), all_there[ok], rtt[ok])  # not before: a step is told by what was usual
        np.minimum.at(_flat(self._raw[slot]), there, forward)
        np.minimum.at(_flat(self._raw[slot]), back, backward)
        self._remember(t[placed], u, v[placed], forward, backward, rtt[placed], now)
        fresh = self._fresh(t[ok], u, to, now)
        return PeerEvidence(u, v, received, lost, fresh)

    def _fresh(self, t: I64, u: int, v: I64, now: Micros) -> FreshRow:
        here = np.full_like(v, u)
        both = np.concatenate((t, t)), np.concatenate((here, v)), np.concatenate((v, here))
        expected = self.history.expected_of(*both)
        return FreshRow(now, t, u, v, expected[: v.size], expected[v.size :])

    def _remember(self, t: I64, u: int, v: I64, forward: I64, backward: I64, rtt: I64, now: Micros) -> None:
        """Put one report's delays into the history, freed of the clock offsets known at the moment."""
        ahead = np.rint(self._potential[v] - self._potential[u]).astype(np.int64)
        forward, backward = forward - ahead, backward + ahead
        known = self._is_placed[v] & self._is_placed[u]
        fits = np.minimum(forward, backward) >= -rtt // 2 - CONTRADICTION_US
        self._refuse("clock", int((known & ~fits).sum()))
        if known.any() and not fits[known].any():
            self._forget_raw(u)  # its clock is not where it was placed, and nobody knew it well enough to see the step
        t, v, forward, backward = (column[known & fits] for column in (t, v, forward, backward))
        here, delays = np.full_like(v, u), np.concatenate((forward, backward))
        self.history.put(np.concatenate((t, t)), np.concatenate((here, v)), np.concatenate((v, here)), delays)
        self.history.heard(u)

    def _delivery(self, there: I64, back: I64, ok: I64, heard: I64, lost: I64, now: Micros) -> None:
        """Count losses per direction until something proves that this direction delivers; flat indexes of links."""
        since, at = _flat(self._lost_since), _flat(self._delivered_at)
        np.add.at(since, there, lost)
        np.add.at(since, back, lost)
        for links in (ok, heard):  # a reply proves both directions, a reflected probe the one towards us
            since[links] = 0
            at[links] = now

    def _blend_jitter(self, links: I64, jitter: I64) -> None:
        known = jitter >= 0
        # Reports carry round-trip jitter; for two alike directions variances add, so one way has 1/sqrt(2) of it.
        links, jitter = links[known], jitter[known] * 707 // 1000
        held = _flat(self._jitter)[links]
        blended = np.rint(held + JITTER_GAIN * (jitter - held)).astype(np.int64)
        _flat(self._jitter)[links] = np.where(held == UNKNOWN, jitter, blended)

    def _notice_step(self, u: int, v: I64, there: I64, back: I64, forward: I64, backward: I64, rtt: I64) -> None:
        """Drop the raw evidence of data centers whose clock stepped: differences shift while the round trip stays.

        A path that grows slower one way shifts them too, but then the round trip grows by twice the shift. If most rows
        of a report show a step it is the reporter's clock, else that of each peer concerned; one row alone cannot tell.
        The sum of both directions' minima must stay too: while a path heals, they come from different packets.
        """
        both = np.concatenate((there, back))
        raw = np.array([_flat(bucket).take(both) for bucket in self._raw]).min(axis=0)
        out, home = raw[: there.size], raw[there.size :]
        known = (out < EMPTY) & (home < EMPTY)
        if not known.any():
            return
        shift = np.abs(forward - backward - out + home) // 2
        held = np.array([_flat(bucket).take(both) for bucket in self._rtt]).min(axis=0)
        usual = np.minimum(held[: there.size], held[there.size :])
        same = np.maximum(np.abs(rtt - usual), np.abs(forward + backward - out - home)) < shift
        stepped = known & (shift > STEP_US) & same
        if not stepped.any():
            return
        self.clock_steps += 1
        ours = stepped.sum() >= 0.7 * known.sum()
        if ours:
            self._forget_raw(u)
        if not ours or known.sum() == 1:
            for vertex in np.unique(v[stepped]):
                self._forget_raw(int(vertex))

    def _forget_raw(self, vertex: int) -> None:
        self._forgotten[vertex] = None
        for slot, raw in enumerate(self._raw):
            self._raw[slot] = _without(raw, vertex)  # a survey may be reading the old one
        nobody = np.arange(self._shape[1]) == vertex
        self._ended = [replace(ended, forgotten=ended.forgotten | nobody) for ended in self._ended]
        self._offsets = tuple((at, np.where(nobody, np.nan, offsets)) for at, offsets in self._offsets)
        self._drift = np.where(nobody, 0.0, self._drift)
        self._is_placed = self._is_placed & ~nobody
        self.history.forget(vertex)

    def _turn(self, now: Micros) -> None:
        """Advance the ring to the bucket of ``now``, clearing what falls out."""
        if now // HISTORY_US <= self._history_bucket and now // BUCKET_US <= self._bucket:
            return
        for _ in range(min(now // HISTORY_US - self._history_bucket, BUCKETS) if self._history_bucket >= 0 else 0):
            self.history.close()  # after a longer pause nothing more is learnt from repeating the old
        self._history_bucket = max(self._history_bucket, now // HISTORY_US)
        bucket = now // BUCKET_US
        if bucket <= self._bucket:
            return
        if self._bucket >= 0:
            slot = self._bucket % BUCKETS
            for closed in (self._raw[slot], self._rtt[slot], self._samples[slot]):
                closed.setflags(write=False)
            ended = Ended(self._bucket, self._raw[slot], self._rtt[slot], np.zeros(self._shape[1], np.bool_))
            self._ended = [*self._ended, ended][-OFFSETS_KEPT:]
        for b in range(max(self._bucket + 1, bucket - BUCKETS + 1), bucket + 1):
            slot = b % BUCKETS  # new arrays: a survey may be reading the old ones
            self._raw[slot], self._rtt[slot] = (np.full(self._shape, EMPTY, np.int64) for _ in range(2))
            self._samples[slot] = np.zeros(self._shape, np.int64)
        self._loss.fade(LOSS_KEEP ** (bucket - self._bucket if self._bucket >= 0 else 0))
        self._bucket = bucket

    # --- estimates out -----------------------------------------------------------------------------------------------

    def table(self, now: Micros) -> tuple[LinkTable, I64]:
        """The estimates as of ``now`` and the clock potentials int64 ``[vertex]`` (microseconds) they were freed of."""
        found = self.window(0, now).survey()
        self.settle(found)
        return found.links, found.potential_us

    def window(self, number: int, now: Micros) -> Window:
        """Freeze everything that estimates are made of; some arrays are copied, buckets that ended are shared."""
        self._turn(now)
        order = [b % BUCKETS for b in range(self._bucket - BUCKETS + 1, self._bucket + 1)]
        present = order.pop()
        self._forgotten.clear()
        self._asked = len(self._ended)
        return Window(
            number=number,
            at=now,
            data_centers=tuple(self._inventory.data_centers),
            transports=self._inventory.transports,
            bucket=self._bucket,
            raw=(*(self._raw[slot] for slot in order), self._raw[present].copy()),
            rtt=(*(self._rtt[slot] for slot in order), self._rtt[present].copy()),
            ended=tuple(self._ended),
            offsets=self._offsets,
            drift=self._drift,
            samples=(*(self._samples[slot] for slot in order), self._samples[present].copy()),
            jitter=self._jitter.copy(),
            last_at=self._last_at.copy(),
            delivered_at=self._delivered_at.copy(),
            lost_since=self._lost_since.copy(),
            loss_sent=self._loss.sent.copy(),
            loss_lost=self._loss.lost.copy(),
            lossy=self._loss.lossy.copy(),
            potential=self._potential,
            potential_at=self._potential_at,
            is_placed=self._is_placed,
            floor=self._floor,
            history=self.history.frozen(),
        )

    def settle(self, found: Survey) -> None:
        """Take back what a survey of the newest window found out about the clocks, and about what is known at all."""
        kept = np.ones(self._shape[1], np.bool_)
        kept[list(self._forgotten)] = False  # their clocks stepped while the survey was under way
        self._ended = self._ended[self._asked :]
        self._asked = 0
        self._offsets = tuple((at, np.where(kept, offsets, np.nan)) for at, offsets in found.offsets)
        self._drift = np.where(kept, found.drift, 0.0)
        self._potential, self._potential_at, self._is_placed = found.placed_us, found.at, found.measured & kept
        self.history.fade(~found.gone)
        (t, u, v), latest = found.began, self.history.latest
        new = kept[u] & kept[v] & (latest[t, u, v] == FALLEN)
        latest[t[new], u[new], v[new]] = found.began_us[new]

    def node_count(self, now: Micros, within_us: int, remembered_us: int) -> tuple[int, int]:
        """Nodes that reported within ``within_us``, and within ``remembered_us``; if none did, all that ever did."""
        ages = [now - at for at in self._seen_at.values()]
        remembered = sum(age <= remembered_us for age in ages)
        return sum(age <= within_us for age in ages), remembered or len(ages)

    def known_share(self, now: Micros) -> float:
        """Share of ordered pairs that have any evidence; 1.0 for fewer than two data centers."""
        n = self._shape[1]
        if n < 2:
            return 1.0
        return float(((self._last_at > 0) & (now - self._last_at <= UNKNOWN_US)).any(axis=0).sum() / (n * (n - 1)))

    def adopt(self, older: Estimator) -> None:
        """Take over what an estimator over an earlier inventory knew of links that still exist."""
        here, there = [], []
        for dc, i in self._inventory.index.items():
            if dc in older._inventory.index:
                here.append(i)
                there.append(older._inventory.index[dc])
        pairs = [(t, older._transport[name]) for name, t in self._transport.items() if name in older._transport]
        block, source = np.ix_(here, here), np.ix_(there, there)
        for t, s in pairs:
            for name in ("_raw", "_rtt", "_samples"):
                for mine, theirs in zip(getattr(self, name), getattr(older, name), strict=True):
                    mine[t][block] = theirs[s][source]
            for name in ("_jitter", "_last_at", "_delivered_at", "_lost_since"):
                getattr(self, name)[t][block] = getattr(older, name)[s][source]
            self._loss.adopt(older._loss, (np.array(t), *block), (np.array(s), *source))  # ids stay in order
        for ended in older._ended:
            raw, rtt = (np.full(self._shape, EMPTY, np.int64) for _ in range(2))
            for t, s in pairs:
                raw[t][block], rtt[t][block] = ended.raw[s][source], ended.rtt[s][source]
            forgotten = np.zeros(self._shape[1], np.bool_)
            forgotten[here] = ended.forgotten[there]
            self._ended.append(Ended(ended.bucket, raw, rtt, forgotten))
        self.history.adopt(older.history, here, there, pairs)
        self._history_bucket, self._potential_at = older._history_bucket, older._potential_at
        self._potential[here], self._is_placed[here] = older._potential[there], older._is_placed[there]
        self.refused = dict(older.refused)
        self._bucket = older._bucket
        self._drift[here] = older._drift[there]
        for at, before in older._offsets:
            offsets = np.full(self._shape[1], np.nan)
            offsets[here] = before[there]
            self._offsets = (*self._offsets, (at, offsets))
        stayed = {n for n in self._vertex if older._home(n) == self._home(n)}
        self._offset = {n: o for n, o in older._offset.items() if n in stayed}
        self._offset_at = {n: at for n, at in older._offset_at.items() if n in stayed}
        self._offset_drift = {n: ran for n, ran in older._offset_drift.items() if n in stayed}
        self._reference = {dc: n for dc, n in older._reference.items() if n in stayed}
        self._seen_at = {n: at for n, at in older._seen_at.items() if n in self._vertex}
        self.clock_steps = older.clock_steps

    def follow(self, inventory: Inventory) -> None:
        """Go on over another inventory with the same graph: only nodes may have come, gone or moved."""
        before, self._inventory = {node: self._home(node) for node in self._vertex}, inventory
        self._vertex = {node.id: inventory.index[node.data_center] for node in inventory.nodes.values()}
        stayed = {node for node in self._vertex if node not in before or before[node] == self._home(node)}
        self._offset = {n: o for n, o in self._offset.items() if n in stayed}
        self._offset_at = {n: at for n, at in self._offset_at.items() if n in stayed}
        self._offset_drift = {n: ran for n, ran in self._offset_drift.items() if n in stayed}
        self._reference = {dc: n for dc, n in self._reference.items() if n in stayed}
        self._seen_at = {n: at for n, at in self._seen_at.items() if n in self._vertex}

    def _home(self, node: NodeId) -> DataCenterId | None:
        found = self._inventory.nodes.get(node)
        return None if found is None else found.data_center


def _flat(links: np.ndarray) -> np.ndarray:
    """The same memory with one index ``(transport * n + from) * n + to``: numpy takes one index in half the time."""
    return links.reshape(-1)


def _without(links: I64, vertex: int) -> I64:
    """A copy without the raw differences of one data center."""
    links = links.copy()
    links[:, vertex, :] = links[:, :, vertex] = EMPTY
    return links


def _floors(inventory: Inventory) -> I64:
    centers = list(inventory.data_centers.values())
    floor = np.zeros((len(centers), len(centers)), np.int64)
    for i, a in enumerate(centers):
        for j in range(i):
            floor[i, j] = floor[j, i] = light_floor_us(a, centers[j])
    return floor
