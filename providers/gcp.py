"""Google Compute Engine through its official SDK, ``google-cloud-compute``, over its REST transport.

Idempotency: an instance's name is unique in its zone and project, and the same ``requestId`` gives the same operation
for an hour; a second launch with one key is answered with the machine that has the name. A launch is an operation that
may still fail, and says "no capacity" only then, so the adapter waits for its end. Ids are ``zone/name``. Tags are
labels. Prices are no part of the Compute API: the settings tell them. Permissions: ``compute.instances.create``,
``.get``, ``.list``, ``.delete``, ``.setLabels``, ``.setMetadata``, ``compute.disks.create``,
``compute.subnetworks.use``, ``compute.subnetworks.useExternalIp``, ``compute.zoneOperations.get``,
``compute.regions.list``, ``.get``, ``compute.machineTypes.list``.
"""

from __future__ import annotations

import re
import urllib.parse
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
from providers.extras import sdk
from providers.refusals import Refusal, Words, forms, health, never_sent, typed, unanswered, understood

NAME = "gcp"
_REQUESTS = uuid.UUID("0b8c1d8e-53a5-4c67-8f0e-2f7f3a1c9d54")  # a name space of our own for request ids
_ID = re.compile(r"^[a-z]+-[a-z]+\d+-[a-z]/[a-z][-a-z0-9]*$")
_WORDS = Words(
    capacity=("resource_pool_exhausted", "stockout", "does not have enough resources"),
    quota=("quota_exceeded", "quotaexceeded", "quota '"),
    rate=("ratelimitexceeded", "rate_limit_exceeded"),
)
_STATES = {
    "RUNNING": State.RUNNING,
    "STOPPING": State.STOPPED,
    "TERMINATED": State.STOPPED,
    "SUSPENDING": State.STOPPED,
    "SUSPENDED": State.STOPPED,
}


@dataclass(frozen=True, slots=True)
class GcpConfig:
    """What the adapter needs; credentials are ``GOOGLE_OAUTH_ACCESS_TOKEN`` or the application's default ones."""

    deployment: str
    project: str
    token: str = field(default="", repr=False)
    image: str = "projects/debian-cloud/global/images/family/debian-12"
    network: str = "global/networks/default"
    disk_gib: int = 20
    prices: Mapping[str, int] = field(default_factory=dict)  # millionths of a US dollar an hour by machine type
    base_url: str = "https://compute.googleapis.com"
    timeout_s: float = 30.0
    launch_s: float = 110.0  # for the end of a launch; the cloud itself waits two minutes at most


