"""Further legs of a session: ``POST``/``GET``/``DELETE /v1/sessions/{id}/legs[/{leg}]`` and ``…/legs/{leg}/resume``.

A person who joins (a dispatcher who listens in, say) is placed at the edge that is best from them to the session's
agent, under the session's own constraints and policies. Another agent is taken from a pool as the first one was. Nodes
call a leg ``SESSION/LEG`` in their heartbeats, and it is moved, resumed and ended like a session.
"""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from router.access import read_session_token
from router.api.gate import MEDIA, VIEWER, Endpoint, key_of, pulses_of
from router.api.reply import IdempotencyKey, PathId, listing, reply
from router.api.resumes import resumed
from router.api.sessions import Desk, refusal, request_hash, unknown_session
from router.core.errors import InputRejected
from router.core.model import ID_PATTERN, Client, Leg, LegId, PoolId, Session, SessionId, SessionState
from router.core.steering import Placement, PlaceRequest, RankedEdge, Refused, place
from router.schemas.fields import Answer
from router.schemas.legs import LegAnswer, LegBody, leg_json
from router.schemas.sessions import LegSummary, ResumeBody, summary_json

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["sessions"])
PathLeg = Annotated[str, Path(pattern=ID_PATTERN, max_length=63)]


class LegList(Answer):
    """The legs of a session, ended ones too."""

    items: list[LegSummary]
    next: str | None


def unknown_leg(session: str, id: str) -> InputRejected:
    """The error of a leg that is not there."""
    return InputRejected("unknown_leg", f"session {session} has no leg called {id}", field="leg")


async def _found(desk: Desk, session: str, id: str) -> tuple[Leg, Session]:
    found = await desk.runtime.read(lambda store: store.leg(SessionId(session), LegId(id)))
    if found is None:
        raise unknown_leg(session, id)
    return found


async def _answer(
    desk: Desk,
    leg: Leg,
    form: Session,
    *,
    status: int = 200,
    with_token: bool = False,
    ranked: tuple[RankedEdge, ...] = (),
) -> Response:
    address = await desk.address_of(form)
    token = desk.token(form) if with_token and leg.edge is not None else None
    return reply(leg_json(leg, desk.document(form, address, token, ranked)), status)


def _place(desk: Desk, parent: Session, body: LegBody, name: str) -> Placement | Refused:
    """Decide on an edge for a person, or on hubs for an agent, seen from the session's user."""
    view = desk.runtime.view
    if body.pool is not None and PoolId(body.pool) not in view.inventory.pools:
        raise InputRejected("unknown_pool", f"there is no pool {body.pool}", field="pool")
    client = parent.client if body.client is None else desk.runtime.addresses.located(body.client.core())
    wanted = PlaceRequest(
        client=client,
        traffic_class=parent.traffic_class,
        pool=parent.pool if body.pool is None else PoolId(body.pool),
        constraints=parent.constraints,
        seed=name,
        agent_data_center=parent.agent_data_center if body.pool is None else None,
        labels={**parent.metadata, **body.metadata},
    )
    return place(view, wanted, desk.now)


def _draft(desk: Desk, parent: Session, body: LegBody, id: LegId, decision: Placement) -> Leg:
    edge = decision.edges[0]
    person = body.client is not None
    return Leg(
        session=parent.id,
        id=id,
        client=desk.runtime.addresses.located(body.client.core()) if body.client is not None else Client(),
        edge=edge.data_center if person else None,
        edge_node=edge.node if person else None,
        edges=tuple(ranked.data_center for ranked in decision.edges) if person else (),
        state=SessionState.ATTACHING if person else SessionState.ACTIVE,
        epoch=1,
        created_at=desk.now,
        lease_expires_at=desk.lease(),
        pool=None if body.pool is None else PoolId(body.pool),
        metadata=dict(sorted(body.metadata.items())),
        reasons=decision.reasons,
    )


@endpoints.post("/sessions/{id}/legs", response_model=LegAnswer, status_code=201, dependencies=[Depends(MEDIA)])
async def add_leg(request: Request, id: PathId, body: LegBody, idempotency_key: IdempotencyKey = None) -> Response:
    """Let a person or another agent join a session; the same key gives the same leg again."""
    desk = Desk.of(request)
    runtime = desk.runtime
    parent = await runtime.read(lambda store: store.session(SessionId(id)))
    if parent is None:
        raise unknown_session(id)
    leg = LegId(f"l-{secrets.token_hex(4)}")
    decision = _place(desk, parent, body, f"{id}/{leg}")
    if isinstance(decision, Refused):
        return refusal(decision)
    key = None if idempotency_key is None else f"{key_of(request).id}:{idempotency_key}"
    fingerprint = request_hash(body)
    draft = _draft(desk, parent, body, leg, decision)
    made = await runtime.commit(
        lambda store: store.add_leg(
            draft, decision.hubs, idempotency_key=key, request_hash=fingerprint, now=runtime.now()
        )
    )
    if made is None:
        why = f"every agent of pool {body.pool} was taken meanwhile"
        return refusal(Refused("no_idle_agent", why, decision.rejected))
    ranked = decision.edges if made.id == leg and made.edge is not None else ()
    return await _answer(desk, *await _found(desk, id, made.id), status=201, with_token=True, ranked=ranked)


@endpoints.get("/sessions/{id}/legs", response_model=LegList, dependencies=[Depends(VIEWER)])
async def list_legs(request: Request, id: PathId) -> Response:
    """List the further legs of a session, oldest first, ended ones too."""
    runtime = Desk.of(request).runtime
    session, legs = await runtime.read(lambda store: (store.session(SessionId(id)), store.legs(SessionId(id))))
    if session is None:
        raise unknown_session(id)
    return listing([summary_json(leg) for leg in legs], None)


@endpoints.get("/sessions/{id}/legs/{leg}", response_model=LegAnswer, dependencies=[Depends(VIEWER)])
async def get_leg(request: Request, id: PathId, leg: PathLeg) -> Response:
    """Show a leg with the paths in force now."""
    desk = Desk.of(request)
    return await _answer(desk, *await _found(desk, id, leg))


@endpoints.delete("/sessions/{id}/legs/{leg}", response_model=LegAnswer, dependencies=[Depends(MEDIA)])
async def end_leg(request: Request, id: PathId, leg: PathLeg) -> Response:
    """End a leg and free its agent; the session goes on. Ending it again changes nothing."""
    desk = Desk.of(request)
    now = desk.runtime.now()
    await desk.runtime.commit(lambda store: store.end_leg(SessionId(id), LegId(leg), reason="caller", now=now))
    return await _answer(desk, *await _found(desk, id, leg))


@endpoints.post("/sessions/{id}/legs/{leg}/resume", response_model=LegAnswer, dependencies=[Depends(MEDIA)])
async def resume_leg(request: Request, id: PathId, leg: PathLeg, body: ResumeBody) -> Response:
    """Take a leg up again with its own token: the best edge now, a new token; older tokens are fenced."""
    desk = Desk.of(request)
    token = read_session_token(desk.runtime.secret, body.token, desk.now)
    if token.session != f"{id}/{leg}":
        raise InputRejected("token_invalid", "the token is that of another leg", field="token")
    done = await resumed(desk, pulses_of(request), token, body)
    if isinstance(done, Refused):
        return refusal(done)
    return await _answer(desk, *await _found(desk, id, leg), with_token=True, ranked=done.ranked)
