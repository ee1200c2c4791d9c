"""What a node measured: the report, column by column. PURE."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import gt, lt
from typing import Any

from probes.wire.check import (
    WIRE_VERSION,
    WireError,
    are_integers,
    are_strings,
    bounded,
    check_version,
    integer,
    listed,
    record_of,
    string,
    text_in,
    texts,
)
from probes.wire.sketch import MAX_BUCKETS

MAX_ROWS = 4_096  # peers x transports in one report
MAX_COUNT = 1_000_000  # probes per row and report
MAX_DELAY_US = 60_000_000  # a round trip above a minute is a broken clock, not a path
MAX_RAW_US = 1 << 52  # raw one-way difference: clocks may be decades apart
MAX_REFLEXES = 4_096  # routes changed in one interval

MAX_NUMBER = 1 << 62  # of a report, or of a plan
MAX_INTERVAL_US = 3_600_000_000

_MAX_BUCKET = 3_000
_LIMITS = (
    WIRE_VERSION, MAX_ROWS, MAX_COUNT, MAX_DELAY_US, MAX_RAW_US, _MAX_BUCKET, MAX_BUCKETS, MAX_NUMBER, MAX_INTERVAL_US,
)  # fmt: skip

_UNSIGNED = ("sent", "received", "reflected", "late", "duplicate")
_DELAYS = ("rtt_min_us", "jitter_us")
_RAW = ("forward_min_us", "backward_min_us", "forward_base_us", "backward_base_us")
_SKETCHES = ("rtt_sketch", "forward_sketch", "backward_sketch")


@dataclass(frozen=True, slots=True)
class ReportRows:
    """Columns of equal length, one row per (peer node, transport); -1 in a minimum or jitter means "no reply"."""

    peer: tuple[str, ...] = ()
    transport: tuple[str, ...] = ()
    sent: tuple[int, ...] = ()  # probes closed in this interval
    received: tuple[int, ...] = ()  # of those, answered in time; sent - received are lost
    reflected: tuple[int, ...] = ()  # probes *from* that peer which this node answered in this interval
    late: tuple[int, ...] = ()  # answers that came after the probe had been counted as lost
    duplicate: tuple[int, ...] = ()
    rtt_min_us: tuple[int, ...] = ()
    forward_min_us: tuple[int, ...] = ()  # raw, see module docstring; 0 and meaningless when received is 0
    backward_min_us: tuple[int, ...] = ()
    jitter_us: tuple[int, ...] = ()  # RFC 3550 interarrival jitter of the round trip, in microseconds
    forward_base_us: tuple[int, ...] = ()
    backward_base_us: tuple[int, ...] = ()
    rtt_sketch: tuple[tuple[int, ...], ...] = ()
    forward_sketch: tuple[tuple[int, ...], ...] = ()
    backward_sketch: tuple[tuple[int, ...], ...] = ()
    state: tuple[int, ...] = ()  # by the node's own detector: 0 up, 1 suspect, 2 down; no entries: it does not say

    def __len__(self) -> int:
        return len(self.peer)


@dataclass(frozen=True, slots=True)
class ReflexEvent:
    """A route that the node changed by itself, following its reaction plan."""

    at_us: int  # the node's own clock
    context: str
    target: str  # data center
    from_path: tuple[str, ...]  # data centers, the node's own first, the target last
    to_path: tuple[str, ...]  # empty: nothing is left
    cause: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came back along a path that the plan wanted tried; probes closed in this interval."""

    name: str
    sent: int
    received: int
    rtt_min_us: int  # -1 when nothing was received


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What one node measured in one interval. ``boot`` is new at every start; ``sequence`` rises by one per report."""

    node: str
    boot: str
    sequence: int
    plan_version: int
    sent_at_us: int  # the node's own clock
    interval_us: int
    rows: ReportRows = field(default_factory=ReportRows)
    version: int = WIRE_VERSION
    reflexes: tuple[ReflexEvent, ...] = ()
    checks: tuple[CheckResult, ...] = ()


def read_each(text: bytes, report: type, rows: type, limits: tuple[int, ...], /) -> ProbeReport | None:
    """A report whose text is plain, where something reads those in another way than all; else ``None``."""
    return None


try:
    from probes._report import read
except ImportError:  # no compiler when it was installed
    read = read_each


def read_report(text: bytes) -> ProbeReport:
    """A report from its JSON text. Raises :class:`WireError`; ``ValueError`` or ``RecursionError`` if it is no JSON."""
    found = read(text, ProbeReport, ReportRows, _LIMITS)
    return decode_report(json.loads(text)) if found is None else found


def decode_report(data: object) -> ProbeReport:
    """Check and build a report from parsed JSON. Raises :class:`WireError`."""
    record = record_of(data, "report", ProbeReport, {"reflexes": [], "checks": []})
    check_version(record)
    return ProbeReport(
        node=text_in(record, "node"),
        boot=text_in(record, "boot"),
        sequence=integer(record["sequence"], "sequence", 0, MAX_NUMBER),
        plan_version=integer(record["plan_version"], "plan_version", 0, MAX_NUMBER),
        sent_at_us=integer(record["sent_at_us"], "sent_at_us", -MAX_RAW_US, MAX_RAW_US),
        interval_us=integer(record["interval_us"], "interval_us", 0, MAX_INTERVAL_US),
        rows=_decode_rows(record["rows"]),
        reflexes=tuple(_reflex(r, i) for i, r in enumerate(listed(record["reflexes"], "reflexes", MAX_REFLEXES))),
        checks=tuple(_check(c, i) for i, c in enumerate(listed(record["checks"], "checks", MAX_ROWS))),
    )


def _check(data: object, i: int) -> CheckResult:
    name = f"checks[{i}]"
    record = record_of(data, name, CheckResult)
    sent = integer(record["sent"], f"{name}.sent", 0, MAX_COUNT)
    received = integer(record["received"], f"{name}.received", 0, sent)
    rtt_min_us = integer(record["rtt_min_us"], f"{name}.rtt_min_us", -1, MAX_DELAY_US)
    if (received == 0) != (rtt_min_us == -1):
        raise WireError(f"{name}.rtt_min_us", "must be -1 exactly when nothing was received")
    return CheckResult(text_in(record, "name", name), sent, received, rtt_min_us)


def _reflex(data: object, i: int) -> ReflexEvent:
    name = f"reflexes[{i}]"
    record = record_of(data, name, ReflexEvent)
    return ReflexEvent(
        at_us=integer(record["at_us"], f"{name}.at_us", -MAX_RAW_US, MAX_RAW_US),
        context=text_in(record, "context", name),
        target=text_in(record, "target", name),
        from_path=texts(record["from_path"], f"{name}.from_path"),
        to_path=texts(record["to_path"], f"{name}.to_path"),
        cause=text_in(record, "cause", name),
    )


def _decode_rows(data: object) -> ReportRows:
    record = record_of(data, "rows", ReportRows, {"state": []})
    columns = {name: _column(record[name], name) for name in record}
    length = len(columns["peer"])
    for name, column in columns.items():
        if len(column) != length and (name != "state" or column):
            raise WireError(f"rows.{name}", f"must be as long as rows.peer ({length})", len(column))
    for name in ("peer", "transport"):
        if not are_strings(columns[name]):
            for i, value in enumerate(columns[name]):
                string(value, f"rows.{name}[{i}]")
    for name in _UNSIGNED:
        bounded(columns[name], name, 0, MAX_COUNT)
    bounded(columns["state"], "state", 0, 2)
    for name in _DELAYS:
        bounded(columns[name], name, -1, MAX_DELAY_US)
    for name in _RAW:
        bounded(columns[name], name, -MAX_RAW_US, MAX_RAW_US)
    sketches = {name: _sketches(columns[name], name) for name in _SKETCHES}
    _consistent(columns)
    plain = {name: tuple(column) for name, column in columns.items() if name not in sketches}
    return ReportRows(**plain, **sketches)  # type: ignore[arg-type]


def _consistent(columns: Mapping[str, Sequence[object]]) -> None:
    sent, received, rtt_min = columns["sent"], columns["received"], columns["rtt_min_us"]
    if (
        len(set(zip(columns["peer"], columns["transport"], strict=True))) == len(sent)
        and not any(map(gt, received, sent))  # type: ignore[arg-type]
        and [count == 0 for count in received] == [us == -1 for us in rtt_min]
    ):
        return
    _name_contradiction(columns)


def _name_contradiction(columns: Mapping[str, Sequence[object]]) -> None:
    seen: set[tuple[object, object]] = set()
    rows = zip(columns["peer"], columns["transport"], columns["sent"], columns["received"], columns["rtt_min_us"],
               strict=True)  # fmt: skip
    for i, (peer, transport, sent, received, rtt_min) in enumerate(rows):
        if (peer, transport) in seen:
            raise WireError(f"rows.peer[{i}]", "each (peer, transport) may appear once")
        seen.add((peer, transport))
        if received > sent:  # type: ignore[operator]
            raise WireError(f"rows.received[{i}]", "must not exceed sent", str(sent))
        if (received == 0) != (rtt_min == -1):
            raise WireError(f"rows.rtt_min_us[{i}]", "must be -1 exactly when nothing was received")


def _column(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise WireError(f"rows.{name}", "must be a list")
    if len(value) > MAX_ROWS:
        raise WireError(f"rows.{name}", "has too many rows", MAX_ROWS)
    return value


def _sketches(column: list[object], name: str) -> tuple[tuple[int, ...], ...]:
    """A column of sketches; sound ones are told at once, and only a fault is looked for one by one."""
    if _are_sound(column):
        return tuple(map(tuple, column))  # type: ignore[arg-type]
    return tuple(_sketch(sketch, f"rows.{name}[{i}]") for i, sketch in enumerate(column))


def _are_sound(column: list[Any]) -> bool:
    if not set(map(type, column)) <= {list}:
        return False
    lengths = set(map(len, column))
    if any(length % 2 or length > 2 * MAX_BUCKETS for length in lengths):
        return False
    flat = list(chain.from_iterable(column))
    if not (are_integers(flat[::2], -_MAX_BUCKET, _MAX_BUCKET) and are_integers(flat[1::2], 1, MAX_COUNT)):
        return False
    return all(all(map(lt, sketch[:-2:2], sketch[2::2])) for sketch in column if len(sketch) > 2)


def _sketch(value: object, name: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) % 2 or len(value) > 2 * MAX_BUCKETS:
        raise WireError(name, "must be a flat list of bucket, count pairs", MAX_BUCKETS)
    previous: int | None = None
    for bucket, count in zip(value[::2], value[1::2], strict=True):
        integer(bucket, name, -_MAX_BUCKET, _MAX_BUCKET)
        integer(count, name, 1, MAX_COUNT)
        if previous is not None and bucket <= previous:
            raise WireError(name, "bucket numbers must rise strictly")
        previous = bucket
    return tuple(value)
