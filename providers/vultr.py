"""Vultr's API v2 over httpx: there is no maintained official client.

Idempotency: Vultr has none and its labels need not be unique, so a launch first looks for a machine with the tag of its
key. Two launches with one key at the same time could make two machines; the reaper removes the second. Tags are the
words ``key=value``. Limits of the account cannot be read. The API key needs the permission "Manage servers" and an
access list that holds the control plane's address.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.base import (
    CloudRegion,
    ConsoleHealth,
    Machine,
    NotFound,
    Order,
    Quota,
    Size,
    State,
    check_deployment,
    machine_name,
    refuse_strangers,
    tags_of,
)
from providers.labels import tags_from, words_of
from providers.refusals import Words, forms, health, understood
from providers.rest import Rest

NAME = "vultr"
_PAGE = "500"  # the most that the API gives at once
_Rows = list[dict[str, Any]]  # the adapters have a method called list
_WORDS = Words(
    capacity=("not available in the selected", "does not have any more capacity", "out of stock", "sold out"),
    quota=("maximum number of active", "monthly fee limit", "reached the limit"),
    rate=("rate limit",),
)
_STATES = {
    ("active", "running"): State.RUNNING,
    ("active", "stopped"): State.STOPPED,
    ("suspended", "running"): State.FAILED,
    ("suspended", "stopped"): State.FAILED,
}


@dataclass(frozen=True, slots=True)
class VultrConfig:
    """What the adapter needs to know; the key comes from ``VULTR_API_KEY``."""

    deployment: str
    api_key: str = field(repr=False)
    os_id: int = 2136  # Debian 12 x64
    sshkey_id: tuple[str, ...] = ()
    base_url: str = "https://api.vultr.com"
    timeout_s: float = 30.0


class Vultr:
    """One Vultr account."""

    name = NAME

    def __init__(self, config: VultrConfig) -> None:
        self._config = config
        check_deployment(config.deployment)
        self._rest = Rest(NAME, config.base_url, config.api_key, config.timeout_s, _WORDS)

    @understood
    def regions(self) -> tuple[CloudRegion, ...]:
        """Return the cloud's regions by code."""
        rows = self._pages("regions", "/v2/regions", "regions")
        return tuple(sorted((CloudRegion(r["id"]) for r in rows), key=lambda r: r.code))

    @understood
    def sizes(self, cloud_region: str) -> tuple[Size, ...]:
        """Return the plans that Vultr offers in a region."""
        rows = self._pages("sizes", "/v2/plans", "plans")
        sizes = (
            Size(r["id"], r["vcpu_count"], r["ram"], _price(r)) for r in rows if cloud_region in r.get("locations", ())
        )
        return tuple(sorted(sizes, key=lambda s: s.name))

    @understood
    def quota(self, cloud_region: str) -> tuple[Quota, ...]:
        """Return nothing: Vultr does not tell the limit of an account."""
        return ()

    @understood
    def launch(self, order: Order) -> Machine:
        """Order one machine; with a key that was used before, return that machine."""
        known = self._list("launch", {"launch": order.idempotency_key})
        if known:
            return known[0]
        label = machine_name(order.idempotency_key)
        body: dict[str, object] = {
            "region": order.cloud_region,
            "plan": order.size,
            "os_id": self._config.os_id,
            "label": label,
            "hostname": label,
            "tags": words_of(tags_of(self._config.deployment, order)),
            "enable_ipv6": True,
            "activation_email": False,
        }
        if self._config.sshkey_id:
            body["sshkey_id"] = list(self._config.sshkey_id)
        if order.user_data:
            body["user_data"] = base64.b64encode(order.user_data.encode()).decode()
        return _machine(
            self._rest.call("launch", "POST", "/v2/instances", body=body, hidden=forms(order.user_data))["instance"]
        )

    @understood
    def get(self, machine_id: str) -> Machine:
        """Return one machine."""
        if not machine_id.replace("-", "").isalnum():
            raise NotFound(NAME, "get", f"{machine_id!r} is no Vultr id")
        return _machine(self._rest.call("get", "GET", f"/v2/instances/{machine_id}")["instance"])

    @understood
    def list(self, tags: Mapping[str, str]) -> tuple[Machine, ...]:
        """Return every machine that has all these tags, by id."""
        return self._list("list", tags)

    @understood
    def terminate(self, machine_id: str) -> None:
        """Delete a machine of ours; one that is gone already is a success."""
        try:
            refuse_strangers(self.get(machine_id), self._config.deployment)
            self._rest.call("terminate", "DELETE", f"/v2/instances/{machine_id}")
        except NotFound:
            return

    def console_health(self) -> ConsoleHealth:
        """Ask for one machine, with the permission that launching needs."""
        return health(lambda: self._rest.call("console_health", "GET", "/v2/instances", {"per_page": "1"})["instances"])

    def close(self) -> None:
        """Close connections."""
        self._rest.close()

    def _list(self, operation: str, tags: Mapping[str, str]) -> tuple[Machine, ...]:
        # The API filters by one tag: the launch's where it is asked for, being the one that fewest machines have.
        key = "launch" if "launch" in tags else min(tags, default=None)
        params = {} if key is None else {"tag": f"{key}={tags[key]}"}
        rows = self._pages(operation, "/v2/instances", "instances", params)
        found = [m for m in map(_machine, rows) if tags.items() <= m.tags.items()]
        return tuple(sorted(found, key=lambda m: m.id))

    def _pages(self, operation: str, path: str, field_name: str, params: Mapping[str, str] | None = None) -> _Rows:
        rows: _Rows = []
        query = {**(params or {}), "per_page": _PAGE}
        while True:
            answer = self._rest.call(operation, "GET", path, query)
            rows += answer[field_name]
            cursor = answer["meta"]["links"]["next"]
            if not cursor:
                return rows
            query["cursor"] = cursor


def _price(row: Mapping[str, Any]) -> int:
    # 672 hours are the most that Vultr bills a month; older answers lack the price of an hour.
    hourly: float = row.get("hourly_cost") or row["monthly_cost"] / 672
    return round(hourly * 1_000_000)


def _machine(row: Mapping[str, Any]) -> Machine:
    addresses = (row.get("main_ip", ""), row.get("v6_main_ip", ""))
    return Machine(
        provider=NAME,
        id=row["id"],
        name=row["label"],
        region=row["region"],
        size=row["plan"],
        state=_STATES.get((row["status"], row["power_status"]), State.STARTING),
        tags=tags_from(row["tags"]),
        addresses=tuple(a for a in addresses if a not in ("", "0.0.0.0")),
    )
