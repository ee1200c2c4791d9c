"""Routes: one pair, many pairs, one ingress' table with long-poll, explanations; all read the View, never SQL."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from router.api.gate import VIEWER, Endpoint, closing_of, runtime_of
from router.api.reply import IfNoneMatch, PathFrom, PathTo, QueryId, WaitS, etag, not_modified, reply, unchanged
from router.core.errors import InputRejected
from router.core.model import DataCenterId, PolicyId, TrafficClass
from router.core.solve import RouteAnswer, explain, route
from router.core.tables import View
from router.schemas.routes import (
    BatchBody,
    ExplanationAnswer,
    Route,
    RouteList,
    RouteTableAnswer,
    explanation_json,
    route_json,
    table_json,
)

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["routes"])

Class = Annotated[TrafficClass, Query(alias="class")]
From = Annotated[str, Query(alias="from", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", max_length=63)]


def policy_of(text: str | None) -> PolicyId | None:
    """A policy's id as the core knows it."""
    return None if text is None else PolicyId(text)


def table_of(view: View, source: str, traffic_class: TrafficClass, policy: str | None, now: int) -> list[RouteAnswer]:
    """The routes from one ingress to everywhere. Raises ``unknown_data_center``, ``unknown_policy``."""
    if DataCenterId(source) not in view.inventory.data_centers:
        raise InputRejected("unknown_data_center", f"there is no data center {source}", field="from")
    chosen = policy_of(policy)
    if chosen is not None and chosen not in view.inventory.policies:
        raise InputRejected("unknown_policy", f"there is no policy {policy}", field="policy")
    return [
        route(view, source, target, traffic_class, chosen, now)
        for target in view.inventory.data_centers
        if target != source
    ]


@endpoints.get("/routes", response_model=RouteTableAnswer, dependencies=[Depends(VIEWER)])
async def get_table(
    request: Request,
    source: From,
    traffic_class: Class = TrafficClass.VOICE,
    policy: QueryId = None,
    wait_s: WaitS = 0,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Show one ingress' routes; with ``If-None-Match`` and ``wait_s`` it waits for another generation."""
    runtime = runtime_of(request)
    view = runtime.view
    if unchanged(if_none_match, view.generation) and wait_s > 0:
        view = await closing_of(request).or_closing(runtime.next_generation(view.generation, wait_s)) or view
    if unchanged(if_none_match, view.generation):
        return not_modified(view.generation)
    answers = table_of(view, source, traffic_class, policy, runtime.now())
    document = table_json(source, traffic_class, policy, view.generation, answers)
    return reply(document, headers={"ETag": etag(view.generation)})


@endpoints.post("/routes/batch", response_model=RouteList, dependencies=[Depends(VIEWER)])
async def get_routes(request: Request, body: BatchBody) -> Response:
    """Show the routes of many pairs, all of one generation."""
    runtime = runtime_of(request)
    view, now = runtime.view, runtime.now()
    found = [
        route_json(route(view, pair.source, pair.target, body.traffic_class, body.policy_id, now))
        for pair in body.pairs
    ]
    return reply({"generation": view.generation, "routes": found})


@endpoints.get("/routes/{from}/{to}", response_model=Route, dependencies=[Depends(VIEWER)])
async def get_route(
    request: Request,
    source: PathFrom,
    target: PathTo,
    traffic_class: Class = TrafficClass.VOICE,
    policy: QueryId = None,
) -> Response:
    """Show the best route now, both directions."""
    runtime = runtime_of(request)
    answer = route(runtime.view, source, target, traffic_class, policy_of(policy), runtime.now())
    return reply(route_json(answer))


@endpoints.get("/routes/{from}/{to}/explain", response_model=ExplanationAnswer, dependencies=[Depends(VIEWER)])
async def explain_route(
    request: Request,
    source: PathFrom,
    target: PathTo,
    traffic_class: Class = TrafficClass.VOICE,
    policy: QueryId = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
) -> Response:
    """Show every candidate with its metric terms, the age of its evidence, and why it lost."""
    runtime = runtime_of(request)
    found = explain(runtime.view, source, target, traffic_class, policy_of(policy), runtime.now(), limit)
    return reply(explanation_json(found))
