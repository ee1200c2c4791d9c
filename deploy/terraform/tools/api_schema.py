"""``python deploy/terraform/tools/api_schema.py``: write what the provider knows of the API and of the catalogue.

The provider lives in an environment of its own and imports nothing of Tendril, so it carries two files made from the
API's own models: ``api.json`` (JSON Schemas of bodies and answers, references resolved, defaults filled in) and
``catalog.json`` (regions by provider). A test compares both with what this program would write.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from providers import catalog
from router.core.model import KINDS
from router.schemas.access import JoinTokenAnswer, JoinTokenBody
from router.schemas.drains import DrainAnswer, DrainBody, SelectorBody
from router.schemas.health import HealthAnswer
from router.schemas.resources import BODIES, singular
from router.schemas.routes import Route

PACKAGE = Path(__file__).parents[1] / "provider/tendril_terraform"
Schema = dict[str, Any]
_DROPPED = ("title", "$defs")


def _resolved(schema: Any, defs: Schema) -> Any:
    """A schema without references, without titles, and with ``null`` branches turned into ``nullable``."""
    if isinstance(schema, list):
        return [_resolved(one, defs) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = defs[schema["$ref"].rsplit("/", 1)[1]]
        return _resolved({**target, **{k: v for k, v in schema.items() if k != "$ref"}}, defs)
    if "anyOf" in schema:
        branches = [one for one in schema["anyOf"] if one.get("type") != "null"]
        rest = {k: v for k, v in schema.items() if k != "anyOf"}
        nullable = {"nullable": True} if len(branches) < len(schema["anyOf"]) else {}
        return _resolved({**branches[0], **rest, **nullable}, defs)
    return {
        name: {k: _resolved(v, defs) for k, v in part.items()}
        if name in ("properties", "patternProperties")
        else _resolved(part, defs)
        for name, part in schema.items()
        if name not in _DROPPED
    }


def schema_of(model: type[BaseModel], mode: str = "validation") -> Schema:
    """A model's JSON Schema with the defaults that its factories make."""
    raw = model.model_json_schema(by_alias=True, mode=mode)  # type: ignore[arg-type]
    schema: Schema = _resolved(raw, raw.get("$defs", {}))
    for name, field in model.model_fields.items():
        shown = schema["properties"][field.alias or name]
        if field.default_factory is not None:
            shown["default"] = json.loads(json.dumps(field.get_default(call_default_factory=True)))
    return schema


def _nested_defaults(schema: Schema) -> None:
    """Objects inside a body whose members have defaults: fill them in, so that a plan knows every value."""
    for part in schema["properties"].values():
        if "properties" not in part:
            continue
        for name, member in part["properties"].items():
            if member.get("type") == "object" and "default" not in member:
                member["default"] = {}
            if "default" not in member and not member.get("nullable") and name in part.get("default", {}):
                member["default"] = part["default"][name]
        if "default" in part:
            part["default"] = {n: m.get("default") for n, m in part["properties"].items()}


def api() -> Schema:
    """Everything the provider needs to know of the API."""
    kinds = {}
    for kind in KINDS:
        body = schema_of(BODIES[kind])
        _nested_defaults(body)
        kinds[singular(kind)] = {"path": f"/v1/{kind}", "body": body}
    drain = schema_of(DrainBody)
    drain["properties"]["selector"] = schema_of(SelectorBody)
    return {
        "kinds": kinds,
        "join_token": {"body": schema_of(JoinTokenBody), "answer": schema_of(JoinTokenAnswer)},
        "drain": {"body": drain, "answer": schema_of(DrainAnswer)},
        "route": schema_of(Route),
        "health": schema_of(HealthAnswer),
    }


def regions() -> list[Schema]:
    """The catalogue, one row per provider and region."""
    fields = ("provider", "code", "city", "country", "latitude", "longitude", "area")
    return [{name: getattr(region, name) for name in fields} for region in catalog.load()]


def texts() -> dict[str, str]:
    """File name -> what it should say."""
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in regions())
    return {
        "api.json": json.dumps(api(), indent=1, sort_keys=True) + "\n",
        "catalog.json": f"[\n{rows}\n]\n",
    }


if __name__ == "__main__":
    for name, text in texts().items():
        (PACKAGE / name).write_text(text, encoding="utf-8")
