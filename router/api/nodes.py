"""Nodes of the fleet: probe and reaction plans, acknowledgements, and probe reports."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from probes.wire import WireError, encode, read_report
from router.access import AGENT_PREFIX
from router.api.gate import (
    NODE,
    NODE_OR_VIEWER,
    Endpoint,
    closing_of,
    insist_on_own_node,
    key_of,
    runtime_of,
    tallies_of,
)
from router.api.node_keys import with_keys
from router.api.reply import IfNoneMatch, PathId, WaitS, etag, not_modified, reply, unchanged
from router.api.resources import unknown
from router.core.errors import InputRejected
from router.core.messages import Reported
from router.core.model import NodeId
from router.core.solve import reaction_plan, same_reactions
from router.core.tables import View
from router.schemas.access import (
    Accepted,
    AckBody,
    PlanAnswer,
    ReactionPlanAnswer,
)

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["nodes"])
REFRESH_US = 5_000_000  # a node's routes are at most so much older than those in force


@endpoints.get("/nodes/{id}/plan", response_model=PlanAnswer, dependencies=[Depends(NODE_OR_VIEWER)])
async def get_plan(request: Request, id: PathId, wait_s: WaitS = 0, if_none_match: IfNoneMatch = None) -> Response:
    """Show whom a node probes; with ``If-None-Match`` and ``wait_s`` it waits for another version.

    The keys in it are for the node itself; everybody else sees them blank.
    """
    runtime = runtime_of(request)
    plan = runtime.plan(NodeId(id))
    deadline = runtime.now() + int(wait_s * 1_000_000)
    while unchanged(if_none_match, plan.plan_version):
        left_us = deadline - runtime.now()
        if left_us <= 0:
            return not_modified(plan.plan_version)
        if await closing_of(request).or_closing(runtime.next_plan(plan.plan_version, left_us / 1_000_000)) is None:
            return not_modified(plan.plan_version)
        plan = runtime.plan(NodeId(id))
    if key_of(request).scope.startswith(AGENT_PREFIX):  # its own: the gate has seen to that
        plan = with_keys(plan, runtime.secret, runtime.now(), runtime.options.node_key_lifetime_us)
    return reply(encode(plan), headers={"ETag": etag(plan.plan_version)})


@endpoints.get("/nodes/{id}/reaction-plan", response_model=ReactionPlanAnswer, dependencies=[Depends(NODE_OR_VIEWER)])
async def get_reaction_plan(
    request: Request, id: PathId, wait_s: WaitS = 0, if_none_match: IfNoneMatch = None
) -> Response:
    """Show how a node fails over by itself; with ``If-None-Match`` and ``wait_s`` it waits for other routes."""
    runtime = runtime_of(request)
    view = runtime.view
    if NodeId(id) not in view.inventory.nodes:
        raise unknown("nodes", id)
    if unchanged(if_none_match, tag := _reaction_tag(view)):
        newer = await _newer_routes(request, NodeId(id), view, int(wait_s * 1_000_000))
        if newer is None:
            return not_modified(tag)
        view, tag = newer, _reaction_tag(newer)
    now, headers = runtime.now(), {"ETag": etag(tag)}
    # Milliseconds of work on an immutable view: too much for the event loop.
    return await asyncio.to_thread(lambda: reply(encode(reaction_plan(view, NodeId(id), now)), headers=headers))


def _reaction_tag(view: View) -> str:
    return f"{view.generation}-{view.plan_version}"


async def _newer_routes(request: Request, node: NodeId, held: View, wait_us: int) -> View | None:
    """A view whose routes from a node differ from those it holds, or are fresher by ``REFRESH_US``; ``None``: not yet.

    Every solve makes a generation, several a second; a node that fetched them all would get the same paths each time.
    """
    runtime, view = runtime_of(request), held
    deadline, refresh_at = runtime.now() + wait_us, runtime.now() + REFRESH_US
    while True:
        moved = view.generation != held.generation
        left_us = (min(deadline, refresh_at) if moved else deadline) - runtime.now()
        if left_us <= 0:
            return view if moved else None
        waiting = runtime.next_generation(view.generation, left_us / 1_000_000)
        if await closing_of(request).or_closing(waiting) is None:
            return None
        view = runtime.view
        if not same_reactions(held, view, node):
            return view


@endpoints.post("/nodes/{id}/ack", response_model=Accepted, dependencies=[Depends(NODE)])
async def acknowledge(request: Request, id: PathId, body: AckBody) -> Response:
    """Note which plans a node follows; the answer names the newest probe plan."""
    runtime = runtime_of(request)
    newest = runtime.plan(NodeId(id)).plan_version
    if body.plan_version > newest:
        raise InputRejected(
            "invalid_field",
            f"plan_version {body.plan_version} was never issued",
            field="plan_version",
            rule="at most the newest version",
            limit=newest,
        )
    if body.generation > runtime.view.generation:
        raise InputRejected(
            "invalid_field",
            f"generation {body.generation} was never issued",
            field="generation",
            rule="at most the newest generation",
            limit=runtime.view.generation,
        )
    tallies_of(request).acknowledged(NodeId(id), body.plan_version, body.generation, runtime.now())
    return reply({"plan_version": newest})


@endpoints.post("/reports", response_model=Accepted, dependencies=[Depends(NODE)])
async def report(request: Request) -> Response:
    """Take a probe report; a node can report only as itself. The body is that of ``probes.wire``."""
    runtime, tallies = runtime_of(request), tallies_of(request)
    raw = await request.body()
    try:
        decoded = read_report(raw)
        insist_on_own_node(request, decoded.node)
        if NodeId(decoded.node) not in runtime.view.inventory.nodes:
            raise unknown("nodes", decoded.node)
    except (WireError, InputRejected):
        tallies.reports_rejected += 1
        raise
    except (ValueError, RecursionError) as error:
        tallies.reports_rejected += 1
        raise InputRejected("malformed_json", "the report is not JSON", field="body", rule="JSON") from error
    runtime.post(Reported(decoded))
    tallies.reported(len(decoded.reflexes))
    return reply({"plan_version": runtime.view.plan_version})
