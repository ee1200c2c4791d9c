"""Microsoft Azure through its official SDKs, ``azure-mgmt-compute``, ``azure-mgmt-network`` and ``azure-identity``.

Idempotency: a machine's name is unique in its resource group, and a launch is one ``PUT`` with ``If-None-Match: *``: a
second one with the same key is refused by the cloud itself and answered with the machine that has the name. Network
card, public address and disk are made by the same ``PUT`` and deleted with the machine (``deleteOption``). A launch is
an operation that may still fail, so the adapter waits for its end; what failed stays as a machine in the state
``failed`` until the reaper removes it. All machines of a deployment are in one resource group; ids are their names.
Permissions: *Virtual Machine Contributor* and *Network Contributor* on the resource group and the subnets, *Reader* on
the subscription.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from providers.azure_access import AzureAccess, Way
from providers.base import (
    CloudError,
    CloudRegion,
    Conflict,
    ConsoleHealth,
    Machine,
    NotConfigured,
    NotFound,
    Order,
    Quota,
    Refused,
    Size,
    State,
    Transient,
    check_deployment,
    machine_name,
    refuse_strangers,
    tags_of,
)
from providers.refusals import Refusal, Words, forms, health, typed, understood

NAME = "azure"
_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
_USER = "tendril"
_POLL_S = 2.0  # where the cloud does not say: a machine takes some ten seconds
_WORDS = Words(
    capacity=("skunotavailable", "allocationfailed", "overconstrained"),
    quota=("quotaexceeded", "operationnotallowed", "exceeding approved", "quota limit"),
    rate=("toomanyrequests",),
)
_STATES = {
    "Succeeded": State.RUNNING,
    "Failed": State.FAILED,
    "Canceled": State.FAILED,
    "Deleting": State.GOING,
}
_POWERED = {
    "PowerState/stopping": State.STOPPED,
    "PowerState/stopped": State.STOPPED,
    "PowerState/deallocating": State.STOPPED,
    "PowerState/deallocated": State.STOPPED,
}


@dataclass(frozen=True, slots=True)
class AzureConfig:
    """What the adapter needs; credentials are the variables of a service principal, or what the machine itself has."""

    deployment: str
    subscription: str
    resource_group: str
    subnets: Mapping[str, str]  # resource ids by region: a network has one region, so a launch needs one there
    ssh_public_key: str  # Azure makes no machine that nobody can log in to
    tenant: str = ""
    client: str = ""
    secret: str = field(default="", repr=False)
    security_groups: Mapping[str, str] = field(default_factory=dict)  # resource ids by region
    image: str = "Canonical:ubuntu-24_04-lts:server:latest"
    disk_gib: int = 30
    prices: Mapping[str, int] = field(default_factory=dict)  # millionths of a US dollar an hour by size
    base_url: str = "https://management.azure.com"
    login_url: str = "https://login.microsoftonline.com"
    ca_file: str = ""  # certificate authorities, where a proxy or a private cloud has its own
    timeout_s: float = 30.0
    launch_s: float = 110.0  # for the end of a launch


class Azure:
    """One resource group of one subscription."""

    name = NAME

    def __init__(self, config: AzureConfig) -> None:
        check_deployment(config.deployment)
        if config.image.count(":") != 3:
            raise NotConfigured(NAME, "open", f"image {config.image!r} is not PUBLISHER:OFFER:SKU:VERSION")
        self._config = config
        way = {f.name: getattr(config, f.name) for f in fields(Way)}
        self._access = AzureAccess(Way(**way), _WORDS)

    @understood
    def regions(self) -> tuple[CloudRegion, ...]:
        """Return the subscription's regions by code; areas of several regions are none."""
        rows = self._access.document("regions", f"/subscriptions/{self._config.subscription}/locations", "2022-12-01")
        places = [r["name"] for r in rows["value"] if r.get("metadata", {}).get("regionType") != "Logical"]
        return tuple(CloudRegion(code) for code in sorted(places))

    @understood
    def sizes(self, cloud_region: str) -> tuple[Size, ...]:
        """Return what the subscription may order in a region, with the prices that the settings tell."""
        skus = self._access.compute.resource_skus
        rows = self._access.pages("sizes", lambda **k: skus.list(filter=f"location eq '{cloud_region}'", **k))
        found = [r for r in rows if r["resourceType"] == "virtualMachines" and not _closed(r)]
        return tuple(sorted((_size(r, self._config.prices) for r in found), key=lambda s: s.name))

    @understood
    def quota(self, cloud_region: str) -> tuple[Quota, ...]:
        """Return the subscription's limits in a region."""
        rows = self._access.pages("quota", lambda **k: self._access.compute.usage.list(cloud_region, **k))
        limits = (Quota(r["name"]["value"], r["currentValue"], r["limit"]) for r in rows)
        return tuple(sorted(limits, key=lambda q: q.name))

    @understood
    def launch(self, order: Order) -> Machine:
        """Order one machine and wait for the cloud's word; with a key that was used before, return that machine."""
        name, hidden = machine_name(order.idempotency_key), forms(order.user_data)
        body, headers = self._body(order, name), dict[str, str]()
        group, machines = self._config.resource_group, self._access.compute.virtual_machines

        def put() -> object:
            return machines.begin_create_or_update(
                group,
                name,
                body,
                match_condition=self._access.if_missing,
                polling=False,
                raw_response_hook=lambda answer: headers.update(answer.http_response.headers),
            )

        try:
            self._access.ask("launch", put, hidden)
            self._finished({k.lower(): v for k, v in headers.items()}, hidden)
        except Conflict:
            pass  # the name is taken: by this key's machine, or the look at it says by whose
        except NotFound as error:  # of the resource group, the subnet or the image
            raise Refused(NAME, "launch", error.detail) from None
        return self._launched(name, order, hidden)

    @understood
    def get(self, machine_id: str) -> Machine:
        """Return one machine, its addresses from its network cards."""
        row = self._row("get", machine_id)
        return _machine(row, self._addresses(row))

    @understood
    def list(self, tags: Mapping[str, str]) -> tuple[Machine, ...]:
        """Return every machine of the resource group that has all these tags, by id."""
        group, machines = self._config.resource_group, self._access.compute.virtual_machines
        rows = self._access.pages("list", lambda **k: machines.list(group, **k))
        found = [m for m in map(self._seen, rows) if m is not None and tags.items() <= m.tags.items()]
        return tuple(sorted(found, key=lambda m: m.id))

    @understood
    def terminate(self, machine_id: str) -> None:
        """Delete a machine of ours with all that was made for it; one that is gone already is a success."""
        group, machines = self._config.resource_group, self._access.compute.virtual_machines
        try:
            machine = _machine(self._row("terminate", machine_id))
            refuse_strangers(machine, self._config.deployment)
            if machine.state is not State.GOING:
                self._access.ask(
                    "terminate", lambda: machines.begin_delete(group, machine_id, force_deletion=True, polling=False)
                )
        except NotFound:
            return

    def console_health(self) -> ConsoleHealth:
        """Ask for the machines, with the permission that launching needs."""
        group, machines = self._config.resource_group, self._access.compute.virtual_machines
        return health(lambda: self._access.first_page("console_health", lambda **k: machines.list(group, **k)))

    def close(self) -> None:
        """Close connections."""
        self._access.close()

    def _body(self, order: Order, name: str) -> dict[str, Any]:
        subnet = self._config.subnets.get(order.cloud_region)
        if subnet is None:
            raise Refused(NAME, "launch", f"the setting subnets names none in {order.cloud_region}")
        publisher, offer, sku, version = self._config.image.split(":")
        key = {"path": f"/home/{_USER}/.ssh/authorized_keys", "keyData": self._config.ssh_public_key}
        linux = {"disablePasswordAuthentication": True, "ssh": {"publicKeys": [key]}}
        system: dict[str, Any] = {"computerName": name, "adminUsername": _USER, "linuxConfiguration": linux}
        if order.user_data:
            system["customData"] = base64.b64encode(order.user_data.encode()).decode()
        disk = {"createOption": "FromImage", "deleteOption": "Delete", "diskSizeGB": self._config.disk_gib}
        body: dict[str, Any] = {
            "location": order.cloud_region,
            "tags": tags_of(self._config.deployment, order),
            "properties": {
                "hardwareProfile": {"vmSize": order.size},
                "storageProfile": {
                    "imageReference": {"publisher": publisher, "offer": offer, "sku": sku, "version": version},
                    "osDisk": {"name": name, "managedDisk": {"storageAccountType": "StandardSSD_LRS"}, **disk},
                },
                "osProfile": system,
                "networkProfile": {
                    "networkApiVersion": "2020-11-01",  # the first that makes the card with the machine
                    "networkInterfaceConfigurations": [self._card(order.cloud_region, subnet, name)],
                },
            },
        }
        if order.zone:
            body["zones"] = [order.zone]
        return body

    def _card(self, region: str, subnet: str, name: str) -> dict[str, Any]:
        address = {
            "name": name,
            "sku": {"name": "Standard", "tier": "Regional"},
            "properties": {"deleteOption": "Delete", "publicIPAllocationMethod": "Static"},
        }
        plain = {"primary": True, "subnet": {"id": subnet}, "publicIPAddressConfiguration": address}
        properties: dict[str, Any] = {
            "primary": True,
            "deleteOption": "Delete",
            "ipConfigurations": [{"name": "v4", "properties": plain}],
        }
        if region in self._config.security_groups:
            properties["networkSecurityGroup"] = {"id": self._config.security_groups[region]}
        return {"name": name, "properties": properties}

    def _finished(self, headers: Mapping[str, str], hidden: tuple[str, ...]) -> None:
        """Wait for the end of a launch. Raises what the operation says went wrong."""
        url = headers.get("azure-asyncoperation")
        until = time.monotonic() + self._config.launch_s
        while url is not None:
            try:
                operation, wait_s = self._access.operation("launch", url, hidden)
            except CloudError as error:  # whatever became of the question, the launch is under way
                raise Transient(NAME, "launch", error.detail, outcome_unknown=True) from None
            if operation["status"] == "Succeeded":
                return
            if operation["status"] in ("Failed", "Canceled"):
                raise typed(NAME, "launch", Refusal(500, _why([operation.get("error") or {}]), {}), _WORDS, hidden)
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise Transient(NAME, "launch", "the operation has not ended", outcome_unknown=True)
            time.sleep(min(_POLL_S if wait_s is None else wait_s, left_s))

    def _launched(self, name: str, order: Order, hidden: tuple[str, ...]) -> Machine:
        try:
            row = self._row("launch", name)
        except NotFound as error:
            raise Transient(NAME, "launch", error.detail, outcome_unknown=True) from None
        except CloudError as error:
            raise Transient(NAME, "launch", f"launched, but not seen: {error.detail}", outcome_unknown=True) from None
        machine = _machine(row)
        if machine.launch_key != order.idempotency_key:
            raise Refused(NAME, "launch", f"{name} is there already and has no tag of this launch")
        if machine.state is State.FAILED:
            raise typed(NAME, "launch", Refusal(500, _why(_statuses(row)), {}), _WORDS, hidden)
        return machine

    def _row(self, operation: str, machine_id: str) -> Any:
        if not _ID.match(machine_id):
            raise NotFound(NAME, operation, f"{machine_id!r} is no name of a machine")
        group, machines = self._config.resource_group, self._access.compute.virtual_machines
        return self._access.ask(operation, lambda: machines.get(group, machine_id, expand="instanceView"))

    def _seen(self, row: Any) -> Machine | None:
        """Return a machine of a list; "failed" can also mean a machine that runs, so it is looked at.

        Where that look fails the machine is called starting, which harms none: one such must not hide all others.
        """
        machine = _machine(row)
        if machine.state is not State.FAILED:
            return machine
        try:
            return _machine(self._row("list", machine.id))
        except NotFound:
            return None
        except CloudError:
            return replace(machine, state=State.STARTING)

    def _addresses(self, row: Any) -> tuple[str, ...]:
        cards = row["properties"].get("networkProfile", {}).get("networkInterfaces") or ()
        found: list[str] = []
        for card in cards:
            for config in self._access.card("get", card["id"])["properties"].get("ipConfigurations") or ():
                own = config.get("properties", {})
                public = (own.get("publicIPAddress") or {}).get("properties", {}).get("ipAddress")
                found += [a for a in (public, own.get("privateIPAddress")) if a]
        return tuple(found)


