"""Finding a resource by what people call it: an id, ``name:NAME``, or for a link ``from:to[:transport]``."""

from __future__ import annotations

from typing import Any

from tendril_terraform.client import Client
from tendril_terraform.kinds import Kind
from tendril_terraform.problems import Failed


def find(client: Client, kind: Kind, text: str) -> str:
    """The id of what a text means. Raises ``Failed`` where that is nothing or several."""
    if text.startswith("name:"):
        return _only(kind, text, _by_name(client, kind, text.removeprefix("name:")))
    if kind.name == "link" and ":" in text:
        source, target, *transport = text.split(":")
        return _only(kind, text, _links(client, source, target, (transport or ["internet"])[0]))
    return text


def _by_name(client: Client, kind: Kind, name: str) -> list[str]:
    if kind.name == "link":
        return [name]
    field = "name" if "name" in kind.fields else "id"
    return [str(item["id"]) for item in client.pages(kind.path) if item[field] == name]


def _links(client: Client, source: str, target: str, transport: str) -> list[str]:
    found: dict[str, Any] = client.get("/v1/links", **{"from": source, "to": target, "transport": transport}) or {}
    return [str(item["id"]) for item in found.get("items", []) if item.get("id")]


def _only(kind: Kind, text: str, ids: list[str]) -> str:
    if len(ids) == 1:
        return ids[0]
    if not ids:
        raise Failed(f"There is no {kind.name} {text}")
    raise Failed(f"{text} is the name of several: {', '.join(ids)}", "Import by id.")
