"""Shapes of requests and answers where no description is published: Vultr's documentation, and our own power service.

Closed objects (``additionalProperties: false``) on the request side, so that a misspelt field is a violation; on the
answer's side the fields that the documentation lists, required where the adapter relies on them.
"""

from __future__ import annotations

import re
from typing import Any

from providers.fake.described import Described, Operation

_TEXT: dict[str, Any] = {"type": "string"}
_WHOLE: dict[str, Any] = {"type": "integer"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
_ID: dict[str, Any] = {"type": "string", "pattern": "^[0-9a-f-]{36}$"}


def _object(required: str, more: str = "", /, **properties: Any) -> dict[str, Any]:
    """Return a closed object; names without a schema of their own are texts."""
    names = [*required.split(), *more.split()]
    return {
        "type": "object",
        "required": required.split(),
        "properties": {n: properties.get(n, _TEXT) for n in names},
        "additionalProperties": False,
    }


# --- Vultr, https://www.vultr.com/api/ -------------------------------------------------------------------------------

_LINKS = _object("next prev")
_META = _object("total links", total=_WHOLE, links=_LINKS)
_NUMBERS: dict[str, Any] = dict.fromkeys(
    ("ram", "disk", "vcpu_count", "allowed_bandwidth", "v6_network_size", "os_id", "app_id"), _WHOLE
)
_INSTANCE = _object(
    "id os ram disk main_ip vcpu_count region plan date_created status power_status server_status tags label hostname",
    "allowed_bandwidth netmask_v4 gateway_v4 v6_main_ip v6_network v6_network_size tag internal_ip kvm os_id app_id "
    "image_id firewall_group_id features default_password",
    **_NUMBERS,
    id=_ID,
    tags=_TEXTS,
    features=_TEXTS,
    status={"enum": ["active", "pending", "suspended", "resizing"]},
    power_status={"enum": ["running", "stopped"]},
    server_status={"enum": ["none", "locked", "installingbooting", "ok"]},
)
_NEW_INSTANCE = _object(
    "region plan",
    "os_id label hostname tags enable_ipv6 activation_email sshkey_id user_data",
    os_id=_WHOLE,
    tags=_TEXTS,
    sshkey_id=_TEXTS,
    enable_ipv6={"type": "boolean"},
    activation_email={"type": "boolean"},
    user_data={"type": "string", "pattern": "^[A-Za-z0-9+/]*={0,2}$"},
)
_PLAN_NUMBERS: dict[str, Any] = dict.fromkeys(("vcpu_count", "ram", "disk", "disk_count", "bandwidth"), _WHOLE)
_PLAN = _object(
    "id vcpu_count ram disk disk_count bandwidth monthly_cost type locations",
    "hourly_cost",
    **_PLAN_NUMBERS,
    monthly_cost={"type": "number"},
    hourly_cost={"type": "number"},
    locations=_TEXTS,
)
_REGION = _object("id city country continent options", options=_TEXTS)
_ERROR = _object("error status", status=_WHOLE)
_CURSOR = {"per_page": {"type": "integer", "minimum": 1, "maximum": 500}, "cursor": {}}


def _listed(name: str, row: dict[str, Any]) -> dict[str, Any]:
    return _object(f"{name} meta", **{name: {"type": "array", "items": row}, "meta": _META})


def vultr() -> Described:
    """Return the judge of Vultr's API v2."""
    one = _object("instance", instance=_INSTANCE)
    single = re.compile(r"^/v2/instances/[0-9a-f-]{36}$")
    many = re.compile(r"^/v2/instances$")
    regions, plans = _listed("regions", _REGION), _listed("plans", _PLAN)
    filters = _CURSOR | {"tag": {}, "label": {}, "region": {}, "main_ip": {}}
    return Described(
        [
            Operation("GET", re.compile("^/v2/regions$"), None, _CURSOR, {"200": regions, "default": _ERROR}),
            Operation("GET", re.compile("^/v2/plans$"), None, _CURSOR, {"200": plans, "default": _ERROR}),
            Operation("GET", many, None, filters, {"200": _listed("instances", _INSTANCE), "default": _ERROR}),
            Operation("POST", many, _NEW_INSTANCE, {}, {"202": one, "default": _ERROR}),
            Operation("GET", single, None, {}, {"200": one, "default": _ERROR}),
            Operation("DELETE", single, None, {}, {"204": None, "default": _ERROR}),
        ]
    )


# --- the power service of own racks, docs/reference/adapters.md -----------------------------------------------------

_TAGS: dict[str, Any] = {"type": "object", "additionalProperties": _TEXT}
_RACKED = _object(
    "id name region size power tags addresses vcpus memory_mib price_microusd_per_hour",
    power={"enum": ["on", "starting", "off", "failed"]},
    tags=_TAGS,
    addresses=_TEXTS,
    vcpus=_WHOLE,
    memory_mib=_WHOLE,
    price_microusd_per_hour={"type": ["integer", "null"]},
)
_SWITCH = {
    "oneOf": [
        _object("power launch name tags user_data", power={"enum": ["on"]}, tags=_TAGS),
        _object("power launch", power={"enum": ["off"]}),
    ]
}


def own() -> Described:
    """Return the judge of a power service."""
    machines = _object("machines", machines={"type": "array", "items": _RACKED})
    error = _object("error")
    return Described(
        [
            Operation("GET", re.compile("^/machines$"), None, {}, {"200": machines, "default": error}),
            Operation("GET", re.compile("^/machines/[^/]+$"), None, {}, {"200": _RACKED, "default": error}),
            Operation("POST", re.compile("^/machines/[^/]+/power$"), _SWITCH, {}, {"200": _RACKED, "default": error}),
        ]
    )
