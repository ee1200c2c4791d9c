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
    runtime_of,
    tallies_of,
)
from router.api.reply import IfNoneMatch, PathId, WaitS, etag, not_modified, reply, unchanged
from router.api.resources import unknown
from router.core.errors import InputRejected
from router.core.messages import Reported
from router.core.model import DataCenterId, NodeId
from router.core.solve import reaction_plan
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
    plan = encode(runtime.plan(node.id))
    return reply({"node": node.id, "data_center": node.data_center, "key": text, "plan": plan}, 201)


@endpoints.get("/nodes/{id}/plan", response_model=PlanAnswer, dependencies=[Depends(NODE_OR_VIEWER)])
async def get_plan(request: Request, id: PathId, wait_s: WaitS = 0, if_none_match: IfNoneMatch = None) -> Response:
    """Show whom a node probes; with ``If-None-Match`` and ``wait_s`` it waits for another version."""
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
    deadline = runtime.now() + int(wait_s * 1_000_000)
    while unchanged(if_none_match, tag := f"{view.generation}-{view.plan_version}"):
        left_us = deadline - runtime.now()
        if left_us <= 0:
            return not_modified(tag)
        newer = runtime.next_generation(view.generation, left_us / 1_000_000)
        if await closing_of(request).or_closing(newer) is None:
            return not_modified(tag)
        view = runtime.view
    now, headers = runtime.now(), {"ETag": etag(tag)}
    # Milliseconds of work on an immutable view: too much for the event loop.
    return await asyncio.to_thread(lambda: reply(encode(reaction_plan(view, NodeId(id), now)), headers=headers))


@endpoints.post("/nodes/{id}/ack", response_model=Accepted, dependencies=[Depends(NODE)])
async def acknowledge(request: Request, id: PathId, body: AckBody) -> Response:
    """Note which version of its plan a node follows; the answer names the newest."""
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
    return reply({"plan_version": runtime.view.plan_version})
