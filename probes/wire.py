"""The versioned contract between probe agent and control plane: ProbeReport, ProbePlan, ReactionPlan.

PURE: plain dataclasses, strict decoding from already parsed JSON. Decoding errors name the field, the rule and the
limit; unknown fields are refused. Every integer is bounded, so that no decoded report can overflow an int64 sum.

Clocks. A node stamps with its own clock, which may be far off. For a probe from node A to node B:
``forward = t2(B) - t1(A)``, ``backward = t4(A) - t3(B)``: raw one-way differences that contain the two clocks' offset
and are therefore often negative or huge; ``rtt = (t4 - t1) - (t3 - t2)`` contains none.

Columns. A report is columnar: ``rows[i]`` of every column belongs to the peer and transport of row ``i``. A row covers
the probes *closed* in the reporting interval: answered, or overdue and therefore lost.

Sketches. A sketch is a mergeable log-bucket histogram, flattened to ``[bucket, count, bucket, count, …]`` with
strictly rising bucket numbers. Value to bucket: see :func:`bucket_of`. Round trips are sketched as they are; forward
and backward raw differences are sketched as the excess over ``forward_base_us`` / ``backward_base_us``, a base that
stays the same for one (boot, peer, transport), so that sketches of successive reports merge by adding counts.

Reactions. A reaction plan says what a node does by itself when a path fails. It refers to shared tables by index:
data centers, hops (a relay's address over one transport), paths (their hops, the destination last), and rows: the
paths of one destination, the one in force first. Contexts that agree share a table of rows. The page of the reference:
``docs/reference/reaction-plan.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

WIRE_VERSION = 1
MAX_ROWS = 4_096  # peers x transports in one report
MAX_BUCKETS = 512  # per sketch
MAX_COUNT = 1_000_000  # probes per row and report
MAX_DELAY_US = 60_000_000  # a round trip above a minute is a broken clock, not a path
MAX_RAW_US = 1 << 52  # raw one-way difference: clocks may be decades apart
MAX_TEXT = 255
MAX_REACTIONS = 200_000  # rows or paths of a reaction plan
MAX_CHOICES = 4  # paths of a row
GAMMA = 1.02  # relative width of a sketch bucket; DDSketch semantics (Masson et al., VLDB 2019)
_LOG_GAMMA = math.log(GAMMA)


class WireError(ValueError):
    """A message broke the contract: ``field``, the ``rule``, and the ``limit`` if the rule has one."""

    def __init__(self, field: str, rule: str, limit: str | int | None = None) -> None:
        super().__init__(f"{field}: {rule}" + (f" (limit {limit})" if limit is not None else ""))
        self.field = field
        self.rule = rule
        self.limit = limit


def bucket_of(value_us: int) -> int:
    """Sketch bucket of a value in microseconds: 0 for 0, ``±(1 + floor(log(|v|) / log(GAMMA)))`` otherwise."""
    if value_us == 0:
        return 0
    magnitude = 1 + int(math.log(abs(value_us)) / _LOG_GAMMA)
    return magnitude if value_us > 0 else -magnitude


def bucket_value(bucket: int) -> float:
    """Representative value (microseconds) of a bucket: its geometric middle."""
    if bucket == 0:
        return 0.0
    value = math.exp((abs(bucket) - 0.5) * _LOG_GAMMA)
    return value if bucket > 0 else -value


def sketch_quantile(sketch: Sequence[int], q: float) -> float | None:
    """Quantile ``q`` in 0..1 (microseconds) of a flattened sketch, ``None`` when it is empty."""
    total = sum(sketch[1::2])
    if total == 0:
        return None
    rank, seen = q * (total - 1), 0
    for bucket, count in zip(sketch[::2], sketch[1::2], strict=True):
        seen += count
        if seen > rank:
            return bucket_value(bucket)
    return bucket_value(sketch[-2])


def merge_sketches(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    """Add two flattened sketches; both must have been taken over the same base."""
    counts: dict[int, int] = {}
    for sketch in (a, b):
        for bucket, count in zip(sketch[::2], sketch[1::2], strict=True):
            counts[bucket] = counts.get(bucket, 0) + count
    return tuple(part for bucket in sorted(counts) for part in (bucket, counts[bucket]))


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

    def __len__(self) -> int:
        return len(self.peer)


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


@dataclass(frozen=True, slots=True)
class PlanPeer:
    """One peer to probe over one transport."""

    node: str
    data_center: str
    transport: str
    host: str
    reflector_port: int
    relay_port: int  # 0: that peer does not relay
    interval_us: int  # one probe per interval


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """Whom a node probes, how often, and until when the plan is fresh (an expired plan is still followed, aged)."""

    node: str
    data_center: str
    plan_version: int
    issued_at_us: int
    expires_at_us: int
    report_interval_us: int
    timeout_us: int  # an unanswered probe is overdue, and counted as lost, after this
    peers: tuple[PlanPeer, ...] = ()
    version: int = WIRE_VERSION


@dataclass(frozen=True, slots=True)
class Triggers:
    """When a path is suspect, down, and up again, counted in probes whose answer is later than a row's ``overdue_us``.

    A suspect path is not left: the node sends on it and on the next one at once, and asks with a burst of probes.
    """

    keepalive_us: int  # between probes on a path that carries something
    suspect_missing: int  # answers missing in a row
    burst_probes: int
    burst_gap_us: int
    down_missing: int  # answers missing in a row, those of the burst included
    up_answers: int  # in a row
    hold_down_us: int  # a path that was down stays so for at least this long


@dataclass(frozen=True, slots=True)
class ReactionHops:
    """Columns: where to send for a data center over a transport; an empty host and port 0 where nobody there relays."""

    data_center: tuple[int, ...] = ()  # index into ``data_centers``
    transport: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    port: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReactionRows:
    """Columns: one row per table and destination to which there is a path."""

    table: tuple[int, ...] = ()
    target: tuple[int, ...] = ()  # index into ``data_centers``
    choices: tuple[tuple[int, ...], ...] = ()  # indexes into ``paths``: the one in force, then what to try in order
    protects: tuple[str, ...] = ()  # a letter per further choice: p(rovider), d(ata center), l(ink) is not shared
    overdue_us: tuple[int, ...] = ()  # an answer over the path in force that takes longer counts as missing


@dataclass(frozen=True, slots=True)
class ReactionPlan:
    """How one node fails over by itself. A plan past ``degraded_at_us`` is followed still, and called degraded."""

    node: str
    data_center: str
    generation: int  # of the routes; 0: there are none yet
    plan_version: int  # of the inventory's addresses
    computed_at_us: int
    issued_at_us: int
    degraded_at_us: int
    triggers: Triggers
    contexts: tuple[str, ...] = ()  # ``voice``, or ``voice/policy``
    tables: tuple[int, ...] = ()  # the table of each context
    data_centers: tuple[str, ...] = ()
    hops: ReactionHops = field(default_factory=ReactionHops)
    paths: tuple[tuple[int, ...], ...] = ()  # indexes into ``hops``, the destination's own hop last
    rows: ReactionRows = field(default_factory=ReactionRows)
    version: int = WIRE_VERSION


# --- strict decoding -------------------------------------------------------------------------------------------------

_UNSIGNED = ("sent", "received", "reflected", "late", "duplicate")
_DELAYS = ("rtt_min_us", "jitter_us")
_RAW = ("forward_min_us", "backward_min_us", "forward_base_us", "backward_base_us")
_SKETCHES = ("rtt_sketch", "forward_sketch", "backward_sketch")


def decode_report(data: object) -> ProbeReport:
    """Check and build a report from parsed JSON. Raises :class:`WireError`."""
    record = _object(data, "report", ProbeReport)
    _version(record)
    return ProbeReport(
        node=_text(record, "node"),
        boot=_text(record, "boot"),
        sequence=_integer(record["sequence"], "sequence", 0, 1 << 62),
        plan_version=_integer(record["plan_version"], "plan_version", 0, 1 << 62),
        sent_at_us=_integer(record["sent_at_us"], "sent_at_us", -MAX_RAW_US, MAX_RAW_US),
        interval_us=_integer(record["interval_us"], "interval_us", 0, 3_600_000_000),
        rows=_decode_rows(record["rows"]),
    )


def decode_plan(data: object) -> ProbePlan:
    """Check and build a plan from parsed JSON. Raises :class:`WireError`."""
    record = _object(data, "plan", ProbePlan)
    _version(record)
    peers = record["peers"]
    if not isinstance(peers, list) or len(peers) > MAX_ROWS:
        raise WireError("peers", "must be a list", MAX_ROWS)
    return ProbePlan(
        node=_text(record, "node"),
        data_center=_text(record, "data_center"),
        plan_version=_integer(record["plan_version"], "plan_version", 0, 1 << 62),
        issued_at_us=_integer(record["issued_at_us"], "issued_at_us", 0, MAX_RAW_US),
        expires_at_us=_integer(record["expires_at_us"], "expires_at_us", 0, MAX_RAW_US),
        report_interval_us=_integer(record["report_interval_us"], "report_interval_us", 100_000, 60_000_000),
        timeout_us=_integer(record["timeout_us"], "timeout_us", 10_000, 10_000_000),
        peers=tuple(_decode_peer(peer, i) for i, peer in enumerate(peers)),
    )


def encode(message: ProbeReport | ProbePlan | ReactionPlan) -> dict[str, object]:
    """Return the JSON-ready form that the decoders accept."""
    return {f.name: _plain(getattr(message, f.name)) for f in fields(message)}


def _plain(value: object) -> object:
    if isinstance(value, ReportRows | PlanPeer | Triggers | ReactionHops | ReactionRows):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value


def decode_reaction_plan(data: object) -> ReactionPlan:
    """Check and build a reaction plan from parsed JSON; no index leads nowhere. Raises :class:`WireError`."""
    record = _object(data, "reaction_plan", ReactionPlan)
    _version(record)
    contexts, centers = _texts(record["contexts"], "contexts"), _texts(record["data_centers"], "data_centers")
    tables = _indexes(record["tables"], "tables", len(contexts), len(contexts))
    if len(tables) != len(contexts):
        raise WireError("tables", "must be as long as contexts", len(contexts))
    hops = _decode_hops(record["hops"], len(centers))
    listed = _list(record["paths"], "paths", MAX_REACTIONS)
    paths = tuple(_indexes(p, f"paths[{i}]", len(hops.host), MAX_CHOICES, least=1) for i, p in enumerate(listed))
    return ReactionPlan(
        node=_text(record, "node"),
        data_center=_text(record, "data_center"),
        generation=_integer(record["generation"], "generation", 0, 1 << 62),
        plan_version=_integer(record["plan_version"], "plan_version", 0, 1 << 62),
        computed_at_us=_integer(record["computed_at_us"], "computed_at_us", 0, MAX_RAW_US),
        issued_at_us=_integer(record["issued_at_us"], "issued_at_us", 0, MAX_RAW_US),
        degraded_at_us=_integer(record["degraded_at_us"], "degraded_at_us", 0, MAX_RAW_US),
        triggers=_decode_triggers(record["triggers"]),
        contexts=contexts,
        tables=tables,
        data_centers=centers,
        hops=hops,
        paths=paths,
        rows=_decode_reactions(record["rows"], max(tables, default=-1) + 1, len(centers), len(paths)),
    )


def _decode_triggers(data: object) -> Triggers:
    record = _object(data, "triggers", Triggers)
    numbers = {}
    for name, value in record.items():
        high = 3_600_000_000 if name.endswith("_us") else 1_000
        numbers[name] = _integer(value, f"triggers.{name}", 1, high)
    return Triggers(**numbers)


def _decode_hops(data: object, centers: int) -> ReactionHops:
    record = _object(data, "hops", ReactionHops)
    columns = _same_length(record, "hops")
    for name, value in ((f"hops.host[{i}]", value) for i, value in enumerate(columns["host"])):
        if value != "":
            _string(value, name)
    ports = [_integer(value, f"hops.port[{i}]", 0, 65_535) for i, value in enumerate(columns["port"])]
    return ReactionHops(
        data_center=_indexes(columns["data_center"], "hops.data_center", centers),
        transport=_texts(columns["transport"], "hops.transport"),
        host=tuple(str(value) for value in columns["host"]),
        port=tuple(ports),
    )


def _decode_reactions(data: object, tables: int, centers: int, paths: int) -> ReactionRows:
    columns = _same_length(_object(data, "rows", ReactionRows), "rows")
    choices = tuple(
        _indexes(value, f"rows.choices[{i}]", paths, MAX_CHOICES, least=1) for i, value in enumerate(columns["choices"])
    )
    for i, (value, chosen) in enumerate(zip(columns["protects"], choices, strict=True)):
        if not isinstance(value, str) or len(value) != len(chosen) - 1 or value.strip("pdl"):
            raise WireError(f"rows.protects[{i}]", "must be a letter p, d or l per further choice", len(chosen) - 1)
    overdue = [_integer(v, f"rows.overdue_us[{i}]", 1, MAX_DELAY_US) for i, v in enumerate(columns["overdue_us"])]
    rows = ReactionRows(
        table=_indexes(columns["table"], "rows.table", tables),
        target=_indexes(columns["target"], "rows.target", centers),
        choices=choices,
        protects=tuple(str(value) for value in columns["protects"]),
        overdue_us=tuple(overdue),
    )
    if len(set(zip(rows.table, rows.target, strict=True))) != len(choices):
        raise WireError("rows.target", "each (table, target) may appear once")
    return rows


def _decode_peer(data: object, i: int) -> PlanPeer:
    name = f"peers[{i}]"
    record = _object(data, name, PlanPeer)
    return PlanPeer(
        node=_text(record, "node", name),
        data_center=_text(record, "data_center", name),
        transport=_text(record, "transport", name),
        host=_text(record, "host", name),
        reflector_port=_integer(record["reflector_port"], f"{name}.reflector_port", 1, 65_535),
        relay_port=_integer(record["relay_port"], f"{name}.relay_port", 0, 65_535),
        interval_us=_integer(record["interval_us"], f"{name}.interval_us", 1_000, 3_600_000_000),
    )


def _decode_rows(data: object) -> ReportRows:
    record = _object(data, "rows", ReportRows)
    columns = {name: _column(record[name], name) for name in record}
    length = len(columns["peer"])
    for name, column in columns.items():
        if len(column) != length:
            raise WireError(f"rows.{name}", f"must be as long as rows.peer ({length})", len(column))
    for name in ("peer", "transport"):
        for i, value in enumerate(columns[name]):
            _string(value, f"rows.{name}[{i}]")
    for name in _UNSIGNED:
        _bounded(columns[name], name, 0, MAX_COUNT)
    for name in _DELAYS:
        _bounded(columns[name], name, -1, MAX_DELAY_US)
    for name in _RAW:
        _bounded(columns[name], name, -MAX_RAW_US, MAX_RAW_US)
    sketches = {name: tuple(_sketch(s, f"rows.{name}[{i}]") for i, s in enumerate(columns[name])) for name in _SKETCHES}
    _consistent(columns)
    plain = {name: tuple(column) for name, column in columns.items() if name not in sketches}
    return ReportRows(**plain, **sketches)  # type: ignore[arg-type]


def _consistent(columns: Mapping[str, Sequence[object]]) -> None:
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


def _object(data: object, name: str, cls: type) -> dict[str, object]:
    if not isinstance(data, dict):
        raise WireError(name, "must be an object")
    known = [f.name for f in fields(cls)]
    for key in data:
        if key not in known:
            raise WireError(f"{name}.{key}", "is not a known field")
    for key in known:
        if key not in data:
            raise WireError(f"{name}.{key}", "is required")
    return data


def _version(record: Mapping[str, object]) -> None:
    if record["version"] != WIRE_VERSION:
        raise WireError("version", "is not supported", WIRE_VERSION)


def _text(record: Mapping[str, object], key: str, prefix: str = "") -> str:
    return _string(record[key], f"{prefix}.{key}" if prefix else key)


def _string(value: object, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        raise WireError(name, "must be a non-empty string", MAX_TEXT)
    return value


def _integer(value: object, name: str, low: int, high: int) -> int:
    if type(value) is not int:
        raise WireError(name, "must be an integer")
    if not low <= value <= high:
        raise WireError(name, f"must be between {low} and {high}", high if value > high else low)
    return value


def _column(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise WireError(f"rows.{name}", "must be a list")
    if len(value) > MAX_ROWS:
        raise WireError(f"rows.{name}", "has too many rows", MAX_ROWS)
    return value


def _list(value: object, name: str, limit: int) -> list[object]:
    if not isinstance(value, list):
        raise WireError(name, "must be a list")
    if len(value) > limit:
        raise WireError(name, "is too long", limit)
    return value


def _same_length(record: Mapping[str, object], name: str) -> dict[str, list[object]]:
    columns = {key: _list(value, f"{name}.{key}", MAX_REACTIONS) for key, value in record.items()}
    first, *others = columns
    for key in others:
        if len(columns[key]) != len(columns[first]):
            raise WireError(f"{name}.{key}", f"must be as long as {name}.{first}", len(columns[first]))
    return columns


def _texts(value: object, name: str) -> tuple[str, ...]:
    return tuple(_string(part, f"{name}[{i}]") for i, part in enumerate(_list(value, name, MAX_REACTIONS)))


def _indexes(value: object, name: str, count: int, limit: int = MAX_REACTIONS, least: int = 0) -> tuple[int, ...]:
    """Places in a table of ``count`` entries."""
    listed = _list(value, name, limit)
    if len(listed) < least:
        raise WireError(name, "is too short", least)
    return tuple(_integer(part, f"{name}[{i}]", 0, count - 1) for i, part in enumerate(listed))


def _bounded(column: Sequence[object], name: str, low: int, high: int) -> None:
    for i, value in enumerate(column):
        _integer(value, f"rows.{name}[{i}]", low, high)


def _sketch(value: object, name: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) % 2 or len(value) > 2 * MAX_BUCKETS:
        raise WireError(name, "must be a flat list of bucket, count pairs", MAX_BUCKETS)
    previous: int | None = None
    for bucket, count in zip(value[::2], value[1::2], strict=True):
        _integer(bucket, name, -3_000, 3_000)
        _integer(count, name, 1, MAX_COUNT)
        if previous is not None and bucket <= previous:
            raise WireError(name, "bucket numbers must rise strictly")
        previous = bucket
    return tuple(value)
