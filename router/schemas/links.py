"""Links: what is configured and what is measured, the matrix, rolled-up history, and flows.

A row of ``GET /v1/links`` is a directed link, configured or presumed (every ordered pair has the transport
``internet``); ``id``, ``revision`` and the other configured fields are null for a presumed one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from pydantic import Field

from router.core.model import DEFAULT_TRANSPORT, DataCenterId, Intent, Inventory, Link
from router.core.tables import I64, Bool, LinkState, LinkTable, View
from router.schemas.fields import Answer, Labels
from router.schemas.units import known_ms, known_pct, ms, usd

LinkKey = tuple[DataCenterId, DataCenterId, str]


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
    jitter_ms: float | None
    loss_pct: float | None
    age_ms: float | None
    samples: int
    state: str
    provenance: str


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


def link_keys(view: View) -> Iterator[LinkKey]:
    """All links in (from, to, transport) order: the presumed mesh and what is configured."""
    extra: dict[tuple[DataCenterId, DataCenterId], set[str]] = {}
    for link in view.inventory.links.values():
        extra.setdefault((link.source, link.target), set()).add(link.transport)
    ids = tuple(view.inventory.data_centers)
    for source in ids:
        for target in ids:
            if source != target:
                for transport in sorted({DEFAULT_TRANSPORT} | extra.get((source, target), set())):
                    yield source, target, transport


class Estimates:
    """Look-up of estimates by name in one immutable view."""

    def __init__(self, view: View) -> None:
        self._table: LinkTable = view.links
        self._vertex = {dc: i for i, dc in enumerate(view.links.data_centers)}
        self._transport = {name: i for i, name in enumerate(view.links.transports)}

    def measured(self, key: LinkKey, now: int) -> dict[str, object]:
        """The estimate fields of one link, null where nothing is known."""
        source, target, transport = key
        t, a, b = self._transport.get(transport), self._vertex.get(source), self._vertex.get(target)
        if t is None or a is None or b is None or not self._table.last_at[t, a, b]:
            nothing = dict.fromkeys(
                ("rtt_ms", "forward_ms", "return_ms", "error_ms", "jitter_ms", "loss_pct", "age_ms")
            )
            return nothing | {"samples": 0, "state": "unknown", "provenance": "none"}
        table = self._table
        return {
            "rtt_ms": known_ms(int(table.rtt_us[t, a, b])),
            "forward_ms": known_ms(int(table.forward_us[t, a, b])),
            "return_ms": known_ms(int(table.forward_us[t, b, a])),
            "error_ms": known_ms(int(table.error_us[t, a, b])),
            "jitter_ms": known_ms(int(table.jitter_us[t, a, b])),
            "loss_pct": known_pct(int(table.loss_ppm[t, a, b])),
            "age_ms": ms(max(0, now - int(table.last_at[t, a, b]))),
            "samples": max(0, int(table.samples[t, a, b])),
            "state": LinkState(int(table.state[t, a, b])).name.lower(),
            "provenance": "measured",
        }


def configured_links(inventory: Inventory) -> Mapping[LinkKey, Link]:
    """Configured links by what they connect; of several on the same key the smallest id is shown."""
    return {(link.source, link.target, link.transport): link for link in reversed(list(inventory.links.values()))}


def link_row(key: LinkKey, configured: Mapping[LinkKey, Link], estimates: Estimates, now: int) -> dict[str, object]:
    """Return the JSON form of one link."""
    link = configured.get(key)
    return {
        "id": None if link is None else link.id,
        "from": key[0],
        "to": key[1],
        "transport": key[2],
        "capacity_mbps": None if link is None else link.capacity_mbps,
        "price_usd_per_gb": None if link is None else usd(link.price_microusd_per_gb),
        "intent": Intent.SERVING if link is None else link.intent,
        "labels": {} if link is None else dict(link.labels),
        "revision": None if link is None else link.revision,
    } | estimates.measured(key, now)


def _cells(values: I64, known: Bool, divisor: int, digits: int) -> list[list[float | None]]:
    cells = np.round(values / divisor, digits).astype(object)
    cells[~known] = None
    return cells.tolist()  # type: ignore[no-any-return]


def matrix_json(view: View, transport: str, now: int) -> dict[str, object]:
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
    }
