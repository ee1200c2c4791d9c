"""Judges made of the SDKs' own models: the operations that the adapters of Azure and Oracle use, and their models.

Two things of Azure have no model in the SDKs in use, and are written down from its documentation: the list of regions,
the progress of a long operation; so is the token service, which is OAuth 2.0 (RFC 6749, section 4.4).
"""

from __future__ import annotations

import functools
import re
from typing import Any

from providers.extras import sdk
from providers.fake import models
from providers.fake.described import Described, Operation

_TEXT: dict[str, Any] = {"type": "string"}
_ANY_OBJECT: dict[str, Any] = {"type": "object"}


def _page(row: str) -> dict[str, Any]:
    properties = {"value": models.array_of(row), "nextLink": _TEXT}
    return {"type": "object", "required": ["value"], "properties": properties, "additionalProperties": False}


def _object(required: str, **properties: Any) -> dict[str, Any]:
    """Return a closed object; names without a schema of their own are texts."""
    names = required.split()
    every = dict.fromkeys(names, _TEXT) | properties
    needed = {"required": names} if names else {}  # draft 4 knows no empty list of what is required
    return {"type": "object", "properties": every, "additionalProperties": False, **needed}


@functools.cache
def azure() -> Described:
    """Return the judge of Azure's Resource Manager and of its token service."""
    compute, network = sdk("azure", "azure.mgmt.compute.models"), sdk("azure", "azure.mgmt.network.models")
    document = models.azure([compute], ["VirtualMachine"], ["VirtualMachine", "ResourceSku", "Usage", "CloudError"])
    document["definitions"] |= models.azure([network], [], ["NetworkInterface"])["definitions"]
    machine, refused = models.reference("compute.VirtualMachine.told"), models.reference("compute.CloudError.told")
    under = "^/subscriptions/[0-9a-f-]{36}"
    group = f"{under}/resourceGroups/[\\w.()-]{{1,90}}/providers"
    of_compute = f"{under}/providers/Microsoft.Compute"
    one = re.compile(f"{group}/Microsoft.Compute/virtualMachines/[\\w.-]{{1,64}}$")
    many = re.compile(f"{group}/Microsoft.Compute/virtualMachines$")
    version = {"api-version": {"type": "string", "pattern": "^20\\d\\d-\\d\\d-\\d\\d$"}}
    view, filtered = version | {"$expand": {"enum": ["instanceView"]}}, version | {"$filter": _TEXT}
    operation = _object("status name startTime", endTime=_TEXT, error=_ANY_OBJECT, properties=_ANY_OBJECT)

    def get(path: str, query: Any, answer: Any) -> Operation:
        return Operation("GET", re.compile(path), None, query, {"200": answer, "default": refused})

    return Described(
        [
            *_token_service(),
            Operation("PUT", one, models.reference("compute.VirtualMachine.sent"), version,
                      {"200": machine, "201": machine, "default": refused}),
            Operation("DELETE", one, None, version | {"forceDeletion": {"type": "boolean"}},
                      {"200": None, "202": None, "204": None, "default": refused}),
            Operation("GET", one, None, view, {"200": machine, "default": refused}),
            Operation("GET", many, None, filtered | {"$skiptoken": {}},
                      {"200": _page("compute.VirtualMachine.told"), "default": refused}),
            get(f"{of_compute}/skus$", filtered, _page("compute.ResourceSku.told")),
            get(f"{of_compute}/locations/\\w+/usages$", version, _page("compute.Usage.told")),
            get(f"{of_compute}/locations/\\w+/operations/\\w+$", version, operation),
            get(f"{group}/Microsoft.Network/networkInterfaces/[\\w.-]{{1,80}}$", version | {"$expand": _TEXT},
                models.reference("network.NetworkInterface.told")),
            get(f"{under}/locations$", version, _locations()),
        ],
        document,
    )  # fmt: skip


def _locations() -> dict[str, Any]:
    row = _object("id name type displayName regionalDisplayName", metadata=_ANY_OBJECT)
    return _object("value", value={"type": "array", "items": row}, nextLink=_TEXT)


def _token_service() -> list[Operation]:
    refused = _object("error error_description", error_codes={"type": "array"}, timestamp=_TEXT, trace_id=_TEXT)
    asked = _object("grant_type client_id client_secret scope", client_info=_TEXT, claims=_TEXT)
    asked["additionalProperties"] = True  # the SDK tells its version and its system too
    given = _object("token_type access_token", expires_in={"type": "integer"}, ext_expires_in={"type": "integer"})
    found = _object("issuer token_endpoint authorization_endpoint")
    tenant = "^/[0-9a-f-]{36}"
    return [
        Operation("GET", re.compile(f"{tenant}/v2.0/.well-known/openid-configuration$"), None, {}, {"200": found}),
        Operation("POST", re.compile(f"{tenant}/oauth2/v2.0/token$"), asked, {}, {"200": given, "default": refused}),
    ]


@functools.cache
def oracle() -> Described:
    """Return the judge of Oracle's control APIs; the fake has service and region before their paths."""
    packages = [sdk("oracle", f"oci.{name}.models") for name in ("core", "identity", "limits")]
    names = ("LaunchInstanceDetails", "Instance", "Shape", "Vnic", "VnicAttachment", "AvailabilityDomain",
             "RegionSubscription", "ResourceAvailability")  # fmt: skip
    refused = _object("code message", originalMessage=_TEXT)
    compartment, ocid = {"compartmentId": _TEXT}, "ocid1\\.[\\w.-]+"
    pages = compartment | {"limit": {"type": "integer", "minimum": 1, "maximum": 1000}, "page": {}}

    def operation(
        method: str, service: str, path: str, query: Any, status: str, answer: Any, asked: Any = None
    ) -> Operation:
        version = "20190729" if service == "limits" else "20160918"
        where = re.compile(f"^/{service}/[a-z]+-[a-z]+-\\d/{version}/{path}$")
        return Operation(method, where, asked, query, {status: answer, "default": refused})

    one, of = models.reference, models.array_of
    return Described(
        [
            operation("POST", "compute", "instances", {}, "200", one("Instance"), one("LaunchInstanceDetails")),
            operation("GET", "compute", "instances", pages, "200", of("Instance")),
            operation("GET", "compute", f"instances/{ocid}", {}, "200", one("Instance")),
            operation("DELETE", "compute", f"instances/{ocid}", {"preserveBootVolume": {"type": "boolean"}}, "204",
                      None),
            operation("GET", "compute", "shapes", pages, "200", of("Shape")),
            operation("GET", "compute", "vnicAttachments", pages | {"instanceId": _TEXT}, "200",
                      of("VnicAttachment")),
            operation("GET", "network", f"vnics/{ocid}", {}, "200", one("Vnic")),
            operation("GET", "identity", "availabilityDomains", compartment, "200", of("AvailabilityDomain")),
            operation("GET", "identity", f"tenancies/{ocid}/regionSubscriptions", {}, "200", of("RegionSubscription")),
            operation("GET", "limits", "services/compute/limits/[a-z0-9-]+/resourceAvailability",
                      compartment | {"availabilityDomain": _TEXT}, "200", one("ResourceAvailability")),
        ],
        models.oracle(packages, names),
    )  # fmt: skip
