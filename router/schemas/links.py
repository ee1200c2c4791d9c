"""Links: what is configured and what is measured, the matrix, rolled-up history, and flows.

A row of ``GET /v1/links`` is a directed link, configured or presumed (every ordered pair has the transport
``internet``); ``id``, ``revision`` and the other configured fields are null for a presumed one.

Most estimates are those of the last link table, which is made once a second. What is to be *expected* of a link next,
what that makes it cost, and how old its newest evidence is follow every report at once: what came in since the table
was made (``View.fresh``) lies over it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import repeat

import numpy as np
from pydantic import Field

from router.core.doubts import DOWN, SUSPECT, doubts_of_links
from router.core.model import DEFAULT_TRANSPORT, DataCenterId, Intent, Inventory, Link, TrafficClass
from router.core.tables import F64, I64, NO_COST, Bool, LinkState, LinkTable, View
from router.schemas.fields import Answer, Labels
from router.schemas.gains import gains
from router.schemas.units import known_ms, known_pct, ms, usd

LinkKey = tuple[DataCenterId, DataCenterId, str]
Fresh = dict[tuple[int, int], tuple[int, tuple[int, int]]]  # (transport, peer) -> when, (to the peer, back)
UNMEASURED = (
    "rtt_ms", "forward_ms", "return_ms", "error_ms", "expected_ms", "metric_us", "jitter_ms", "loss_pct", "age_ms",
)  # fmt: skip


class LinkAnswer(Answer):
    """A directed link over one transport: its configuration, if it has one, and its estimate, if there is one."""

    id: str | None
    source: str = Field(alias="from")
    target: str = Field(alias="to")
    transport: str
    capacity_mbps: int | None
    price_usd_per_gb: float | None
    intent: Intent
    labels: Labels
    revision: int | None
    rtt_ms: float | None
    forward_ms: float | None
    return_ms: float | None
    error_ms: float | None = Field(description="half-width of the band around forward_ms and return_ms")
    expected_ms: float | None = Field(
        description="one-way delay to expect next, of the newest report; clocks cannot tell it closer than error_ms"
    )
    metric_us: dict[str, int | None] | None = Field(
        description="per traffic class what the link costs the solver: expected_ms with jitter, loss, price and load "
        "as of the routes in force; null where the class may not use it, or another transport is cheaper"
    )
    jitter_ms: float | None
    loss_pct: float | None
    age_ms: float | None
    samples: int
    state: str
    provenance: str
    suspected_by: int = Field(
        description="agents at its beginning whose detectors miss answers now, per node at its end"
    )
    down_by: int = Field(description="the same, whose detectors call it down")


class LinkList(Answer):
    """One page of links."""

    generation: int
    items: list[LinkAnswer]
    next: str | None


class Matrix(Answer):
    """One transport as matrices: rows from, columns to, null where unknown."""

    generation: int
    transport: str
    data_centers: list[str]
    rtt_ms: list[list[float | None]]
    forward_ms: list[list[float | None]]
    return_ms: list[list[float | None]]
    jitter_ms: list[list[float | None]]
    loss_pct: list[list[float | None]]
    age_ms: list[list[float | None]]
    mos: list[list[float | None]] | None = Field(description="of the routes in force; null unless a class is asked for")
    mos_gain: list[list[float | None]] | None = Field(description="by how much that is above the direct way's")


def link_keys(view: View, source: str | None = None, target: str | None = None) -> Iterator[LinkKey]:
    """Links in (from, to, transport) order: the presumed mesh and what is configured, of one source or target if any.

    Both are known data centers.
    """
    extra: dict[tuple[DataCenterId, DataCenterId], set[str]] = {}
    for link in view.inventory.links.values():
        extra.setdefault((link.source, link.target), set()).add(link.transport)
    ids = tuple(view.inventory.data_centers)
    for a in ids if source is None else (DataCenterId(source),):
        for b in ids if target is None else (DataCenterId(target),):
            if a != b:
                for transport in sorted({DEFAULT_TRANSPORT} | extra.get((a, b), set())):
                    yield a, b, transport


class Estimates:
    """Look-up of estimates by name in one immutable view."""

    def __init__(self, view: View) -> None:
        self._table: LinkTable = view.links
        self._vertex = view.inventory.index  # the link table is made anew with every inventory
        self._transport = {name: i for i, name in enumerate(view.links.transports)}
        self._rows = view.fresh
        self._newer: dict[int, Fresh] = {}
        snapshot = None if view.routes is None else view.routes.snapshot
        same = snapshot is not None and snapshot.data_centers == view.links.data_centers
        self._snapshot = snapshot if same else None
        self._doubts = doubts_of_links(view.inventory, view.nodes)

    def doubts(self, key: LinkKey) -> dict[str, object]:
        """How many agents themselves call a link suspect or down."""
        found: Mapping[int, int] = self._doubts.get(key, {})
        return {"suspected_by": found.get(SUSPECT, 0), "down_by": found.get(DOWN, 0)}

    def measured(self, key: LinkKey, now: int) -> dict[str, object]:
        """The estimate fields of one link, null where nothing is known."""
        source, target, transport = key
        t, a, b = self._transport.get(transport), self._vertex.get(source), self._vertex.get(target)
        if t is None or a is None or b is None or not self._table.last_at[t, a, b]:
            return dict.fromkeys(UNMEASURED) | {"samples": 0, "state": "unknown", "provenance": "none"}
        table = self._table
        at, expected = self._expected(t, a, b)
        return {
            "rtt_ms": known_ms(int(table.rtt_us[t, a, b])),
            "forward_ms": known_ms(int(table.forward_us[t, a, b])),
            "return_ms": known_ms(int(table.forward_us[t, b, a])),
            "error_ms": known_ms(int(table.error_us[t, a, b])),
            "expected_ms": None if expected is None else ms(expected),
            "metric_us": self._metric(t, a, b, expected),
            "jitter_ms": known_ms(int(table.jitter_us[t, a, b])),
            "loss_pct": known_pct(int(table.loss_ppm[t, a, b])),
            "age_ms": ms(max(0, now - at)),
            "samples": max(0, int(table.samples[t, a, b])),
            "state": LinkState(int(table.state[t, a, b])).name.lower(),
            "provenance": "measured",
        }

    def _expected(self, t: int, a: int, b: int) -> tuple[int, int | None]:
        """When the link was last heard of, and the delay (microseconds) to expect; of either end's newest report."""
        found = (int(self._table.last_at[t, a, b]), int(self._table.expected_us[t, a, b]))
        for end, other, way in ((a, b, 0), (b, a, 1)):
            newer = self._fresh(end).get((t, other))
            if newer is not None and newer[0] >= found[0]:
                found = newer[0], newer[1][way]
        return found[0], found[1] if found[1] < NO_COST else None

    def _fresh(self, vertex: int) -> Fresh:
        if vertex not in self._newer:
            newer: Fresh = {}
            for row in self._rows.get(vertex, ()):
                delays = zip(row.forward_us.tolist(), row.backward_us.tolist(), strict=True)
                links = zip(row.transport.tolist(), row.target.tolist(), strict=True)
                newer.update(zip(links, zip(repeat(row.at), delays), strict=False))
            self._newer[vertex] = newer
        return self._newer[vertex]

    def _metric(self, t: int, a: int, b: int, expected: int | None) -> dict[str, int | None] | None:
        shot = self._snapshot
        if shot is None or shot.extra_us is None:
            return None
        costs: dict[str, int | None] = {}
        for c, context in enumerate(shot.contexts):
            if context.policy is None:
                used = shot.cost[c, a, b] < NO_COST and shot.transport[c, a, b] == t
                cost = expected + int(shot.extra_us[c, a, b]) if expected is not None and used else None
                costs[context.traffic_class.value] = cost
        return costs


