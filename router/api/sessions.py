"""Sessions: placed on the View, committed with an agent in one transaction, answered with both paths.

The paths of a session are not stored: they are those in force between its edge and its agent's data center at the
moment of reading. A session without agent and without ``to`` has only edges.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from router.access import sign_session_token
from router.api.gate import (
    MEDIA,
    VIEWER,
    Endpoint,
    key_of,
    runtime_of,
    settings_of,
)
from router.api.problems import of_error
from router.api.reply import After, IdempotencyKey, Limit, PathId, QueryId, listing, page, reply
from router.core.errors import InputRejected
from router.core.model import (
    DataCenterId,
    PoolId,
    Session,
    SessionId,
    SessionState,
)
from router.core.policy import matching
from router.core.solve import PathAnswer, RouteAnswer, route
from router.core.steering import Placement, PlaceRequest, RankedEdge, Refused, place
from router.core.tables import Context, View
from router.runtime import Runtime
from router.schemas.events import EventList, event_json
from router.schemas.sessions import (
    PlaceBody,
    SessionAnswer,
    SessionList,
    SteerAnswer,
    rejected_json,
    session_json,
    steer_json,
)
from router.settings import Settings
from router.store import Store
from router.store.takes import Start

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["sessions"])


def unknown_session(id: str) -> InputRejected:
    """The error of a session that is not there."""
    return InputRejected("unknown_session", f"there is no session called {id}", field="id")


def refusal(refused: Refused) -> Response:
    """The problem document of a placement that has no answer: nothing was taken, and when to ask again."""
    error = InputRejected(
        refused.code, refused.reason, rule=refused.code, override="widen the constraints, or ask again"
    )
    response = of_error(error, rejected=rejected_json(refused.rejected), retry_after_s=1)
    response.headers["Retry-After"] = "1"
    return response


def check_names(view: View, body: PlaceBody) -> None:
    """Refuse names that are not in the inventory. Raises ``unknown_pool``, ``unknown_data_center``, ``unknown_…``."""
    if body.pool is not None and PoolId(body.pool) not in view.inventory.pools:
        raise InputRejected("unknown_pool", f"there is no pool {body.pool}", field="pool")
    if body.to is not None and DataCenterId(body.to) not in view.inventory.data_centers:
        raise InputRejected("unknown_data_center", f"there is no data center {body.to}", field="to")


def here(view: View, session: Session) -> PathAnswer:
    """The path of a session whose edge is its agent's data center: no hop at all."""
    return PathAnswer((session.edge,), (), 0, 0, 0, 0, 4.5, 0, 0)


def path_of(view: View, session: Session, now: int) -> RouteAnswer | None:
    """The route between a session's edge and its agent, as it is in force now."""
    there = session.agent_data_center
    if there is None or there not in view.inventory.data_centers or session.edge not in view.inventory.data_centers:
        return None
    if there == session.edge:
        stay = here(view, session)
        context = Context(session.traffic_class)
        why = ("the agent is in the edge's own data center",)
        return RouteAnswer(
            session.edge, there, context, view.generation, now, 0, False, stay, stay, 0, 0, (), (), now, why
        )
    policy = matching(view.inventory, session.traffic_class, session.pool, session.metadata)
    return route(view, session.edge, there, session.traffic_class, policy, now)


class Desk:
    """What answering about sessions takes, picked up once per request."""

    def __init__(self, request: Request) -> None:
        self.runtime: Runtime = runtime_of(request)
        self.settings: Settings = settings_of(request)
        self.now = self.runtime.now()

    def lease(self) -> int:
        """Until when a user who is on the way is waited for."""
        return self.now + self.settings.attach_lease_s * 1_000_000

    def token(self, session: Session) -> str:
        """A token of the session's present epoch."""
        expires_at = self.now + self.settings.session_token_s * 1_000_000
        return sign_session_token(self.runtime.secret, session.id, session.epoch, expires_at)

    async def answer(
        self, session: Session, *, status: int = 200, with_token: bool = False, ranked: Sequence[RankedEdge] = ()
    ) -> Response:
        """Answer about one session."""
        id = session.agent
        agent = None if id is None else await self.runtime.read(lambda store: store.agent(id))
        document = self.document(
            session, "" if agent is None else agent.address, self.token(session) if with_token else None, ranked
        )
        return reply(document, status)

    def document(
        self, session: Session, address: str, token: str | None = None, ranked: Sequence[RankedEdge] = ()
    ) -> dict[str, object]:
        """The JSON form of a session with the paths in force."""
        view = self.runtime.view
        return session_json(
            session,
            view.inventory,
            path_of(view, session, self.now),
            agent_address=address,
            generation=view.generation,
            grace_s=self.settings.session_lease_s,
            token=token,
            ranked=ranked,
        )


def request_hash(body: BaseModel) -> bytes:
    """Fingerprint of a request, for its idempotency key; the order of fields does not matter."""
    canonical = json.dumps(body.model_dump(mode="json", by_alias=True), sort_keys=True)
    return hashlib.blake2b(canonical.encode(), digest_size=32).digest()


@endpoints.post("/steer", response_model=SteerAnswer, dependencies=[Depends(MEDIA)])
async def steer(request: Request, body: PlaceBody) -> Response:
    """Show where a session would be placed; nothing is taken."""
    runtime = runtime_of(request)
    check_names(runtime.view, body)
    decision = place(runtime.view, body.core(runtime.view.inventory, request_hash(body).hex()), runtime.now())
    return refusal(decision) if isinstance(decision, Refused) else reply(steer_json(decision))


