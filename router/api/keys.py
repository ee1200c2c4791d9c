"""Keys: made, listed, revoked."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from router.access import Key, mint_key
from router.api.gate import ADMIN, Endpoint, actor_of, runtime_of
from router.api.reply import After, Limit, empty, listing, page, reply
from router.core.errors import InputRejected
from router.core.model import KeyId
from router.schemas.access import KeyAnswer, KeyBody
from router.schemas.fields import Answer
from router.schemas.units import known_rfc3339, rfc3339
from router.store import Commit, Store

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["access"])


class KeyList(Answer):
    """One page of keys."""

    items: list[KeyAnswer]
    next: str | None


def key_json(key: Key) -> dict[str, object]:
    """Return the JSON form of a key; its secret is nowhere to be found."""
    return {
        "id": key.id,
        "scope": key.scope,
        "name": key.name,
        "created_at": rfc3339(key.created_at),
        "revoked_at": known_rfc3339(key.revoked_at),
    }


@endpoints.post("/keys", response_model=KeyAnswer, status_code=201, dependencies=[Depends(ADMIN)])
async def create_key(request: Request, body: KeyBody) -> Response:
    """Make a key; its text is in this answer and nowhere else."""
    runtime, actor = runtime_of(request), actor_of(request)
    key, text = mint_key(body.scope, body.name, runtime.now())
    stored = await runtime.commit(lambda store: store.add_key(key, actor=actor, now=runtime.now()))
    runtime.keys.add(stored)
    return reply(key_json(stored) | {"key": text}, 201)


@endpoints.get("/keys", response_model=KeyList, dependencies=[Depends(ADMIN)])
async def list_keys(request: Request, limit: Limit = 1_000, after: After = None) -> Response:
    """List all keys, revoked ones too."""
    keys = sorted(await runtime_of(request).read(lambda store: store.keys()), key=lambda key: key.id)
    cut, next = page(keys, limit, after, lambda key: key.id)
    return listing([key_json(key) for key in cut], next)


def _revoke(store: Store, id: KeyId, actor: str, now: int) -> Commit[Key]:
    stored = store.keys()
    admins = [key.id for key in stored if key.scope == "admin" and key.revoked_at is None]
    if admins == [id]:
        message = "this is the last admin key; make another one first"
        raise InputRejected("last_admin_key", message, field="id", rule="one admin key must remain", limit=1)
    return store.revoke_key(id, actor=actor, now=now)


@endpoints.delete("/keys/{id}", status_code=204, dependencies=[Depends(ADMIN)])
async def revoke_key(request: Request, id: str) -> Response:
    """Revoke a key; it is worthless before the answer leaves."""
    runtime, actor = runtime_of(request), actor_of(request)
    if len(id) > 64 or not id.isascii() or not id.isalnum():
        raise InputRejected("unknown_key", "there is no such key", field="id")
    done = await runtime.commit(lambda store: _revoke(store, KeyId(id), actor, runtime.now()))
    runtime.keys.revoke(done.id)
    return empty()
