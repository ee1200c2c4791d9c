"""Nodes of the fleet: join tokens, joining, probe and reaction plans, acknowledgements, and probe reports.

A join token is the text ``tj_<data center>_<secret>``: single use, expiring, kept as a BLAKE2b-256 hash of the whole
text. It says which data center its bearer may join, and joining yields a key that may act as that node and as nothing
else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from probes.wire import WireError, decode_report, encode
from router.access import AGENT_PREFIX, mint_key
from router.api.gate import (
    NODE,
    NODE_OR_VIEWER,
    OPERATOR,
    Endpoint,
    actor_of,
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
from router.core.model import DataCenterId, NodeId
from router.core.solve import reaction_plan, same_reactions
from router.core.tables import View
from router.schemas.access import (
    Accepted,
    AckBody,
    JoinAnswer,
    JoinBody,
    JoinTokenAnswer,
    JoinTokenBody,
    PlanAnswer,
    ReactionPlanAnswer,
)
from router.schemas.units import rfc3339

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["nodes"])
REFRESH_US = 5_000_000  # a node's routes are at most so much older than those in force
_TOKEN = re.compile(r"tj_([a-z0-9][a-z0-9-]{0,62})_[A-Za-z0-9_-]{43}")


def _hash(token: str) -> bytes:
    return hashlib.blake2b(token.encode(), digest_size=32).digest()


@endpoints.post(
    "/data-centers/{id}/join-tokens", response_model=JoinTokenAnswer, status_code=201, dependencies=[Depends(OPERATOR)]
)
async def create_join_token(request: Request, id: PathId, body: JoinTokenBody) -> Response:
    """Make a single-use token with which one node may join this data center."""
    runtime, actor = runtime_of(request), actor_of(request)
    data_center = DataCenterId(id)
    if data_center not in runtime.view.inventory.data_centers:
        raise unknown("data-centers", id)
    token = f"tj_{id}_{secrets.token_urlsafe(32)}"
    now = runtime.now()
    expires_at = now + body.expires_in_s * 1_000_000
    await runtime.commit(
        lambda store: store.add_join_token(_hash(token), data_center, expires_at, actor=actor, now=now)
    )
    return reply({"token": token, "data_center": id, "expires_at": rfc3339(expires_at)}, 201)


@endpoints.post("/join", response_model=JoinAnswer, status_code=201)
async def join(request: Request, body: JoinBody) -> Response:
    """Trade a join token for a node's identity, its key and its first probe plan."""
    runtime = runtime_of(request)
    found = _TOKEN.fullmatch(body.token)
    if found is None:
        raise InputRejected("token_unknown", "this is not a join token of this control plane", field="token")
    node = body.node.core(DataCenterId(found[1]))
    key, text = mint_key(f"{AGENT_PREFIX}{node.id}", f"node {node.id}", runtime.now())
    await runtime.commit(lambda store: store.redeem_join_token(_hash(body.token), node, key, runtime.now()))
    runtime.keys.replace(key)
    plan = encode(with_keys(runtime.plan(node.id), runtime.secret))
    return reply({"node": node.id, "data_center": node.data_center, "key": text, "plan": plan}, 201)


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
        plan = with_keys(plan, runtime.secret)
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
        decoded = decode_report(json.loads(raw))
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
    tallies.reports_accepted += 1
    tallies.reflexes += len(decoded.reflexes)
    return reply({"plan_version": runtime.view.plan_version})
