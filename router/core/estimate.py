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
"""

from __future__ import annotations

from collections import deque

import numpy as np

from probes.wire import ProbeReport
from router.core.geography import light_floor_us
from router.core.model import DataCenterId, Inventory, Micros, NodeId
from router.core.offsets import F64, drift, offsets_us, wilson_low_ppm
from router.core.tables import I64, U8, UNKNOWN, Bool, LinkState, LinkTable, PeerEvidence

BUCKET_US = 4_000_000
BUCKETS = 5  # 20 s of minima: several probes per link even at one per four seconds
STALE_US = 15_000_000  # from here on the metric is widened by age
UNKNOWN_US = 30_000_000  # from here on we do not claim to know the link
OFFSET_LIFE_US = 60_000_000  # a sibling's clock not measured for so long may be 3 ms off by drift
REFERENCE_SILENCE_US = 10_000_000  # a reference node silent for so long hands its role on
LOST_IN_A_ROW = 4  # round trips lost in either direction, with no delivery in between, before a link is called down
DEGRADED_PPM = 50_000
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
        self._transport = {name: i for i, name in enumerate(inventory.transports)}
        self._vertex = {node.id: inventory.index[node.data_center] for node in inventory.nodes.values()}
        self._floor: I64 = _floors(inventory) if same_places is None else same_places._floor

    # --- evidence in -------------------------------------------------------------------------------------------------

    def observe(self, report: ProbeReport, now: Micros) -> PeerEvidence | None:
        """Take in one report; rows about unknown peers or transports are skipped. ``None`` if the node is unknown."""
        node = NodeId(report.node)
        source = self._vertex.get(node)
        if source is None:
            return None
        self._seen_at[node] = now
        self._turn(now)
        self._elect(node, source, now)
        rows = report.rows
        keep = [
            i
            for i, (peer, transport) in enumerate(zip(rows.peer, rows.transport, strict=True))
            if peer in self._vertex and transport in self._transport
        ]
        outside = []
        for i in keep:
            if self._vertex[NodeId(rows.peer[i])] == source:
                self._observe_sibling(node, report, i, now)
            else:
                outside.append(i)
        return self._observe_peers(node, source, report, outside, now)

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

    def _observe_peers(self, node: NodeId, u: int, report: ProbeReport, picks: list[int], now: Micros) -> PeerEvidence:
        rows = report.rows
        pick = np.array(picks, np.int64)
        column = {
            name: np.array(getattr(rows, name), np.int64)[pick] if picks else np.zeros(0, np.int64)
            for name in (
                "sent",
                "received",
                "reflected",
                "rtt_min_us",
                "forward_min_us",
                "backward_min_us",
                "jitter_us",
            )
        }
        v = np.array([self._vertex[NodeId(rows.peer[i])] for i in picks], np.int64)
        t = np.array([self._transport[rows.transport[i]] for i in picks], np.int64)
        lost = column["sent"] - column["received"]
        b, here = np.full_like(v, self._bucket % BUCKETS), np.full_like(v, u)
        np.add.at(self._loss_sent, (t, here, v), column["sent"])
        np.add.at(self._loss_lost, (t, here, v), lost)
        ok = column["received"] > 0
        self._delivery(t, u, v, lost, ok, column["reflected"] > 0, now)
        to, tt = v[ok], t[ok]
        np.minimum.at(self._rtt, (b[ok], tt, here[ok], to), column["rtt_min_us"][ok])
        np.add.at(self._samples, (b[ok], tt, here[ok], to), column["received"][ok])
        self._last_at[tt, u, to] = now
        self._blend_jitter(tt, u, to, column["jitter_us"][ok])
        offsets = [self._offset.get(NodeId(rows.peer[i])) for i in picks]
        mine = self._offset.get(node)
        placed = ok & np.array([mine is not None and o is not None for o in offsets], bool)
        shift = np.array([round(o - mine) if mine is not None and o is not None else 0 for o in offsets], np.int64)
        forward = (column["forward_min_us"] - shift)[placed]
        backward = (column["backward_min_us"] + shift)[placed]
        self._notice_step(u, t[placed], v[placed], forward, backward, column["rtt_min_us"][placed])
        b, t, here, there = b[placed], t[placed], here[placed], v[placed]
        np.minimum.at(self._raw, (b, t, here, there), forward)
        np.minimum.at(self._raw, (b, t, there, here), backward)
        return PeerEvidence(u, v, column["received"], lost)

    def _delivery(self, t: I64, u: int, v: I64, lost: I64, ok: Bool, reflected: Bool, now: Micros) -> None:
        """Count losses per direction until something proves that this direction delivers."""
        here = np.full_like(v, u)
        np.add.at(self._lost_since, (t, here, v), lost)
        np.add.at(self._lost_since, (t, v, here), lost)
        heard = ok | reflected  # a reply proves both directions, a reflected probe the one towards us
        for where in ((t[ok], u, v[ok]), (t[heard], v[heard], u)):
            self._lost_since[where] = 0
            self._delivered_at[where] = now

    def _blend_jitter(self, t: I64, u: int, v: I64, jitter: I64) -> None:
        known = jitter >= 0
        # Reports carry round-trip jitter; for two alike directions variances add, so one way has 1/sqrt(2) of it.
        t, v, jitter = t[known], v[known], jitter[known] * 707 // 1000
        held = self._jitter[t, u, v]
        blended = np.rint(held + JITTER_GAIN * (jitter - held)).astype(np.int64)
        self._jitter[t, u, v] = np.where(held == UNKNOWN, jitter, blended)

    def _notice_step(self, u: int, t: I64, v: I64, forward: I64, backward: I64, rtt: I64) -> None:
        """Drop the raw evidence of data centers whose clock stepped: differences shift while the round trip stays.

        A path that grows slower one way shifts them too, but then the round trip grows by twice the shift. If most rows
        of a report show a step it is the reporter's clock, else that of each peer concerned; one row alone cannot tell.
        """
        raw, held = self._raw.min(axis=0), self._rtt.min(axis=0)
        known = (raw[t, u, v] < EMPTY) & (raw[t, v, u] < EMPTY)
        if not known.any():
            return
        shift = np.abs(forward - backward - raw[t, u, v] + raw[t, v, u]) // 2
        usual = np.minimum(held[t, u, v], held[t, v, u])
        stepped = known & (shift > STEP_US) & (np.abs(rtt - usual) < shift)
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

    def _turn(self, now: Micros) -> None:
        """Advance the ring to the bucket of ``now``, clearing what falls out."""
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
        drop = potential[None, :] - potential[:, None]  # theta_to - theta_from
        forward = np.where(known, np.where(placed, raw - drop, rtt // 2), UNKNOWN)
        loss, certain_loss = self._loss(known)
        table = LinkTable(
            data_centers=tuple(self._inventory.data_centers),
            transports=self._inventory.transports,
            rtt_us=rtt,
            forward_us=forward,
            error_us=np.where(known, np.maximum(0, (rtt - 2 * self._floor) // 2), UNKNOWN),
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
