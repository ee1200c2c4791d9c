"""``POST /v1/sessions/heartbeat``: media nodes renew their leases and learn which sessions to hand over or to close."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from router.api.gate import NODE_OR_MEDIA, Endpoint, insist_on_own_node, pulses_of, tallies_of
from router.api.passive import learn_from_sessions
from router.api.pulses import Pulses
from router.api.reply import reply
from router.api.sessions import Desk
from router.core.model import NodeId, Session, SessionId, SessionState
from router.runtime.arms import Told
from router.runtime.outcomes import Said, Sums, from_heartbeat
from router.schemas.sessions import ChangedSession, HeartbeatAnswer, HeartbeatBody, edge_url
from router.schemas.units import ppm, rfc3339, us
from router.store.heartbeats import Beat, Heard
from router.telemetry import Tallies

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["sessions"])


def _move(desk: Desk, session: Session, node: NodeId) -> dict[str, object]:
    inventory = desk.runtime.view.inventory
    own = inventory.nodes.get(node)
    source = session.moved_from or (session.edge if own is None else own.data_center)
    left_us = session.lease_expires_at - desk.now
    return {
        "id": session.id,
        "from": source,
        "to": session.edge,
        "url": edge_url(inventory, session.edge, session.edge_node),
        "edges": list(session.edges),
        "token": desk.token(session),
        "deadline_s": max(1, min(desk.settings.move_deadline_s, left_us // 1_000_000)),
    }


@endpoints.post("/sessions/heartbeat", response_model=HeartbeatAnswer, dependencies=[Depends(NODE_OR_MEDIA)])
async def heartbeat(request: Request, body: HeartbeatBody) -> Response:
    """Renew a node's lease over all its sessions; the answer carries the moves and ends it must carry out."""
    insist_on_own_node(request, body.node)
    return reply(await listen(Desk.of(request), pulses_of(request), tallies_of(request), body))


async def listen(desk: Desk, pulses: Pulses, tallies: Tallies, body: HeartbeatBody) -> dict[str, object]:
    """Do all that a heartbeat asks for and tells, whichever way it came in; the JSON form of the answer."""
    node = NodeId(body.node)
    own = desk.runtime.view.inventory.nodes.get(node)
    if own is not None:  # before the commit, which may wait its turn: the node speaks now
        pulses.heard(node, body.totals.sessions, desk.now)
    else:
        desk.runtime.rounds.forget(node)
    heard = await desk.runtime.rounds.hear(beat_of(desk, body))
    if own is not None:
        desk.runtime.arms.heard(map(told_of, body.changed), desk.now)
        learn_from_sessions(desk.runtime, node, own.data_center, body.changed)
        totals = body.totals
        said = {one.id: Said(one.event, one.loss_pct, one.rtt_ms) for one in body.changed}
        sums = Sums(totals.good, totals.bad, totals.setup_failures)
        from_heartbeat(desk.runtime, node, own.data_center, said, sums)
        tallies.heard(own.data_center, node, totals.good, totals.bad, totals.setup_failures)
    return heard_json(desk, node, heard)


def told_of(one: ChangedSession) -> Told:
    """What a node says of one session, for the ramps."""
    loss = None if one.loss_pct is None else ppm(one.loss_pct)
    return Told(one.id, one.event, us(one.rtt_ms) if one.rtt_ms else None, loss)


def beat_of(desk: Desk, body: HeartbeatBody) -> Beat:
    """What the store is told of a heartbeat."""
    changed = tuple((SessionId(one.id), one.event) for one in body.changed if one.event is not None)
    lease, grace = desk.settings.session_lease_s, desk.settings.user_grace_s
    return Beat(NodeId(body.node), body.epoch, changed, desk.now + lease * 1_000_000, desk.now + grace * 1_000_000)


def heard_json(desk: Desk, node: NodeId, heard: Heard) -> dict[str, object]:
    """Return the JSON form of the answer to a heartbeat."""
    # Attaching: its user knocked here, but a resume has meanwhile given it another edge; tell them where.
    to_move = (SessionState.MOVING, SessionState.ATTACHING)
    moves = [_move(desk, session, node) for session in heard.leaving if session.state in to_move]
    ends = [
        {"id": session.id, "reason": session.end_reason if session.state is SessionState.ENDED else "placed_elsewhere"}
        for session in heard.leaving
        if session.state not in to_move
    ]
    rebound = [
        {"id": other.session, "agent": {"id": other.agent, "data_center": other.data_center, "address": other.address}}
        for other in desk.runtime.waiting.rebound.get(node, ())
    ]
    return {"moves": moves, "ends": ends, "rebound": rebound, "lease_expires_at": rfc3339(heard.lease.expires_at)}
