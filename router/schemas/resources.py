"""Provider, region, data center, node, link, policy and pool: the intent resources.

Every body turns into its core type with ``core(id, present)``. ``present`` is the inventory that is in force: an
``intent`` that a body does not name stays what it is, so that re-applying a fleet file never ends a drain. ``revision``
is accepted, so that an answer may be sent back, and ignored; send ``If-Match`` to insist on one.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from router.core.model import (
    DEFAULT_TRANSPORT,
    MAX_RELAYS,
    DataCenter,
    DataCenterId,
    Intent,
    Inventory,
    Link,
    LinkId,
    Node,
    NodeId,
    Policy,
    PolicyId,
    Pool,
    PoolId,
    Provider,
    ProviderId,
    Region,
    RegionId,
    Resource,
    Role,
    TrafficClass,
)
from router.schemas.fields import (
    Body,
    Count,
    DelayMs,
    Epoch,
    Host,
    Id,
    Ids,
    Labels,
    Latitude,
    Longitude,
    Port,
    Text,
    Url,
    UsdPerGb,
)
from router.schemas.units import known_ms, microusd, us, usd


class ResourceBody(Body):
    """What all resources share; ``id`` may be left out where the path names it."""

    id: Id | None = None
    revision: Epoch | None = Field(default=None, description="read-only; ignored in requests, see If-Match")


def _both_or_neither(latitude: float | None, longitude: float | None) -> None:
    if (latitude is None) != (longitude is None):
        raise PydanticCustomError("position", "latitude and longitude must be given together")


class ProviderBody(ResourceBody):
    """Who runs machines."""

    name: Text = ""
    labels: Labels = Field(default_factory=dict)

    def core(self, id: str, present: Inventory) -> Provider:
        """Map to the core type."""
        return Provider(ProviderId(id), self.name, dict(sorted(self.labels.items())))


class RegionBody(ResourceBody):
    """A market on the map."""

    name: Text = ""
    country: Annotated[str, StringConstraints(pattern=r"^([A-Z]{2})?$")] = Field(
        default="", description="ISO 3166-1 alpha-2 or empty"
    )
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    labels: Labels = Field(default_factory=dict)

    @model_validator(mode="after")
    def _position(self) -> Self:
        _both_or_neither(self.latitude, self.longitude)
        return self

    def core(self, id: str, present: Inventory) -> Region:
        """Map to the core type."""
        labels = dict(sorted(self.labels.items()))
        return Region(RegionId(id), self.name, self.country, self.latitude, self.longitude, labels)


class Capacity(Body):
    """What fits in a data center; 0 is unlimited."""

    sessions: Count = 0
    mbps: Count = 0


class DataCenterBody(ResourceBody):
    """One provider's presence in one region; an ``intent`` that is left out stays what it is."""

    provider: Id
    region: Id
    roles: Annotated[list[Role], Field(min_length=1, max_length=2)] = Field(default_factory=lambda: [Role.EDGE])
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    capacity: Capacity = Capacity()
    egress_usd_per_gb: UsdPerGb | None = None
    media_url: Url = ""
    intent: Intent | None = None
    labels: Labels = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _both_or_neither(self.latitude, self.longitude)
        if len(set(self.roles)) != len(self.roles):
            raise PydanticCustomError("roles", "roles must not repeat an entry")
        return self

    def core(self, id: str, present: Inventory) -> DataCenter:
        """Map to the core type; roles come in a fixed order."""
        before = present.data_centers.get(DataCenterId(id))
        return DataCenter(
            DataCenterId(id),
            ProviderId(self.provider),
            RegionId(self.region),
            roles=tuple(role for role in Role if role in self.roles),
            latitude=self.latitude,
            longitude=self.longitude,
            capacity_sessions=self.capacity.sessions,
            capacity_mbps=self.capacity.mbps,
            egress_microusd_per_gb=microusd(self.egress_usd_per_gb),
            media_url=self.media_url,
            intent=self.intent or (Intent.SERVING if before is None else before.intent),
            labels=dict(sorted(self.labels.items())),
        )


class NodeBody(ResourceBody):
    """One machine; ``addresses`` maps a transport to the host that others reach it at."""

    data_center: Id
    addresses: Annotated[dict[Id, Host], Field(max_length=8)] = Field(default_factory=dict)
    reflector_port: Annotated[Port, Field(ge=1)] = 862
    relay_port: Port = 0
    media_url: Url = ""
    labels: Labels = Field(default_factory=dict)
    intent: Intent | None = None

    def core(self, id: str, present: Inventory) -> Node:
        """Map to the core type."""
        before = present.nodes.get(NodeId(id))
        return Node(
            NodeId(id),
            DataCenterId(self.data_center),
            dict(sorted(self.addresses.items())),
            self.reflector_port,
            self.relay_port,
            self.media_url,
            dict(sorted(self.labels.items())),
            intent=self.intent or (Intent.SERVING if before is None else before.intent),
        )


