"""``tendril_join_token``: a single-use secret for one node.

A token that was used or has expired is what it is meant to become, so it makes no difference to a plan; only a revoked
one, or one whose data center is gone, is made again. ``name`` and ``rotation`` are its idempotency key: an apply that
was killed gets the same unused token again, a change of ``rotation`` makes a new one.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from tf.iface import Config, Resource, State
from tf.schema import Attribute, Schema
from tf.types import String
from tf.utils import Diagnostics

from tendril_terraform.client import Refused, segment
from tendril_terraform.kinds import SCHEMA_VERSION, api
from tendril_terraform.problems import Failed, told
from tendril_terraform.resource import validated
from tendril_terraform.shape import answered, settable

_ID = {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9][a-z0-9-]{0,62}$"}


def schemas() -> dict[str, dict[str, Any]]:
    """What may be set."""
    return {
        "data_center": _ID | {"description": "Which data center the node may join."},
        "name": _ID | {"description": "Tells this token from others of the data center; best the node's id."},
        "expires_in_s": api()["join_token"]["body"]["properties"]["expires_in_s"]
        | {"description": "How long it may be used."},
        "rotation": {"type": "string", "maxLength": 64, "default": "1", "description": "Change it for a new token."},
    }


class JoinToken(Resource):
    """A join token."""

    known = ("data_center", "name", "expires_in_s", "rotation")

    def __init__(self, provider: Any) -> None:
        self.provider = provider

    @classmethod
    def get_name(cls) -> str:
        """Terraform's name without the provider's."""
        return "join_token"

    @classmethod
    def get_schema(cls) -> Schema:
        """Everything that can be set makes another token when it changes."""
        required = ("data_center", "name")
        given = [settable(n, s, n in required, requires_replace=True) for n, s in schemas().items()]
        token = Attribute(
            "token", String(), computed=True, sensitive=True, description="The secret; null after import."
        )
        id = answered("id", {"type": "string", "description": "Its public name."})
        expires = answered("expires_at", {"type": "string", "description": "When it stops working (RFC 3339)."})
        words = "A single-use token with which one node joins a data center."
        return Schema([id, *given, token, expires], version=SCHEMA_VERSION, description=words)

    def validate(self, diags: Diagnostics, type_name: str, config: Config) -> None:
        """Say what is wrong before anything is asked of anybody."""
        for path, rule in validated(config, schemas()):
            diags.add_error(f"Wrong value of {path[0]}", f"{path[0]} {rule}.", path)

    def create(self, ctx: Any, planned: State) -> State | None:
        """Make it, or take the one that a killed apply has made."""

        def work() -> State:
            parts = "|".join(str(planned[name]) for name in ("data_center", "name", "expires_in_s", "rotation"))
            headers = {"Idempotency-Key": f"terraform-{hashlib.sha256(parts.encode()).hexdigest()[:40]}"}
            path = f"/v1/data-centers/{segment(planned['data_center'])}/join-tokens"
            body = {"expires_in_s": int(planned["expires_in_s"])}
            answer = self.provider.client.call("POST", path, body, headers)
            return planned | {"id": answer["id"], "token": answer["token"], "expires_at": answer["expires_at"]}

        return told(ctx.diagnostics, self.known, work, None)

    def read(self, ctx: Any, current: State) -> State | None:
        """It stays what it is, used and expired too; revoked or unknown, it is gone."""

        def work() -> State | None:
            answer = self.provider.client.get(f"/v1/join-tokens/{segment(current['id'])}")
            return None if answer is None or answer["state"] == "revoked" else current

        return told(ctx.diagnostics, self.known, work, current)

    def update(self, ctx: Any, current: State, planned: State) -> State | None:
        """Nothing of it can be changed in place."""
        return planned

    def delete(self, ctx: Any, current: State) -> State | None:
        """Revoke it."""

        def work() -> None:
            try:
                self.provider.client.call("DELETE", f"/v1/join-tokens/{segment(current['id'])}")
            except Refused as refusal:
                if refusal.code != "unknown_join_token":
                    raise

        return told(ctx.diagnostics, self.known, lambda: work(), current)

    def import_(self, ctx: Any, id: str) -> State | None:
        """By ``ID`` or ``ID/NAME/ROTATION``; the secret is not there to be imported."""

        def work() -> State:
            name, _, rest = id.partition("/")
            label, _, rotation = rest.partition("/")
            answer = self.provider.client.get(f"/v1/join-tokens/{segment(name)}")
            if answer is None:
                raise Failed(f"There is no join token {name}")
            made, ends = (datetime.fromisoformat(answer[field]) for field in ("created_at", "expires_at"))
            shown = {field: answer[field] for field in ("id", "data_center", "expires_at")}
            lasts = round((ends - made).total_seconds())
            named = {"name": label or name, "rotation": rotation or "1"}
            return {**shown, **named, "expires_in_s": lasts, "token": None}

        return told(ctx.diagnostics, self.known, work, None)

    def upgrade(self, ctx: Any, version: int, old: State) -> State | None:
        """States of other versions: see ``serve``."""
        return old
