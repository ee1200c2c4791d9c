"""Bought machines that a person looks at, vouches for, or gives back; what is bought and why: ``GET /v1/capacity``."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from router.api.gate import OPERATOR, VIEWER, Endpoint, actor_of, runtime_of
from router.api.reply import PathId, reply
from router.core.capacity import Launch, LaunchId
from router.core.capacity.machines import step
from router.core.errors import InputRejected
from router.core.tables import View
from router.schemas.capacity import LaunchAnswer, launch_json

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["agents"])
ATTEMPTS = 3


def _found(view: View, id: str) -> Launch:
    found = view.launches.get(LaunchId(id))
    if found is None:
        raise InputRejected("unknown_launch", f"there is no launch {id}", field="id")
    return found


async def _step(request: Request, id: str, event: str, reason: str) -> Response:
    """Decide on the View and commit; a launch that went on by itself meanwhile is decided on once more."""
    runtime, actor = runtime_of(request), actor_of(request)
    for attempt in range(ATTEMPTS):
        now, held = runtime.now(), _found(runtime.view, id)
        after = step(held, event, reason, now)
        try:
            done = await runtime.commit(
                lambda store, after=after, now=now: store.launches.put(after, actor=actor, now=now)  # type: ignore[misc]
            )
        except InputRejected as error:
            if error.code != "revision_conflict" or attempt == ATTEMPTS - 1:
                raise
            continue
        return reply(launch_json(done, runtime.view.proofs.get(done.id)))
    raise AssertionError("unreachable")


@endpoints.get("/launches/{id}", response_model=LaunchAnswer, dependencies=[Depends(VIEWER)])
async def get_launch(request: Request, id: PathId) -> Response:
    """Show a bought machine: how far it has come, why it was bought, and as a canary what its sessions showed."""
    view = runtime_of(request).view
    found = _found(view, id)
    return reply(launch_json(found, view.proofs.get(found.id)))


@endpoints.post("/launches/{id}/vouch", response_model=LaunchAnswer, dependencies=[Depends(OPERATOR)])
async def vouch_for_launch(request: Request, id: PathId) -> Response:
    """Let all agents of a canary take sessions now: a person vouches for what it has not shown yet."""
    return await _step(request, id, "proven", "a person vouches for it")


@endpoints.post("/launches/{id}/return", response_model=LaunchAnswer, dependencies=[Depends(OPERATOR)])
async def return_launch(request: Request, id: PathId) -> Response:
    """Give a bought machine back: its agents take nobody from now on, and it is deleted when the last session ended.

    One whose agents hold nothing yet is deleted at once. Whether another is bought instead is for demand to say.
    """
    return await _step(request, id, "returned", "an operator gives it back")