class Gcp:
    """One project."""

    name = NAME

    def __init__(self, config: GcpConfig) -> None:
        check_deployment(config.deployment)
        self._config = config
        self._v1 = sdk(NAME, "google.cloud.compute_v1")
        self._refusals = sdk(NAME, "google.api_core.exceptions").GoogleAPICallError
        auth = sdk(NAME, "google.auth.exceptions")
        self._no_credentials = (auth.RefreshError, auth.DefaultCredentialsError)
        self._other_errors = (auth.GoogleAuthError, sdk(NAME, "requests").RequestException)
        self._credentials = self._found_credentials()
        self._instances = self._client("Instances", "instances")
        self._types = self._client("MachineTypes", "machine_types")
        self._places = self._client("Regions", "regions")
        self._operations = self._client("ZoneOperations", "zone_operations")

    @understood
    def regions(self) -> tuple[CloudRegion, ...]:
        """Return the project's regions by code."""
        rows = self._ask("regions", lambda **k: _rows(self._places.list(project=self._config.project, **k)))
        return tuple(sorted((CloudRegion(r.name, r.status == "UP") for r in rows), key=lambda r: r.code))

    @understood
    def sizes(self, cloud_region: str) -> tuple[Size, ...]:
        """Return the machine types of the region's first zone, with the prices that the settings tell."""
        zone, project = _zone(cloud_region, None), self._config.project
        rows = self._ask("sizes", lambda **k: _rows(self._types.list(project=project, zone=zone, **k)))
        prices = self._config.prices
        sizes = (Size(r.name, r.guest_cpus, r.memory_mb, prices.get(r.name)) for r in rows)
        return tuple(sorted(sizes, key=lambda s: s.name))

    @understood
    def quota(self, cloud_region: str) -> tuple[Quota, ...]:
        """Return the project's limits in a region."""
        project = self._config.project
        row = self._ask("quota", lambda **k: self._places.get(project=project, region=cloud_region, **k))
        limits = (Quota(q.metric, round(q.usage), round(q.limit)) for q in _said(row).quotas)
        return tuple(sorted(limits, key=lambda q: q.name))

    @understood
    def launch(self, order: Order) -> Machine:
        """Order one machine and wait for the cloud's word; with a key that was used before, return that machine."""
        zone, name = _zone(order.cloud_region, order.zone), machine_name(order.idempotency_key)
        hidden = forms(order.user_data)
        request = self._v1.InsertInstanceRequest(
            project=self._config.project,
            zone=zone,
            request_id=str(uuid.uuid5(_REQUESTS, order.idempotency_key)),
            instance_resource=self._instance(order, zone, name),
        )
        try:
            operation = self._ask("launch", lambda **k: self._instances.insert_unary(request=request, **k), hidden)
            self._finished(zone, operation, hidden)
        except Conflict:
            pass  # the name is taken: by this key's machine, or the look at it says by whose
        except NotFound as error:  # of the zone, not of a machine
            raise Refused(NAME, "launch", error.detail) from None
        return self._launched(f"{zone}/{name}", order)

    @understood
    def get(self, machine_id: str) -> Machine:
        """Return one machine."""
        return self._get("get", machine_id)

    @understood
    def list(self, tags: Mapping[str, str]) -> tuple[Machine, ...]:
        """Return every machine that has all these labels, by id, from all zones."""
        request = self._v1.AggregatedListInstancesRequest(
            project=self._config.project,
            filter=" ".join(f"(labels.{key}={value})" for key, value in sorted(tags.items())),
        )
        zones = self._ask("list", lambda **k: _rows(self._instances.aggregated_list(request=request, **k)))
        found = (_machine(row) for _, zone in zones for row in zone.instances)
        return tuple(sorted((m for m in found if tags.items() <= m.tags.items()), key=lambda m: m.id))

    @understood
    def terminate(self, machine_id: str) -> None:
        """Delete a machine of ours with its disk; one that is gone already is a success."""
        try:
            refuse_strangers(self._get("terminate", machine_id), self._config.deployment)
            zone, _, name = machine_id.partition("/")
            request = self._v1.DeleteInstanceRequest(project=self._config.project, zone=zone, instance=name)
            self._ask("terminate", lambda **k: self._instances.delete_unary(request=request, **k))
        except NotFound:
            return

    def console_health(self) -> ConsoleHealth:
        """Ask for the machines, with the permission that launching needs."""
        return health(lambda: self._ask("console_health", self._one_machine))

    def close(self) -> None:
        """Close connections."""
        for client in (self._instances, self._types, self._places, self._operations):
            client.transport.close()

    def _one_machine(self, **how: Any) -> object:
        request = self._v1.AggregatedListInstancesRequest(project=self._config.project, max_results=1)
        return _said(self._instances.aggregated_list(request=request, **how))

    def _found_credentials(self) -> Any:
        if self._config.token:
            return sdk(NAME, "google.oauth2.credentials").Credentials(self._config.token)
        try:
            return sdk(NAME, "google.auth").default(scopes=["https://www.googleapis.com/auth/compute"])[0]
        except self._no_credentials as error:
            raise NotConfigured(NAME, "open", str(error)) from None

    def _client(self, name: str, module: str) -> Any:
        url = urllib.parse.urlsplit(self._config.base_url)
        transports = sdk(NAME, f"google.cloud.compute_v1.services.{module}.transports")
        transport = getattr(transports, f"{name}RestTransport")(
            host=url.netloc, url_scheme=url.scheme, credentials=self._credentials
        )
        return getattr(self._v1, f"{name}Client")(transport=transport)

    def _instance(self, order: Order, zone: str, name: str) -> dict[str, Any]:
        disk = {"source_image": self._config.image, "disk_size_gb": self._config.disk_gib}
        body: dict[str, Any] = {
            "name": name,
            "machine_type": f"zones/{zone}/machineTypes/{order.size}",
            "labels": tags_of(self._config.deployment, order),
            "disks": [{"boot": True, "auto_delete": True, "initialize_params": disk}],
            "network_interfaces": [
                {
                    "network": self._config.network,
                    "access_configs": [{"name": "External NAT", "type_": "ONE_TO_ONE_NAT"}],
                }
            ],
        }
        if order.user_data:
            body["metadata"] = {"items": [{"key": "startup-script", "value": order.user_data}]}
        return body

    def _finished(self, zone: str, operation: Any, hidden: tuple[str, ...]) -> None:
        """Wait for the end of a launch. Raises what the operation says went wrong."""
        if _said(operation).status != self._v1.Operation.Status.DONE:
            request = self._v1.WaitZoneOperationRequest(
                project=self._config.project, zone=zone, operation=operation.name
            )
            try:
                operation = self._ask(
                    "launch", lambda **k: self._operations.wait(request=request, **k), hidden, self._config.launch_s
                )
            except CloudError as error:  # whatever became of the question, the launch is under way
                raise Transient(NAME, "launch", error.detail, outcome_unknown=True) from None
        if operation.status != self._v1.Operation.Status.DONE:
            raise Transient(NAME, "launch", f"operation {operation.name} has not ended", outcome_unknown=True)
        if operation.error.errors:
            said = "; ".join(f"{e.code}: {e.message}" for e in operation.error.errors)
            raise typed(NAME, "launch", Refusal(operation.http_error_status_code or 400, said, {}), _WORDS, hidden)

    def _launched(self, machine_id: str, order: Order) -> Machine:
        try:
            machine = self._get("launch", machine_id)
        except NotFound as error:
            raise Transient(NAME, "launch", error.detail, outcome_unknown=True) from None
        except CloudError as error:
            raise Transient(NAME, "launch", f"launched, but not seen: {error.detail}", outcome_unknown=True) from None
        if machine.launch_key != order.idempotency_key:
            raise Refused(NAME, "launch", f"{machine.name} is there already and has no tag of this launch")
        return machine

    def _get(self, operation: str, machine_id: str) -> Machine:
        if not _ID.match(machine_id):
            raise NotFound(NAME, operation, f"{machine_id!r} is no zone/name")
        zone, _, name = machine_id.partition("/")
        project = self._config.project
        return _machine(
            self._ask(operation, lambda **k: self._instances.get(project=project, zone=zone, instance=name, **k))
        )

    def _ask(
        self, operation: str, call: Callable[..., Any], hidden: tuple[str, ...] = (), timeout_s: float | None = None
    ) -> Any:
        secrets = (self._config.token, *hidden)
        try:
            return call(retry=None, timeout=timeout_s or self._config.timeout_s)
        except self._refusals as error:
            headers = {} if error.response is None else error.response.headers
            reasons = " ".join(str(e.get("reason", "")) for e in error.errors or () if isinstance(e, Mapping))
            refusal = Refusal(int(error.code or 500), f"{error.message} {reasons}", headers)
            raise typed(NAME, operation, refusal, _WORDS, secrets) from None
        except self._no_credentials as error:
            raise typed(NAME, operation, Refusal(401, str(error), {}), _WORDS, secrets) from None
        except self._other_errors as error:
            raise unanswered(NAME, operation, error, not never_sent(error), secrets) from None


def _said(answer: Any) -> Any:
    """Return an answer that says what it is: the SDK makes an empty object of anything that is JSON."""
    if not answer.kind.startswith("compute#"):
        raise LookupError("kind")
    return answer


def _rows(pages: Any) -> Any:
    return list(_said(pages))


def _zone(cloud_region: str, zone: str | None) -> str:
    return zone or f"{cloud_region}-b"  # the one letter that every region's zones have


def _machine(row: Any) -> Machine:
    zone = _said(row).zone.rpartition("/")[2]
    interfaces = row.network_interfaces
    addresses = [c.nat_i_p for i in interfaces for c in i.access_configs] + [i.network_i_p for i in interfaces]
    return Machine(
        provider=NAME,
        id=f"{zone}/{row.name}",
        name=row.name,
        region=zone.rpartition("-")[0],
        size=row.machine_type.rpartition("/")[2],
        state=_STATES.get(row.status, State.STARTING),
        tags=dict(sorted(row.labels.items())),
        addresses=tuple(a for a in addresses if a),
    )
