"""A Vultr account: what API v2 answers to the requests of the adapter."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from providers.fake.server import Fault, Reply, Request

_REGIONS = ("ams", "ewr", "sgp")
_PLANS = {"vc2-1c-1gb": (1, 1024, 5.0), "vc2-2c-4gb": (2, 4096, 20.0), "vc2-4c-8gb": (4, 8192, 40.0)}
_IDS = uuid.UUID("5f0d7b52-3f0e-4c3c-9f6a-0d9a8a1f6d11")


class VultrCloud:
    """Machines by id, from an account whose key is ``api_key``."""

    def __init__(self, api_key: str = "a-token") -> None:
        self._key = api_key
        self._rows: dict[str, dict[str, Any]] = {}
        self._count = 0

    def creates(self, request: Request) -> bool:
        """Tell whether a request makes a machine."""
        return request.method == "POST"

    def machines(self) -> tuple[str, ...]:
        """Return what is there and costs money."""
        return tuple(sorted(self._rows))

    def refusal(self, fault: Fault) -> Reply:
        """Say a fault as Vultr says it."""
        if fault is Fault.RATE_LIMITED:
            return _error(429, "Rate limit exceeded", {"Retry-After": "1"})
        if fault is Fault.OUT_OF_CAPACITY:
            return _error(400, "Plan is not available in the selected region.")
        if fault is Fault.QUOTA:
            return _error(400, "You have reached the maximum number of active virtual machines for this account.")
        return _error(500, "Internal server error")

    def refused_later(self, request: Request, fault: Fault) -> Reply | None:
        """Say nothing later: Vultr refuses at once."""
        return None

    def answer(self, request: Request) -> Reply:
        """Do what is asked."""
        if request.path == "/v2/regions":
            return _page(request, "regions", [_region(code) for code in _REGIONS])
        if request.path == "/v2/plans":
            return _page(request, "plans", [_plan(name) for name in _PLANS])
        if request.headers.get("authorization") != f"Bearer {self._key}":
            return _error(401, "Invalid API token.")
        if request.path == "/v2/instances":
            return self._create(request.body) if request.method == "POST" else self._list(request)
        row = self._rows.get(request.path.rpartition("/")[2])
        if row is None:
            return _error(404, "Invalid instance.")
        if request.method == "DELETE":
            del self._rows[row["id"]]
            return Reply(204)
        row |= {"status": "active", "server_status": "ok", "main_ip": f"198.51.100.{self._count % 254 + 1}"}
        return Reply(200, {"instance": row})

    def add(self, label: str, tags: list[str]) -> str:
        """Make a machine that somebody else ordered."""
        body = {"region": "ams", "plan": "vc2-1c-1gb", "label": label, "tags": tags, "os_id": 2136}
        return str(self._create(body).body["instance"]["id"])

    def _create(self, body: Mapping[str, Any]) -> Reply:
        if body["region"] not in _REGIONS:
            return _error(400, "Invalid region.")
        if body["plan"] not in _PLANS:
            return _error(400, "Invalid plan chosen.")
        self._count += 1
        vcpus, memory, _ = _PLANS[body["plan"]]
        row = {
            "id": str(uuid.uuid5(_IDS, str(self._count))), "os": "Debian 12 x64 (bookworm)", "ram": memory, "disk": 25,
            "main_ip": "0.0.0.0", "vcpu_count": vcpus, "region": body["region"], "plan": body["plan"],
            "date_created": "2026-01-01T00:00:00+00:00", "status": "pending", "power_status": "running",
            "server_status": "none", "allowed_bandwidth": 1000, "netmask_v4": "", "gateway_v4": "0.0.0.0",
            "v6_main_ip": "", "v6_network": "", "v6_network_size": 0, "hostname": body.get("hostname", ""),
            "label": body["label"], "tag": "", "tags": sorted(body["tags"]), "internal_ip": "", "kvm": "",
            "os_id": body["os_id"], "app_id": 0, "image_id": "", "firewall_group_id": "", "features": ["ipv6"],
        }  # fmt: skip
        self._rows[str(row["id"])] = row
        return Reply(202, {"instance": row | {"default_password": "shown-once"}})

    def _list(self, request: Request) -> Reply:
        tag, label = request.query.get("tag"), request.query.get("label")
        rows = [r for _, r in sorted(self._rows.items()) if tag is None or tag in r["tags"]]
        return _page(request, "instances", [r for r in rows if label is None or r["label"] == label])


def _page(request: Request, name: str, rows: list[dict[str, Any]]) -> Reply:
    size, start = int(request.query.get("per_page", "100")), int(request.query.get("cursor", "0"))
    if not 1 <= size <= 500:
        return _error(400, "per_page must be between 1 and 500")
    following = str(start + size) if start + size < len(rows) else ""
    links = {"next": following, "prev": ""}
    return Reply(200, {name: rows[start : start + size], "meta": {"total": len(rows), "links": links}})


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, {"error": text, "status": status}, headers or {})


def _region(code: str) -> dict[str, Any]:
    return {"id": code, "city": code, "country": "NL", "continent": "Europe", "options": ["ddos_protection"]}


def _plan(name: str) -> dict[str, Any]:
    vcpus, memory, monthly = _PLANS[name]
    return {
        "id": name, "vcpu_count": vcpus, "ram": memory, "disk": 25, "disk_count": 1, "bandwidth": 1024,
        "monthly_cost": monthly, "hourly_cost": round(monthly / 672, 4), "type": "vc2",
        "locations": list(_REGIONS[:2]) if vcpus == 4 else list(_REGIONS),
    }  # fmt: skip
