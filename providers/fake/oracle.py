"""An Oracle tenancy: what its control APIs answer to the requests of the adapter, after checking their signatures."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from providers.extras import sdk
from providers.fake.server import Fault, Reply, Request

TENANCY = "ocid1.tenancy.oc1..lab"
USER = "ocid1.user.oc1..lab"
FINGERPRINT = "20:3b:97:13:55:1c:5b:0d:d3:37:d8:50:4e:c5:3a:34"
COMPARTMENT = "ocid1.compartment.oc1..lab"
_REGIONS = ("ap-singapore-1", "eu-frankfurt-1", "us-ashburn-1")
_FIXED = {"VM.Standard2.1": (1, 15), "VM.Standard2.2": (2, 30)}
_FLEXIBLE = "VM.Standard.E5.Flex"
_PAGE = 400  # less than is asked for, as the cloud may
_TIME = "2026-01-01T00:00:00.000Z"
_SIGNED = re.compile(
    r'^Signature algorithm="rsa-sha256",headers="([^"]+)",keyId="([^"]+)",signature="([^"]+)",version="1"$'
)
_TEXTS = {
    Fault.RATE_LIMITED: (429, "TooManyRequests", "Too many requests for the tenant."),
    Fault.OUT_OF_CAPACITY: (500, "InternalError", "Out of host capacity."),
    Fault.QUOTA: (400, "LimitExceeded", "The following service limits were exceeded: standard-e5-core-count."),
}


def subnet(region: str) -> str:
    """Return the subnet that a region's machines are launched in."""
    return f"ocid1.subnet.oc1.{region}.lab"


def image(region: str) -> str:
    """Return the image of a region's machines."""
    return f"ocid1.image.oc1.{region}.lab"


