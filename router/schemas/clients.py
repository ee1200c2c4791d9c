"""Who is calling, and what they insist on; an address is truncated to /24 or /48 while it is being read."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from providers.countries import position
from router.core.model import Client, Constraints, ProviderId, RegionId
from router.schemas.fields import Answer, Asn, Body, Country, DelayMs, Ids, Latitude, Longitude
from router.schemas.units import known_ms, us

_NO_WISHES = Constraints()


def truncated(text: str) -> str:
    """Return the /24 (IPv4) or /48 (IPv6) that an address lies in; IPv4-mapped IPv6 is IPv4. Raises ``ValueError``."""
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError("must not have a zone")
        if address.ipv4_mapped is None:
            return str(ip_network((int(address) >> 80 << 80, 48)))
        address = address.ipv4_mapped
    return str(ip_network((int(address) >> 8 << 8, 24)))


def network_of(text: str) -> str:
    """The network that a search means: an address stands for its prefix, everything else for itself."""
    try:
        return truncated(text)
    except ValueError:
        return text


def _truncate(text: str) -> str:
    try:
        return truncated(text)
    except ValueError:
        raise PydanticCustomError("ip", "must be an IPv4 or IPv6 address") from None


ClientIp = Annotated[
    str, StringConstraints(max_length=45, pattern=r"^[0-9A-Fa-f.:]+$"), AfterValidator(_truncate)
]  # holds a prefix once it is read: the address itself exists nowhere


class ClientBody(Body):
    """A client, by any of: its address (kept as /24 or /48), AS number, country, coordinates."""

    ip: ClientIp | None = None
    asn: Asn | None = None
    country: Country | None = Field(default=None, description="ISO 3166-1 alpha-2")
    latitude: Latitude | None = None
    longitude: Longitude | None = None

    @model_validator(mode="after")
    def _position(self) -> Self:
        if (self.latitude is None) != (self.longitude is None):
            raise PydanticCustomError("position", "latitude and longitude must be given together")
        return self

    def core(self) -> Client:
        """Map to the core type; a client known by its country alone is put where that country's people are."""
        latitude, longitude = self.latitude, self.longitude
        if latitude is None and self.country is not None:
            latitude, longitude = position(self.country) or (None, None)
        return Client(self.ip, self.asn, self.country, latitude, longitude)


class ConstraintsBody(Body):
    """What the caller insists on."""

    allow_providers: Ids | None = None
    deny_providers: Ids = Field(default_factory=list)
    allow_regions: Ids | None = None
    deny_regions: Ids = Field(default_factory=list)
    max_rtt_ms: DelayMs | None = None

    def core(self) -> Constraints:
        """Map to the core type."""
        if not self.model_fields_set:
            return _NO_WISHES
        return Constraints(
            None if self.allow_providers is None else tuple(map(ProviderId, self.allow_providers)),
            tuple(map(ProviderId, self.deny_providers)),
            None if self.allow_regions is None else tuple(map(RegionId, self.allow_regions)),
            tuple(map(RegionId, self.deny_regions)),
            None if self.max_rtt_ms is None else us(self.max_rtt_ms),
        )


class ClientAnswer(Answer):
    """A client as it is kept."""

    prefix: str | None
    asn: int | None
    country: str | None
    latitude: float | None
    longitude: float | None


class ConstraintsAnswer(Answer):
    """What the caller of a session insisted on."""

    allow_providers: list[str] | None
    deny_providers: list[str]
    allow_regions: list[str] | None
    deny_regions: list[str]
    max_rtt_ms: float | None


def client_json(client: Client) -> dict[str, object]:
    """Return the JSON form of a client."""
    return {
        "prefix": client.prefix,
        "asn": client.asn,
        "country": client.country,
        "latitude": client.latitude,
        "longitude": client.longitude,
    }


def constraints_json(constraints: Constraints) -> dict[str, object]:
    """Return the JSON form of a session's constraints."""
    return {
        "allow_providers": None if constraints.allow_providers is None else list(constraints.allow_providers),
        "deny_providers": list(constraints.deny_providers),
        "allow_regions": None if constraints.allow_regions is None else list(constraints.allow_regions),
        "deny_regions": list(constraints.deny_regions),
        "max_rtt_ms": known_ms(constraints.max_rtt_us),
    }
