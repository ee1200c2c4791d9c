"""How a resource goes: drain first, wait for the last session, delete; never cut a live session.

The control plane itself refuses to delete what has live sessions, so a delete that comes too early does no harm.
Where sessions stay until the time is over, the drain stays open (people keep leaving), the resource stays in
Terraform's state, and the error names who is left and how to take the drain back.
"""

from __future__ import annotations

import time
from typing import Any

from tf.utils import Diagnostics

from tendril_terraform.client import Client, Refused, segment
from tendril_terraform.kinds import Kind
from tendril_terraform.problems import Failed, first_line

POLL_S = 0.5
NAMED = 5  # sessions that an error names
REASON = "terraform destroy"
_ENDED = ("drained", "undone")
CLOSES_S = 15.0  # a drain whose last session has left is told so by a count every second; meanwhile it holds its target


def leave_shared(client: Client, path: str, diagnostics: Diagnostics) -> None:
    """Delete what nobody else uses; otherwise leave it, and say so."""
    try:
        _delete(client, path)
    except Refused as refusal:
        if refusal.code not in ("in_use", "sessions_live"):
            raise
        diagnostics.add_warning("Left in place: somebody else uses it", first_line(refusal))


def leave(provider: Any, kind: Kind, state: dict[str, Any]) -> None:
    """Delete; if live sessions are in the way, drain them and wait. Raises ``Failed`` when they stay."""
    client: Client = provider.client
    path = f"{kind.path}/{segment(state['id'])}"
    how = state.get("drain") or {}
    left_at = time.monotonic()
    deadline = left_at + float(how.get("timeout_s", 0))
    drain: dict[str, Any] | None = None
    while True:
        try:
            return _delete(client, path)
        except Refused as refusal:
            if refusal.code == "in_use" and _closes(client, kind, state["id"], time.monotonic() - left_at):
                time.sleep(POLL_S)
                continue
            if refusal.code != "sessions_live":
                raise
            live, left_at = refusal, time.monotonic()
        if drain is None and kind.name in ("data_center", "node"):
            drain = _drain(client, kind.name, state["id"], how)
        if time.monotonic() >= deadline or provider.stopping():
            raise Failed(_refused(kind, state["id"], live), _who(client, kind, state["id"], drain))
        time.sleep(POLL_S)


def _closes(client: Client, kind: Kind, id: str, waited_s: float) -> bool:
    """Whether nothing may be in the way but a drain whose last session has just left."""
    return (
        kind.name in ("data_center", "node")
        and waited_s < CLOSES_S
        and _open_on(client, f"{kind.name}={id}") is not None
    )


def _delete(client: Client, path: str) -> None:
    try:
        client.call("DELETE", path)
    except Refused as refusal:
        if not (refusal.status == 404 and refusal.code.startswith("unknown_")):
            raise


def _drain(client: Client, kind: str, id: str, how: dict[str, Any]) -> dict[str, Any]:
    selector = {kind: id}
    there = _open_on(client, f"{kind}={id}")
    if there is not None:
        return there
    body = {"selector": selector, "mode": how.get("mode", "hard"), "reason": REASON, "force": bool(how.get("force"))}
    try:
        plan = client.call("POST", "/v1/drains", body, repeat=False)  # without a deadline: soft moves nobody, ever
    except Refused as refusal:
        if refusal.code == "drain_overlaps":  # somebody drains more than this; their drain does our work
            return {"id": "", "state": ""}
        if refusal.code != "drain_unsafe":
            raise
        hint = "Add capacity elsewhere, wait for sessions to end, or set drain = { force = true }."
        raise Failed(f"{kind} {id} cannot be drained safely", f"{refusal}\n{hint}", ["drain"]) from refusal
    drain: dict[str, Any] = plan["drain"]
    return drain


def _open_on(client: Client, selector: str) -> dict[str, Any] | None:
    for one in client.pages("/v1/drains"):
        if one["selector"] == selector and one["state"] not in _ENDED:
            return one
    return None


def _refused(kind: Kind, id: str, live: Refused) -> str:
    return f"{kind.name} {id} still has {live.limit} live sessions and stays"


def _who(client: Client, kind: Kind, id: str, drain: dict[str, Any] | None) -> str:
    query = {"data_center": {"data_center": id}, "pool": {"pool": id}}.get(kind.name)
    found = [] if query is None else client.get("/v1/sessions", **query, limit=NAMED)["items"]
    named = f"Among them: {', '.join(one['id'] for one in found)}.\n" if found else ""
    going = ""
    if drain is not None and drain["id"]:
        undo = f"tendril undrain {drain['id']}"
        going = f"The drain {drain['id']} stays open, so that they keep leaving; `{undo}` takes it back.\n"
    again = "Destroy again later, or give drain.timeout_s more time."
    return f"{named}{going}Nothing was cut and nothing was deleted. {again}"
