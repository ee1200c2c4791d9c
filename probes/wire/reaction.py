"""What a node does by itself when a path fails: the reaction plan. PURE."""

from __future__ import annotations

from dataclasses import dataclass, field

from probes.wire.check import (
    MAX_ENTRIES,
    WIRE_VERSION,
    WireError,
    check_version,
    indexes,
    integer,
    listed,
    record_of,
    same_length,
    string,
    text_in,
    texts,
)
from probes.wire.report import MAX_DELAY_US, MAX_RAW_US

MAX_CHOICES = 4  # paths of a row


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
    node: tuple[str, ...] = ()  # whose relay it is; empty where nobody there relays
    reflector_port: tuple[int, ...] = ()  # of that node; what probes along a path are delivered to


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
    drained: tuple[int, ...] = ()  # indexes of data centers that never relay, whatever fails: operators said so


def decode_reaction_plan(data: object) -> ReactionPlan:
    """Check and build a reaction plan from parsed JSON; no index leads nowhere. Raises :class:`WireError`."""
    record = record_of(data, "reaction_plan", ReactionPlan, {"drained": []})
    check_version(record)
    contexts, centers = texts(record["contexts"], "contexts"), texts(record["data_centers"], "data_centers")
    tables = indexes(record["tables"], "tables", len(contexts), len(contexts))
    if len(tables) != len(contexts):
        raise WireError("tables", "must be as long as contexts", len(contexts))
    hops = _decode_hops(record["hops"], len(centers))
    ways = listed(record["paths"], "paths", MAX_ENTRIES)
    paths = tuple(indexes(p, f"paths[{i}]", len(hops.host), MAX_CHOICES, least=1) for i, p in enumerate(ways))
    return ReactionPlan(
        node=text_in(record, "node"),
        data_center=text_in(record, "data_center"),
        generation=integer(record["generation"], "generation", 0, 1 << 62),
        plan_version=integer(record["plan_version"], "plan_version", 0, 1 << 62),
        computed_at_us=integer(record["computed_at_us"], "computed_at_us", 0, MAX_RAW_US),
        issued_at_us=integer(record["issued_at_us"], "issued_at_us", 0, MAX_RAW_US),
        degraded_at_us=integer(record["degraded_at_us"], "degraded_at_us", 0, MAX_RAW_US),
        triggers=_decode_triggers(record["triggers"]),
        contexts=contexts,
        tables=tables,
        data_centers=centers,
        hops=hops,
        paths=paths,
        rows=_decode_reactions(record["rows"], max(tables, default=-1) + 1, len(centers), len(paths)),
        drained=indexes(record["drained"], "drained", len(centers)),
    )


def _decode_triggers(data: object) -> Triggers:
    record = record_of(data, "triggers", Triggers)
    numbers = {}
    for name, value in record.items():
        high = 3_600_000_000 if name.endswith("_us") else 1_000
        numbers[name] = integer(value, f"triggers.{name}", 1, high)
    return Triggers(**numbers)


def _decode_hops(data: object, centers: int) -> ReactionHops:
    record = record_of(data, "hops", ReactionHops)
    columns = same_length(record, "hops")
    for column in ("host", "node"):
        for i, value in enumerate(columns[column]):
            if value != "":
                string(value, f"hops.{column}[{i}]")
    ports = {
        name: tuple(integer(value, f"hops.{name}[{i}]", 0, 65_535) for i, value in enumerate(columns[name]))
        for name in ("port", "reflector_port")
    }
    return ReactionHops(
        data_center=indexes(columns["data_center"], "hops.data_center", centers),
        transport=texts(columns["transport"], "hops.transport"),
        host=tuple(str(value) for value in columns["host"]),
        port=ports["port"],
        node=tuple(str(value) for value in columns["node"]),
        reflector_port=ports["reflector_port"],
    )


def _decode_reactions(data: object, tables: int, centers: int, paths: int) -> ReactionRows:
    columns = same_length(record_of(data, "rows", ReactionRows), "rows")
    choices = tuple(
        indexes(value, f"rows.choices[{i}]", paths, MAX_CHOICES, least=1) for i, value in enumerate(columns["choices"])
    )
    for i, (value, chosen) in enumerate(zip(columns["protects"], choices, strict=True)):
        if not isinstance(value, str) or len(value) != len(chosen) - 1 or value.strip("pdl"):
            raise WireError(f"rows.protects[{i}]", "must be a letter p, d or l per further choice", len(chosen) - 1)
    overdue = [integer(v, f"rows.overdue_us[{i}]", 1, MAX_DELAY_US) for i, v in enumerate(columns["overdue_us"])]
    rows = ReactionRows(
        table=indexes(columns["table"], "rows.table", tables),
        target=indexes(columns["target"], "rows.target", centers),
        choices=choices,
        protects=tuple(str(value) for value in columns["protects"]),
        overdue_us=tuple(overdue),
    )
    if len(set(zip(rows.table, rows.target, strict=True))) != len(choices):
        raise WireError("rows.target", "each (table, target) may appear once")
    return rows
