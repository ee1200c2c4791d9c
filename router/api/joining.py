"""How a node joins: join tokens, made, looked up and revoked; and joining itself.

A join token is the text ``tj_<data center>_<secret>``: single use, expiring, kept as a BLAKE2b-256 hash of the whole
text. It says which data center its bearer may join, and joining yields a key that may act as that node and as nothing
else.
"""

from __future__ import annotations

import re
import secrets

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from probes.wire import encode
from router.access import AGENT_PREFIX, JoinToken, join_token_hash, join_token_text, mint_key
from router.api.gate import OPERATOR, VIEWER, Endpoint, actor_of, key_of, runtime_of
from router.api.node_keys import with_keys
from router.api.reply import IdempotencyKey, PathId, empty, listing, reply
from router.api.resources import unknown
from router.core.errors import InputRejected
from router.core.model import DataCenterId
from router.schemas.access import (
    JoinAnswer,
    JoinBody,
    JoinTokenAnswer,
    JoinTokenBody,
    JoinTokenList,
    NewJoinTokenAnswer,
)
from router.schemas.units import known_rfc3339, rfc3339

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["nodes"])
_TOKEN = re.compile(r"tj_([a-z0-9][a-z0-9-]{0,62})_[A-Za-z0-9_-]{43}")


def _known(request: Request, id: str) -> DataCenterId:
    if DataCenterId(id) not in runtime_of(request).view.inventory.data_centers:
        raise unknown("data-centers", id)
    return DataCenterId(id)


def _shown(token: JoinToken, now: int) -> dict[str, object]:
    """Return the JSON form of a join token, without its secret."""
    spent = "used" if token.used_by is not None else "revoked"
    unspent = "expired" if token.expires_at <= now else "unused"
    return {
        "id": token.id,
        "data_center": token.data_center,
        "state": unspent if token.used_at is None else spent,
        "created_at": rfc3339(token.created_at),
        "expires_at": rfc3339(token.expires_at),
        "used_at": known_rfc3339(token.used_at),
        "used_by": token.used_by,
    }


@endpoints.post("/data-centers/{id}/join-tokens", response_model=NewJoinTokenAnswer, status_code=201,
                dependencies=[Depends(OPERATOR)])  # fmt: skip
async def create_join_token(
    request: Request, id: PathId, body: JoinTokenBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Make a token with which one node may join once; the same key gives the same token again while it is unused."""
    runtime, actor, data_center = runtime_of(request), actor_of(request), _known(request, id)
    name = None if idempotency_key is None else f"{key_of(request).id}:{idempotency_key}"
    seed, now = secrets.token_bytes(32), runtime.now()
    expires_at = now + body.expires_in_s * 1_000_000
    wanted = JoinToken(
        join_token_hash(join_token_text(runtime.secret, id, seed)), data_center, now, expires_at, seed=seed
    )
    made = await runtime.commit(lambda store: store.add_join_token(wanted, name, actor=actor))
    assert made.seed is not None, "an unused token of a name has its seed"
    return reply(_shown(made, now) | {"token": join_token_text(runtime.secret, id, made.seed)}, 201)


@endpoints.get("/data-centers/{id}/join-tokens", response_model=JoinTokenList, dependencies=[Depends(VIEWER)])
async def list_join_tokens(request: Request, id: PathId) -> Response:
    """List a data center's join tokens, oldest first, spent ones too; never their secrets."""
    runtime, data_center = runtime_of(request), _known(request, id)
    found = await runtime.read(lambda store: store.join_tokens(data_center))
    return listing([_shown(token, runtime.now()) for token in found], None)


@endpoints.get("/join-tokens/{id}", response_model=JoinTokenAnswer, dependencies=[Depends(VIEWER)])
async def get_join_token(request: Request, id: PathId) -> Response:
    """Show whether a join token is unused, used (and by whom), expired or revoked."""
    runtime = runtime_of(request)
    return reply(_shown(await runtime.read(lambda store: store.join_token(id)), runtime.now()))


@endpoints.delete("/join-tokens/{id}", status_code=204, dependencies=[Depends(OPERATOR)])
async def revoke_join_token(request: Request, id: PathId) -> Response:
    """Make a join token worthless; the node that used it already keeps its key."""
    runtime, actor = runtime_of(request), actor_of(request)
    await runtime.commit(lambda store: store.revoke_join_token(id, actor=actor, now=runtime.now()))
    return empty()


@endpoints.post("/join", response_model=JoinAnswer, status_code=201)
async def join(request: Request, body: JoinBody) -> Response:
    """Trade a join token for a node's identity, its key and its first probe plan."""
    runtime = runtime_of(request)
    found = _TOKEN.fullmatch(body.token)
    if found is None:
        raise InputRejected("token_unknown", "this is not a join token of this control plane", field="token")
    node = body.node.core(DataCenterId(found[1]))
    key, text = mint_key(f"{AGENT_PREFIX}{node.id}", f"node {node.id}", runtime.now())
    await runtime.commit(lambda store: store.redeem_join_token(join_token_hash(body.token), node, key, runtime.now()))
    runtime.keys.replace(key)
    lifetime_us = runtime.options.node_key_lifetime_us
    plan = encode(with_keys(runtime.plan(node.id), runtime.secret, runtime.now(), lifetime_us))
    return reply({"node": node.id, "data_center": node.data_center, "key": text, "plan": plan}, 201)
