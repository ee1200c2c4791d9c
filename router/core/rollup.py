"""What the reports of one roll-up bucket counted per directed link: probes sent and lost, round trips as one sketch.

Sketches are log-bucket histograms (see ``probes.wire``), so those of all reports, of all nodes of a data center and,
when read, of several roll-up buckets merge *exactly*: by adding counts. Quantiles are taken last, off the merged
sketch, and are as good as its buckets (within 1 %). Averages of quantiles appear nowhere.

Reports are only noted down as they come in, as compact arrays; they are added up when the bucket has ended, in a worker
(``ClosedBucket.rows``). Memory is what the reports of one bucket hold. Links are keyed by numbers of our own and not by
vertex, so a change of the inventory needs nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np

from probes.wire import MAX_DELAY_US, ProbeReport, ReportRows, bucket_of
from router.core.compiled import note_rows
from router.core.messages import AppendHistory
from router.core.model import DataCenterId, Inventory, Micros, NodeId
from router.core.tables import I32, I64, UNKNOWN, Bool, LinkTable

MAX_BUCKET = bucket_of(MAX_DELAY_US)
HISTORY_COLUMNS = ("forward_us", "jitter_us")  # of the estimates; the rest is counted here
Whole = I32 | I64
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class _Noted:
    """The rows of one report about other data centers."""

    transport: Whole  # [row] numbers of our own
    target: Whole  # [row]
    counts: Whole  # [sent received least-round-trip, row]
    lengths: Whole  # [row] of each sketch
    sketches: Whole  # one after the other


class RollUp:
    """Reports of the present bucket; private state of the core."""

    def __init__(self) -> None:
        self._noted: dict[DataCenterId, list[_Noted]] = {}
        self._number: dict[DataCenterId, int] = {}
        self._transport: dict[str, int] = {}
        self._inventory: Inventory | None = None
        self._home: dict[str, int] = {}  # node -> number of its data center

    def __len__(self) -> int:
        """Links probed in this bucket."""
        links = {
            (source, *link)
            for source, reports in self._noted.items()
            for noted in reports
            for link in zip(noted.transport.tolist(), noted.target.tolist(), strict=True)
        }
        return len(links)

    def observe(self, report: ProbeReport, inventory: Inventory) -> None:
        """Note one report; rows about siblings, unknown peers or transports are skipped."""
        self._know(inventory)
        reporter, rows = inventory.nodes.get(NodeId(report.node)), report.rows
        if reporter is None:
            return
        own, count, room = self._number[reporter.data_center], len(rows), sum(map(len, rows.rtt_sketch))
        columns = (rows.peer, rows.transport, rows.sent, rows.received, rows.rtt_min_us, rows.rtt_sketch)
        out, sketches = np.empty((6, count), np.int32), np.empty(room, np.int32)
        found = note_rows(columns, self._home, self._transport, own, count, room, (out, sketches))
        if found is None:
            self._observe_each(reporter.data_center, rows)
        elif found[0]:
            k, used = found
            made = _Noted(out[0, :k], out[1, :k], out[2:5, :k], out[5, :k], sketches[:used])
            self._noted.setdefault(reporter.data_center, []).append(made)

    def _observe_each(self, source: DataCenterId, rows: ReportRows) -> None:
        target = np.array([self._home.get(peer, -1) for peer in rows.peer], np.int64)
        transport = np.array([self._transport.get(name, -1) for name in rows.transport], np.int64)
        counted = (target >= 0) & (transport >= 0) & (target != self._number[source])
        if not counted.any():
            return
        lengths = np.fromiter(map(len, rows.rtt_sketch), np.int64, target.size)
        flat = np.fromiter(chain.from_iterable(rows.rtt_sketch), np.int64)
        counts = np.array((rows.sent, rows.received, rows.rtt_min_us), np.int64)
        if not counted.all():
            flat = flat[np.repeat(counted, lengths)]
            target, transport, lengths = target[counted], transport[counted], lengths[counted]
            counts = counts[:, counted]
        narrow = (_narrow(column) for column in (transport, target, counts, lengths, flat))
        self._noted.setdefault(source, []).append(_Noted(*narrow))

    def _know(self, inventory: Inventory) -> None:
        if inventory is self._inventory:
            return
        self._inventory = inventory
        for dc in inventory.data_centers:
            self._number.setdefault(dc, len(self._number))
        for name in inventory.transports:
            self._transport.setdefault(name, len(self._transport))
        self._home = {id: self._number[node.data_center] for id, node in inventory.nodes.items()}

    def columns(
        self, source: DataCenterId, data_centers: tuple[DataCenterId, ...], transports: tuple[str, ...]
    ) -> dict[str, bytes]:
        """Packed columns of one source, links in the order ``[transport, to]``; see ``messages.AppendHistory``."""
        links, reports = len(transports) * len(data_centers), self._noted.get(source, ())
        place = self._places(reports, data_centers, transports)
        there = place >= 0
        known = place[there]
        counts = np.concatenate([noted.counts for noted in reports], axis=1) if reports else np.zeros((3, 0), np.int64)
        sent, received, low = counts[:, there].astype(np.int64)
        least = np.full(links, _NEVER)
        np.minimum.at(least, known, np.where((received > 0) & (low >= 0), low, _NEVER))
        totals = [np.zeros(links, np.int64) for _ in range(2)]
        for total, column in zip(totals, (sent, sent - received), strict=True):
            np.add.at(total, known, column)
        return {
            "rtt_min_us": _packed(np.where(least == _NEVER, UNKNOWN, least)),
            "sent": _packed(totals[0]),
            "lost": _packed(totals[1]),
            "rtt_sketch": _packed(_merged(reports, place, links)),
        }

    def _places(
        self, reports: list[_Noted] | tuple[()], data_centers: tuple[DataCenterId, ...], transports: tuple[str, ...]
    ) -> I64:
        """Where each row of the reports belongs in ``[transport, to]``, int64 ``[row]``; -1: nowhere."""
        if not reports:
            return np.zeros(0, np.int64)
        column, line = np.full(len(self._number) + 1, -1), np.full(len(self._transport) + 1, -1)
        for i, dc in enumerate(data_centers):
            column[self._number.get(dc, -1)] = i
        for i, name in enumerate(transports):
            line[self._transport.get(name, -1)] = i
        column[-1] = line[-1] = -1  # where the unknown ones went
        to = column[np.concatenate([noted.target for noted in reports])]
        over = line[np.concatenate([noted.transport for noted in reports])]
        return np.where((to >= 0) & (over >= 0), over * len(data_centers) + to, -1)


@dataclass(frozen=True, eq=False)
class ClosedBucket:
    """A bucket that has ended: its reports, which nothing is added to any more, and the estimates at its end."""

    at: Micros
    seconds: int
    links: LinkTable
    rolled: RollUp

    def rows(self) -> tuple[AppendHistory, ...]:
        """Add everything up, one row per source; may be called in any thread."""
        return tuple(self._row(i, dc) for i, dc in enumerate(self.links.data_centers))

    def _row(self, i: int, dc: DataCenterId) -> AppendHistory:
        links = self.links
        columns = {name: _packed(getattr(links, name)[:, i, :]) for name in HISTORY_COLUMNS}
        columns |= self.rolled.columns(dc, links.data_centers, links.transports)
        return AppendHistory(self.at, self.seconds, dc, links.data_centers, links.transports, columns)


def _merged(reports: list[_Noted] | tuple[()], place: I64, links: int) -> I64:
    """Lengths of every link's merged sketch, followed by the sketches themselves; see ``unpack_sketch``."""
    if not reports:
        return np.zeros(links, np.int64)
    lengths = np.concatenate([noted.lengths for noted in reports]).astype(np.int64)
    flat = np.concatenate([noted.sketches for noted in reports]).astype(np.int64)
    good = _sound(lengths, flat) & (place >= 0)
    pairs = flat[np.repeat(good, lengths)].reshape(-1, 2)
    link = np.repeat(place[good], lengths[good] // 2)
    entries, which = np.unique(link * (MAX_BUCKET + 1) + pairs[:, 0], return_inverse=True)
    counts = np.zeros(entries.size, np.int64)
    np.add.at(counts, which, pairs[:, 1])
    size = 2 * np.bincount(entries // (MAX_BUCKET + 1), minlength=links)
    return np.concatenate((size, np.column_stack((entries % (MAX_BUCKET + 1), counts)).reshape(-1)))


def _sound(lengths: I64, flat: I64) -> Bool:
    """Bool ``[row]``: sketches of round trips that can be; buckets rise, so their ends tell."""
    ends = np.cumsum(lengths)
    sound = lengths >= 2
    first, last = (ends - lengths)[sound], ends[sound] - 2
    sound[sound] = (flat[first] >= 0) & (flat[last] <= MAX_BUCKET)
    return sound


def _narrow(column: I64) -> I64:
    """The same numbers in half of the memory, if they fit."""
    fits = column.size == 0 or (column.min() >= -(1 << 31) and column.max() < 1 << 31)
    return column.astype(np.int32) if fits else column


def unpack_sketch(column: bytes, links: int, place: int) -> tuple[int, ...]:
    """Flattened sketch of the link at ``place`` out of an ``rtt_sketch`` column about ``links`` links."""
    values = np.frombuffer(column, "<i8")
    start = links + int(values[:place].sum())
    return tuple(values[start : start + int(values[place])].tolist())


def _packed(values: I64) -> bytes:
    return np.ascontiguousarray(values, dtype="<i8").tobytes()
