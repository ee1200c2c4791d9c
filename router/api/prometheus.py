"""``GET /v1/prometheus/targets``: whom Prometheus should scrape (``http_sd_configs``)."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from router.api.gate import VIEWER, Endpoint, runtime_of
from router.api.reply import reply
from router.schemas.prometheus import TargetGroups, control_plane_group, node_groups

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["operations"])
USUAL_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253})(?::([0-9]{1,5}))?")


@endpoints.get("/prometheus/targets", response_model=TargetGroups, dependencies=[Depends(VIEWER)])
async def prometheus_targets(
    request: Request,
    node_port: Annotated[
        int | None, Query(ge=1, le=65_535, description="also all nodes, at this port, such as 9100 of node_exporter")
    ] = None,
) -> Response:
    """List what Prometheus should scrape, as its HTTP service discovery reads it: this control plane, and nodes."""
    groups = [control_plane_group(_address(request), request.url.scheme)]
    if node_port is not None:
        groups += node_groups(runtime_of(request).view.inventory, node_port)
    return reply(groups)


def _address(request: Request) -> str:
    """Host and port by which the caller reached us: whoever can ask here can scrape here."""
    told = _HOST.fullmatch(request.headers.get("host", ""))
    if told is not None and int(told[2] or 1) in range(1, 65_536):
        return f"{told[1]}:{told[2] or USUAL_PORTS.get(request.url.scheme, 80)}"
    host, port = request.scope.get("server") or ("127.0.0.1", None)
    host, port = (host, port) if port else ("127.0.0.1", USUAL_PORTS["http"])  # without one it is a Unix socket
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
