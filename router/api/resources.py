"""``PUT/GET/DELETE`` of providers, regions, data centers, nodes, links, policies and pools, and their collections.

Reads come from the View; a write is committed first and is in the View when the answer leaves. What changes routes
(intent, links, policies) also waits until a table solved from it is in force, so that the next ``GET`` of a route
already obeys it. (``GET /v1/links`` as a collection is in ``links``: it shows estimates too.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import create_model
from starlette.responses import Response

from router.api.gate import OPERATOR, VIEWER, Endpoint, actor_of, runtime_of
from router.api.reply import After, IfMatch, Limit, PathId, empty, etag, listing, page, reply, revision_of
from router.core import policy as rules
from router.core.committed import changes_routes
from router.core.errors import InputRejected
from router.core.model import KINDS, Inventory, Policy, Resource
from router.core.tables import View
from router.runtime import Runtime
from router.schemas.fields import Answer
from router.schemas.resources import BODIES, AnyBody, collection, find, resource_json, singular
from router.store import Commit, Store

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["inventory"])


def unknown(kind: str, id: str) -> InputRejected:
    """The error of an id that is not there."""
    return InputRejected(
        f"unknown_{singular(kind)}", f"there is no {singular(kind).replace('_', ' ')} {id}", field="id"
    )


def insist_on_same_id(body_id: str | None, path_id: str) -> None:
    """Refuse a body that names another id than the path. Raises ``id_mismatch``."""
    if body_id not in (None, path_id):
        raise InputRejected(
            "id_mismatch", f"the body is {body_id}, the path {path_id}", field="id", rule="same as path"
        )


def check_contexts(after: Inventory) -> None:
    """Refuse policies that would make too many routing contexts. Raises ``too_many_contexts``."""
    rules.check_limit(after)


async def forget_keys_of_nodes(runtime: Runtime) -> None:
    """After nodes were deleted: their keys are revoked in the database, and from here on in memory too."""
    for key in await runtime.read(lambda store: store.keys()):
        if key.revoked_at is not None:
            runtime.keys.revoke(key.id)


def _put_one(
    present: Inventory, store: Store, resource: Resource, if_match: int | None, actor: str, now: int
) -> Commit[Resource]:
    if isinstance(resource, Policy):
        policies = dict(sorted({**present.policies, resource.id: resource}.items()))
        check_contexts(replace(present, policies=policies))
    return store.put(resource, if_match=if_match, actor=actor, now=now)


async def put_resource(request: Request, kind: str, id: str, body: AnyBody, if_match: str | None) -> Response:
    """Create or replace; the identical resource again changes nothing."""
    runtime, actor = runtime_of(request), actor_of(request)
    insist_on_same_id(body.id, id)
    revision = revision_of(if_match)
    view: View = runtime.view
    before = find(view.inventory, kind, id)
    wanted = body.core(id, view.inventory)
    done = await runtime.commit(
        lambda store: _put_one(runtime.view.inventory, store, wanted, revision, actor, runtime.now())
    )
    if changes_routes(before, done):
        await runtime.routes_settled()
    return reply(resource_json(done), 201 if before is None else 200, {"ETag": etag(done.revision)})


async def delete_resource(request: Request, kind: str, id: str, if_match: str | None) -> Response:
    """Delete what nothing needs any more."""
    runtime, actor = runtime_of(request), actor_of(request)
    revision = revision_of(if_match)
    before = find(runtime.view.inventory, kind, id)
    await runtime.commit(lambda store: store.delete(kind, id, if_match=revision, actor=actor, now=runtime.now()))
    if kind == "nodes":
        await forget_keys_of_nodes(runtime)
    if changes_routes(before, None):
        await runtime.routes_settled()
    return empty()


def _register(kind: str, model: type[AnyBody]) -> None:
    one, many = singular(kind), kind.replace("-", "_")
    name = f"{model.__name__.removesuffix('Body')}List"
    of_model: Any = list[model]  # type: ignore[valid-type]
    listed = create_model(name, __base__=Answer, items=(of_model, ...), next=(str | None, ...))

    async def put(request: Request, id: PathId, body: AnyBody, if_match: IfMatch = None) -> Response:
        return await put_resource(request, kind, id, body, if_match)

    async def get(request: Request, id: PathId) -> Response:
        found = find(runtime_of(request).view.inventory, kind, id)
        if found is None:
            raise unknown(kind, id)
        return reply(resource_json(found), headers={"ETag": etag(found.revision)})

    async def delete(request: Request, id: PathId, if_match: IfMatch = None) -> Response:
        return await delete_resource(request, kind, id, if_match)

    async def list_all(request: Request, limit: Limit = 1_000, after: After = None) -> Response:
        items = tuple(collection(runtime_of(request).view.inventory, kind).values())
        cut, next = page(items, limit, after, lambda resource: resource.id)
        return listing([resource_json(resource) for resource in cut], next)

    put.__annotations__["body"] = model  # the one thing that differs between the kinds
    path = f"/{kind}/{{id}}"
    created: dict[int | str, dict[str, Any]] = {201: {"model": model, "description": "created"}}
    named = one.replace("_", " ")
    add = endpoints.add_api_route
    add(path, put, methods=["PUT"], name=f"put_{one}", summary=f"Create or replace a {named}", response_model=model,
        responses=created, dependencies=[Depends(OPERATOR)])  # fmt: skip
    add(path, get, methods=["GET"], name=f"get_{one}", summary=f"Show a {named}", response_model=model,
        dependencies=[Depends(VIEWER)])  # fmt: skip
    add(path, delete, methods=["DELETE"], name=f"delete_{one}", summary=f"Delete a {named}", status_code=204,
        dependencies=[Depends(OPERATOR)])  # fmt: skip
    if kind != "links":
        add(f"/{kind}", list_all, methods=["GET"], name=f"list_{many}", summary=f"List all {many.replace('_', ' ')}",
            response_model=listed, dependencies=[Depends(VIEWER)])  # fmt: skip


for _kind in KINDS:
    _register(_kind, BODIES[_kind])
