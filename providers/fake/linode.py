"""A Linode account: what API v4 answers to the requests of the adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from providers.fake.server import Fault, Reply, Request

_REGIONS = ("ap-south", "eu-central", "us-east")
_TYPES = {"g6-nanode-1": (1, 1024, 0.0075), "g6-standard-2": (2, 4096, 0.036), "g6-dedicated-4": (4, 8192, 0.108)}
_CREATED = "2026-01-01T00:00:00Z"


class LinodeCloud:
    """Machines by id, from an account whose token is ``token``."""

    def __init__(self, token: str = "a-token") -> None:
        self._token = token
        self._rows: dict[int, dict[str, Any]] = {}
        self._next = 1001

    def creates(self, request: Request) -> bool:
        """Tell whether a request makes a machine."""
        return request.method == "POST"

    def machines(self) -> tuple[str, ...]:
        """Return what is there and costs money."""
        return tuple(str(i) for i in sorted(self._rows))

    def refusal(self, fault: Fault) -> Reply:
        """Say a fault as Linode says it."""
        if fault is Fault.RATE_LIMITED:
            return _error(429, "Too many requests", {"Retry-After": "1"})
        if fault is Fault.OUT_OF_CAPACITY:
            return _error(400, "The selected plan has no capacity left and is not available in this region.")
        if fault is Fault.QUOTA:
            return _error(400, "Account Limit reached. Please open a support ticket.")
        return _error(500, "Internal Server Error")

    def refused_later(self, request: Request, fault: Fault) -> Reply | None:
        """Say nothing later: Linode refuses at once."""
        return None

    def answer(self, request: Request) -> Reply:
        """Do what is asked."""
        path = request.path.removeprefix("/v4")
        if path == "/regions":
            return _page(request, [_region(code) for code in _REGIONS])
        if path == "/linode/types":
            return _page(request, [_type(name) for name in _TYPES])
        if request.headers.get("authorization") != f"Bearer {self._token}":
            return _error(401, "Invalid Token")
        if path == "/linode/instances":
            return self._create(request.body) if request.method == "POST" else self._list(request)
        row = self._rows.get(int(path.rpartition("/")[2]))
        if row is None:
            return _error(404, "Not found")
        if request.method == "DELETE":
            del self._rows[row["id"]]
            return Reply(200, {})
        row["status"] = "running"
        return Reply(200, row)

    def add(self, label: str, tags: list[str]) -> str:
        """Make a machine that somebody else ordered."""
        return str(self._create({"label": label, "region": "us-east", "type": "g6-nanode-1", "tags": tags}).body["id"])

    def _create(self, body: Mapping[str, Any]) -> Reply:
        if body["region"] not in _REGIONS:
            return _error(400, "region is not valid", field="region")
        if body["type"] not in _TYPES:
            return _error(400, "A valid plan type by that ID was not found", field="type")
        if any(r["label"] == body["label"] for r in self._rows.values()):
            return _error(400, "Label must be unique among your linodes", field="label")
        if any(not 3 <= len(tag) <= 50 for tag in body["tags"]):
            return _error(400, "Tags must be 3 to 50 characters", field="tags")
        number = self._next
        self._next += 1
        vcpus, memory, _ = _TYPES[body["type"]]
        self._rows[number] = {
            "id": number, "label": body["label"], "region": body["region"], "type": body["type"],
            "image": body.get("image"), "tags": sorted(body["tags"]), "status": "provisioning",
            "ipv4": [f"192.0.2.{number % 254 + 1}"], "ipv6": f"2001:db8::{number:x}/128", "group": "",
            "created": _CREATED, "updated": _CREATED, "hypervisor": "kvm", "watchdog_enabled": True,
            "specs": {"disk": 25600, "memory": memory, "vcpus": vcpus, "gpus": 0, "transfer": 1000},
        }  # fmt: skip
        return Reply(200, dict(self._rows[number]))

    def _list(self, request: Request) -> Reply:
        wanted = json.loads(request.headers.get("x-filter", "{}")).get("+and", [])
        tags = {w["tags"] for w in wanted}
        return _page(request, [r for _, r in sorted(self._rows.items()) if tags <= set(r["tags"])])


def _page(request: Request, rows: list[dict[str, Any]]) -> Reply:
    page, size = int(request.query.get("page", "1")), int(request.query.get("page_size", "100"))
    if not 25 <= size <= 500:
        return _error(400, "Must be 25-500", field="page_size")
    pages = max(1, -(-len(rows) // size))
    shown = rows[(page - 1) * size : page * size]
    return Reply(200, {"data": shown, "page": page, "pages": pages, "results": len(rows)})


def _error(status: int, reason: str, headers: Mapping[str, str] | None = None, field: str | None = None) -> Reply:
    error = {"reason": reason} if field is None else {"reason": reason, "field": field}
    return Reply(status, {"errors": [error]}, headers or {})


def _region(code: str) -> dict[str, Any]:
    return {
        "id": code, "label": code, "country": code[:2], "status": "ok", "capabilities": ["Linodes", "Metadata"],
        "resolvers": {"ipv4": "192.0.2.53", "ipv6": "2001:db8::53"},
    }  # fmt: skip


def _type(name: str) -> dict[str, Any]:
    vcpus, memory, hourly = _TYPES[name]
    return {
        "id": name, "label": name, "vcpus": vcpus, "memory": memory, "disk": 25600, "transfer": 1000, "gpus": 0,
        "network_out": 1000, "class": "standard", "successor": None,
        "price": {"hourly": hourly, "monthly": round(hourly * 667, 2)},
        "region_prices": [{"id": "ap-south", "hourly": round(hourly * 1.2, 4), "monthly": round(hourly * 800, 2)}],
        "addons": {"backups": {"price": {"hourly": 0.003, "monthly": 2.0}}},
    }  # fmt: skip