class OracleCloud:
    """Machines by region and OCID, of a tenancy whose user has the key ``public``."""

    def __init__(self, public: Any) -> None:
        self._public = public
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        self._tokens: dict[tuple[str, str], tuple[str, str]] = {}
        self._count = 0

    def creates(self, request: Request) -> bool:
        """Tell whether a request makes a machine."""
        return request.method == "POST"

    def machines(self) -> tuple[str, ...]:
        """Return what is there and costs money."""
        rows = self._rows.items()
        return tuple(sorted(f"{region}/{ocid}" for (region, ocid), r in rows if r["lifecycleState"] != "TERMINATED"))

    def refusal(self, fault: Fault) -> Reply:
        """Say a fault as Oracle says it: "no capacity" as an internal error."""
        status, code, text = _TEXTS.get(fault, (500, "InternalServerError", "Internal Server Error"))
        return _error(status, code, text, {"Retry-After": "1"} if status == 429 else None)

    def refused_later(self, request: Request, fault: Fault) -> Reply | None:
        """Say nothing later: Oracle refuses at once."""
        return None

    def answer(self, request: Request) -> Reply:
        """Do what is asked."""
        if not self._signed(request):
            return _error(
                401, "NotAuthenticated", "The required information to complete authentication was not provided."
            )
        _, service, region, _, *rest = request.path.split("/")
        if region not in _REGIONS:
            return _error(404, "NotAuthorizedOrNotFound", "Authorization failed or requested resource not found.")
        if service == "identity":
            return Reply(
                200, _domains(region) if rest[0] == "availabilityDomains" else [_subscribed(r) for r in _REGIONS]
            )
        if service == "limits":
            return Reply(200, {"used": 4, "available": 20})
        if service == "network":
            return Reply(200, _card(region, rest[1]))
        if rest[0] == "shapes":
            return _page(request, [_shape(name) for name in (*_FIXED, _FLEXIBLE)])
        if rest[0] == "vnicAttachments":
            return _page(request, [_attachment(region, request.query["instanceId"])])
        return self._instance(request, region, rest[1:])

    def add(self, name: str, tags: dict[str, str]) -> str:
        """Make a machine that somebody else ordered."""
        row = self._made("us-ashburn-1", {
            "availabilityDomain": "Uocm:US-ASHBURN-1-AD-1", "displayName": name, "shape": "VM.Standard2.1",
            "freeformTags": tags, "sourceDetails": {"sourceType": "image", "imageId": image("us-ashburn-1")},
        })  # fmt: skip
        return f"us-ashburn-1/{row['id']}"

    def _signed(self, request: Request) -> bool:
        """Check the signature (draft-cavage-http-signatures-08, with the fields that Oracle wants signed)."""
        said = _SIGNED.match(request.headers.get("authorization", ""))
        if said is None or said[2] != f"{TENANCY}/{USER}/{FINGERPRINT}":
            return False
        names = said[1].split()
        wanted = {"date", "(request-target)", "host"}
        if request.method == "POST":
            wanted |= {"content-length", "content-type", "x-content-sha256"}
            if base64.b64encode(hashlib.sha256(request.raw).digest()).decode() != request.headers.get(
                "x-content-sha256"
            ):
                return False
        if not wanted <= set(names):
            return False
        values = {**request.headers, "(request-target)": f"{request.method.lower()} {request.target}"}
        text = "\n".join(f"{n}: {values.get(n, '')}" for n in names).encode()
        padding, hashes = (
            sdk("fake", "cryptography.hazmat.primitives.asymmetric.padding"),
            sdk("fake", "cryptography.hazmat.primitives.hashes"),
        )
        try:
            self._public.verify(base64.b64decode(said[3]), text, padding.PKCS1v15(), hashes.SHA256())
        except sdk("fake", "cryptography.exceptions").InvalidSignature:
            return False
        return True

    def _instance(self, request: Request, region: str, rest: list[str]) -> Reply:
        if not rest:
            return self._create(request, region) if request.method == "POST" else self._list(request, region)
        row = self._rows.get((region, rest[0]))
        if row is None:
            return _error(404, "NotAuthorizedOrNotFound", "Authorization failed or requested resource not found.")
        if request.method == "DELETE":
            row["lifecycleState"] = "TERMINATED"
            return Reply(204)
        if row["lifecycleState"] == "PROVISIONING":
            row["lifecycleState"] = "RUNNING"
        return Reply(200, row)

    def _create(self, request: Request, region: str) -> Reply:
        body, token = request.body, request.headers.get("opc-retry-token", "")
        digest = hashlib.sha256(request.raw).hexdigest()
        if token and (region, token) in self._tokens:
            known, ocid = self._tokens[region, token]
            row = self._rows[region, ocid]
            if known != digest:
                return _error(400, "InvalidParameter", "The retry token was used with another request.")
            if row["lifecycleState"] == "TERMINATED":
                return _error(409, "InvalidatedRetryToken", "The resource of the retry token was deleted.")
            return Reply(200, row)
        if len(token) > 64:
            return _error(400, "InvalidParameter", "opc-retry-token is longer than 64 characters.")
        if body["shape"] not in (*_FIXED, _FLEXIBLE) or (body["shape"] == _FLEXIBLE) != ("shapeConfig" in body):
            return _error(400, "InvalidParameter", f"Shape {body['shape']} is not valid.")
        if body["createVnicDetails"]["subnetId"] != subnet(region) or body["compartmentId"] != COMPARTMENT:
            return _error(404, "NotAuthorizedOrNotFound", "Authorization failed or requested resource not found.")
        if body["sourceDetails"]["imageId"] != image(region):
            return _error(400, "InvalidParameter", "The image is not in this region.")
        row = self._made(region, body)
        if token:
            self._tokens[region, token] = (digest, row["id"])
        return Reply(200, dict(row))

    def _made(self, region: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self._count += 1
        config = body.get("shapeConfig")
        row = {
            "id": f"ocid1.instance.oc1.{region}.{self._count:06d}", "availabilityDomain": body["availabilityDomain"],
            "compartmentId": COMPARTMENT, "displayName": body["displayName"], "region": region, "shape": body["shape"],
            "lifecycleState": "PROVISIONING", "timeCreated": _TIME, "freeformTags": dict(body["freeformTags"]),
            "sourceDetails": body["sourceDetails"],
            "shapeConfig": {"ocpus": config["ocpus"], "memoryInGBs": config["memoryInGBs"]} if config else None,
        }  # fmt: skip
        self._rows[region, str(row["id"])] = row
        return row

    def _list(self, request: Request, region: str) -> Reply:
        if request.query["compartmentId"] != COMPARTMENT:
            return _error(404, "NotAuthorizedOrNotFound", "Authorization failed or requested resource not found.")
        return _page(request, [r for (where, _), r in sorted(self._rows.items()) if where == region])


def _page(request: Request, rows: list[dict[str, Any]]) -> Reply:
    size, start = min(int(request.query.get("limit", "50")), _PAGE), int(request.query.get("page", "0"))
    more = {"opc-next-page": str(start + size)} if start + size < len(rows) else {}
    return Reply(200, rows[start : start + size], more)


def _error(status: int, code: str, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, {"code": code, "message": text}, headers or {})


def _domains(region: str) -> list[dict[str, Any]]:
    names = (f"Uocm:{region.upper()}-AD-{number}" for number in (1, 2, 3))
    return [{"name": n, "id": f"ocid1.availabilitydomain.oc1..{n}", "compartmentId": TENANCY} for n in names]


def _subscribed(region: str) -> dict[str, Any]:
    key = region[:3].upper()
    return {"regionKey": key, "regionName": region, "status": "READY", "isHomeRegion": region == "eu-frankfurt-1"}


def _shape(name: str) -> dict[str, Any]:
    ocpus, memory = _FIXED.get(name, (1, 16))
    return {"shape": name, "ocpus": ocpus, "memoryInGBs": memory, "isFlexible": name == _FLEXIBLE}


def _attachment(region: str, ocid: str) -> dict[str, Any]:
    return {
        "id": f"ocid1.vnicattachment.oc1.{region}.{ocid.rpartition('.')[2]}", "instanceId": ocid, "timeCreated": _TIME,
        "vnicId": f"ocid1.vnic.oc1.{region}.{ocid.rpartition('.')[2]}", "lifecycleState": "ATTACHED",
        "availabilityDomain": f"Uocm:{region.upper()}-AD-1", "compartmentId": COMPARTMENT,
    }  # fmt: skip


def _card(region: str, ocid: str) -> dict[str, Any]:
    number = int(ocid.rpartition(".")[2]) % 254 + 1
    return {
        "id": ocid, "availabilityDomain": f"Uocm:{region.upper()}-AD-1", "compartmentId": COMPARTMENT,
        "lifecycleState": "AVAILABLE", "timeCreated": _TIME, "publicIp": f"192.0.2.{number}",
        "privateIp": f"10.0.0.{number}", "isPrimary": True,
    }  # fmt: skip
