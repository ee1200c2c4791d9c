"""The app: endpoints, problem documents, OpenAPI, and the dashboard's files behind everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from probes.wire import ProbeReport
from router import dashboard
from router.api import (
    calls,
    clients,
    drains,
    events,
    fleet,
    heartbeats,
    hot_heartbeats,
    hot_reports,
    hot_routes,
    hot_sessions,
    joining,
    keys,
    launches,
    legs,
    links,
    nodes,
    operations,
    pools,
    problems,
    prometheus,
    ramps,
    resources,
    resumes,
    routes,
    sessions,
    sign_in,
    simulations,
    watch,
    webhooks,
)
from router.api.browsers import SignedOut
from router.api.closing import Closing
from router.api.heads import Heads
from router.api.hot import HotApp, HotTable
from router.api.limits import BodyLimit
from router.api.pulses import Pulses
from router.api.reply import PROBLEMS
from router.api.simulations import Simulate
from router.runtime import Runtime
from router.schemas.problems import Problem
from router.settings import Settings
from router.telemetry import Tallies, make_registry

GROUPS: tuple[APIRouter, ...] = (
    routes.endpoints,
    watch.endpoints,
    links.endpoints,
    sessions.endpoints,
    resumes.endpoints,
    legs.endpoints,
    heartbeats.endpoints,
    pools.endpoints,
    launches.endpoints,
    clients.endpoints,
    drains.endpoints,
    simulations.endpoints,
    ramps.endpoints,
    calls.endpoints,
    joining.endpoints,
    nodes.endpoints,
    resources.endpoints,
    fleet.endpoints,
    keys.endpoints,
    webhooks.endpoints,
    sign_in.endpoints,
    events.endpoints,
    prometheus.endpoints,
    operations.endpoints,
)
# Each adds its hot paths, with a state of their own per app.
HOT: tuple[Callable[[HotTable], None], ...] = (
    hot_routes.add_paths,
    hot_sessions.add_paths,
    hot_heartbeats.add_paths,
    hot_reports.add_paths,
)
TITLE, VERSION = "Tendril", "1"
DESCRIPTION = """Multi-region overlay routing: measured links, best paths each way, placement of stateful sessions.

Refusals are `application/problem+json` (RFC 9457) with a stable `code`, the offending `field`, the `rule` and the
`limit`. Times are RFC 3339 UTC, delays ms, loss %. Unknown fields and parameters are refused."""


def create_app(runtime: Runtime, settings: Settings, simulate: Simulate) -> FastAPI:
    """Build the app around a runtime, and a worker of what-if questions, that somebody else starts and stops."""
    hot = HotTable(heads=Heads())
    for add_paths in HOT:
        add_paths(hot)
    app = HotApp(
        hot=hot,
        title=TITLE,
        version=VERSION,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.state.runtime = runtime
    app.state.settings = settings
    app.state.simulate = simulate
    app.state.tallies = Tallies()
    app.state.pulses = Pulses()
    app.state.closing = Closing()
    app.state.signed_out = SignedOut()
    app.state.registry = make_registry(runtime, app.state.tallies)
    problems.install(app)
    for group in GROUPS:
        # Not include_router: that wraps every route in another matching layer, and the first groups are hot.
        app.router.routes.extend(group.routes)
    app.router.add_route("/v1/{rest:path}", _nothing_here, methods=list(_METHODS), include_in_schema=False)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    dashboard.mount(app)
    return app


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


async def _nothing_here(request: Request) -> Response:
    """Answer for API paths that no endpoint took: 405 with what is allowed, else 404."""
    allowed: set[str] = set()
    for group in GROUPS:
        for route in group.routes:
            if route.matches(request.scope)[0] is Match.PARTIAL:
                allowed |= getattr(route, "methods", None) or set()
    if allowed:
        raise HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))})
    raise HTTPException(404)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The API's description, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = describe(GROUPS)
    return app.openapi_schema


def describe(groups: Iterable[APIRouter]) -> dict[str, Any]:
    """OpenAPI 3.1 with problem documents as the default answer everywhere."""
    routes = [route for group in groups for route in group.routes]
    document = get_openapi(title=TITLE, version=VERSION, description=DESCRIPTION, routes=routes)
    schemas = document["components"]["schemas"]
    described = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    reported = TypeAdapter(ProbeReport).json_schema(ref_template="#/components/schemas/{model}")
    schemas |= described.pop("$defs", {}) | {"Problem": described}
    schemas |= reported.pop("$defs", {}) | {"ProbeReport": reported}
    body = {"application/json": {"schema": {"$ref": "#/components/schemas/ProbeReport"}}}
    document["paths"]["/v1/reports"]["post"]["requestBody"] = {"required": True, "content": body}
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"] |= {str(status): answer for status, answer in PROBLEMS.items()}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document
