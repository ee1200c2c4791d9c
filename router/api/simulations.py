"""``POST /v1/simulations``: what if this were gone, or that were there? Asked of the View, by anybody who may read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from providers import catalog
from router.api.gate import VIEWER, Endpoint, runtime_of
from router.api.reply import reply
from router.core.errors import InputRejected
from router.core.model import Inventory, RegionId
from router.core.tables import View
from router.core.whatif import Outcome, WhatIf, scope_of
from router.schemas.simulated import SimulationAnswer, simulation_json
from router.schemas.simulations import NewDataCenterBody, Position, SimulationBody

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["simulations"])
Simulate = Callable[[View, WhatIf], Awaitable[Outcome]]


def simulate_of(request: Request) -> Simulate:
    """Who works out the answers of this app."""
    return request.app.state.simulate  # type: ignore[no-any-return]


@endpoints.post("/simulations", response_model=SimulationAnswer, dependencies=[Depends(VIEWER)])
async def simulate(request: Request, body: SimulationBody) -> Response:
    """Say what removing or adding data centers or links would do to routes, sessions and headroom; nothing is done."""
    runtime = runtime_of(request)
    view = runtime.view
    asked = body.core(partial(position_of, view.inventory))
    scope_of(view.inventory, asked)  # a question that makes no sense is refused before anybody works on it
    return reply(simulation_json(await simulate_of(request)(view, asked), runtime.now()))


def position_of(inventory: Inventory, i: int, body: NewDataCenterBody) -> Position:
    """Where a new data center would be: as given, else its region, else the catalogue. Raises ``position_unknown``."""
    if body.latitude is not None and body.longitude is not None:
        return body.latitude, body.longitude, "the question"
    region = inventory.regions.get(RegionId(body.region))
    if region is not None and region.latitude is not None and region.longitude is not None:
        return region.latitude, region.longitude, f"region {region.id}"
    listed = [one for one in catalog.load() if one.area == body.region]
    listed.sort(key=lambda one: (one.provider != body.provider, one.provider, one.code))
    found = listed[0] if listed else catalog.find_position(body.provider, body.region)
    if found is None:
        raise InputRejected(
            "position_unknown",
            f"add.{i}: neither the inventory nor the catalogue knows where {body.region} is",
            field=f"add.{i}.latitude",
            rule="latitude and longitude, or a region with a position",
        )
    return found.latitude, found.longitude, f"catalogue: {found.provider} {found.code}, {found.city}"
