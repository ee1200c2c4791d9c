"""Link estimates from probe reports: windowed minima on reference clocks, loss, jitter, delivery evidence.

Every probe gives two raw one-way differences that contain the clocks' offsets (see ``probes.wire``). They are projected
onto the *reference clock* of each data center, so that along any path the unknown offsets telescope: the difference
between two paths with the same ends is exact without synchronised clocks. Within a data center the nodes' offsets come
from their own probes: ``(forward - backward) / 2`` over a path so short that its asymmetry does not matter.

For people, and for metrics that need absolute values, the remaining offset between data centers is removed by weighted
least squares under the symmetric-minimum assumption; the error band ``(rtt - 2 * light floor) / 2`` says how wrong that
can be. Choices between paths do not depend on it.

A ring of time buckets holds minima and counts; soft state, gone after a restart and back within seconds. A clock that
steps shows as a common shift of all of a node's raw differences while round trips stay: its raw evidence is dropped.

What routes are chosen by is kept in ``history``: the same measurements in shorter buckets, freed of the clock offsets
as they come in. Rows that cannot be true (slower than a minute, faster than light, minima that contradict each other)
are left out and counted in ``refused``.
"""

from __future__ import annotations

from collections import deque
from typing import cast

import numpy as np

from probes.wire import ProbeReport
from router.core.bands import one_way_band
from router.core.geography import light_floor_us
from router.core.history import History
from router.core.model import DataCenterId, Inventory, Micros, NodeId
from router.core.offsets import F64, MAX_DRIFT, drift, offsets_us, wilson_low_ppm
from router.core.tables import FALLEN, I64, U8, UNKNOWN, Bool, FreshRow, LinkState, LinkTable, PeerEvidence

HISTORY_US = 2_000_000  # bucket of the history that routes are chosen by
BUCKET_US = 4_000_000
BUCKETS = 5  # 20 s of minima: several probes per link even at one per four seconds
STALE_US = 15_000_000  # from here on the metric is widened by age
UNKNOWN_US = 30_000_000  # from here on we do not claim to know the link
OFFSET_LIFE_US = 60_000_000  # a sibling's clock not measured for so long may be 3 ms off by drift
REFERENCE_SILENCE_US = 10_000_000  # a reference node silent for so long hands its role on
LOST_IN_A_ROW = 4  # round trips lost in either direction, with no delivery in between, before a link is called down
DEGRADED_PPM = 50_000
LIGHT_SHARE = 0.5  # of twice the light floor: positions are of cities, so half of it is what nothing undercuts
CONTRADICTION_US = 1_000  # minima of both directions together may exceed the round trip's by rounding, not by this
STEP_UP_US = 5_000  # a path that is slower by this in two whole buckets has changed; less may be queueing
STEP_US = 3_000  # a clock step is a common shift beyond what 50 ppm of drift makes within the window
EMPTY = np.iinfo(np.int64).max // 4
JITTER_GAIN = 0.25
OFFSETS_KEPT = 30  # two minutes: long enough that noise of 0.1 ms bends the fitted drift by less than 1 ppm
LOSS_KEEP = 0.935  # per bucket: counts fade with a time constant of a minute
LOSS_Z = 3.0  # how sure we want to be before loss moves traffic