class LinkBody(ResourceBody):
    """A configured directed adjacency."""

    source: Id = Field(alias="from")
    target: Id = Field(alias="to")
    transport: Id = DEFAULT_TRANSPORT
    capacity_mbps: Count = 0
    price_usd_per_gb: UsdPerGb | None = None
    intent: Intent | None = None
    labels: Labels = Field(default_factory=dict)

    @model_validator(mode="after")
    def _two_ends(self) -> Self:
        if self.source == self.target:
            raise PydanticCustomError("ends", "from and to must differ")
        return self

    def core(self, id: str, present: Inventory) -> Link:
        """Map to the core type."""
        before = present.links.get(LinkId(id))
        return Link(
            LinkId(id),
            DataCenterId(self.source),
            DataCenterId(self.target),
            self.transport,
            self.capacity_mbps,
            microusd(self.price_usd_per_gb),
            self.intent or (Intent.SERVING if before is None else before.intent),
            dict(sorted(self.labels.items())),
        )


class Match(Body):
    """Which traffic a policy governs; an empty match is everything."""

    traffic_class: TrafficClass | None = Field(default=None, alias="class")
    pool: Id | None = None
    labels: Labels = Field(default_factory=dict)


class PolicyBody(ResourceBody):
    """Constraints on paths; the highest priority that matches wins."""

    priority: Annotated[int, Field(strict=True, ge=-1_000_000, le=1_000_000)] = 0
    match: Match = Match()
    allow_providers: Ids | None = None
    deny_providers: Ids = Field(default_factory=list)
    allow_regions: Ids | None = None
    deny_regions: Ids = Field(default_factory=list)
    allow_transports: Ids | None = None
    max_relays: Annotated[int, Field(strict=True, ge=0, le=MAX_RELAYS)] | None = None
    max_price_usd_per_gb: UsdPerGb | None = None
    pin: Ids = Field(default_factory=list)

    def core(self, id: str, present: Inventory) -> Policy:
        """Map to the core type."""
        return Policy(
            PolicyId(id),
            self.priority,
            match_class=self.match.traffic_class,
            match_pool=None if self.match.pool is None else PoolId(self.match.pool),
            match_labels=dict(sorted(self.match.labels.items())),
            allow_providers=None if self.allow_providers is None else tuple(map(ProviderId, self.allow_providers)),
            deny_providers=tuple(map(ProviderId, self.deny_providers)),
            allow_regions=None if self.allow_regions is None else tuple(map(RegionId, self.allow_regions)),
            deny_regions=tuple(map(RegionId, self.deny_regions)),
            allow_transports=None if self.allow_transports is None else tuple(self.allow_transports),
            max_relays=self.max_relays,
            max_price_microusd_per_gb=microusd(self.max_price_usd_per_gb),
            pin=tuple(map(DataCenterId, self.pin)),
        )


class PoolBody(ResourceBody):
    """A set of interchangeable stateful agents."""

    traffic_class: TrafficClass = Field(default=TrafficClass.AGENT, alias="class")
    max_rtt_ms: DelayMs | None = Field(default=None, description="cap on the user's round trip to the agent")
    queue_s: int = Field(default=0, ge=0, le=300, description="how long a session may wait for an agent; 0: not at all")
    agent_grace_s: int = Field(
        default=5, ge=0, le=3_600, description="how long a session waits for its lost agent before it gets another one"
    )
    wrap_s: int = Field(default=0, ge=0, le=3_600, description="how long an agent may finish up after its session")
    reset: bool = Field(default=False, description="after a session only another instance (nonce) of an agent is ready")
    max_sessions: int = Field(
        default=0, ge=0, le=1_000_000, description="sessions after which an agent retires; 0: never"
    )
    ramp_versions: bool = Field(
        default=False, description="a version of agents that the pool does not have takes a share of its users first"
    )
    labels: Labels = Field(default_factory=dict)

    def core(self, id: str, present: Inventory) -> Pool:
        """Map to the core type."""
        return Pool(
            id=PoolId(id),
            traffic_class=self.traffic_class,
            max_rtt_us=None if self.max_rtt_ms is None else us(self.max_rtt_ms),
            labels=dict(sorted(self.labels.items())),
            queue_s=self.queue_s,
            agent_grace_s=self.agent_grace_s,
            wrap_s=self.wrap_s,
            reset=self.reset,
            max_sessions=self.max_sessions,
            ramp_versions=self.ramp_versions,
        )


