"""Sessions: placed on the View, committed with an agent in one transaction, answered with both paths.

The paths of a session are not stored: they are those in force between its edge and its agent's data center at the
moment of reading. A session without agent and without ``to`` has only edges.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from router.access import Key, sign_session_token
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
from router.core import ramp as ramps
from router.core.dial import identity
from router.core.errors import InputRejected
from router.core.model import (
    DataCenterId,
    Leg,
    Micros,
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
from router.schemas.clients import network_of
from router.schemas.events import EventList, event_json
from router.schemas.sessions import (
    PlaceBody,
    SessionAnswer,
    SessionList,
    SteerAnswer,
    rejected_json,
    session_json,
    steer_json,
    summary_json,
)
from router.settings import Settings
from router.store import Store
from router.store.takes import Start

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["sessions"])
_DICE = random.Random()  # seeded by the system; names need be different, not secret
PLACINGS = 3  # of one request, when its agents are taken by others while it is being placed


def unknown_session(id: str) -> InputRejected:
    """The error of a session that is not there."""
    return InputRejected("unknown_session", f"there is no session called {id}", field="id")


def refusal(refused: Refused) -> Response:
    """The problem document of a placement that has no answer: nothing was taken, and when to ask again."""
    error = InputRejected(
        refused.code, refused.reason, field=refused.field, rule=refused.code, limit=refused.limit,
        override="widen the constraints, or ask again",
    )  # fmt: skip
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

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self.runtime = runtime
        self.settings = settings
        self.now = runtime.now()

    @staticmethod
    def of(request: Request) -> Desk:
        """The desk of the app that a request came to."""
        return Desk(runtime_of(request), settings_of(request))

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
        address, position = await self.address_of(session), await self.position_of(session)
        token = self.token(session) if with_token else None
        return reply(self.document(session, address, token, ranked, position=position), status)

    async def position_of(self, session: Session) -> int | None:
        """Place of a session in the queue of its pool; None unless it waits."""
        if session.state is not SessionState.QUEUED:
            return None
        return await self.runtime.read(lambda store: store.queue_position(session))

    async def address_of(self, session: Session) -> str:
        """Where a session's agent is reached; empty without one."""
        id = session.agent
        agent = None if id is None else await self.runtime.read(lambda store: store.agent(id))
        return "" if agent is None else agent.address

    def document(
        self,
        session: Session,
        address: str,
        token: str | None = None,
        ranked: Sequence[RankedEdge] = (),
        legs: Sequence[Leg] = (),
        position: int | None = None,
    ) -> dict[str, object]:
        """The JSON form of a session with the paths in force."""
        view = self.runtime.view
        return session_json(
            session,
            view.inventory,
            path_of(view, session, self.now),
            agent_address=address,
            generation=view.generation,
            grace_s=self.settings.user_grace_s,
            token=token,
            ranked=ranked,
            legs=[summary_json(leg) for leg in legs],
            position=position,
        )


def request_hash(body: BaseModel) -> bytes:
    """Fingerprint of a request, for its idempotency key; the order of fields does not matter."""
    return hashlib.blake2b(body.model_dump_json(by_alias=True).encode(), digest_size=32).digest()


def wish_of(runtime: Runtime, body: PlaceBody, seed: str) -> PlaceRequest:
    """What is to be placed, its client with all that is known of its address."""
    return body.core(runtime.view.inventory, seed, runtime.addresses.located)


@endpoints.post("/steer", response_model=SteerAnswer, dependencies=[Depends(MEDIA)])
async def steer(request: Request, body: PlaceBody) -> Response:
    """Show where a session would be placed; nothing is taken."""
    runtime = runtime_of(request)
    check_names(runtime.view, body)
    decision = place(runtime.view, wish_of(runtime, body, request_hash(body).hex()), runtime.now())
    return refusal(decision) if isinstance(decision, Refused) else reply(steer_json(decision))


def new_name(now: Micros) -> SessionId:
    """A name for a session; those made close together stand close together in the database's indexes."""
    return SessionId(f"s-{now // 1000:011x}{_DICE.getrandbits(40):010x}")


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


@dataclass(frozen=True, slots=True)
class Started:
    """A session that was started, where its agent is reached, and its edges if it was placed just now."""

    session: Session
    address: str
    ranked: tuple[RankedEdge, ...] = ()

    @property
    def status(self) -> int:
        """201 when it has all it needs, 202 when it waits for an agent."""
        return 202 if self.session.state is SessionState.QUEUED else 201


def queue_until(desk: Desk, body: PlaceBody) -> Micros | None:
    """Until when a session may wait for an agent; None if it may not."""
    pool = None if body.pool is None else desk.runtime.view.inventory.pools.get(PoolId(body.pool))
    if pool is None:
        return None
    queue_s = pool.queue_s if body.queue_s is None else body.queue_s
    return desk.now + queue_s * 1_000_000 if queue_s else None


async def _queue(
    desk: Desk, body: PlaceBody, wanted: PlaceRequest, id: SessionId, start: Callable[[Session], Start]
) -> Started | None:
    """Let a session wait at the edge that is best for its user; None where even that is refused."""
    decision = place(desk.runtime.view, replace(wanted, edge_only=True, cap_factor=math.inf), desk.now)
    if isinstance(decision, Refused):
        return None
    waits = await desk.runtime.turnstile.start(start(new_session(id, body, wanted, decision, desk)))
    return None if waits is None else Started(waits.session, waits.address)


