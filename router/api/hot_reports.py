"""Probe reports on the hot path: plain ones are taken in at once; what is wrong with any other, the framework says."""

from __future__ import annotations

from probes.wire import ProbeReport, WireError, read_report
from router.access import AGENT_PREFIX
from router.api.gate import NODE
from router.api.hot import Answered, Asked, HotTable
from router.core.messages import Reported


def report(asked: Asked, body: bytes) -> Answered | None:
    """``POST /v1/reports``."""
    if asked.query or not asked.admitted(NODE):
        return None
    decoded = _decoded(body)
    assert asked.key is not None  # it was admitted
    runtime = asked.runtime
    if decoded is None or asked.key.scope != AGENT_PREFIX + decoded.node:
        return None
    if decoded.node not in runtime.inventory.nodes:
        return None
    runtime.post(Reported(decoded))
    asked.tallies.reported(len(decoded.reflexes))
    return Answered(b'{"plan_version":%d}' % runtime.plan_version)


def _decoded(body: bytes) -> ProbeReport | None:
    try:
        return read_report(body)
    except (WireError, ValueError, RecursionError):
        return None


def add_paths(table: HotTable) -> None:
    """Add the hot path of reports."""
    table.plain["POST", "/v1/reports"] = report
