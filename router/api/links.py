"""Links with their estimates, the matrix, a link's history, health and flows."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from router.api.gate import VIEWER, Endpoint, runtime_of
from router.api.reply import PathFrom, PathTo, QueryFrom, QueryId, QueryTo, large, reply
from router.core.blame.facts import TargetKind, targets
from router.core.errors import InputRejected
from router.core.model import DEFAULT_TRANSPORT, DataCenterId, TrafficClass
from router.core.solve import PathAnswer, route
from router.core.tables import View
from router.schemas.blame import TargetList, target_json
from router.schemas.fields import Time
from router.schemas.flows import Flows, flows_json
from router.schemas.health import HealthAnswer, health_json
from router.schemas.history import History, history_points, route_change_json, unpack
from router.schemas.links import (
    Estimates,
    LinkKey,
    LinkList,
    Matrix,
    configured_links,
    link_keys,
    link_row,
    matrix_json,
)
from router.schemas.units import micros, rfc3339
from router.store import Store

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["measurements"])
HOUR_US = 3_600_000_000
MAX_POINTS = 10_000  # of one history answer
MAX_RANGE_US = 31 * 24 * HOUR_US

LinkCursor = Annotated[str | None, Query(pattern=r"^[a-z0-9~-]{1,191}$", description="`next` of the page before")]


def _known(view: View, *ids: tuple[str, str | None]) -> None:
    for field, id in ids:
        if id is not None and DataCenterId(id) not in view.inventory.data_centers:
            raise InputRejected("unknown_data_center", f"there is no data center {id}", field=field)


def _known_transport(view: View, transport: str) -> None:
    if transport not in (*view.inventory.transports, *view.links.transports):
        names = ", ".join(view.inventory.transports)
        raise InputRejected(
            "unknown_transport", f"there is no transport {transport}", field="transport", rule=f"known: {names}"
        )


def _cursor(key: LinkKey) -> str:
    return "~".join(key)


@endpoints.get("/links", response_model=LinkList, dependencies=[Depends(VIEWER)])
async def list_links(
    request: Request,
    source: QueryFrom = None,
    target: QueryTo = None,
    transport: QueryId = None,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 10_000,
    after: LinkCursor = None,
) -> Response:
    """List links, configured and presumed, with what is measured of them."""
    runtime = runtime_of(request)
    view, now = runtime.view, runtime.now()
    _known(view, ("from", source), ("to", target))
    if transport is not None:
        _known_transport(view, transport)
    start = tuple(after.split("~")) if after else ()
    wanted = [key for key in link_keys(view, source, target) if transport in (None, key[2]) and key > start]
    cut, configured, estimates = wanted[:limit], configured_links(view.inventory), Estimates(view)
    items = [link_row(key, configured, estimates, now) for key in cut]
    next = _cursor(cut[-1]) if len(wanted) > limit else None
    return await large(request, {"generation": view.generation, "items": items, "next": next})


def _span(since: str | None, until: str | None, step_s: int, now: int) -> tuple[int, int]:
    end = now if until is None else micros(until)
    start = end - HOUR_US if since is None else micros(since)
    if start >= end:
        raise InputRejected("range_empty", "since must be before until", field="since", rule="before until")
    if end - start > MAX_RANGE_US:
        raise InputRejected(
            "range_too_long",
            "at most 31 days at once",
            field="since",
            rule="span in s",
            limit=MAX_RANGE_US // 1_000_000,
        )
    if (end - start) // (step_s * 1_000_000) > MAX_POINTS:
        message = f"that would be more than {MAX_POINTS} points; use a larger step_s"
        raise InputRejected("range_too_fine", message, field="step_s", rule="points", limit=MAX_POINTS)
    return start, end


@endpoints.get("/links/{from}/{to}/history", response_model=History, dependencies=[Depends(VIEWER)])
async def link_history(
    request: Request,
    source: PathFrom,
    target: PathTo,
    transport: QueryId = None,
    since: Annotated[Time | None, Query()] = None,
    until: Annotated[Time | None, Query()] = None,
    step_s: Annotated[int, Query(ge=1, le=86_400)] = 60,
) -> Response:
    """Show a link's rolled-up history; the last hour unless told otherwise."""
    runtime = runtime_of(request)
    view = runtime.view
    _known(view, ("from", source), ("to", target))
    name = transport or DEFAULT_TRANSPORT
    _known_transport(view, name)
    a, b = DataCenterId(source), DataCenterId(target)
    start, end = _span(since, until, step_s, runtime.now())

    def found(store: Store) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        there = unpack(store.history(a, since=start, until=end), b, name)
        back = unpack(store.history(b, since=start, until=end), a, name)
        changes = store.route_changes(a, b, since=start, until=end)
        return history_points(there, back, step_s), [route_change_json(change) for change in changes]

    points, changes = await runtime.read(found)  # a day is thousands of rows: unpacked in the reader's thread
    head: dict[str, object] = {"from": source, "to": target, "transport": name, "step_s": step_s}
    return await large(request, head | {"items": points, "route_changes": changes})


@endpoints.get("/matrix", response_model=Matrix, dependencies=[Depends(VIEWER)])
async def get_matrix(
    request: Request,
    transport: QueryId = None,
    traffic_class: Annotated[TrafficClass | None, Query(alias="class")] = None,
) -> Response:
    """Show all pairs of one transport (``internet`` unless told otherwise); with a class also what its routes gain."""
    runtime = runtime_of(request)
    name = transport or DEFAULT_TRANSPORT
    _known_transport(runtime.view, name)
    return await large(request, matrix_json(runtime.view, name, runtime.now(), traffic_class))


@endpoints.get("/health", response_model=HealthAnswer, dependencies=[Depends(VIEWER)])
async def get_health(request: Request) -> Response:
    """Show data centers, and regions x providers, with state, evidence, sessions and headroom."""
    runtime = runtime_of(request)
    now = runtime.now()
    return await large(request, health_json(runtime.view, now, rfc3339(now)))


@endpoints.get("/targets", response_model=TargetList, dependencies=[Depends(VIEWER)])
async def list_targets(
    request: Request,
    kind: TargetKind | None = None,
    id: Annotated[str | None, Query(max_length=128, pattern=r"^[!-~]+$")] = None,
) -> Response:
    """Show three facts of every target: what was asked of it, what is measured, what fits."""
    runtime = runtime_of(request)
    machines = await runtime.read(Store.on_nodes) if kind in (None, TargetKind.NODE) else {}
    view, now = runtime.view, runtime.now()
    shown = [one for one in targets(view, machines, kind) if id is None or one.id == id]
    return await large(request, {"items": [target_json(view, target, now) for target in shown], "next": None})


@endpoints.get("/flows", response_model=Flows, dependencies=[Depends(VIEWER)])
async def get_flows(request: Request) -> Response:
    """Show how many live sessions, and how many Mbit/s of them, each link and each relay carries."""
    runtime = runtime_of(request)
    counts = await runtime.read(Store.flows)
    view, now = runtime.view, runtime.now()
    paths: list[tuple[PathAnswer, int, TrafficClass]] = []
    for (edge, hub, traffic_class), sessions in counts.items():
        if edge != hub and edge in view.inventory.data_centers and hub in view.inventory.data_centers:
            answer = route(view, edge, hub, traffic_class, None, now)
            paths += [(way, sessions, traffic_class) for way in (answer.forward, answer.back) if way is not None]
    return reply(flows_json(paths))
