"""``POST /v1/sessions/heartbeat``: media nodes renew their leases and learn which sessions to hand over or to close."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from router.api.gate import NODE_OR_MEDIA, Endpoint, insist_on_own_node, pulses_of, tallies_of
from router.api.reply import reply
from router.api.sessions import Desk
from router.core.model import NodeId, Session, SessionId, SessionState
from router.schemas.sessions import HeartbeatAnswer, HeartbeatBody, edge_url
from router.schemas.units import rfc3339

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
    desk = Desk(request)
    node, lease = NodeId(body.node), desk.now + desk.settings.session_lease_s * 1_000_000
    own = desk.runtime.view.inventory.nodes.get(node)
    if own is not None:  # before the commit, which may wait its turn: the node speaks now
        pulses_of(request).heard(node, body.totals.sessions, desk.now)
    changed = [(SessionId(one.id), one.event) for one in body.changed if one.event is not None]
    leaving = await desk.runtime.commit(lambda store: store.touch_sessions(node, changed, lease, desk.runtime.now()))
    if own is not None:
        totals = body.totals
        tallies_of(request).heard(own.data_center, node, totals.good, totals.bad, totals.setup_failures)
    # Attaching: its user knocked here, but a resume has meanwhile given it another edge; tell them where.
    to_move = (SessionState.MOVING, SessionState.ATTACHING)
    moves = [_move(desk, session, node) for session in leaving if session.state in to_move]
    ends = [
        {"id": session.id, "reason": session.end_reason if session.state is SessionState.ENDED else "placed_elsewhere"}
        for session in leaving
        if session.state not in to_move
    ]
    return reply({"moves": moves, "ends": ends, "lease_expires_at": rfc3339(lease)})