def _why(said: Iterable[Mapping[str, Any]]) -> str:
    return "; ".join(f"{s.get('code')}: {s.get('message')}" for s in said)


def _statuses(row: Any) -> list[Any]:
    return list((row["properties"].get("instanceView") or {}).get("statuses") or ())


def _machine(row: Any, addresses: tuple[str, ...] = ()) -> Machine:
    properties = row["properties"]
    codes = [s.get("code", "") for s in _statuses(row)]
    state = _STATES.get(properties["provisioningState"], State.STARTING)
    if state is State.FAILED and "PowerState/running" in codes:  # a later change failed, not the machine
        state = State.RUNNING
    stopped = [_POWERED[c] for c in codes if c in _POWERED]
    return Machine(
        provider=NAME,
        id=row["name"],
        name=row["name"],
        region=row["location"],
        size=properties["hardwareProfile"]["vmSize"],
        state=stopped[0] if stopped and state is State.RUNNING else state,
        tags=dict(sorted((row.get("tags") or {}).items())),
        addresses=addresses,
    )


def _closed(row: Any) -> bool:
    return any(r.get("type") == "Location" for r in row.get("restrictions") or ())


def _size(row: Any, prices: Mapping[str, int]) -> Size:
    can = {c["name"]: c["value"] for c in row["capabilities"]}
    return Size(row["name"], int(can["vCPUs"]), round(float(can["MemoryGB"]) * 1024), prices.get(row["name"]))
