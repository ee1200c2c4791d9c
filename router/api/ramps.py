"""Ramps: data centers, and versions of agents, that earn their users step by step; shown with their evidence."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from router.api.gate import OPERATOR, VIEWER, Endpoint, actor_of, runtime_of
from router.api.reply import After, Limit, PathId, listing, reply
from router.core import ramp as ramps
from router.core.errors import InputRejected
from router.core.messages import Climbed
from router.core.model import DataCenter, DataCenterId, Intent, Micros, PoolId, Ramp, RampId, RampKind, RampState
from router.core.tables import View
from router.runtime.climbs import new_id
from router.schemas.ramps import RampAnswer, RampBody, RampList, RobotsBody, ramp_json

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["ramps"])
STEP_ATTEMPTS = 3


def _shown(view: View, ramp: Ramp) -> dict[str, object]:
    return ramp_json(ramp, view.climbs.get(ramp.id))


def _found(view: View, id: str) -> Ramp:
    found = view.ramps.get(RampId(id))
    if found is None:
        raise InputRejected("unknown_ramp", f"there is no ramp {id}", field="id")
    return found


def _beginner(view: View, id: str) -> DataCenter:
    """The data center that is to begin a ramp. Raises ``unknown_data_center``, ``bad_transition``."""
    found = view.inventory.data_centers.get(DataCenterId(id))
    if found is None:
        raise InputRejected("unknown_data_center", f"there is no data center {id}", field="data_center")
    if not found.intent.takes_new_sessions:
        message = f"{id} is {found.intent.value}; a ramp is for one that is to take sessions: undo its drain first"
        raise InputRejected("bad_transition", message, field="data_center", rule="serving or canary")
    return found


def _draft(view: View, body: RampBody, actor: str, now: Micros) -> tuple[Ramp, dict[DataCenterId, Intent]]:
    """The ramp that is to begin, and the intent that goes with it. Raises ``invalid_field``, ``unknown_pool``."""
    if body.kind is RampKind.VERSION:
        if body.pool is None or not body.version or body.data_center is not None:
            message = "a ramp of a version names its pool and its version, and no data center"
            raise InputRejected("invalid_field", message, field="version", rule="pool and version")
        if PoolId(body.pool) not in view.inventory.pools:
            raise InputRejected("unknown_pool", f"there is no pool {body.pool}", field="pool")
        return ramps.begin_version(PoolId(body.pool), body.version, new_id(), body.reason, actor, now), {}
    if body.data_center is None or body.pool is not None or body.version:
        message = f"a ramp of kind {body.kind.value} names its data center, and neither pool nor version"
        raise InputRejected("invalid_field", message, field="data_center", rule="a data center")
    center = _beginner(view, body.data_center)
    intents = {center.id: Intent.CANARY} if body.kind is RampKind.NEW else {}
    return ramps.begin(body.kind, center.id, new_id(), body.reason, actor, now), intents


@endpoints.post("/ramps", response_model=RampAnswer, status_code=201, dependencies=[Depends(OPERATOR)])
async def begin_ramp(request: Request, body: RampBody) -> Response:
    """Let it earn its users: from the answer on it takes nobody (new), a tenth (return), a hundredth (version)."""
    runtime, actor, now = runtime_of(request), actor_of(request), runtime_of(request).now()
    draft, intents = _draft(runtime.view, body, actor, now)
    done = await runtime.commit(lambda store: store.put_ramp(draft, intents, actor=actor, now=now))
    await runtime.routes_settled()
    return reply(_shown(runtime.view, done), 201)


@endpoints.get("/ramps", response_model=RampList, dependencies=[Depends(VIEWER)])
async def list_ramps(request: Request, limit: Limit = 1_000, after: After = None) -> Response:
    """List ramps, newest first."""
    view = runtime_of(request).view
    newest = sorted(view.ramps.values(), key=lambda ramp: (-ramp.created_at, ramp.id))
    place = next((i + 1 for i, ramp in enumerate(newest) if ramp.id == after), 0)
    cut = newest[place : place + limit]
    more = cut[-1].id if len(newest) > place + limit else None
    return listing([_shown(view, ramp) for ramp in cut], more)


@endpoints.get("/ramps/{id}", response_model=RampAnswer, dependencies=[Depends(VIEWER)])
async def get_ramp(request: Request, id: PathId) -> Response:
    """Show a ramp, what was seen on its rung, and what it waits for."""
    view = runtime_of(request).view
    return reply(_shown(view, _found(view, id)))


@endpoints.post("/ramps/{id}/robots", response_model=RampAnswer, dependencies=[Depends(OPERATOR)])
async def robots_came_back(request: Request, id: PathId, body: RobotsBody) -> Response:
    """Take what robots found: sessions that are no user's, through everything the data center is to do."""
    runtime = runtime_of(request)
    found = _found(runtime.view, id)
    if found.pool:
        raise InputRejected("bad_transition", f"ramp {id} is of a version: users show it, not robots", field="kind")
    if not found.open:
        raise InputRejected("bad_transition", f"ramp {id} is over: it is {found.state.value}", field="state")
    await runtime.submit(Climbed(robots=body.core(found.data_center)))
    return reply(_shown(runtime.view, found))


async def _step(request: Request, id: str, event: str, reason: str) -> Response:
    """Decide on the View and commit; a ramp that went on by itself meanwhile is decided on once more."""
    runtime, actor = runtime_of(request), actor_of(request)
    for attempt in range(STEP_ATTEMPTS):
        now, held = runtime.now(), _found(runtime.view, id)
        climb = runtime.view.climbs.get(held.id)
        named = "retry" if event == "advance" and held.state is RampState.ROLLED_BACK else event
        exposed = None if climb is None else climb.exposed
        after, intents = ramps.step(runtime.view, held.id, named, reason, now, exposed)
        try:
            done = await runtime.commit(
                lambda store, after=after, intents=intents, now=now: store.put_ramp(  # type: ignore[misc]
                    after, intents, actor=actor, now=now
                )
            )
        except InputRejected as error:
            if error.code != "revision_conflict" or attempt == STEP_ATTEMPTS - 1:
                raise
            continue
        if intents:
            await runtime.routes_settled()
        return reply(_shown(runtime.view, done))
    raise AssertionError("unreachable")


@endpoints.post("/ramps/{id}/pause", response_model=RampAnswer, dependencies=[Depends(OPERATOR)])
async def pause_ramp(request: Request, id: PathId) -> Response:
    """Keep the share as it is; one that proves bad is rolled back all the same."""
    return await _step(request, id, "pause", "paused by a person")


@endpoints.post("/ramps/{id}/resume", response_model=RampAnswer, dependencies=[Depends(OPERATOR)])
async def resume_ramp(request: Request, id: PathId) -> Response:
    """Go on after a pause."""
    return await _step(request, id, "resume", "resumed by a person")


@endpoints.post("/ramps/{id}/advance", response_model=RampAnswer, dependencies=[Depends(OPERATOR)])
async def advance_ramp(request: Request, id: PathId) -> Response:
    """Vouch for what is still waited for: the next step now, or the next attempt of one that was rolled back."""
    return await _step(request, id, "advance", "a person vouches for it")


@endpoints.post("/ramps/{id}/roll-back", response_model=RampAnswer, dependencies=[Depends(OPERATOR)])
async def roll_back_ramp(request: Request, id: PathId) -> Response:
    """Take no new session there from now on; live ones stay."""
    return await _step(request, id, "bad", "rolled back by a person")
