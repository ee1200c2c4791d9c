"""``POST /v1/sessions/{id}/resume``: the user is back, or its edge fell silent; same agent, the best edge now.

Users notice a dead edge before anybody else does, so they may name the edges that did not answer them
(``unreachable``); those are not offered to this session. An edge whose node fell silent (:mod:`router.api.pulses`) is
the last choice, because that is evidence, not proof.

An answer may get lost. The same token, sent again within 30 s, gets a token of the same new epoch again, unless
anything has happened to the session since: its user arrived somewhere, it was moved, resumed once more, or ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from router.access import SessionToken, read_session_token
from router.api.gate import MEDIA, Endpoint, pulses_of
from router.api.pulses import Pulses
from router.api.reply import PathId, reply
from router.api.sessions import Desk, refusal, unknown_session
from router.core.errors import InputRejected
from router.core.model import DataCenterId, Event, LegId, Micros, Session, SessionId, SessionState
from router.core.pools import next_session_state
from router.core.steering import Placement, PlaceRequest, RankedEdge, Refused, place
from router.runtime import Runtime
from router.runtime.outcomes import from_unreachable
from router.schemas.sessions import ResumeBody, SessionAnswer
from router.store import Store
from router.store.rebinds import Rebind

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["sessions"])
REPEATED_WITHIN_US = 30_000_000


LOOKED_BACK = 20  # events of a session that are searched for its last placement


@dataclass(frozen=True, slots=True)
class Found:
    """A session, or a leg in its form, and what happened to it last."""

    session: Session
    repeated: bool  # the very token that is shown now has resumed it a moment ago
    rolled_back: bool  # its last placement was a move taken back: the user may hold either token from before


@dataclass(frozen=True, slots=True)
class Resumed:
    """A session that was taken up again."""

    session: Session
    address: str  # where its agent is reached
    ranked: tuple[RankedEdge, ...] = ()


def _check_resumable(found: Found | None, id: str, epoch: int) -> Session:
    if found is None:
        raise unknown_session(id)
    session = found.session
    if not session.state.live:
        message = f"session {id} ended: {session.end_reason}; start a new one"
        raise InputRejected("session_ended", message, field="id", rule="must be live")
    # While a move is under way its new token may not have reached the user: should the old edge die just then, the
    # token before it still opens the door (and fences the one that is on its way). A move that was taken back has
    # raised the epoch twice, and nobody was given the newest token.
    older = 2 if found.rolled_back else 1 if session.state is SessionState.MOVING else 0
    if not session.epoch - older <= epoch <= session.epoch:
        message = f"the token is of epoch {epoch}, the session of {session.epoch}: a newer token has replaced this one"
        raise InputRejected("fenced", message, field="token", rule="the newest token", limit=session.epoch)
    return session


def _own_events(store: Store, id: str) -> Iterator[tuple[str, Event]]:
    """What happened to a session or leg lately, newest first, by the names of what happens to sessions."""
    session, _, leg = id.partition("/")
    for _, event in store.events(subject=session, kind="session", limit=LOOKED_BACK):
        name = event.kind.removeprefix("session.")
        if name.startswith("leg_") == bool(leg) and (not leg or event.detail.get("leg") == leg):
            yield name.removeprefix("leg_"), event


def _look_back(store: Store, session: Session, token_epoch: int, now: Micros) -> Found:
    repeated = rolled_back = False
    for back, (name, event) in enumerate(_own_events(store, session.id)):
        if event.detail.get("epoch") != session.epoch or name not in ("resumed", "moved", "rolled_back"):
            continue
        rolled_back = name == "rolled_back"
        by_it = name == "resumed" and back == 0 and event.detail.get("token_epoch") == token_epoch
        repeated = by_it and session.state is SessionState.ATTACHING and now - event.at <= REPEATED_WITHIN_US
        break
    return Found(session, repeated and token_epoch < session.epoch, rolled_back)


async def _look_up(runtime: Runtime, id: str, token_epoch: int) -> Found | None:
    """The session or leg of that name, and what happened to it last."""
    parent, _, leg = id.partition("/")
    if not leg:
        seen = await runtime.sightings.ask(SessionId(id))
        if seen is None:
            return None
        if seen.session.epoch == token_epoch:  # nothing has happened that this token does not know of
            return Found(seen.session, repeated=False, rolled_back=False)

    def read(store: Store) -> Found | None:
        if leg:
            pair = store.leg(SessionId(parent), LegId(leg))
            session = None if pair is None else pair[1]
        else:
            session = store.session(SessionId(id))
        return None if session is None else _look_back(store, session, token_epoch, runtime.now())

    return await runtime.read(read)


def _place(desk: Desk, pulses: Pulses, session: Session, body: ResumeBody) -> tuple[Placement | Refused, list[str]]:
    """Decide on an edge; with the reasons that are not placement's own."""
    view = desk.runtime.view
    named = [DataCenterId(dc) for dc in body.unreachable if DataCenterId(dc) in view.inventory.data_centers]
    reasons = ["resumed by its user"]
    if named:
        from_unreachable(desk.runtime, body.client.core(), named, session)
        reasons.append(f"its user could not reach {', '.join(named)}")
    wanted = PlaceRequest(
        client=desk.runtime.addresses.located(body.client.core()),
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
    desk = Desk.of(request)
    done = await of_token(desk, pulses_of(request), id, body)
    if isinstance(done, Refused):
        return refusal(done)
    return reply(desk.document(done.session, done.address, desk.token(done.session), done.ranked))


async def of_token(desk: Desk, pulses: Pulses, id: str, body: ResumeBody) -> Resumed | Refused:
    """Take up the session that a token names, if it is the one of the path. Raises as :func:`resumed` does."""
    token = read_session_token(desk.runtime.secret, body.token, desk.now)
    if token.session != id:
        raise InputRejected("token_invalid", "the token is that of another session", field="token")
    return await resumed(desk, pulses, token, body)


async def resumed(desk: Desk, pulses: Pulses, token: SessionToken, body: ResumeBody) -> Resumed | Refused:
    """Take up what the token names, a session or a leg. Raises ``fenced``, ``session_ended``, ``unknown_session``."""
    runtime, id = desk.runtime, token.session
    found = await _look_up(runtime, id, token.epoch)
    if found is not None and found.repeated and found.session.edge not in body.unreachable:
        return Resumed(found.session, await desk.address_of(found.session))
    session = found.session if found is not None and found.repeated else _check_resumable(found, id, token.epoch)
    decision, reasons = _place(desk, pulses, session, body)
    if isinstance(decision, Refused):
        return decision
    edge = decision.edges[0]
    try:
        done = await runtime.rebindings.ask(
            Rebind(
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
            )
        )
    except InputRejected as error:
        # The same request, sent again too soon, has overtaken this one: its answer is ours as well.
        again = await _look_up(runtime, id, token.epoch) if error.code == "fenced" else None
        if again is None or not again.repeated:
            raise
        return Resumed(again.session, await desk.address_of(again.session))
    return Resumed(done.session, done.address, decision.edges)