def new_session(id: str, body: PlaceBody, wanted: PlaceRequest, decision: Placement, desk: Desk) -> Session:
    """The row to write; the store fills the agent in."""
    edge = decision.edges[0]
    return Session(
        id=SessionId(id),
        state=SessionState.ATTACHING,
        traffic_class=wanted.traffic_class,
        client=wanted.client,
        edge=edge.data_center,
        edge_node=edge.node,
        edges=tuple(ranked.data_center for ranked in decision.edges),
        epoch=1,
        created_at=desk.now,
        lease_expires_at=desk.lease(),
        pool=wanted.pool,
        agent_data_center=wanted.to,
        constraints=wanted.constraints,
        metadata=dict(sorted(body.metadata.items())),
        reasons=decision.reasons,
    )


async def _replayed(runtime: Runtime, key: str | None, fingerprint: bytes) -> Session | None:
    """What this very request has started before, if it has."""
    if key is None:
        return None
    return await runtime.commit(lambda store: store.replayed(key, fingerprint, runtime.now()))


@endpoints.post("/sessions", response_model=SessionAnswer, status_code=201, dependencies=[Depends(MEDIA)])
async def start_session(request: Request, body: PlaceBody, idempotency_key: IdempotencyKey = None) -> Response:
    """Place a session, take an agent, and answer once both are durable; the same key gives the same session again."""
    desk = Desk(request)
    runtime, id = desk.runtime, f"s-{secrets.token_hex(6)}"
    # A caller's idempotency keys are its own: two callers may use the same text.
    key = None if idempotency_key is None else f"{key_of(request).id}:{idempotency_key}"
    fingerprint = request_hash(body)
    check_names(runtime.view, body)
    wanted = body.core(runtime.view.inventory, id)
    decision = place(runtime.view, wanted, desk.now)
    if isinstance(decision, Refused):
        # The world may have changed since the first try; what that one got is still the answer.
        again = await _replayed(runtime, key, fingerprint)
        return await desk.answer(again, status=201, with_token=True) if again else refusal(decision)
    draft = new_session(id, body, wanted, decision, desk)
    session = await runtime.turnstile.start(Start(draft, decision.hubs, key, fingerprint))
    if session is None:
        why = f"every agent of pool {body.pool} was taken meanwhile"
        return refusal(Refused("no_idle_agent", why, decision.rejected))
    ranked = decision.edges if session.id == id else ()
    return await desk.answer(session, status=201, with_token=True, ranked=ranked)


@endpoints.get(
    "/sessions",
    response_model=SessionList,
    dependencies=[Depends(VIEWER)],
    openapi_extra={"x-free-parameters": "metadata."},
)
async def list_sessions(
    request: Request,
    data_center: QueryId = None,
    state: SessionState | None = None,
    client: Annotated[
        str | None, Query(max_length=64, pattern=r"^[0-9A-Za-z.:/]+$", description="prefix, ASN or country")
    ] = None,
    pool: QueryId = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    after: After = None,
) -> Response:
    """List sessions; also by ``metadata.KEY=VALUE``."""
    desk = Desk(request)
    metadata = {
        name.removeprefix("metadata."): value[:255]
        for name, value in request.query_params.items()
        if name.startswith("metadata.")
    }
    dc = None if data_center is None else DataCenterId(data_center)
    of_pool = None if pool is None else PoolId(pool)

    def find(store: Store) -> tuple[tuple[Session, ...], dict[str, str]]:
        found = store.sessions(
            data_center=dc, state=state, client=client, pool=of_pool, metadata=metadata, limit=limit + 1, after=after
        )
        agents = {s.agent: store.agent(s.agent) for s in found[:limit] if s.agent is not None}
        return found, {str(id): agent.address for id, agent in agents.items() if agent is not None}

    found, addresses = await desk.runtime.read(find)
    shown = found[:limit]
    next = shown[-1].id if len(found) > limit else None
    return listing([desk.document(s, addresses.get(str(s.agent), "")) for s in shown], next)


@endpoints.get("/sessions/{id}", response_model=SessionAnswer, dependencies=[Depends(VIEWER)])
async def get_session(request: Request, id: PathId) -> Response:
    """Show a session with the paths in force now."""
    desk = Desk(request)
    session = await desk.runtime.read(lambda store: store.session(SessionId(id)))
    if session is None:
        raise unknown_session(id)
    return await desk.answer(session)


@endpoints.delete("/sessions/{id}", response_model=SessionAnswer, dependencies=[Depends(MEDIA)])
async def end_session(request: Request, id: PathId) -> Response:
    """End a session and free its agent; ending it again changes nothing."""
    desk = Desk(request)
    session = await desk.runtime.turnstile.end(SessionId(id), "caller")
    return await desk.answer(session)


@endpoints.get("/sessions/{id}/events", response_model=EventList, dependencies=[Depends(VIEWER)])
async def session_events(
    request: Request,
    id: PathId,
    limit: Limit = 1_000,
    after: Annotated[str | None, Query(pattern=r"^[0-9]{1,9}$", description="`next` of the page before")] = None,
) -> Response:
    """Show a session's life, oldest first, with reasons."""
    runtime = runtime_of(request)

    def read(store: Store) -> tuple[dict[str, object], ...] | None:
        if store.session(SessionId(id)) is None:
            return None
        return tuple(event_json(event) for event in store.session_events(SessionId(id)))

    found = await runtime.read(read)
    if found is None:
        raise unknown_session(id)
    numbered = [(f"{i:09d}", event) for i, event in enumerate(found)]
    cut, next = page(numbered, limit, None if after is None else after.zfill(9), lambda pair: pair[0])
    return listing([event for _, event in cut], next)
