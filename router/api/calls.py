"""Robots that call on behalf of a ramp: real sessions, with a real agent, at a data center that takes no users yet."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from router.api.gate import MEDIA, Endpoint, runtime_of
from router.api.reply import PathId, reply
from router.api.sessions import Desk, new_name, refusal, unknown_session
from router.core import ramp as ramps
from router.core.errors import InputRejected
from router.core.messages import Climbed, Robot
from router.core.model import Pool, PoolId, Ramp, RampId, RampState, Session, SessionId, SessionState
from router.core.steering import Refused
from router.core.steering.board import known_of
from router.core.tables import View
from router.runtime import Runtime
from router.schemas.ramps import CallBody, HeardBody, RampAnswer, ramp_json
from router.schemas.sessions import SessionAnswer
from router.store.takes import Start

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["ramps"])
TOLD_WITHIN_S, LOOK_S = 5.0, 0.1  # a node's heartbeat says within so long that the user is there


def _ramp(view: View, id: str) -> Ramp:
    found = view.ramps.get(RampId(id))
    if found is None:
        raise InputRejected("unknown_ramp", f"there is no ramp {id}", field="id")
    return found


@endpoints.post(
    "/ramps/{id}/calls", response_model=SessionAnswer, status_code=201, dependencies=[Depends(MEDIA)]
)  # fmt: skip
async def call(request: Request, id: PathId, body: CallBody) -> Response:
    """Start a robot's session where the ramp wants one most; `metadata` says which errand, and over which relay.

    The relay in `tendril.via` is for both ways. The robot connects, listens for the agent, and says how it went.
    """
    desk = Desk.of(request)
    runtime, ramp = desk.runtime, _ramp(desk.runtime.view, id)
    if ramp.state is not RampState.SYNTHETIC:
        message = f"ramp {id} is {ramp.state.value}: robots call while it is synthetic"
        raise InputRejected("bad_transition", message, field="state", rule="synthetic")
    pool = runtime.view.inventory.pools.get(PoolId(body.pool))
    if pool is None:
        raise InputRejected("unknown_pool", f"there is no pool {body.pool}", field="pool")
    name = new_name(desk.now)
    wanted = ramps.next_call(runtime.view, ramp, pool.id, name)
    bound = None
    if wanted is not None:
        draft = _session(desk, ramp, wanted, name, pool, body)
        bound = await runtime.turnstile.start(Start(draft, (wanted.hub,), None, b"", None))
    if bound is None:
        await runtime.recount_agents()
        why = f"no agent of pool {body.pool} is free where {ramp.data_center} could be called with it"
        return refusal(Refused("no_idle_agent", why, ()))
    return reply(desk.document(bound.session, bound.address, desk.token(bound.session)), 201)


def _session(desk: Desk, ramp: Ramp, wanted: ramps.Call, name: SessionId, pool: Pool, body: CallBody) -> Session:
    view = desk.runtime.view
    return Session(
        id=name,
        state=SessionState.ATTACHING,
        traffic_class=pool.traffic_class,
        client=desk.runtime.addresses.located(body.client.core()),
        edge=wanted.edge,
        edge_node=known_of(view).places.node[view.inventory.index[wanted.edge]],
        edges=(wanted.edge,),
        epoch=1,
        created_at=desk.now,
        lease_expires_at=desk.lease(),
        pool=pool.id,
        metadata=dict(sorted({**body.metadata, **wanted.labels(ramp)}.items())),
        reasons=(f"a robot of ramp {ramp.id} calls: {wanted.errand}",),
    )


@endpoints.post("/ramps/{id}/calls/{session}", response_model=RampAnswer, dependencies=[Depends(MEDIA)])
async def call_ended(request: Request, id: PathId, session: PathId, body: HeardBody) -> Response:
    """Say how a robot's session went, and end it.

    It counts as set up if its agent was heard and the edge says, too, that the robot was there.
    """
    runtime = runtime_of(request)
    ramp, held = _ramp(runtime.view, id), await _session_of(runtime, id, session)
    if held.state is SessionState.ENDED:
        raise InputRejected("session_ended", f"session {session} has ended: {held.end_reason}", field="session")
    there = body.heard and await _is_there(runtime, held.id)
    ended = await runtime.turnstile.end(held.id, "robot")
    detail = body.detail or ("" if there else "its edge does not know of it" if body.heard else "no agent was heard")
    errand = ended.session.metadata[ramps.ERRAND_LABEL]
    await runtime.submit(Climbed(robots=(Robot(ramp.data_center, errand, there, detail),)))
    return reply(ramp_json(ramp, runtime.view.climbs.get(ramp.id)))


async def _session_of(runtime: Runtime, ramp: str, id: str) -> Session:
    found = await runtime.read(lambda store: store.session(SessionId(id)))
    if found is None or found.metadata.get(ramps.RAMP_LABEL) != ramp:
        raise unknown_session(id)
    return found


async def _is_there(runtime: Runtime, id: SessionId) -> bool:
    """Whether the node has told of the robot; it may be about to."""
    for _ in range(round(TOLD_WITHIN_S / LOOK_S)):
        found = await runtime.read(lambda store: store.session(id))
        if found is None or found.state is not SessionState.ATTACHING:
            return found is not None and found.state is not SessionState.ENDED
        await asyncio.sleep(LOOK_S)
    return False