def configured_links(inventory: Inventory) -> Mapping[LinkKey, Link]:
    """Configured links by what they connect; of several on the same key the smallest id is shown."""
    return {(link.source, link.target, link.transport): link for link in reversed(list(inventory.links.values()))}


def link_row(key: LinkKey, configured: Mapping[LinkKey, Link], estimates: Estimates, now: int) -> dict[str, object]:
    """Return the JSON form of one link."""
    link = configured.get(key)
    return (
        {
            "id": None if link is None else link.id,
            "from": key[0],
            "to": key[1],
            "transport": key[2],
            "capacity_mbps": None if link is None else link.capacity_mbps,
            "price_usd_per_gb": None if link is None else usd(link.price_microusd_per_gb),
            "intent": Intent.SERVING if link is None else link.intent,
            "labels": {} if link is None else dict(link.labels),
            "revision": None if link is None else link.revision,
        }
        | estimates.measured(key, now)
        | estimates.doubts(key)
    )


def _cells(values: I64 | F64, known: Bool, divisor: int, digits: int) -> list[list[float | None]]:
    cells = np.round(values / divisor, digits).astype(object)
    cells[~known] = None
    return cells.tolist()  # type: ignore[no-any-return]


def matrix_json(view: View, transport: str, now: int, traffic_class: TrafficClass | None = None) -> dict[str, object]:
    """Return one transport's estimates as matrices; whole arrays at once."""
    table = view.links
    size = len(table.data_centers)
    if transport in table.transports:
        t = table.transports.index(transport)
        rtt, forward, jitter = table.rtt_us[t], table.forward_us[t], table.jitter_us[t]
        loss, last = table.loss_ppm[t], table.last_at[t]
    else:
        rtt = forward = jitter = loss = np.full((size, size), -1, np.int64)
        last = np.zeros((size, size), np.int64)
    seen = (last > 0) & ~np.eye(size, dtype=np.bool_)
    back = forward.T
    return {
        "generation": view.generation,
        "transport": transport,
        "data_centers": table.data_centers,
        "rtt_ms": _cells(rtt, seen & (rtt >= 0), 1_000, 3),
        "forward_ms": _cells(forward, seen & (forward >= 0), 1_000, 3),
        "return_ms": _cells(back, seen & (back >= 0), 1_000, 3),
        "jitter_ms": _cells(jitter, seen & (jitter >= 0), 1_000, 3),
        "loss_pct": _cells(loss, seen & (loss >= 0), 10_000, 4),
        "age_ms": _cells(np.maximum(0, now - last), seen, 1_000, 3),
    } | _gains_json(None if traffic_class is None else gains(view, traffic_class))


def _gains_json(found: tuple[F64, F64] | None) -> dict[str, object]:
    """MOS and its gain as matrices, known to a hundredth as people are."""
    if found is None:
        return {"mos": None, "mos_gain": None}
    routed, direct = found
    gain = routed - direct
    return {
        "mos": _cells(np.nan_to_num(routed), ~np.isnan(routed), 1, 2),
        "mos_gain": _cells(np.nan_to_num(gain), ~np.isnan(gain), 1, 2),
    }
