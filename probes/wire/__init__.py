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

from dataclasses import fields

from probes.wire.check import MAX_TEXT, WIRE_VERSION, WireError
from probes.wire.plan import (
    KINDS,
    MAX_KEY_ID,
    MAX_WEIGHT,
    TIERS,
    Budget,
    PlanCheck,
    PlanPeer,
    PlanRelay,
    PlanVantage,
    ProbePlan,
    decode_plan,
)
from probes.wire.reaction import (
    MAX_CHOICES,
    ReactionHops,
    ReactionPlan,
    ReactionRows,
    Triggers,
    decode_reaction_plan,
)
from probes.wire.report import (
    MAX_COUNT,
    MAX_DELAY_US,
    MAX_RAW_US,
    MAX_ROWS,
    CheckResult,
    ProbeReport,
    ReflexEvent,
    ReportRows,
    decode_report,
    read_report,
)
from probes.wire.sketch import GAMMA, MAX_BUCKETS, bucket_of, bucket_value, merge_sketches, sketch_quantile

__all__ = [
    "GAMMA", "KINDS", "MAX_BUCKETS", "MAX_CHOICES", "MAX_COUNT", "MAX_DELAY_US", "MAX_KEY_ID", "MAX_RAW_US", "MAX_ROWS",
    "MAX_TEXT", "MAX_WEIGHT", "TIERS", "WIRE_VERSION", "Budget", "CheckResult", "PlanCheck", "PlanPeer",
    "PlanRelay", "PlanVantage", "ProbePlan",
    "ProbeReport", "ReactionHops", "ReactionPlan", "ReactionRows", "ReflexEvent", "ReportRows", "Triggers", "WireError",
    "bucket_of", "bucket_value", "decode_plan", "decode_reaction_plan", "decode_report", "encode", "merge_sketches",
    "read_report", "sketch_quantile",
]  # fmt: skip
_NESTED = (
    ReportRows
    | ReflexEvent
    | CheckResult
    | PlanPeer
    | PlanRelay
    | PlanCheck
    | PlanVantage
    | Budget
    | Triggers
    | ReactionHops
    | ReactionRows
)


def encode(message: ProbeReport | ProbePlan | ReactionPlan) -> dict[str, object]:
    """Return the JSON-ready form that the decoders accept."""
    values = {f.name: _plain(getattr(message, f.name)) for f in fields(message)}
    return {name: value for name, value in values.items() if value or name != "checks"}  # who is older knows none


def _plain(value: object) -> object:
    if isinstance(value, _NESTED):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value
