"""A power service of own racks: three requests over machines that are always there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.fake.server import Fault, Reply, Request


class OwnCloud:
    """Racks with ``count`` machines of one size in one region, behind a service whose token is ``token``."""

    def __init__(self, count: int, token: str = "a-token", region: str = "cellar", size: str = "r1") -> None:
        self._token = token
        self._scripts: dict[str, str] = {}
        self._rows = {f"{region}-{i:04}": _row(f"{region}-{i:04}", region, size, i) for i in range(count)}

    def creates(self, request: Request) -> bool:
        """Tell whether a request makes a machine."""
        return request.method == "POST" and request.body["power"] == "on"

    def machines(self) -> tuple[str, ...]:
        """Return what is switched on or held."""
        return tuple(i for i, r in sorted(self._rows.items()) if r["tags"] or r["power"] != "off")

    def refusal(self, fault: Fault) -> Reply:
        """Say a fault as the service says it; racks have no quota and are full by having no free machine."""
        if fault is Fault.RATE_LIMITED:
            return _error(429, "one power operation at a time", {"Retry-After": "1"})
        if fault in (Fault.OUT_OF_CAPACITY, Fault.QUOTA):
            return _error(409, "somebody else holds this machine")
        return _error(500, "the management network does not answer")

    def refused_later(self, request: Request, fault: Fault) -> Reply | None:
        """Say nothing later: the service refuses at once."""
        return None

    def answer(self, request: Request) -> Reply:
        """Do what is asked."""
        if request.headers.get("authorization") != f"Bearer {self._token}":
            return _error(401, "unknown token")
        if request.path == "/machines":
            return Reply(200, {"machines": [r for _, r in sorted(self._rows.items())]})
        row = self._rows.get(request.path.split("/")[2])
        if row is None:
            return _error(404, "no such machine")
        return Reply(200, row) if request.method == "GET" else self._power(row, request.body)

    def hold(self, machine_id: str, tags: dict[str, str]) -> str:
        """Let somebody else hold a machine."""
        self._rows[machine_id] |= {"power": "on", "tags": tags, "name": "held"}
        return machine_id

    def script(self, machine_id: str) -> str:
        """Return the start-up script that a machine was switched on with."""
        return self._scripts[machine_id]

    def _power(self, row: dict[str, Any], body: Mapping[str, Any]) -> Reply:
        holder = row["tags"].get("launch")
        if holder not in (None, body["launch"]):
            return _error(409, "somebody else holds this machine")
        if body["power"] == "on":
            self._scripts[row["id"]] = str(body.get("user_data", ""))
            row |= {"power": "on", "tags": dict(body["tags"]), "name": body["name"]}
        else:
            row |= {"power": "off", "tags": {}, "name": row["id"]}
        return Reply(200, row)


def _row(machine_id: str, region: str, size: str, number: int) -> dict[str, Any]:
    return {
        "id": machine_id, "name": machine_id, "region": region, "size": size, "power": "off", "tags": {},
        "addresses": [f"203.0.113.{number % 254 + 1}"], "vcpus": 16, "memory_mib": 65536,
        "price_microusd_per_hour": 90_000,
    }  # fmt: skip


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, {"error": text}, headers or {})
