"""Drains: planned with numbers, committed with the intent of their targets, paused, resumed, undone."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from functools import partial

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from router.api.gate import OPERATOR, VIEWER, Endpoint, actor_of, runtime_of
from router.api.problems import of_error
from router.api.reply import After, Limit, PathId, reply
from router.core import drain as drains
from router.core.errors import InputRejected, Unsafe
from router.core.model import DataCenterId, Drain, DrainId, Intent
from router.core.tables import View
from router.runtime import Runtime
from router.runtime.climbs import coming_back
from router.schemas.drains import (
    DrainAnswer,
    DrainBody,
    DrainList,
    DrainPlanAnswer,
    UndoBody,
    drain_json,
    plan_json,
    practice_json,
    refusals_json,
)
from router.store import Store

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["drains"])
STEP_ATTEMPTS = 3
Step = Callable[[View, DrainId, int], tuple[Drain, Mapping[DataCenterId, Intent]]]


def _shown(view: View, drain: Drain) -> dict[str, object]:
    progress, live = view.progress.get(drain.id), view.counters.sessions
    left = progress.sessions_left if progress and drain.nodes else sum(live.get(dc, 0) for dc in drain.targets)
    over = drain.expires_at is not None and view.now >= drain.expires_at
    return drain_json(drain, left, progress, expired=over and drains.in_force(drain))


@endpoints.post("/drains", response_model=DrainPlanAnswer, status_code=201, dependencies=[Depends(OPERATOR)],
                responses={200: {"model": DrainPlanAnswer, "description": "dry run: only planned"}})  # fmt: skip
async def open_drain(request: Request, body: DrainBody) -> Response:
    """Plan a drain and, unless it is a dry run, start it: from the answer on nothing new uses its targets."""
    runtime, actor, now = runtime_of(request), actor_of(request), runtime_of(request).now()
    wanted = body.core()
    if wanted.expires_at is not None and wanted.expires_at <= now:
        raise InputRejected("time_in_the_past", "expires_at is over already", field="expires_at", rule="in the future")
    plan = drains.preflight(runtime.view, wanted, now)
    if body.dry_run:
        return reply(plan_json(plan, None))
    try:
        draft, intents = drains.open_drain(runtime.view, wanted, plan, DrainId(f"d-{secrets.token_hex(6)}"), actor, now)
    except Unsafe as error:
        return of_error(error, refusals=refusals_json(plan.refusals), plan=plan_json(plan, None))
    ended, restored = drains.taken_over(runtime.view, wanted, plan, now)
    nodes = drains.node_intents(runtime.view.inventory, draft)
    wish = {**restored, **intents}
    done = await runtime.commit(
        lambda store: store.put_drain(draft, wish, nodes=nodes, ended=ended, actor=actor, now=now)
    )
    await runtime.routes_settled()
    return reply(plan_json(plan, _shown(runtime.view, done)), 201)


@endpoints.get("/drains", response_model=DrainList, dependencies=[Depends(VIEWER)])
async def list_drains(request: Request, limit: Limit = 1_000, after: After = None) -> Response:
    """List drains, newest first, and when the calendar practises which."""
    runtime = runtime_of(request)
    view, calendar = runtime.view, runtime.options.practice
    newest = sorted(view.drains.values(), key=lambda drain: (-drain.created_at, drain.id))
    place = next((i + 1 for i, drain in enumerate(newest) if drain.id == after), 0)
    cut = newest[place : place + limit]
    more = cut[-1].id if len(newest) > place + limit else None
    practices = [practice_json(practice, runtime.now()) for practice in calendar.practices]
    return reply({"items": [_shown(view, drain) for drain in cut], "next": more, "practices": practices})


@endpoints.get("/drains/{id}", response_model=DrainAnswer, dependencies=[Depends(VIEWER)])
async def get_drain(request: Request, id: PathId) -> Response:
    """Show a drain and how many sessions are left."""
    view = runtime_of(request).view
    found = view.drains.get(DrainId(id))
    if found is None:
        raise InputRejected("unknown_drain", f"there is no drain {id}", field="id")
    return reply(_shown(view, found))


async def _commit_step(
    runtime: Runtime, id: str, step: Step, actor: str, climbs: bool = False
) -> tuple[Drain, Mapping[DataCenterId, Intent]]:
    """Decide on the View and commit; a drain that went on by itself meanwhile is decided on once more."""
    for attempt in range(STEP_ATTEMPTS):
        now = runtime.now()
        changed, intents = step(runtime.view, DrainId(id), now)
        nodes = drains.node_intents(runtime.view.inventory, changed)
        held = runtime.view.drains[changed.id]
        begun = coming_back(runtime.view, held, intents, actor, now) if climbs else ()
        write = partial(Store.put_drain, drain=changed, intents=intents, nodes=nodes, begun=begun, actor=actor, now=now)
        try:
            return await runtime.commit(write), intents
        except InputRejected as error:
            if error.code != "revision_conflict" or attempt == STEP_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def _step(request: Request, id: str, step: Step, climbs: bool = False) -> Response:
    runtime, actor = runtime_of(request), actor_of(request)
    done, intents = await _commit_step(runtime, id, step, actor, climbs)
    if intents:
        await runtime.routes_settled()
    return reply(_shown(runtime.view, done))


@endpoints.post("/drains/{id}/pause", response_model=DrainAnswer, dependencies=[Depends(OPERATOR)])
async def pause_drain(request: Request, id: PathId) -> Response:
    """Stop moving sessions; the targets still take no new ones."""
    return await _step(request, id, drains.pause)


@endpoints.post("/drains/{id}/resume", response_model=DrainAnswer, dependencies=[Depends(OPERATOR)])
async def resume_drain(request: Request, id: PathId) -> Response:
    """Go on after a pause."""
    return await _step(request, id, drains.resume)


@endpoints.post("/drains/{id}/undo", response_model=DrainAnswer, dependencies=[Depends(OPERATOR)])
async def undo_drain(request: Request, id: PathId, body: UndoBody | None = None) -> Response:
    """Put the targets back to what they were before.

    What has been emptied must be fit to come back, and takes its users back step by step; `force` overrides both.
    """
    runtime, forced = runtime_of(request), bool(body and body.force)
    broken = drains.comeback(runtime.view, DrainId(id), runtime.now())
    if broken and not forced:
        worst, text = broken[0], "; ".join(refusal.message for refusal in broken)
        error = Unsafe("return_unsafe", text, field="id", rule=worst.rule, limit=worst.limit, override="force")
        return of_error(error, refusals=refusals_json(broken))
    return await _step(request, id, drains.undo, climbs=not forced)
