"""What the reports of one roll-up bucket counted per directed link: probes sent and lost, round trips as one sketch.

Sketches are log-bucket histograms (see ``probes.wire``), so those of all reports, of all nodes of a data center and,
when read, of several roll-up buckets merge *exactly*: by adding counts. Quantiles are taken last, off the merged
sketch, and are as good as its buckets (within 1 %). Averages of quantiles appear nowhere.

Memory is one small dict per link that was probed in this bucket, at most ``MAX_BUCKET + 1`` entries each; ``clear``
ends the bucket. Links are keyed by name and not by vertex, so a change of the inventory needs nothing here.
"""

from __future__ import annotations

import numpy as np

from probes.wire import MAX_DELAY_US, ProbeReport, bucket_of
from router.core.model import DataCenterId, Inventory, NodeId
from router.core.tables import UNKNOWN

MAX_BUCKET = bucket_of(MAX_DELAY_US)


class _Counted:
    """One link in the present bucket."""

    __slots__ = ("lost", "rtt", "rtt_min_us", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.lost = 0
        self.rtt_min_us = UNKNOWN
        self.rtt: dict[int, int] = {}  # sketch bucket -> count


class RollUp:
    """Counts of the present bucket; private state of the core."""

    def __init__(self) -> None:
        self._sources: dict[DataCenterId, dict[tuple[str, DataCenterId], _Counted]] = {}

    def __len__(self) -> int:
        """Links probed in this bucket."""
        return sum(len(links) for links in self._sources.values())

    def observe(self, report: ProbeReport, inventory: Inventory) -> None:
        """Add one report; rows about siblings, unknown peers or transports are skipped."""
        nodes, transports = inventory.nodes, inventory.transports
        reporter = nodes.get(NodeId(report.node))
        if reporter is None:
            return
        home, rows = reporter.data_center, report.rows
        links = self._sources.setdefault(home, {})
        for peer, transport, sent, received, low, sketch in zip(
            rows.peer, rows.transport, rows.sent, rows.received, rows.rtt_min_us, rows.rtt_sketch, strict=True
        ):
            node = nodes.get(NodeId(peer))
            if node is None or node.data_center == home:
                continue
            link = links.get((transport, node.data_center))
            if link is None:
                if transport not in transports:
                    continue
                link = links[transport, node.data_center] = _Counted()
            link.sent += sent
            link.lost += sent - received
            if received and not 0 <= link.rtt_min_us <= low:
                link.rtt_min_us = low
            if sketch and sketch[0] >= 0 and sketch[-2] <= MAX_BUCKET:  # rising, so these are the ends
                counts = link.rtt
                for i in range(0, len(sketch), 2):
                    counts[sketch[i]] = counts.get(sketch[i], 0) + sketch[i + 1]

    def columns(
        self, source: DataCenterId, data_centers: tuple[DataCenterId, ...], transports: tuple[str, ...]
    ) -> dict[str, bytes]:
        """Packed columns of one source, links in the order ``[transport, to]``; see ``messages.AppendHistory``."""
        links = self._sources.get(source, {})
        found = [links.get((transport, target)) for transport in transports for target in data_centers]
        sketches = [() if link is None else _flat(link.rtt) for link in found]
        flat = [part for sketch in sketches for part in sketch]
        return {
            "rtt_min_us": _packed([UNKNOWN if link is None else link.rtt_min_us for link in found]),
            "sent": _packed([0 if link is None else link.sent for link in found]),
            "lost": _packed([0 if link is None else link.lost for link in found]),
            "rtt_sketch": _packed([len(sketch) for sketch in sketches] + flat),
        }

    def clear(self) -> None:
        """Start the next bucket."""
        self._sources = {}


def unpack_sketch(column: bytes, links: int, place: int) -> tuple[int, ...]:
    """Flattened sketch of the link at ``place`` out of an ``rtt_sketch`` column about ``links`` links."""
    values = np.frombuffer(column, "<i8")
    start = links + int(values[:place].sum())
    return tuple(values[start : start + int(values[place])].tolist())


def _flat(counts: dict[int, int]) -> tuple[int, ...]:
    return tuple(part for item in sorted(counts.items()) for part in item)


def _packed(values: list[int]) -> bytes:
    return np.array(values, "<i8").tobytes()
