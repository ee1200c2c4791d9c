"""An Azure resource group: what Resource Manager answers to the requests of the adapter, and who lets it in.

A machine's network card, public address and disk are resources of their own, as on Azure: they go with the machine only
where they were ordered so, and what stays behind counts as a machine that costs money.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers.fake.server import Fault, Reply, Request

SUBSCRIPTION = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
TENANT = "8d1e3a52-6b7c-4b52-9a60-5b6f0f4c9d11"
CLIENT = "1f0e7c9a-2d4b-4c58-8a33-7c1d2e3f4a5b"
GROUP = "edge"
_REGIONS = ("germanywestcentral", "southeastasia", "westeurope")
_SIZES = {"Standard_B1s": (1, 1), "Standard_D2s_v5": (2, 8), "Standard_D4s_v5": (4, 16)}
_TOKEN = "a-bearer-token-of-the-fake"
_SUBSCRIPTION = f"/subscriptions/{SUBSCRIPTION}"
_GROUP = f"{_SUBSCRIPTION}/resourceGroups/{GROUP}"
_MACHINES = f"{_GROUP}/providers/Microsoft.Compute/virtualMachines"
_CARDS = f"{_GROUP}/providers/Microsoft.Network/networkInterfaces"
_PAGE = 250
_TIME = "2026-01-01T00:00:00Z"
_TEXTS = {
    Fault.RATE_LIMITED: (429, "TooManyRequests", "The request was throttled."),
    Fault.OUT_OF_CAPACITY: (409, "SkuNotAvailable", "The requested size is currently not available in this location."),
    Fault.QUOTA: (
        409, "OperationNotAllowed", "Operation could not be completed as it results in exceeding approved cores quota."
    ),
}  # fmt: skip


def subnet(region: str) -> str:
    """Return the subnet that a region's machines are launched in."""
    return f"{_GROUP}/providers/Microsoft.Network/virtualNetworks/{region}/subnets/nodes"


