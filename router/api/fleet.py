"""``POST /v1/fleet``: a whole inventory compared with what is in force, then applied whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from router.api.gate import OPERATOR, Endpoint, actor_of, runtime_of
from router.api.reply import reply
from router.api.resources import check_contexts, forget_keys_of_nodes
from router.core.errors import InputRejected
from router.core.model import KINDS, Inventory, Resource, kind_of
from router.schemas.fleet import FleetAnswer, FleetBody, FleetDiff, fleet_diff
from router.schemas.resources import collection
from router.store import Commit, Store
from router.store.references import references

endpoints = APIRouter(prefix="/v1", route_class=Endpoint, tags=["inventory"])


def inventory_after(present: Inventory, diff: FleetDiff) -> Inventory:
    """The inventory that a diff leads to."""
    kinds: dict[str, dict[str, Resource]] = {kind: dict(collection(present, kind)) for kind in KINDS}
    for kind, id in diff.deletes:
        kinds[kind].pop(id, None)
    for resource in diff.puts:
        kinds[kind_of(resource)][resource.id] = resource
    sorted_kinds: dict[str, Any] = {kind.replace("-", "_"): dict(sorted(of.items())) for kind, of in kinds.items()}
    return replace(present, **sorted_kinds)


def check(after: Inventory, diff: FleetDiff) -> None:
    """Refuse what a commit would refuse, for dry runs too. Raises ``unknown_reference``, ``too_many_contexts``."""
    for resource in diff.puts:
        for field, kind, id in references(resource):
            if id not in collection(after, kind):
                where = f"{kind_of(resource).replace('-', '_')}.{resource.id}.{field}"
                raise InputRejected(
                    "unknown_reference", f"{where}: there is no {id} in {kind}", field=where, rule="must exist"
                )
    check_contexts(after)


@endpoints.post("/fleet", response_model=FleetAnswer, dependencies=[Depends(OPERATOR)])
async def apply_fleet(request: Request, body: FleetBody) -> Response:
    """Compare a fleet with what is in force and, unless it is a dry run, apply the difference in one transaction."""
    runtime, actor = runtime_of(request), actor_of(request)
    if body.dry_run:
        present = runtime.view.inventory
        diff = fleet_diff(body, present)
        check(inventory_after(present, diff), diff)
        return reply({"applied": False, "changes": diff.changes})
    made: list[FleetDiff] = []

    def apply(store: Store) -> Commit[tuple[Resource, ...]]:
        stored = store.inventory()  # in the writer's thread: nothing can change between comparing and committing
        diff = fleet_diff(body, stored)
        check(inventory_after(stored, diff), diff)
        made.append(diff)
        if not diff.puts and not diff.deletes:
            return Commit(())
        return store.apply(diff.puts, diff.deletes, actor=actor, now=runtime.now())

    await runtime.commit(apply)
    if any(kind == "nodes" for kind, _ in made[-1].deletes):
        await forget_keys_of_nodes(runtime)
    if made[-1].changes:
        await runtime.routes_settled()
    return reply({"applied": True, "changes": made[-1].changes})
