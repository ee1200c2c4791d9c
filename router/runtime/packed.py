"""Probe reports as the flight recorder keeps them: columns packed into bytes, peers and transports by a number.

A node that follows one plan sends the same peers each time, so a segment names them once. What cannot be packed (rare
parts, or nothing was compiled) is kept as it is. Numbers are zigzag (0, -1, 1, -2, …) in groups of seven bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, NamedTuple

from probes.wire import WIRE_VERSION, ProbeReport, ReportRows
from router.core.messages import Reported

MOST_NAMES = 4_096  # peers of so many reports are remembered
_NAMES = ("peer", "transport")
_COLUMNS = tuple(field.name for field in fields(ReportRows) if field.name not in _NAMES)
_SKETCHES = frozenset(name for name in _COLUMNS if name.endswith("_sketch"))
Names = tuple[tuple[str, ...], tuple[str, ...]]


def pack_each(columns: tuple[tuple[Any, ...], ...], /) -> bytes | None:
    """Columns as bytes, where something packs them in another way than this; else ``None``."""
    return None


try:
    from probes._report import pack
except ImportError:  # no compiler when it was installed
    pack = pack_each


class PackedReport(NamedTuple):
    """A plain report; ``names`` are given with their number the first time."""

    head: tuple[str, str, int, int, int, int]
    number: int
    names: Names | None
    columns: bytes


class Packer:
    """Packs the reports of one segment."""

    def __init__(self) -> None:
        self._numbers: dict[Names, int] = {}

    def packed(self, event: Reported) -> PackedReport | Reported:
        """A smaller form of the input, or itself."""
        report, rows = event.report, event.report.rows
        if report.reflexes or report.checks or report.version != WIRE_VERSION:
            return event
        columns = pack((
            rows.sent, rows.received, rows.reflected, rows.late, rows.duplicate, rows.rtt_min_us, rows.forward_min_us,
            rows.backward_min_us, rows.jitter_us, rows.forward_base_us, rows.backward_base_us, rows.rtt_sketch,
            rows.forward_sketch, rows.backward_sketch, rows.state,
        ))  # fmt: skip
        if columns is None:
            return event
        head = (
            report.node, report.boot, report.sequence, report.plan_version, report.sent_at_us, report.interval_us,
        )  # fmt: skip
        names = rows.peer, rows.transport
        number = self._numbers.get(names)
        if number is not None:
            return PackedReport(head, number, None, columns)
        if len(self._numbers) >= MOST_NAMES:
            self._numbers.clear()
        number = self._numbers[names] = len(self._numbers)
        return PackedReport(head, number, names, columns)


class Unpacker:
    """Reads the reports of one segment again, in its order."""

    def __init__(self) -> None:
        self._names: dict[int, Names] = {}

    def unpacked(self, kept: PackedReport) -> Reported:
        """The input. Raises ``ValueError`` if it is none."""
        if kept.names is not None:
            self._names[kept.number] = kept.names
        numbers, rows = _numbers(kept.columns), dict[str, Any]()
        try:
            rows |= dict(zip(_NAMES, self._names[kept.number], strict=True))
            for name in _COLUMNS:
                each = range(next(numbers))
                rows[name] = tuple(
                    tuple(next(numbers) for _ in range(next(numbers))) if name in _SKETCHES else next(numbers)
                    for _ in each
                )
            if next(numbers, None) is not None:
                raise ValueError("a packed report has more numbers than columns")
        except (KeyError, RuntimeError, StopIteration) as error:
            raise ValueError("a packed report ends too soon, or names peers that nobody named") from error
        node, boot, sequence, plan_version, sent_at_us, interval_us = kept.head
        return Reported(ProbeReport(node, boot, sequence, plan_version, sent_at_us, interval_us, ReportRows(**rows)))


def _numbers(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield (value >> 1) ^ -(value & 1)
            value = shift = 0
