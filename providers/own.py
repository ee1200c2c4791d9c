"""Own racks: machines that are there already and are switched on and off through an HTTP service of the operator.

The service stands before whatever really switches power (Redfish, IPMI, MAAS): three requests, described in
``docs/reference/adapters.md``. A launch takes the first free machine of the size in the region; the service
remembers who holds it (its tags) and refuses a second holder with 409, so that two launches never share a machine.
"""

from __future__ import annotations

import urllib.parse
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.base import (
    CloudRegion,
    Conflict,
    ConsoleHealth,
    Machine,
    NotFound,
    Order,
    OutOfCapacity,
    Quota,
    Size,
    State,
    check_deployment,
    machine_name,
    refuse_strangers,
    tags_of,
)
from providers.refusals import Words, forms, health, understood
from providers.rest import Rest

NAME = "own"
_Rows = list[dict[str, Any]]  # the adapters have a method called list
_WORDS = Words(capacity=(), quota=())
_STATES = {"on": State.RUNNING, "starting": State.STARTING, "off": State.STOPPED, "failed": State.FAILED}


@dataclass(frozen=True, slots=True)
class OwnConfig:
    """What the adapter needs to know; the token comes from ``TENDRIL_OWN_TOKEN``."""

    deployment: str
    base_url: str
    token: str = field(repr=False)
    timeout_s: float = 30.0


class Own:
    """The racks behind one power service."""

    name = NAME

    def __init__(self, config: OwnConfig) -> None:
        self._config = config
        check_deployment(config.deployment)
        self._rest = Rest(NAME, config.base_url, config.token, config.timeout_s, _WORDS)

    @understood
    def regions(self) -> tuple[CloudRegion, ...]:
        """Return the regions that have machines, by code."""
        return tuple(CloudRegion(code) for code in sorted({r["region"] for r in self._rows("regions")}))

    @understood
    def sizes(self, cloud_region: str) -> tuple[Size, ...]:
        """Return the kinds of machines in a region; of one kind the dearest tells the price."""
        rows = [r for r in self._rows("sizes") if r["region"] == cloud_region]
        sizes = {r["size"]: r for r in sorted(rows, key=lambda r: (r["price_microusd_per_hour"] or 0, r["id"]))}
        return tuple(
            Size(name, r["vcpus"], r["memory_mib"], r["price_microusd_per_hour"]) for name, r in sorted(sizes.items())
        )

    @understood
    def quota(self, cloud_region: str) -> tuple[Quota, ...]:
        """Return how many machines of each size a region has, and how many are taken."""
        rows = [r for r in self._rows("quota") if r["region"] == cloud_region]
        there, taken = Counter(r["size"] for r in rows), Counter(r["size"] for r in rows if r["tags"])
        return tuple(Quota(size, taken[size], there[size]) for size in sorted(there))

    @understood
    def launch(self, order: Order) -> Machine:
        """Switch on a free machine; with a key that was used before, return that machine."""
        rows = self._rows("launch")
        known = [r for r in rows if r["tags"].get("launch") == order.idempotency_key]
        if known:
            return self._switch_on(known[0], order)  # taken, but perhaps not switched on any more
        free = [
            r for r in rows
            if (r["region"], r["size"]) == (order.cloud_region, order.size) and not r["tags"] and r["power"] == "off"
        ]  # fmt: skip
        for row in free:
            try:
                return self._switch_on(row, order)
            except Conflict:  # another launch took it in between: the next one
                continue
        raise OutOfCapacity(NAME, "launch", f"no machine of size {order.size} in {order.cloud_region} is off and free")

    @understood
    def get(self, machine_id: str) -> Machine:
        """Return one machine."""
        if not machine_id:
            raise NotFound(NAME, "get", "there is no machine without a name")
        return _machine(self._rest.call("get", "GET", _path(machine_id)))

    @understood
    def list(self, tags: Mapping[str, str]) -> tuple[Machine, ...]:
        """Return every taken machine that has all these tags, by id."""
        return tuple(m for m in map(_machine, self._rows("list")) if m.tags and tags.items() <= m.tags.items())

    @understood
    def terminate(self, machine_id: str) -> None:
        """Switch a machine off and let go of it; one that nobody holds is a success."""
        try:
            machine = self.get(machine_id)
            if not machine.tags:
                return
            refuse_strangers(machine, self._config.deployment)
            body = {"power": "off", "launch": machine.launch_key}
            self._rest.call("terminate", "POST", f"{_path(machine_id)}/power", body=body)
        except NotFound:
            return

    def console_health(self) -> ConsoleHealth:
        """Ask the power service for its machines."""
        return health(lambda: self._rows("console_health"))

    def close(self) -> None:
        """Close connections."""
        self._rest.close()

    def _rows(self, operation: str) -> _Rows:
        rows: _Rows = self._rest.call(operation, "GET", "/machines")["machines"]
        return sorted(rows, key=lambda r: str(r["id"]))

    def _switch_on(self, row: Mapping[str, Any], order: Order) -> Machine:
        body = {
            "power": "on",
            "launch": order.idempotency_key,
            "name": machine_name(order.idempotency_key),
            "tags": tags_of(self._config.deployment, order),
            "user_data": order.user_data,
        }
        headers = {"Idempotency-Key": order.idempotency_key}
        path = f"{_path(row['id'])}/power"
        return _machine(
            self._rest.call("launch", "POST", path, body=body, headers=headers, hidden=forms(order.user_data))
        )


def _path(machine_id: str) -> str:
    return f"/machines/{urllib.parse.quote(machine_id, safe='')}"


def _machine(row: Mapping[str, Any]) -> Machine:
    return Machine(
        provider=NAME,
        id=row["id"],
        name=row["name"],
        region=row["region"],
        size=row["size"],
        state=_STATES[row["power"]],
        tags=row["tags"],
        addresses=tuple(row["addresses"]),
    )