async def started(desk: Desk, caller: Key, body: PlaceBody, idempotency_key: str | None) -> Started | Refused:
    """Place a session, take an agent, and write both."""
    runtime, id = desk.runtime, new_name(desk.now)
    # A caller's idempotency keys are its own: two callers may use the same text.
    key = None if idempotency_key is None else f"{caller.id}:{idempotency_key}"
    fingerprint = b"" if key is None else request_hash(body)
    check_names(runtime.view, body)
    wanted, patience = wish_of(runtime, body, id), queue_until(desk, body)
    for attempt in range(PLACINGS):
        decision = place(runtime.view, wanted, desk.now)
        if isinstance(decision, Refused):
            refused = decision
            if refused.code != "no_idle_agent" or attempt or not runtime.store.shared:
                break
        else:
            draft = new_session(id, body, wanted, decision, desk)
            turn = ramps.turn(runtime.view.lanes, wanted.pool, identity(wanted.client, wanted.labels, wanted.seed))
            start = Start(draft, decision.hubs, key, fingerprint, patience, turn.version)
            bound = await runtime.turnstile.start(start)
            if bound is not None:
                if bound.session.id == id:
                    runtime.arms.begun(bound.session, decision.arms, desk.now, turn.arms(bound.version))
                return Started(bound.session, bound.address, decision.edges if bound.session.id == id else ())
            why = f"every agent of pool {body.pool} was taken meanwhile"
            refused = Refused("no_idle_agent", why, decision.rejected, "pool")
        # Others take agents of the same database; what they did shows in the counters a second later, or now.
        await runtime.recount_agents()
    if patience is not None and refused.code in ("no_idle_agent", "max_rtt"):
        waits = await _queue(desk, body, wanted, id, lambda draft: Start(draft, (), key, fingerprint, patience))
        if waits is not None:
            return waits
    # The world may have changed since the first try; what that one got is still the answer.
    again = await _replayed(runtime, key, fingerprint)
    if again is None and wanted.pool is not None and refused.code == "no_idle_agent":
        runtime.machines.unserved(wanted)
    return refused if again is None else Started(again, await desk.address_of(again))


@endpoints.post("/sessions", response_model=SessionAnswer, status_code=201, dependencies=[Depends(MEDIA)])
async def start_session(request: Request, body: PlaceBody, idempotency_key: IdempotencyKey = None) -> Response:
    """Place a session, take an agent, and answer once both are durable; the same key gives the same session again.

    202 says that it waits for an agent (``state`` ``queued``, ``position``); it then becomes ``attaching``, or ends.
    """
    desk = Desk.of(request)
    found = await started(desk, key_of(request), body, idempotency_key)
    if isinstance(found, Refused):
        return refusal(found)
    token, position = desk.token(found.session), await desk.position_of(found.session)
    return reply(desk.document(found.session, found.address, token, found.ranked, position=position), found.status)


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
        str | None, Query(max_length=64, pattern=r"^[0-9A-Za-z.:/]+$", description="address, prefix, ASN or country")
    ] = None,
    pool: QueryId = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    after: After = None,
) -> Response:
    """List sessions; also by ``metadata.KEY=VALUE``."""
    desk = Desk.of(request)
    metadata = {
        name.removeprefix("metadata."): value[:255]
        for name, value in request.query_params.items()
        if name.startswith("metadata.")
    }
    dc = None if data_center is None else DataCenterId(data_center)
    of_pool = None if pool is None else PoolId(pool)
    network = None if client is None else network_of(client)

    def find(
        store: Store,
    ) -> tuple[tuple[Session, ...], dict[str, str], dict[SessionId, int], Mapping[SessionId, tuple[Leg, ...]]]:
        found = store.sessions(
            data_center=dc, state=state, client=network, pool=of_pool, metadata=metadata, limit=limit + 1, after=after
        )
        agents = {s.agent: store.agent(s.agent) for s in found[:limit] if s.agent is not None}
        positions = {s.id: store.queue_position(s) for s in found[:limit] if s.state is SessionState.QUEUED}
        reached = {str(id): agent.address for id, agent in agents.items() if agent is not None}
        return found, reached, positions, store.legs_of([s.id for s in found[:limit]])

    found, addresses, positions, legs = await desk.runtime.read(find)
    shown = found[:limit]
    next = shown[-1].id if len(found) > limit else None
    documents = [
        desk.document(s, addresses.get(str(s.agent), ""), legs=legs.get(s.id, ()), position=positions.get(s.id))
        for s in shown
    ]
    return listing(documents, next)


@endpoints.get("/sessions/{id}", response_model=SessionAnswer, dependencies=[Depends(VIEWER)])
async def get_session(request: Request, id: PathId) -> Response:
    """Show a session with the paths in force now, and with its further legs."""
    desk = Desk.of(request)
    session, legs = await desk.runtime.read(lambda store: (store.session(SessionId(id)), store.legs(SessionId(id))))
    if session is None:
        raise unknown_session(id)
    address, position = await desk.address_of(session), await desk.position_of(session)
    return reply(desk.document(session, address, legs=legs, position=position))


@endpoints.delete("/sessions/{id}", response_model=SessionAnswer, dependencies=[Depends(MEDIA)])
async def end_session(request: Request, id: PathId) -> Response:
    """End a session and free its agent; ending it again changes nothing."""
    desk = Desk.of(request)
    ended = await desk.runtime.turnstile.end(SessionId(id), "caller")
    desk.runtime.arms.ended(ended.session.id)
    return reply(desk.document(ended.session, ended.address, legs=ended.legs))


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