class AzureCloud:
    """Machines by name, of a subscription whose service principal has the secret ``secret``."""

    def __init__(self, secret: str = "a-token") -> None:
        self._secret = secret
        self._rows: dict[str, dict[str, Any]] = {}
        self._parts: dict[str, tuple[str, bool]] = {}  # what was made for a machine; whether it goes with it
        self._operations: dict[str, dict[str, Any]] = {}
        self._count = 0

    def creates(self, request: Request) -> bool:
        """Tell whether a request makes a machine."""
        return request.method == "PUT"

    def machines(self) -> tuple[str, ...]:
        """Return what is there and costs money: machines, and parts whose machine is gone."""
        left = (part for part, (owner, _) in self._parts.items() if owner not in self._rows)
        return tuple(sorted([*self._rows, *left]))

    def refusal(self, fault: Fault) -> Reply:
        """Say a fault as Azure says it."""
        status, code, text = _TEXTS.get(fault, (500, "InternalServerError", "Encountered internal server error."))
        return _error(status, code, text, {"Retry-After": "1"} if status == 429 else None)

    def refused_later(self, request: Request, fault: Fault) -> Reply | None:
        """Accept every second launch for which there is no room: it fails, and its machine stays as "failed"."""
        name = request.path.rpartition("/")[2]
        if name in self._rows:
            return self.answer(request)
        self._count += 1
        if fault is not Fault.OUT_OF_CAPACITY or self._count % 2:
            return None
        reply = self.answer(request)
        if reply.status == 201:
            text = "Allocation failed. We do not have sufficient capacity for the requested VM size in this region."
            self._fail(name, "AllocationFailed", text)
        return reply

    def answer(self, request: Request) -> Reply:
        """Do what is asked."""
        if request.path.startswith(f"/{TENANT}/"):
            return self._login(request)
        if request.headers.get("authorization") != f"Bearer {_TOKEN}":
            return _error(401, "InvalidAuthenticationToken", "The access token is invalid.")
        if request.path.startswith(f"{_SUBSCRIPTION}/resourceGroups/"):
            return self._of_group(request)
        if request.path == f"{_SUBSCRIPTION}/locations":
            return Reply(200, {"value": [_location(code) for code in _REGIONS] + [_location("europe", "Logical")]})
        if request.path == f"{_SUBSCRIPTION}/providers/Microsoft.Compute/skus":
            region = request.query["$filter"].partition("'")[2].rstrip("'")
            return Reply(200, {"value": [_sku(name, region) for name in _SIZES] + [_disk_sku(region)]})
        operation = re.fullmatch(
            f"{_SUBSCRIPTION}/providers/Microsoft.Compute/locations/\\w+/operations/(\\w+)", request.path
        )
        if operation and operation[1] in self._operations:
            return self._progress(operation[1])
        if request.path.endswith("/usages"):
            name = {"value": "cores", "localizedValue": "Total Regional vCPUs"}
            return Reply(200, {"value": [{"unit": "Count", "currentValue": 4, "limit": 20, "name": name}]})
        return _error(404, "NotFound", "There is no such resource.")

    def add(self, name: str, tags: dict[str, str]) -> str:
        """Make a machine that somebody else ordered."""
        self._rows[name] = _row(name, {
            "location": "westeurope", "tags": tags, "properties": {
                "hardwareProfile": {"vmSize": "Standard_B1s"}, "storageProfile": {},
                "osProfile": {}, "networkProfile": {},
            },
        })  # fmt: skip
        return name

    def _login(self, request: Request) -> Reply:
        base = f"https://{request.headers['host']}/{TENANT}"
        if request.path.endswith("/.well-known/openid-configuration"):
            token, place = f"{base}/oauth2/v2.0/token", f"{base}/oauth2/v2.0/authorize"
            return Reply(200, {"issuer": f"{base}/v2.0", "token_endpoint": token, "authorization_endpoint": place})
        asked = request.body
        wanted = {"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": self._secret}
        if not wanted.items() <= asked.items():
            return Reply(401, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret."})
        return Reply(200, {"token_type": "Bearer", "expires_in": 3599, "access_token": _TOKEN})

    def _of_group(self, request: Request) -> Reply:
        name = request.path.rpartition("/")[2]
        if request.path == _MACHINES:
            return self._list(request)
        if request.path == f"{_CARDS}/{name}" and f"card/{name}" in self._parts:
            return Reply(200, self._card(name))
        if request.path != f"{_MACHINES}/{name}":
            return _error(404, "ResourceGroupNotFound", "The resource could not be found.")
        if request.method == "PUT":
            return self._create(request, name)
        row = self._rows.get(name)
        if request.method == "DELETE":
            return self._delete(request, name) if row else Reply(204)
        if row is None:
            return _error(404, "ResourceNotFound", f"The Resource '{name}' was not found.")
        return Reply(200, row if request.query.get("$expand") == "instanceView" else _unexpanded(row))

    def _create(self, request: Request, name: str) -> Reply:
        body = request.body
        if name in self._rows:
            if request.headers.get("if-none-match") == "*":
                return _error(412, "PreconditionFailed", "The precondition If-None-Match failed.")
            return _error(409, "PropertyChangeNotAllowed", "Changing property 'osProfile' is not allowed.")
        if body["location"] not in _REGIONS:
            return _error(400, "LocationNotAvailableForResourceType", "The provided location is not available.")
        if body["properties"]["hardwareProfile"]["vmSize"] not in _SIZES:
            return _error(400, "InvalidParameter", "The value of parameter vmSize is invalid.")
        (card,) = body["properties"]["networkProfile"]["networkInterfaceConfigurations"]
        (config,) = card["properties"]["ipConfigurations"]
        if config["properties"]["subnet"]["id"] != subnet(body["location"]):
            return _error(404, "NotFound", "The subnet was not found in this location.")
        address = config["properties"]["publicIPAddressConfiguration"]
        disk = body["properties"]["storageProfile"]["osDisk"]
        self._parts |= {
            f"card/{name}": (name, card["properties"].get("deleteOption") == "Delete"),
            f"address/{name}": (name, address["properties"].get("deleteOption") == "Delete"),
            f"disk/{name}": (name, disk.get("deleteOption") == "Delete"),
        }
        self._rows[name] = _row(name, body)
        return Reply(201, _unexpanded(self._rows[name]), self._begun(request, body["location"], name))

    def _begun(self, request: Request, region: str, name: str) -> dict[str, str]:
        number = f"op{len(self._operations) + 1}"
        self._operations[number] = {"of": name, "asked": 0, "error": None}
        path = f"{_SUBSCRIPTION}/providers/Microsoft.Compute/locations/{region}/operations/{number}"
        url = f"https://{request.headers['host']}{path}?api-version={request.query['api-version']}"
        return {"Azure-AsyncOperation": url, "Location": url}

    def _fail(self, name: str, code: str, text: str) -> None:
        operation = next(o for o in self._operations.values() if o["of"] == name)
        operation["error"] = {"code": code, "message": text}
        status = {
            "code": f"ProvisioningState/failed/{code}",
            "level": "Error",
            "displayStatus": "Failed",
            "message": text,
        }
        properties = self._rows[name]["properties"]
        self._rows[name]["properties"] = properties | {
            "provisioningState": "Failed", "instanceView": {"statuses": [status]}
        }  # fmt: skip

    def _progress(self, number: str) -> Reply:
        operation = self._operations[number]
        operation["asked"] += 1
        told: dict[str, Any] = {"startTime": _TIME, "name": number, "status": "InProgress"}
        if operation["asked"] == 1:
            return Reply(200, told, {"Retry-After": "0"})
        if operation["error"]:
            return Reply(200, told | {"status": "Failed", "endTime": _TIME, "error": operation["error"]})
        return Reply(200, told | {"status": "Succeeded", "endTime": _TIME})

    def _delete(self, request: Request, name: str) -> Reply:
        del self._rows[name]
        self._parts = {p: (owner, goes) for p, (owner, goes) in self._parts.items() if owner != name or not goes}
        return Reply(202, None, self._begun(request, "westeurope", name))

    def _list(self, request: Request) -> Reply:
        rows = [_unexpanded(r) for _, r in sorted(self._rows.items())]
        start = int(request.query.get("$skiptoken", "0"))
        page: dict[str, Any] = {"value": rows[start : start + _PAGE]}
        if start + _PAGE < len(rows):
            version = request.query["api-version"]
            page["nextLink"] = (
                f"https://{request.headers['host']}{_MACHINES}?api-version={version}&$skiptoken={start + _PAGE}"
            )
        return Reply(200, page)

    def _card(self, name: str) -> dict[str, Any]:
        number = sorted(self._parts).index(f"card/{name}") % 254 + 1
        address = {"id": f"{_CARDS}/{name}/a", "properties": {"ipAddress": f"192.0.2.{number}"}}
        config = {"privateIPAddress": f"10.0.0.{number}", "primary": True, "publicIPAddress": address}
        return {
            "id": f"{_CARDS}/{name}", "name": name, "location": "westeurope",
            "properties": {"ipConfigurations": [{"name": "v4", "properties": config}]},
        }  # fmt: skip


def _row(name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    asked = body["properties"]
    card = {"id": f"{_CARDS}/{name}", "properties": {"primary": True, "deleteOption": "Delete"}}
    system = {k: v for k, v in asked["osProfile"].items() if k != "customData"}  # never told again
    status = {"code": "PowerState/running", "level": "Info", "displayStatus": "VM running"}
    zones = {"zones": body["zones"]} if "zones" in body else {}
    return {
        "id": f"{_MACHINES}/{name}", "name": name, "type": "Microsoft.Compute/virtualMachines",
        "location": body["location"], "tags": dict(body["tags"]), "etag": '"1"', **zones,
        "properties": {
            "vmId": "5f0d7b52-3f0e-4c3c-9f6a-0d9a8a1f6d11", "hardwareProfile": asked["hardwareProfile"],
            "storageProfile": asked["storageProfile"], "osProfile": system, "timeCreated": _TIME,
            "networkProfile": {"networkInterfaces": [card]}, "provisioningState": "Succeeded",
            "instanceView": {"statuses": [status]},
        },
    }  # fmt: skip


def _unexpanded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "properties": {k: v for k, v in row["properties"].items() if k != "instanceView"}}


def _error(status: int, code: str, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, {"error": {"code": code, "message": text}}, headers or {})


def _location(code: str, kind: str = "Physical") -> dict[str, Any]:
    return {
        "id": f"{_SUBSCRIPTION}/locations/{code}", "name": code, "type": "Region", "displayName": code,
        "regionalDisplayName": code, "metadata": {"regionType": kind, "regionCategory": "Recommended"},
    }  # fmt: skip


def _sku(name: str, region: str) -> dict[str, Any]:
    cpus, memory = _SIZES[name]
    can = [{"name": "vCPUs", "value": str(cpus)}, {"name": "MemoryGB", "value": str(memory)}]
    closed = [{"type": "Location", "values": [region], "reasonCode": "NotAvailableForSubscription"}]
    return {
        "resourceType": "virtualMachines", "name": name, "tier": "Standard", "locations": [region],
        "capabilities": can, "restrictions": closed if name == "Standard_D4s_v5" and region == "southeastasia" else [],
    }  # fmt: skip


def _disk_sku(region: str) -> dict[str, Any]:
    return {"resourceType": "disks", "name": "StandardSSD_LRS", "locations": [region], "capabilities": []}