class Estimator:
    """Struct-of-arrays estimates of all directed links, ``[transport, from, to]``; private state of the core."""

    def __init__(self, inventory: Inventory, same_places: Estimator | None = None) -> None:
        """``same_places``: an estimator over the same data centers at the same positions, to share its light floors."""
        self._inventory = inventory
        self._shape = (len(inventory.transports), len(inventory.data_centers), len(inventory.data_centers))
        ring = (BUCKETS, *self._shape)
        self._raw = np.full(ring, EMPTY, np.int64)
        self._rtt = np.full(ring, EMPTY, np.int64)
        self._samples = np.zeros(ring, np.int64)
        self._loss_sent = np.zeros(self._shape)  # decayed counts of closed probes, and of lost ones
        self._loss_lost = np.zeros(self._shape)
        self._bucket = -1
        self._offsets: deque[tuple[Micros, F64]] = deque(maxlen=OFFSETS_KEPT)
        self._drift = np.zeros(self._shape[1])
        self._jitter = np.full(self._shape, UNKNOWN, np.int64)
        self._last_at = np.zeros(self._shape, np.int64)
        self._delivered_at = np.zeros(self._shape, np.int64)
        self._lost_since = np.zeros(self._shape, np.int64)
        self._offset: dict[NodeId, float] = {}  # node clock minus reference clock of its data center, microseconds
        self._offset_at: dict[NodeId, Micros] = {}  # when that was last measured
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
        self._floor: I64 = _floors(inventory) if same_places is None else same_places._floor

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
        peers = cast("tuple[NodeId, ...]", report.rows.peer)
        v = np.array([self._vertex.get(peer, -1) for peer in peers], np.int64)
        t = np.array([self._transport.get(name, -1) for name in report.rows.transport], np.int64)
        known = (v >= 0) & (t >= 0)
        self._refuse("unknown_peer", known.size - int(known.sum()))
        for i in np.flatnonzero(known & (v == source)):
            self._observe_sibling(node, report, int(i), now)
        pick = np.flatnonzero(known & (v != source))
        return self._observe_peers(node, source, report, pick, t[pick], v[pick], now)

    def _refuse(self, reason: str, rows: int = 1) -> None:
        if rows:
            self.refused[reason] = self.refused.get(reason, 0) + rows

    def _believable(self, u: int, v: I64, received: I64, forward: I64, backward: I64, rtt: I64) -> Bool:
        """Bool ``[row]``: answered, not faster than light, and the minima do not contradict each other.

        The two one-way minima add up to at most the least round trip, and no clock can hide that; if they add up to
        much less than light needs, the clock stepped between them.
        """
        floor = 2 * LIGHT_SHARE * self._floor[u, v]
        both = forward + backward
        heard = received > 0
        light = heard & ((rtt < floor) | (both < floor))
        contradiction = heard & ~light & (both > rtt + CONTRADICTION_US)
        self._refuse("faster_than_light", int(light.sum()))
        self._refuse("contradiction", int(contradiction.sum()))
        believable: Bool = heard & ~light & ~contradiction
        return believable

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
        held = self._offset.get(other)
        if held is not None and STEP_US < abs(value - held) <= rows.rtt_min_us[i] / 2:
            return  # so slow a probe may have waited one way only: it says nothing about the clocks
        self._offset_at[other] = now
        if held is None or abs(value - held) > STEP_US:
            if held is not None:
                self.clock_steps += 1
                self._forget_raw(self._vertex[other])
            self._offset[other] = value
        else:
            self._offset[other] = held + 0.3 * (value - held)

    def _anchor(self, node: NodeId, peer: NodeId) -> NodeId | None:
        """Whose clock of a pair of siblings is known: the reference's, else that of the node all siblings probe."""
        data_center = self._inventory.nodes[node].data_center
        meeting = self._inventory.meeting_nodes[data_center]
        for known in (self._reference[data_center], None if meeting is None else meeting.id):
            if known in (node, peer):
                return known if known in self._offset else None
        return None

    def _observe_peers(
        self, node: NodeId, u: int, report: ProbeReport, pick: I64, t: I64, v: I64, now: Micros
    ) -> PeerEvidence:
        rows, n = report.rows, self._shape[1]
        columns = (rows.sent, rows.received, rows.reflected, rows.rtt_min_us, rows.forward_min_us,
                   rows.backward_min_us, rows.jitter_us)  # fmt: skip
        sent, received, reflected, rtt, forward, backward, jitter = np.array(columns, np.int64).take(pick, axis=1)
        lost, all_there, all_back = sent - received, (t * n + u) * n + v, (t * n + v) * n + u
        ok = self._believable(u, v, received, forward, backward, rtt)
        np.add.at(_flat(self._loss_sent), all_there, sent)
        np.add.at(_flat(self._loss_lost), all_there, lost)
        there, to = all_there[ok], v[ok]
        self._delivery(all_there, all_back, there, all_back[ok | (reflected > 0)], lost, now)
        slot = self._bucket % BUCKETS
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
        raw, held = self._raw.reshape(BUCKETS, -1), self._rtt.reshape(BUCKETS, -1)
        out, home = raw.take(there, axis=1).min(axis=0), raw.take(back, axis=1).min(axis=0)
        known = (out < EMPTY) & (home < EMPTY)
        if not known.any():
            return
        shift = np.abs(forward - backward - out + home) // 2
        usual = np.minimum(held.take(there, axis=1), held.take(back, axis=1)).min(axis=0)
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

    def _present_raw(self) -> I64:
        """Minima of the window, older buckets carried forward by how far the clocks have drifted apart since."""
        apart = self._drift[None, :] - self._drift[:, None]
        carried = []
        for b in range(self._bucket - BUCKETS + 1, self._bucket + 1):
            raw = self._raw[b % BUCKETS]
            moved = np.rint(apart * ((self._bucket - b) * BUCKET_US)).astype(np.int64)
            carried.append(np.where(raw < EMPTY, raw + moved, EMPTY))
        return _least(np.stack(carried))

    def _present_rtt(self) -> I64:
        order = [b % BUCKETS for b in range(self._bucket - BUCKETS + 1, self._bucket + 1)]
        rtt = self._rtt[order]
        return _least(np.minimum(rtt, rtt.transpose(0, 1, 3, 2)))  # both ends measure the same two one-way delays

    def _note_offsets(self) -> None:
        """Keep the clock offsets of the bucket that ends, and fit the drift through the last minutes' offsets."""
        raw, rtt = self._raw[self._bucket % BUCKETS], self._rtt[self._bucket % BUCKETS]
        rtt = np.minimum(rtt, rtt.transpose(0, 2, 1))
        usable = (raw < EMPTY) & (raw.transpose(0, 2, 1) < EMPTY) & (rtt < EMPTY)
        if not usable.any():
            return
        measured = usable.any(axis=(0, 2))
        self._offsets.append((self._bucket * BUCKET_US, np.where(measured, offsets_us(raw, rtt, usable), np.nan)))
        self._drift = drift([at for at, _ in self._offsets], [o for _, o in self._offsets], self._shape[1])

    def _forget_raw(self, vertex: int) -> None:
        self._raw[:, :, vertex, :] = EMPTY
        self._raw[:, :, :, vertex] = EMPTY
        for _, offsets in self._offsets:
            offsets[vertex] = np.nan
        self._drift[vertex] = 0.0
        self._is_placed[vertex] = False
        self.history.forget(vertex)

    def _turn(self, now: Micros) -> None:
        """Advance the ring to the bucket of ``now``, clearing what falls out."""
        for _ in range(min(now // HISTORY_US - self._history_bucket, BUCKETS) if self._history_bucket >= 0 else 0):
            self.history.close()  # after a longer pause nothing more is learnt from repeating the old
        self._history_bucket = max(self._history_bucket, now // HISTORY_US)
        bucket = now // BUCKET_US
        if bucket <= self._bucket:
            return
        if self._bucket >= 0:
            self._note_offsets()
        for b in range(max(self._bucket + 1, bucket - BUCKETS + 1), bucket + 1):
            slot = b % BUCKETS
            self._raw[slot] = self._rtt[slot] = EMPTY
            self._samples[slot] = 0
        keep = LOSS_KEEP ** (bucket - self._bucket if self._bucket >= 0 else 0)
        self._loss_sent *= keep
        self._loss_lost *= keep
        self._bucket = bucket

    # --- estimates out -----------------------------------------------------------------------------------------------

    def table(self, now: Micros) -> tuple[LinkTable, I64]:
        """The estimates as of ``now`` and the clock potentials int64 ``[vertex]`` (microseconds) they were freed of."""
        self._turn(now)
        age = now - self._last_at
        known = (self._last_at > 0) & (age <= UNKNOWN_US)
        rtt = self._present_rtt()
        both = known | known.transpose(0, 2, 1)
        raw = self._present_raw()
        placed = (raw < EMPTY) & (raw.transpose(0, 2, 1) < EMPTY)
        known = both & (rtt < EMPTY)
        rtt = np.where(known, rtt, UNKNOWN)
        potential = np.rint(offsets_us(raw, rtt, known & placed)).astype(np.int64)
        self._place(potential, known & placed, raw, now)
        drop = potential[None, :] - potential[:, None]  # theta_to - theta_from
        along = np.where(known & placed, raw - drop, 0)
        forward, error = one_way_band(along, rtt, self._floor, known & placed)
        forward, error = np.where(known, forward, UNKNOWN), np.where(known, error, UNKNOWN)
        loss, certain_loss = self._loss(known)
        table = LinkTable(
            data_centers=tuple(self._inventory.data_centers),
            transports=self._inventory.transports,
            rtt_us=rtt,
            forward_us=forward,
            along_us=np.where(known & placed, along, forward),
            error_us=error,
            expected_us=self.history.expected_us(),
            raw_us=np.where(known & placed, raw, 0),
            jitter_us=np.where(known, self._jitter, UNKNOWN),
            loss_ppm=loss,
            certain_loss_ppm=certain_loss,
            samples=self._samples.sum(axis=0),
            last_at=np.maximum(self._last_at, self._last_at.transpose(0, 2, 1)),
            state=self._states(known, certain_loss, now),
        )
        _freeze(table)
        return table, potential

    def _place(self, potential: I64, usable: Bool, raw: I64, now: Micros) -> None:
        """Correct the history's next measurements by these offsets; links that have none yet start from the window.

        Any offsets would do, as long as they stay: paths with the same ends are compared, and averages over time are
        taken. So they follow the clocks no faster than an oscillator can drift. A path that changes one way bends the
        solution at once, and must not bend every other link with it; a clock that steps is forgotten and placed anew.
        """
        measured = usable.any(axis=(0, 2))
        held = self._is_placed & measured
        theta = potential.astype(np.float64)
        if held.any():
            theta += np.median((self._potential - theta)[held])  # their common constant is free
            most = MAX_DRIFT * max(0, now - self._potential_at) + 1.0
            theta = np.where(held, self._potential + np.clip(theta - self._potential, -most, most), theta)
        self._potential, self._potential_at, self._is_placed = theta, now, np.asarray(measured, np.bool_)
        self.history.fade(usable)
        drop = np.rint(theta[None, :] - theta[:, None]).astype(np.int64)  # theta_to - theta_from
        new = usable & (self.history.latest == FALLEN)
        self.history.latest[new] = (raw - drop)[new]

    def _loss(self, known: Bool) -> tuple[I64, I64]:
        """Loss in ppm as counted, and the part of it that is certain enough to be priced.

        Round-trip loss, half of it for each direction: telling them apart needs more probes than a minute has. A single
        lost probe is an anecdote; from two on, the lower end of the Wilson interval counts.
        """
        sent = self._loss_sent + self._loss_sent.transpose(0, 2, 1)
        lost = self._loss_lost + self._loss_lost.transpose(0, 2, 1)
        share = np.divide(lost * 5e5, sent, out=np.zeros(sent.shape), where=sent > 0)
        certain = np.where(lost > 1.0, wilson_low_ppm(lost, sent, LOSS_Z) // 2, 0)
        seen = known & (sent > 0)
        return np.where(seen, np.rint(share).astype(np.int64), UNKNOWN), np.where(seen, certain, UNKNOWN)

    def _states(self, known: Bool, certain_loss: I64, now: Micros) -> U8:
        degraded = certain_loss * 2 >= DEGRADED_PPM
        state = np.where(known, np.where(degraded, LinkState.DEGRADED, LinkState.UP), LinkState.UNKNOWN)
        silent = (self._lost_since >= LOST_IN_A_ROW) & (self._delivered_at > 0) & (now - self._delivered_at > 3_000_000)
        return np.where(silent, LinkState.DOWN, state).astype(np.uint8)

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
        for t, s in pairs:
            for name in ("_raw", "_rtt", "_samples"):
                getattr(self, name)[:, t][(slice(None), *np.ix_(here, here))] = getattr(older, name)[:, s][
                    (slice(None), *np.ix_(there, there))
                ]
            for name in ("_jitter", "_last_at", "_delivered_at", "_lost_since", "_loss_sent", "_loss_lost"):
                getattr(self, name)[t][np.ix_(here, here)] = getattr(older, name)[s][np.ix_(there, there)]
        self.history.adopt(older.history, here, there, pairs)
        self._history_bucket, self._potential_at = older._history_bucket, older._potential_at
        self._potential[here], self._is_placed[here] = older._potential[there], older._is_placed[there]
        self.refused = dict(older.refused)
        self._bucket = older._bucket
        self._drift[here] = older._drift[there]
        for at, before in older._offsets:
            offsets = np.full(self._shape[1], np.nan)
            offsets[here] = before[there]
            self._offsets.append((at, offsets))
        stayed = {n for n in self._vertex if older._home(n) == self._home(n)}
        self._offset = {n: o for n, o in older._offset.items() if n in stayed}
        self._offset_at = {n: at for n, at in older._offset_at.items() if n in stayed}
        self._reference = {dc: n for dc, n in older._reference.items() if n in stayed}
        self._seen_at = {n: at for n, at in older._seen_at.items() if n in self._vertex}
        self.clock_steps = older.clock_steps

    def _home(self, node: NodeId) -> DataCenterId | None:
        found = self._inventory.nodes.get(node)
        return None if found is None else found.data_center


def _flat(links: np.ndarray) -> np.ndarray:
    """The same memory with one index ``(transport * n + from) * n + to``: numpy takes one index in half the time."""
    return links.reshape(-1)


def _least(buckets: I64) -> I64:
    """Window minimum ``[bucket, …] -> […]``, oldest bucket first; a step up is believed after two whole buckets."""
    slow: I64 = buckets.min(axis=0)
    fast: I64 = buckets[-3:].min(axis=0)
    both = (buckets[-3:-1] < EMPTY).all(axis=0)
    return np.where(both & (fast - slow > STEP_UP_US), fast, slow)


def _floors(inventory: Inventory) -> I64:
    centers = list(inventory.data_centers.values())
    floor = np.zeros((len(centers), len(centers)), np.int64)
    for i, a in enumerate(centers):
        for j in range(i):
            floor[i, j] = floor[j, i] = light_floor_us(a, centers[j])
    return floor


def _freeze(table: LinkTable) -> None:
    for value in vars(table).values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
