"""What each resource looks like: the API's own schema, and the few attributes that only Terraform knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from tf.schema import Attribute
from tf.types import Unknown

from tendril_terraform.shape import answered, settable, tf_name

SCHEMA_VERSION = 1
_DRAIN = {
    "type": "object",
    "description": "How sessions leave before this is destroyed.",
    "properties": {
        "timeout_s": {
            "type": "integer",
            "minimum": 0,
            "maximum": 86_400,
            "default": 600,
            "description": "How long destroy waits for the last session; then it is refused and everything stays.",
        },
        "mode": {
            "type": "string",
            "enum": ["soft", "hard"],
            "default": "hard",
            "description": "`soft` lets sessions end by themselves, `hard` moves them.",
        },
        "force": {
            "type": "boolean",
            "default": False,
            "description": "Drain even where the control plane says that it would hurt; written to the audit trail.",
        },
    },
    "default": {"timeout_s": 600, "mode": "hard", "force": False},
}
_SHARED = {
    "type": "boolean",
    "default": False,
    "description": "Several configurations declare it: what is there is taken as it is, and destroy leaves it while "
    "something else uses it.",
}
_WAIT = {
    "type": "object",
    "description": "What apply waits for.",
    "properties": {
        "until": {
            "type": "string",
            "enum": ["declared", "reported"],
            "default": "declared",
            "description": "`declared`: nothing; `reported`: the node's probe agent has joined and reported.",
        },
        "timeout_s": {"type": "integer", "minimum": 1, "maximum": 86_400, "default": 900},
    },
    "default": {"until": "declared", "timeout_s": 900},
}
_OWN: Mapping[str, Mapping[str, Any]] = {
    "provider": {"shared": _SHARED},
    "region": {"shared": _SHARED},
    "data_center": {"drain": _DRAIN},
    "node": {"drain": _DRAIN, "wait": _WAIT},
    "pool": {"drain": _DRAIN | {"description": "How long destroy waits for the pool's last session."}},
}
# A change of these makes another thing.
_FIXED: Mapping[str, tuple[str, ...]] = {
    "data_center": ("provider", "region"),
    "node": ("data_center",),
    "link": ("from", "to", "transport"),
}
# What a node says about itself when it joins, and what several owners share, is left alone unless it is configured.
_KEPT: Mapping[str, tuple[str, ...]] = {
    "node": ("addresses", "reflector_port", "relay_port", "media_url", "labels"),
}
_UNORDERED = {("data_center", "roles")}


@cache
def api() -> dict[str, Any]:
    """The API's schemas, as they were when this provider was made."""
    found: dict[str, Any] = json.loads(files(__package__).joinpath("api.json").read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True)
class Kind:
    """One kind of resource of the inventory."""

    name: str
    path: str
    fields: Mapping[str, Mapping[str, Any]]  # of the API, by the API's name
    own: Mapping[str, Mapping[str, Any]]  # of Terraform alone
    required: tuple[str, ...]
    kept: tuple[str, ...]
    description: str

    @property
    def loose(self) -> tuple[str, ...]:
        """Fields that are not looked at unless they are configured: an intent that a drain has changed is no drift."""
        return tuple(name for name in self.fields if name == "intent")

    def attributes(self) -> list[Attribute]:
        """As Terraform sees it."""
        found = [
            settable(
                tf_name(name),
                {**schema, "default": None} if name in self.kept else schema,
                name in self.required,
                requires_replace=name == "id" or name in _FIXED.get(self.name, ()),
            )
            for name, schema in self.fields.items()
        ]
        for one in found:
            if one.name in self.kept:
                one.computed = True
            if "shared" in self.own and not one.required:  # what another owner has set may come back
                one.computed, one.default = True, None if one.default is Unknown else one.default
        found += [settable(name, schema, False) for name, schema in self.own.items()]
        revision = {"type": "integer", "description": "Counts the changes; the control plane's."}
        return [*found, answered("revision", revision)]


def _field(kind: str, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if (kind, name) in _UNORDERED:
        schema = {**schema, "unordered": True}
    if name == "id":
        schema = {k: v for k, v in schema.items() if k not in ("nullable", "default")}
        schema |= {"description": "Its name, for good: lower-case letters, digits and dashes."}
    return dict(schema)


@cache
def kind_of(name: str) -> Kind:
    """A kind by its name, such as ``data_center``."""
    found = api()["kinds"][name]
    body = found["body"]
    properties = {n: _field(name, n, s) for n, s in body["properties"].items() if n != "revision"}
    ordered = {n: properties[n] for n in sorted(properties, key=lambda n: (n != "id", n))}
    return Kind(
        name=name,
        path=found["path"],
        fields=ordered,
        own=_OWN.get(name, {}),
        required=("id", *body.get("required", ())),
        kept=_KEPT.get(name, ()),
        description=body["description"].replace("``", "`"),
    )


def names() -> list[str]:
    """All kinds of the inventory."""
    return list(api()["kinds"])


def same(schema: Mapping[str, Any], ours: Any, theirs: Any) -> bool:
    """Whether two values of a field are one: numbers by value, sets by content, objects by their members."""
    if ours is None or theirs is None:
        return ours is theirs
    if schema.get("unordered"):
        return sorted(ours) == sorted(theirs)
    if "properties" in schema:
        return all(same(part, ours.get(n), theirs.get(n)) for n, part in schema["properties"].items())
    return bool(ours == theirs)
