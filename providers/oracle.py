"""Oracle Cloud Infrastructure through its official SDK, ``oci``.

Idempotency: a launch carries ``opc-retry-token``, which follows from the key; for 24 hours a second launch with it is
answered with the first one's machine. There is a control API in each region, so a machine's id is ``region/OCID`` and
machines are looked for in the regions that the settings have a subnet for. What was terminated is still listed for an
hour; to the callers it is gone. A size is a shape, or SHAPE:OCPUS:GIB where the shape is flexible. Prices are no part
of the API: the settings tell them. Permissions: ``manage instance-family``, ``use virtual-network-family``, ``read
instance-images`` in the compartment, ``inspect availability-domains`` and ``read resource-availability`` in the
tenancy.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from providers.base import (
    AuthFailed,
    CloudRegion,
    Conflict,
    ConsoleHealth,
    Machine,
    NotFound,
    Order,
    Quota,
    Refused,
    Size,
    State,
    check_deployment,
    machine_name,
    refuse_strangers,
    tags_of,
)
from providers.oracle_access import OracleAccess, Way, rows_of, told
from providers.refusals import Words, forms, health, understood

NAME = "oracle"
_REQUESTS = uuid.UUID("4a0b8a57-7a5e-4f0d-9d2c-0f5b6f3f0c11")  # a name space of our own for retry tokens
_ID = re.compile(r"^[a-z0-9-]+/ocid1\.instance\.[A-Za-z0-9._-]+$")
_WORDS = Words(
    capacity=("out of host capacity", "outofhostcapacity", "out of capacity"),
    quota=("limitexceeded", "quotaexceeded"),
    rate=("toomanyrequests",),
)
_STATES = {
    "RUNNING": State.RUNNING,
    "STOPPING": State.STOPPED,
    "STOPPED": State.STOPPED,
    "TERMINATING": State.GOING,
    "TERMINATED": State.GOING,
}
_GONE = "TERMINATED"


@dataclass(frozen=True, slots=True)
class OracleConfig:
    """What the adapter needs; credentials are a profile of the SDK's own file, or those of the machine itself."""

    deployment: str
    compartment: str
    subnets: Mapping[str, str]  # OCIDs by region: a network has one region, so a launch needs one there
    images: Mapping[str, str]  # OCIDs by region: images have one too
    profile_file: str = ""
    profile: str = ""
    security_groups: Mapping[str, str] = field(default_factory=dict)  # OCIDs by region
    sizes: tuple[str, ...] = ("VM.Standard.E5.Flex:1:8", "VM.Standard.E5.Flex:2:16", "VM.Standard.E5.Flex:4:32")
    limits: tuple[str, ...] = ("standard-e5-core-count", "standard-e5-memory-count")
    prices: Mapping[str, int] = field(default_factory=dict)  # millionths of a US dollar an hour by size
    instance_principal: bool = False
    base_url: str = ""  # empty: the SDK's own; else this, with /SERVICE/REGION
    timeout_s: float = 30.0