POOL_LIFE = ("queue_s", "agent_grace_s", "wrap_s", "reset", "max_sessions", "ramp_versions")
AnyBody = ProviderBody | RegionBody | DataCenterBody | NodeBody | LinkBody | PolicyBody | PoolBody
BODIES: dict[str, type[AnyBody]] = {
    "providers": ProviderBody,
    "regions": RegionBody,
    "data-centers": DataCenterBody,
    "nodes": NodeBody,
    "links": LinkBody,
    "policies": PolicyBody,
    "pools": PoolBody,
}


def _policy(policy: Policy) -> dict[str, object]:
    return {
        "id": policy.id,
        "priority": policy.priority,
        "match": {"class": policy.match_class, "pool": policy.match_pool, "labels": dict(policy.match_labels)},
        "allow_providers": None if policy.allow_providers is None else list(policy.allow_providers),
        "deny_providers": list(policy.deny_providers),
        "allow_regions": None if policy.allow_regions is None else list(policy.allow_regions),
        "deny_regions": list(policy.deny_regions),
        "allow_transports": None if policy.allow_transports is None else list(policy.allow_transports),
        "max_relays": policy.max_relays,
        "max_price_usd_per_gb": usd(policy.max_price_microusd_per_gb),
        "pin": list(policy.pin),
        "revision": policy.revision,
    }


def _data_center(dc: DataCenter) -> dict[str, object]:
    return {
        "id": dc.id,
        "provider": dc.provider,
        "region": dc.region,
        "roles": list(dc.roles),
        "latitude": dc.latitude,
        "longitude": dc.longitude,
        "capacity": {"sessions": dc.capacity_sessions, "mbps": dc.capacity_mbps},
        "egress_usd_per_gb": usd(dc.egress_microusd_per_gb),
        "media_url": dc.media_url,
        "intent": dc.intent,
        "labels": dict(dc.labels),
        "revision": dc.revision,
    }


def _link(link: Link) -> dict[str, object]:
    return {
        "id": link.id,
        "from": link.source,
        "to": link.target,
        "transport": link.transport,
        "capacity_mbps": link.capacity_mbps,
        "price_usd_per_gb": usd(link.price_microusd_per_gb),
        "intent": link.intent,
        "labels": dict(link.labels),
        "revision": link.revision,
    }


def _place(resource: Provider | Region | Node | Pool) -> dict[str, object]:
    shared: dict[str, object] = {"labels": dict(resource.labels), "revision": resource.revision}
    match resource:
        case Provider():
            return {"id": resource.id, "name": resource.name} | shared
        case Region(latitude=latitude, longitude=longitude):
            position = {"country": resource.country, "latitude": latitude, "longitude": longitude}
            return {"id": resource.id, "name": resource.name} | position | shared
        case Node():
            ports = {"reflector_port": resource.reflector_port, "relay_port": resource.relay_port}
            addresses = {"data_center": resource.data_center, "addresses": dict(resource.addresses)}
            own = {"media_url": resource.media_url, "intent": resource.intent}
            return {"id": resource.id} | addresses | ports | own | shared
        case Pool():
            cap = known_ms(resource.max_rtt_us)
            life = {name: getattr(resource, name) for name in POOL_LIFE}
            return {"id": resource.id, "class": resource.traffic_class, "max_rtt_ms": cap} | life | shared


def resource_json(resource: Resource) -> dict[str, object]:
    """Return the JSON form of a resource, as ``GET`` shows it."""
    match resource:
        case Policy():
            return _policy(resource)
        case DataCenter():
            return _data_center(resource)
        case Link():
            return _link(resource)
        case _:
            return _place(resource)


def singular(kind: str) -> str:
    """``data-centers`` -> ``data_center``, as in error codes and event kinds."""
    return {"policies": "policy"}.get(kind, kind.removesuffix("s")).replace("-", "_")


def find(inventory: Inventory, kind: str, id: str) -> Resource | None:
    """Return a resource of a collection, ``None`` if there is none of that id."""
    return collection(inventory, kind).get(id)


def collection(inventory: Inventory, kind: str) -> dict[str, Resource]:
    """Return a collection by its name in the HTTP path, in id order."""
    return getattr(inventory, kind.replace("-", "_"))  # type: ignore[no-any-return]
