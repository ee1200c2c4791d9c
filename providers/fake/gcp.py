"""A Google Cloud project: what Compute Engine v1 answers to the requests of the adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers.fake.server import Fault, Reply, Request

_REGIONS = ("asia-southeast1", "europe-west3", "us-east1")
_TYPES = {"e2-micro": (2, 1024), "e2-standard-2": (2, 8192), "e2-standard-4": (4, 16384)}
_ROOT = "https://www.googleapis.com/compute/v1/projects/lab"
_CODES = {
    Fault.OUT_OF_CAPACITY: ("ZONE_RESOURCE_POOL_EXHAUSTED", "The zone does not have enough resources available.", 503),
    Fault.QUOTA: ("QUOTA_EXCEEDED", "Quota 'CPUS' exceeded. Limit: 24.0 in region europe-west3.", 403),
}


class GcpCloud:
    """Instances by zone and name, of the project ``lab`` whose token is ``token``."""

    def __init__(self, token: str = "a-token") -> None:
        self._token = token
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        self._operations: dict[str, dict[str, Any]] = {}
        self._requests: dict[str, dict[str, Any]] = {}
        self._count = 0

    def creates(self, request: Request) -> bool:
        """Tell whether a request makes a machine."""
        return request.method == "POST" and request.path.endswith("/instances")

    def machines(self) -> tuple[str, ...]:
        """Return what is there and costs money."""
        return tuple(f"{zone}/{name}" for zone, name in sorted(self._rows))

    def refusal(self, fault: Fault) -> Reply:
        """Say a fault as Google says it."""
        if fault is Fault.RATE_LIMITED:
            return _error(429, "rateLimitExceeded", "Quota metric 'Queries' is used up.", {"Retry-After": "1"})
        if fault in _CODES:
            code, text, status = _CODES[fault]
            return _error(status, code, text)
        return _error(500, "backendError", "Internal error encountered.")

    def refused_later(self, request: Request, fault: Fault) -> Reply | None:
        """Accept the launch; its operation fails."""
        code, text, status = _CODES[fault]
        operation = self._operation("insert", request.path.split("/")[6], "an-instance")
        self._operations[operation["name"]] = operation | {
            "status": "DONE", "httpErrorStatusCode": status, "httpErrorMessage": "FAILED",
            "error": {"errors": [{"code": code, "message": text}]},
        }  # fmt: skip
        return Reply(200, operation)

    def answer(self, request: Request) -> Reply:
        """Do what is asked."""
        if request.headers.get("authorization") != f"Bearer {self._token}":
            return _error(401, "authError", "Request had invalid authentication credentials.")
        parts = request.path.removeprefix("/compute/v1/projects/").split("/")[1:]
        if parts[0] == "regions":
            return Reply(200, _region(parts[1])) if len(parts) > 1 else _listed("region", map(_region, _REGIONS))
        if parts[0] == "aggregated":
            return self._list(request)
        zone, kind = parts[1], parts[2]
        if zone.rpartition("-")[0] not in _REGIONS:
            return _error(404, "notFound", f"The resource 'projects/lab/zones/{zone}' was not found")
        if kind == "machineTypes":
            return _listed("machineType", (_type(name, zone) for name in _TYPES))
        if kind == "operations":
            return Reply(200, self._operations[parts[3]])
        return self._instance(request, zone, parts[3:])

    def add(self, name: str, labels: dict[str, str]) -> str:
        """Make a machine that somebody else ordered."""
        body = {"name": name, "machineType": "zones/us-east1-b/machineTypes/e2-micro", "labels": labels}
        self._create("us-east1-b", body, "")
        return f"us-east1-b/{name}"

    def _instance(self, request: Request, zone: str, name: list[str]) -> Reply:
        if request.method == "POST":
            return self._create(zone, request.body, request.query.get("requestId", ""))
        row = self._rows.get((zone, name[0]))
        if row is None:
            return _error(404, "notFound", f"The resource '{name[0]}' was not found")
        if request.method == "GET":
            row["status"] = "RUNNING"
            return Reply(200, row)
        del self._rows[zone, name[0]]
        return Reply(200, self._operation("delete", zone, name[0]))

    def _create(self, zone: str, body: Mapping[str, Any], request_id: str) -> Reply:
        if request_id and request_id in self._requests:
            return Reply(200, self._requests[request_id])
        if (zone, body["name"]) in self._rows:
            return _error(409, "alreadyExists", f"The resource '{body['name']}' already exists")
        if body["machineType"].rpartition("/")[2] not in _TYPES:
            return _error(400, "invalid", "Invalid value for field 'resource.machineType'")
        self._count += 1
        self._rows[zone, body["name"]] = {
            "kind": "compute#instance", "id": str(4_000_000_000_000_000_000 + self._count), "name": body["name"],
            "zone": f"{_ROOT}/zones/{zone}", "machineType": f"{_ROOT}/{body['machineType']}", "status": "PROVISIONING",
            "labels": dict(body["labels"]), "labelFingerprint": "AAAA", "creationTimestamp": "2026-01-01T00:00:00Z",
            "networkInterfaces": [{
                "name": "nic0", "networkIP": f"10.0.0.{self._count % 254 + 1}",
                "accessConfigs": [{"type": "ONE_TO_ONE_NAT", "natIP": f"192.0.2.{self._count % 254 + 1}"}],
            }],
        }  # fmt: skip
        operation = self._operation("insert", zone, body["name"])
        if request_id:
            self._requests[request_id] = operation
        return Reply(200, operation)

    def _operation(self, kind: str, zone: str, target: str) -> dict[str, Any]:
        name = f"operation-{len(self._operations) + 1}"
        running = {
            "kind": "compute#operation", "id": str(len(self._operations) + 1), "name": name, "operationType": kind,
            "zone": f"{_ROOT}/zones/{zone}", "targetLink": f"{_ROOT}/zones/{zone}/instances/{target}",
            "status": "RUNNING", "progress": 0,
        }  # fmt: skip
        self._operations[name] = running | {"status": "DONE", "progress": 100}
        return running

    def _list(self, request: Request) -> Reply:
        wanted = dict(re.findall(r"\(labels\.([a-z_]+)=([a-z0-9-]+)\)", request.query.get("filter", "")))
        scopes: dict[str, dict[str, Any]] = {}
        for (zone, _), row in sorted(self._rows.items()):
            if wanted.items() <= row["labels"].items():
                scopes.setdefault(f"zones/{zone}", {"instances": []})["instances"].append(row)
        return Reply(200, {"kind": "compute#instanceAggregatedList", "id": "all", "items": scopes})


def _listed(kind: str, rows: Any) -> Reply:
    return Reply(200, {"kind": f"compute#{kind}List", "id": "all", "items": list(rows)})


def _error(status: int, reason: str, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    errors = [{"message": text, "domain": "global", "reason": reason}]
    return Reply(status, {"error": {"code": status, "message": text, "errors": errors}}, headers or {})


def _region(code: str) -> dict[str, Any]:
    quotas = [{"metric": "CPUS", "limit": 24.0, "usage": 4.0}, {"metric": "INSTANCES", "limit": 24.0, "usage": 2.0}]
    return {"kind": "compute#region", "id": "1000", "name": code, "status": "UP", "quotas": quotas}


def _type(name: str, zone: str) -> dict[str, Any]:
    cpus, memory = _TYPES[name]
    return {
        "kind": "compute#machineType", "id": "2000", "name": name, "guestCpus": cpus, "memoryMb": memory, "zone": zone,
    }  # fmt: skip
