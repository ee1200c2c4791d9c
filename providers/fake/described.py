"""A cloud's own description of its API, as a judge of requests and answers.

An OpenAPI 3.0 document is used as published, except for faults that are known and patched on loading. Its schemas are
judged by a JSON Schema validator of draft 4, the one that OpenAPI 3.0 is nearest to (``nullable`` is translated; what
stands beside a ``$ref`` is ignored by both). Where a cloud publishes no description, the shapes of its documentation
are written down as the same kind of operations (:mod:`providers.fake.shapes`).
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from providers.extras import sdk
from providers.fake.server import Reply, Request

_DOCUMENT = "urn:description"
# The label's look-ahead means two dots, and says any two characters.
_LINODE_LABEL, _LINODE_LABEL_MEANT = "(?!--|__|..)", "(?!--|__|\\.\\.)"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: schemas by what they judge; a missing one judges nothing, a missing status is a fault."""

    method: str
    path: re.Pattern[str]
    request: Any = None
    query: Mapping[str, Any] | None = None
    replies: Mapping[str, Any] | None = None


class Described:
    """Judges by a list of operations; schemas may refer to a document."""

    def __init__(self, operations: Iterable[Operation], document: Mapping[str, Any] | None = None) -> None:
        self._operations = tuple(operations)
        self._rs = sdk("fake", "jsonschema_rs")
        self._registry = self._rs.Registry([(_DOCUMENT, dict(document or {}))], draft=self._rs.Draft4)
        self._validators: dict[int, Any] = {}

    def request_faults(self, request: Request) -> list[str]:
        """Check that there is such an operation, its parameters and its body."""
        found = self._find(request)
        if found is None:
            return [f"{request.method} {request.path}: no such operation"]
        faults = []
        for name, value in request.query.items():
            if name == "$alt":  # Google's clients say how they want enums; no description of theirs mentions it
                continue
            if found.query is not None and name not in found.query:
                faults.append(f"{request.method} {request.path}: no parameter {name}")
            elif found.query is not None:
                faults += self._faults(request, f"parameter {name}", found.query[name], _plain(value))
        if found.request is not None or request.body is not None:
            faults += self._faults(request, "body", found.request, request.body)
        return faults

    def reply_faults(self, request: Request, reply: Reply) -> list[str]:
        """Check the answer to an operation."""
        found = self._find(request)
        if found is None or found.replies is None:
            return []
        schema = found.replies.get(str(reply.status), found.replies.get("default", _MISSING))
        if schema is _MISSING:
            return [f"{request.method} {request.path}: status {reply.status} is not described"]
        return self._faults(request, f"answer {reply.status}", schema, reply.body)

    def _find(self, request: Request) -> Operation | None:
        return next((o for o in self._operations if o.method == request.method and o.path.match(request.path)), None)

    def _faults(self, request: Request, what: str, schema: Any, value: Any) -> list[str]:
        where = f"{request.method} {request.path}: {what}"
        if schema is None:
            return [] if value is None else [f"{where}: none is described"]
        if id(schema) not in self._validators:
            self._validators[id(schema)] = self._rs.Draft4Validator(schema, registry=self._registry)
        errors = self._validators[id(schema)].iter_errors(value)
        return [f"{where}: {'/'.join(map(str, e.instance_path))} {e.message}"[:500] for e in errors]


_MISSING = object()


def _plain(value: str) -> object:
    """Return a parameter as its schema means it: numbers and truths are written as texts in an address."""
    if value in ("true", "false"):
        return value == "true"
    return int(value) if re.fullmatch(r"-?\d{1,18}", value) else value


def openapi(path: Path, prefix: str, wanted: Iterable[str]) -> Described:
    """Return the judge of the named paths of a (gzipped) OpenAPI document; requests carry ``prefix`` before them."""
    document = _meant(json.loads(gzip.decompress(path.read_bytes())))
    operations = [
        _operation(document, prefix, template, method)
        for template in wanted
        for method in ("get", "post", "put", "delete")
        if method in document["paths"][template]
    ]
    return Described(operations, document)


def _operation(document: Mapping[str, Any], prefix: str, template: str, method: str) -> Operation:
    item = document["paths"][template]
    row = item[method]
    parameters = [_resolved(document, p) for p in [*item.get("parameters", ()), *row.get("parameters", ())]]
    responses = {status: _resolved(document, r) for status, r in row["responses"].items()}
    body = _resolved(document, row["requestBody"]) if "requestBody" in row else None
    pattern = re.sub(r"\\{(\w+)\\}", r"[^/]+", re.escape(template))
    replies = {status: _schema(r) for status, r in responses.items()}
    if set(replies) == {"200"}:  # a document that describes no refusal at all
        replies["default"] = {"type": "object"}
    return Operation(
        method=method.upper(),
        path=re.compile(f"^{re.escape(prefix)}{pattern}$"),
        request=None if body is None else _schema(body),
        query={p["name"]: p["schema"] for p in parameters if p["in"] == "query"},
        replies=replies,
    )


def _resolved(document: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        found: Any = document
        for part in node["$ref"].partition("#/")[2].split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        node = found
    return node


def _schema(body: Mapping[str, Any]) -> Any:
    for kind, content in body.get("content", {}).items():
        if "json" in kind:
            return content.get("schema")
    return None


def meant_label(node: Any) -> Any:
    """Return a document with the label's look-ahead as it is meant."""
    if isinstance(node, list):
        return [meant_label(n) for n in node]
    if isinstance(node, dict):
        return {k: meant_label(v) for k, v in node.items()}
    return node.replace(_LINODE_LABEL, _LINODE_LABEL_MEANT) if isinstance(node, str) else node


def _meant(node: Any) -> Any:
    """Return a document in JSON Schema's words, known faults patched, references made absolute."""
    if isinstance(node, list):
        return [_meant(n) for n in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("$ref"), str):
        return {"$ref": _DOCUMENT + node["$ref"] if node["$ref"].startswith("#") else node["$ref"]}
    meant = {k: _meant(v) for k, v in node.items() if k not in ("example", "examples", "x-code-samples")}
    if meant.get("nullable") is True and isinstance(meant.get("type"), str):
        meant["type"] = [meant["type"], "null"]
        if "enum" in meant:
            meant["enum"] = [*meant["enum"], None]
    if isinstance(meant.get("pattern"), str):
        meant["pattern"] = meant["pattern"].replace(_LINODE_LABEL, _LINODE_LABEL_MEANT)
    return meant
