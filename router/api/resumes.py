"""``POST /v1/sessions/{id}/resume``: the user is back, or its edge fell silent; same agent, the best edge now.

Users notice a dead edge before anybody else does, so they may name the edges that did not answer them
(``unreachable``); those are not offered to this session. An edge whose node fell silent (:mod:`router.api.pulses`) is
the last choice, because that is evidence, not proof.

An answer may get lost. The same token, sent again within 30 s, gets a token of the same new epoch again, unless
anything has happened to the session since: its user arrived somewhere, it was moved, resumed once more, or ended.
"""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from router.access import read_session_token
from router.api.gate import MEDIA, Endpoint, pulses_of
from router.api.reply import PathId
from router.api.sessions import Desk, refusal, unknown_session
from router.core.errors import InputRejected
from router.core.model import DataCenterId, Micros, Session, SessionId, SessionState
from router.core.pools import next_session_state
from router.core.steering import Placement, PlaceRequest, Refused, place
from router.runtime import Runtime
from router.schemas.sessions import ResumeBody, SessionAnswer
from router.store import Store

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["sessions"])
REPEATED_WITHIN_US = 30_000_000


def _check_resumable(session: Session | None, id: str, epoch: int) -> Session:
    if session is None:
        raise unknown_session(id)
    if not session.state.live:
        message = f"session {id} ended: {session.end_reason}; start a new one"
        raise InputRejected("session_ended", message, field="id", rule="must be live")
    # While a move is under way its new token may not have reached the user: should the old edge die just then, the
    # token before it still opens the door (and fences the one that is on its way).
    moving = session.state is SessionState.MOVING and session.epoch == epoch + 1
    if session.epoch != epoch and not moving:
        message = f"the token is of epoch {epoch}, the session of {session.epoch}: a newer token has replaced this one"
        raise InputRejected("fenced", message, field="token", rule="the newest token", limit=session.epoch)
    return session


def _last_resumed_by(store: Store, session: Session, token_epoch: int, now: Micros) -> bool:
    """Whether the last thing that happened to a session is that this token resumed it, just now."""
    if session.state is not SessionState.ATTACHING or token_epoch >= session.epoch:
        return False
    for _, last in store.events(subject=session.id, kind="session", limit=1):
        by = (last.kind, last.detail.get("epoch"), last.detail.get("token_epoch"))
        return by == ("session.resumed", session.epoch, token_epoch) and now - last.at <= REPEATED_WITHIN_US
    return False


async def _look_up(runtime: Runtime, id: str, token_epoch: int) -> tuple[Session | None, bool]:
    """The session, and whether this very token has resumed it a moment ago."""

    def read(store: Store) -> tuple[Session | None, bool]:
        session = store.session(SessionId(id))
        return session, session is not None and _last_resumed_by(store, session, token_epoch, runtime.now())

    return await runtime.read(read)


def _place(request: Request, desk: Desk, session: Session, body: ResumeBody) -> tuple[Placement | Refused, list[str]]:
    """Decide on an edge; with the reasons that are not placement's own."""
    view, pulses = desk.runtime.view, pulses_of(request)
    named = [DataCenterId(dc) for dc in body.unreachable if DataCenterId(dc) in view.inventory.data_centers]
    reasons = ["resumed by its user"]
    if named:
        reasons.append(f"its user could not reach {', '.join(named)}")
    wanted = PlaceRequest(
        client=body.client.core(),
        traffic_class=session.traffic_class,
        pool=session.pool,
        constraints=session.constraints,
        seed=session.id,
        sticky=session.edge,
        exclude=tuple(named),
        agent_data_center=session.agent_data_center,
        labels=session.metadata,
    )
    node = session.edge_node
    silent_us = None if node is None or session.edge in named else pulses.silent_us(node, desk.now)
    if silent_us is not None:
        decision = place(view, replace(wanted, exclude=(*named, session.edge)), desk.now)
        if isinstance(decision, Placement):
            return decision, [*reasons, f"{node} has been silent for {silent_us / 1e6:.1f} s"]
    return place(view, wanted, desk.now), reasons


@endpoints.post("/sessions/{id}/resume", response_model=SessionAnswer, dependencies=[Depends(MEDIA)])
async def resume_session(request: Request, id: PathId, body: ResumeBody) -> Response:
    """Take a session up again: same agent, the best edge now, a new token; older tokens are fenced from here on."""
    desk = Desk(request)
    runtime = desk.runtime
    token = read_session_token(runtime.secret, body.token, desk.now)
    if token.session != id:
        raise InputRejected("token_invalid", "the token is that of another session", field="token")
    found, repeated = await _look_up(runtime, id, token.epoch)
    if found is not None and repeated and found.edge not in body.unreachable:
        return await desk.answer(found, with_token=True)
    session = found if found is not None and repeated else _check_resumable(found, id, token.epoch)
    decision, reasons = _place(request, desk, session, body)
    if isinstance(decision, Refused):
        return refusal(decision)
    edge = decision.edges[0]
    try:
        resumed = await runtime.commit(
            lambda store: store.rebind_session(
                session.id,
                expect_epoch=session.epoch,
                state=next_session_state(session.state, "resumed"),
                edge=edge.data_center,
                edge_node=edge.node,
                edges=tuple(ranked.data_center for ranked in decision.edges),
                moved_from=None,
                reasons=(*reasons, *decision.reasons),
                lease_expires_at=max(session.lease_expires_at, desk.lease()),
                event_kind="session.resumed",
                token_epoch=token.epoch,
                now=runtime.now(),
            )
        )
    except InputRejected as error:
        # The same request, sent again too soon, has overtaken this one: its answer is ours as well.
        found, repeated = await _look_up(runtime, id, token.epoch) if error.code == "fenced" else (None, False)
        if found is None or not repeated:
            raise
        return await desk.answer(found, with_token=True)
    return await desk.answer(resumed, with_token=True, ranked=decision.edges)