class Oracle:
    """One compartment."""

    name = NAME

    def __init__(self, config: OracleConfig) -> None:
        check_deployment(config.deployment)
        self._config = config
        way = {f.name: getattr(config, f.name) for f in fields(Way)}
        self._access = OracleAccess(Way(**way), _WORDS)
        self._domains: dict[str, tuple[str, ...]] = {}  # they never change

    @understood
    def regions(self) -> tuple[CloudRegion, ...]:
        """Return the regions that the tenancy is subscribed to, by code."""
        ask = self._access.client("identity", self._access.home).list_region_subscriptions
        rows = self._access.ask("regions", lambda: ask(self._access.tenancy)).data
        return tuple(
            sorted((CloudRegion(told(r.region_name), r.status == "READY") for r in rows), key=lambda r: r.code)
        )

    @understood
    def sizes(self, cloud_region: str) -> tuple[Size, ...]:
        """Return the region's shapes; flexible ones as the settings cut them."""
        ask = self._access.client("compute", cloud_region).list_shapes
        rows = {told(r.shape): r for r in self._access.pages("sizes", ask, self._config.compartment)}
        fixed = {name: (r.ocpus, r.memory_in_gbs) for name, r in rows.items() if not r.is_flexible}
        cut = {s: _cut(s) for s in self._config.sizes if s.partition(":")[0] in rows}
        sizes = (_size(name, *what, self._config.prices.get(name)) for name, what in (fixed | cut).items())
        return tuple(sorted(sizes, key=lambda s: s.name))

    @understood
    def quota(self, cloud_region: str) -> tuple[Quota, ...]:
        """Return the limits that the settings name, over the region's availability domains."""
        ask = self._access.client("limits", cloud_region).get_resource_availability
        about, found = self._config.compartment, []
        for name in self._config.limits:
            rows = [
                self._access.ask("quota", partial(ask, "compute", name, about, availability_domain=domain)).data
                for domain in self._domains_of("quota", cloud_region)
            ]
            used = sum(round(told(r.used)) for r in rows)
            found.append(Quota(name, used, used + sum(round(r.available or 0) for r in rows)))
        return tuple(found)

    @understood
    def launch(self, order: Order) -> Machine:
        """Order one machine; with a key that was used before, return that machine."""
        region, hidden = order.cloud_region, forms(order.user_data)
        if region not in self._config.subnets or region not in self._config.images:
            raise Refused(NAME, "launch", f"the settings subnets and images name none in {region}")
        try:
            domain = self._domain(order)
            ask, token = (
                self._access.client("compute", region).launch_instance,
                uuid.uuid5(_REQUESTS, order.idempotency_key),
            )
            body = self._body(order, domain)
            answer = self._access.ask("launch", lambda: ask(body, opc_retry_token=str(token)), hidden)
        except NotFound as error:  # of the compartment, the subnet or the image
            raise Refused(NAME, "launch", error.detail) from None
        except Conflict as error:
            if "invalidatedretrytoken" in error.detail.lower():
                raise Refused(NAME, "launch", f"the machine of this key is gone: {error.detail}") from None
            raise
        row = answer.data
        if told(row.lifecycle_state) == _GONE:
            raise Refused(NAME, "launch", f"the machine of this key is gone: {row.id}")
        return _machine(region, row)

    @understood
    def get(self, machine_id: str) -> Machine:
        """Return one machine, its addresses from its network cards."""
        region, row = self._row("get", machine_id)
        return _machine(region, row, self._addresses(region, row))

    @understood
    def list(self, tags: Mapping[str, str]) -> tuple[Machine, ...]:
        """Return every machine that has all these tags, by id, from all regions with a subnet."""
        found = []
        for region in sorted(self._config.subnets):
            ask = self._access.client("compute", region).list_instances
            rows = self._access.pages("list", ask, self._config.compartment)
            found += [_machine(region, r) for r in rows if told(r.lifecycle_state) != _GONE]
        return tuple(sorted((m for m in found if tags.items() <= m.tags.items()), key=lambda m: m.id))

    @understood
    def terminate(self, machine_id: str) -> None:
        """Delete a machine of ours with its boot volume; one that is gone already is a success."""
        try:
            region, row = self._row("terminate", machine_id)
            machine = _machine(region, row)
            refuse_strangers(machine, self._config.deployment)
            if machine.state is not State.GOING:
                ask = self._access.client("compute", region).terminate_instance
                self._access.ask("terminate", lambda: ask(row.id, preserve_boot_volume=False))
        except NotFound:
            return

    def console_health(self) -> ConsoleHealth:
        """Ask for one machine, with the permission that launching needs."""
        region = min(self._config.subnets, default=self._access.home)
        ask = self._access.client("compute", region).list_instances
        return health(
            lambda: rows_of(self._access.ask("console_health", lambda: ask(self._config.compartment, limit=1)))
        )

    def close(self) -> None:
        """Close connections."""
        self._access.close()

    def _domains_of(self, operation: str, region: str) -> tuple[str, ...]:
        if region not in self._domains:
            ask = self._access.client("identity", region).list_availability_domains
            rows = rows_of(self._access.ask(operation, lambda: ask(self._access.tenancy), changes=False))
            self._domains[region] = tuple(sorted(told(r.name) for r in rows))
        return self._domains[region]

    def _domain(self, order: Order) -> str:
        """Return the availability domain of an order: by its name, its number, or the first."""
        domains = self._domains_of("launch", order.cloud_region)
        wanted = order.zone or "1"
        if wanted in domains:
            return wanted
        if not wanted.isdigit() or not 1 <= int(wanted) <= len(domains):
            raise Refused(NAME, "launch", f"{order.cloud_region} has no zone {wanted}; it has {', '.join(domains)}")
        return domains[int(wanted) - 1]

    def _body(self, order: Order, domain: str) -> Any:
        models, region = self._access.models, order.cloud_region
        shape, flexible = order.size.partition(":")[0], None
        if ":" in order.size:
            try:
                ocpus, memory = _cut(order.size)
            except ValueError as error:
                raise Refused(NAME, "launch", str(error)) from None
            flexible = models.LaunchInstanceShapeConfigDetails(ocpus=ocpus, memory_in_gbs=memory)
        groups = [self._config.security_groups[region]] if region in self._config.security_groups else None
        data = {"user_data": base64.b64encode(order.user_data.encode()).decode()} if order.user_data else None
        return models.LaunchInstanceDetails(
            availability_domain=domain,
            compartment_id=self._config.compartment,
            display_name=machine_name(order.idempotency_key),
            shape=shape,
            shape_config=flexible,
            freeform_tags=tags_of(self._config.deployment, order),
            metadata=data,
            source_details=models.InstanceSourceViaImageDetails(image_id=self._config.images[region]),
            create_vnic_details=models.CreateVnicDetails(
                subnet_id=self._config.subnets[region], assign_public_ip=True, nsg_ids=groups
            ),
            instance_options=models.InstanceOptions(are_legacy_imds_endpoints_disabled=True),
        )

    def _row(self, operation: str, machine_id: str) -> tuple[str, Any]:
        if not _ID.match(machine_id):
            raise NotFound(NAME, operation, f"{machine_id!r} is no region/OCID")
        region, _, ocid = machine_id.partition("/")
        ask = self._access.client("compute", region).get_instance
        try:
            row = self._access.ask(operation, partial(ask, ocid)).data
        except NotFound as error:
            self._surely_gone(operation, region, ocid)
            raise error from None
        if told(row.lifecycle_state) == _GONE:
            raise NotFound(NAME, operation, f"{machine_id} was terminated")
        return region, row

    def _surely_gone(self, operation: str, region: str, ocid: str) -> None:
        """Let "not found" pass only where we may look: Oracle says it of what we may not see, too."""
        ask = self._access.client("compute", region).list_instances
        try:
            rows = self._access.pages(operation, ask, self._config.compartment)
        except NotFound as error:
            raise AuthFailed(NAME, operation, f"the compartment is not to be seen either: {error.detail}") from None
        if any(r.id == ocid and r.lifecycle_state != _GONE for r in rows):
            raise AuthFailed(NAME, operation, f"{ocid} is listed, and may not be read")

    def _addresses(self, region: str, row: Any) -> tuple[str, ...]:
        cards = self._access.client("compute", region).list_vnic_attachments
        ask = self._access.client("network", region).get_vnic
        found: list[str] = []
        for card in self._access.pages("get", cards, self._config.compartment, instance_id=row.id):
            if card.lifecycle_state == "ATTACHED":
                own = self._access.ask("get", partial(ask, card.vnic_id)).data
                found += [a for a in (own.public_ip, *(own.ipv6_addresses or ()), own.private_ip) if a]
        return tuple(found)


def _cut(size: str) -> tuple[float, float]:
    """Return the processors and the memory of SHAPE:OCPUS:GIB. Raises :class:`ValueError`."""
    parts = size.split(":")
    if len(parts) != 3:
        raise ValueError(f"size {size!r} is not SHAPE:OCPUS:GIB")
    return float(parts[1]), float(parts[2])


def _size(name: str, ocpus: float, memory_gib: float, price: int | None) -> Size:
    threads = 1 if ".A1." in name else 2  # an OCPU is a core with two threads, on Ampere A1 one with one
    return Size(name, round(ocpus * threads), round(memory_gib * 1024), price)


def _machine(region: str, row: Any, addresses: tuple[str, ...] = ()) -> Machine:
    size = str(told(row.shape))
    if row.shape_config is not None and size.endswith(".Flex"):
        size = f"{size}:{row.shape_config.ocpus:g}:{row.shape_config.memory_in_gbs:g}"
    return Machine(
        provider=NAME,
        id=f"{region}/{told(row.id)}",
        name=row.display_name,
        region=region,
        size=size,
        state=_STATES.get(told(row.lifecycle_state), State.STARTING),
        tags=dict(sorted((row.freeform_tags or {}).items())),
        addresses=addresses,
    )
