"""``tendril_drain``: take something out of rotation for as long as the block is there.

A drain that has ended (drained, or undone by somebody) is done and makes no difference to a plan. Destroy takes it
back. A create that finds the same drain open takes it over, so that a killed apply opens no second one.
"""

from __future__ import annotations

import time
from typing import Any

from tf.iface import Config, Resource, State
from tf.schema import Schema
from tf.types import Unknown
from tf.utils import Diagnostics

from tendril_terraform.client import Refused, segment
from tendril_terraform.kinds import SCHEMA_VERSION, api
from tendril_terraform.problems import Failed, told
from tendril_terraform.resource import validated
from tendril_terraform.shape import answered, settable

POLL_S = 0.5
PARTS = ("provider", "region", "data_center", "node")
_WAIT = {
    "type": "integer",
    "minimum": 0,
    "maximum": 86_400,
    "default": 0,
    "description": "How long apply waits until nothing is left on the targets; 0: not at all.",
}


def schemas() -> dict[str, dict[str, Any]]:
    """What may be set."""
    body = api()["drain"]["body"]["properties"]
    words = {
        "selector": "What to drain; all given parts must match.",
        "mode": "`soft` lets sessions end by themselves, `hard` moves them.",
        "reason": "For the audit trail and for whoever looks at it at night.",
        "deadline_s": "When a soft drain begins to move sessions.",
        "force": "Drain even where the control plane says that it would hurt.",
    }
    return {name: body[name] | {"description": text} for name, text in words.items()} | {"wait_s": _WAIT}


class Drain(Resource):
    """A drain."""

    known = ("selector", "mode", "reason", "deadline_s", "force", "wait_s")

    def __init__(self, provider: Any) -> None:
        self.provider = provider

    @classmethod
    def get_name(cls) -> str:
        """Terraform's name without the provider's."""
        return "drain"

    @classmethod
    def get_schema(cls) -> Schema:
        """A drain cannot be changed, only ended and opened again; how long apply waits is Terraform's own."""
        given = [settable(n, s, n == "selector", requires_replace=n != "wait_s") for n, s in schemas().items()]
        id = answered("id", {"type": "string", "description": "The control plane's."})
        targets = {"type": "array", "items": {"type": "string"}, "description": "Data centers, as of the opening."}
        words = "Takes data centers out of rotation while it is there; destroy puts them back."
        return Schema([id, *given, answered("targets", targets)], version=SCHEMA_VERSION, description=words)

    def validate(self, diags: Diagnostics, type_name: str, config: Config) -> None:
        """Say what is wrong before anything is asked of anybody."""
        for path, rule in validated(config, schemas()):
            diags.add_error(f"Wrong value of {path[0]}", f"{path[0]}: {rule}.", path)
        selector = config.get("selector")
        if isinstance(selector, dict) and all(selector.get(part) is None for part in PARTS):
            diags.add_error("An empty selector", f"selector must name one of {', '.join(PARTS)}.", ["selector"])

    def create(self, ctx: Any, planned: State) -> State | None:
        """Open it, or take over the same one that is open."""

        def work() -> State:
            drain = self._open(planned) or self._post(planned)
            self._wait(drain, float(planned["wait_s"]))
            return planned | {"id": drain["id"], "targets": drain["targets"]}

        return told(ctx.diagnostics, self.known, work, None)

    def _post(self, planned: State) -> dict[str, Any]:
        given = {name: planned[name] for name in ("mode", "reason", "force")}
        selector = {part: value for part, value in planned["selector"].items() if value is not None}
        deadline = {} if planned["deadline_s"] is None else {"deadline_s": int(planned["deadline_s"])}
        plan = self.provider.client.call("POST", "/v1/drains", given | deadline | {"selector": selector}, repeat=False)
        drain: dict[str, Any] = plan["drain"]
        return drain

    def _open(self, planned: State) -> dict[str, Any] | None:
        wanted = (_text(planned["selector"]), planned["mode"], planned["reason"])
        for one in self.provider.client.pages("/v1/drains"):
            if one["state"] != "undone" and (one["selector"], one["mode"], one["reason"]) == wanted:
                return one  # type: ignore[no-any-return]
        return None

    def _wait(self, drain: dict[str, Any], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while seconds > 0 and drain["state"] not in ("drained", "undone"):
            if time.monotonic() >= deadline or self.provider.stopping():
                left = f"{drain['sessions_left']} sessions are left on {', '.join(drain['targets'])}"
                raise Failed(f"Not drained in {seconds:g} s: {left}", f"The drain {drain['id']} goes on.", ["wait_s"])
            time.sleep(POLL_S)
            drain = self.provider.client.get(f"/v1/drains/{drain['id']}")

    def read(self, ctx: Any, current: State) -> State | None:
        """It stays what it is, ended too; only one that the control plane never heard of is gone."""

        def work() -> State | None:
            there = self.provider.client.get(f"/v1/drains/{segment(current['id'])}")
            return None if there is None else current

        return told(ctx.diagnostics, self.known, work, current)

    def update(self, ctx: Any, current: State, planned: State) -> State | None:
        """Only what is Terraform's own can be changed in place."""
        return planned

    def delete(self, ctx: Any, current: State) -> State | None:
        """Take it back, unless it is taken back already."""

        def work() -> None:
            try:
                self.provider.client.call("POST", f"/v1/drains/{segment(current['id'])}/undo")
            except Refused as refusal:
                if refusal.code not in ("unknown_drain", "bad_transition"):
                    raise

        return told(ctx.diagnostics, self.known, lambda: work(), current)

    def import_(self, ctx: Any, id: str) -> State | None:
        """By id, or by selector (``data_center=oracle-fra``): the newest that is not undone."""

        def work() -> State:
            drain = self.provider.client.get(f"/v1/drains/{segment(id)}") if "=" not in id else self._newest(id)
            if drain is None:
                raise Failed(f"There is no drain {id}")
            parts = dict(part.split("=", 1) for part in drain["selector"].split(","))
            selector = {part: parts.get(part) for part in PARTS}
            own = {"force": False, "wait_s": 0, "deadline_s": None}
            return own | {n: drain[n] for n in ("id", "targets", "mode", "reason")} | {"selector": selector}

        return told(ctx.diagnostics, self.known, work, None)

    def _newest(self, selector: str) -> dict[str, Any] | None:
        drains = self.provider.client.pages("/v1/drains")
        return next((one for one in drains if one["selector"] == selector and one["state"] != "undone"), None)

    def upgrade(self, ctx: Any, version: int, old: State) -> State | None:
        """States of other versions: see ``serve``."""
        return old


def _text(selector: dict[str, Any]) -> str:
    given = ((part, selector.get(part)) for part in PARTS)
    return ",".join(f"{part}={value}" for part, value in given if value not in (None, Unknown))
