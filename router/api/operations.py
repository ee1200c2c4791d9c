"""What needs no key: is the process alive, may it be asked, and its metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

from router.api.gate import Endpoint, runtime_of
from router.api.reply import reply
from router.core.errors import Unavailable
from router.schemas.access import Alive

endpoints = APIRouter(route_class=Endpoint, tags=["operations"])


@endpoints.get("/healthz", response_model=Alive)
async def alive(request: Request) -> Response:
    """The process runs and its event loop turns."""
    return reply({"status": "ok"})


@endpoints.get("/readyz", response_model=Alive)
async def ready(request: Request) -> Response:
    """Hard state is loaded: route and placement calls are answered."""
    if not runtime_of(request).ready:
        raise Unavailable("not_ready", "the control plane is still starting, or stopping")
    return reply({"status": "ok"})


@endpoints.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
async def metrics(request: Request) -> Response:
    """Prometheus metrics; labels are data center ids and reasons, and nothing else."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)
