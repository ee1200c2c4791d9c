"""The purchasing file: what Tendril may buy, where, and how a bought machine joins; YAML, checked at the start.

No credential is in it: every adapter reads its own from the environment (``docs/reference/adapters.md``). A mistake
names the file, the line and the rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from providers.adapters import adapter_names
from providers.base import check_deployment
from providers.catalog import load as catalogue
from router.core.capacity import BufferRule, Buying, Offer, Terms
from router.core.errors import InputRejected
from router.core.model import ID_PATTERN, DataCenterId, PoolId, RegionId
from router.settings import Settings

Id = Annotated[str, Field(pattern=ID_PATTERN)]
Money = Annotated[float, Field(ge=0, le=1e6)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProviderPart(_Part):
    """How one provider of the inventory is asked for machines."""

    adapter: str
    settings: dict[str, Any] = Field(default_factory=dict)
    budget_usd_per_hour: Money | None = None


class OfferPart(_Part):
    """Machines of one size in one data center."""

    provider: Id
    data_center: Id
    cloud_region: str = Field(min_length=1, max_length=64)
    zone: str | None = None
    size: str = Field(min_length=1, max_length=64)
    agents: int = Field(ge=1, le=1_000)
    max_machines: int = Field(ge=1, le=100_000)
    price_usd_per_hour: Money | None = None
    egress_usd_per_gb: Money = 0.0
    pools: tuple[Id, ...] = ()


class TermsPart(_Part):
    """What offers are judged by, and how many agents are kept warm."""

    max_share_of_provider_pct: float = Field(default=50, ge=1, le=100)
    usd_per_ms_and_hour: float = Field(default=0.002, ge=0, le=1)
    max_rtt_ms: float = Field(default=100, ge=1, le=1_000)
    survive_provider_pct: float = Field(default=0, ge=0, le=100)
    warm_at_least: int = Field(default=2, ge=0, le=100_000)
    warm_share_pct: float = Field(default=5, ge=0, le=100)
    warm_quantile: float = Field(default=0.999, ge=0.5, le=0.99999)
    survive_place_pct: float = Field(default=0, ge=0, le=100)
    join_s: int = Field(default=900, ge=30, le=86_400)
    canary: bool = True


class BootstrapPart(_Part):
    """How a bought machine becomes a node: what it installs, and what it starts besides the probe agent."""

    control_url: str = Field(default="", pattern=r"^(https?://[^\s]+)?$", max_length=255)
    install: str = Field(default="tendril", min_length=1, max_length=255)
    options: tuple[str, ...] = ()
    run: tuple[str, ...] = ()


class PurchasingFile(_Part):
    """The whole file."""

    deployment: str
    providers: dict[Id, ProviderPart] = Field(min_length=1)
    offers: tuple[OfferPart, ...] = Field(min_length=1)
    terms: TermsPart = TermsPart()
    bootstrap: BootstrapPart = BootstrapPart()


@dataclass(frozen=True)
class Purchasing:
    """What the file and the settings come to."""

    deployment: str
    buying: Buying
    providers: Mapping[str, ProviderPart]
    bootstrap: BootstrapPart


def load(settings: Settings) -> Purchasing | None:
    """Read the file of the settings; None without one. Raises ``setting_invalid`` naming file and line."""
    path = settings.capacity_file
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text)
        found = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputRejected("setting_invalid", f"{path}: cannot be read: {error}", field="capacity_file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" line {mark.line + 1}"
        raise InputRejected("setting_invalid", f"{path}{line}: is not YAML", field="capacity_file") from error
    try:
        parsed = PurchasingFile.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise _wrong(path, tree, first["loc"], first["msg"]) from error
    _check(path, tree, parsed)
    return Purchasing(parsed.deployment, _buying(parsed, settings), dict(parsed.providers), parsed.bootstrap)


def _check(path: Path, tree: yaml.Node | None, found: PurchasingFile) -> None:
    """What one field alone does not show."""
    try:
        check_deployment(found.deployment)
    except ValueError as error:
        raise _wrong(path, tree, ("deployment",), str(error)) from error
    for name, provider in found.providers.items():
        if provider.adapter not in adapter_names():
            known = ", ".join(adapter_names())
            message = f"there is no adapter {provider.adapter}; there are {known}"
            raise _wrong(path, tree, ("providers", name, "adapter"), message)
    keys: set[tuple[str, str, str]] = set()
    places: dict[str, set[str]] = {}
    for region in catalogue():
        places.setdefault(region.provider, set()).add(region.code)
    for i, offer in enumerate(found.offers):
        at = ("offers", i)
        if offer.provider not in found.providers:
            raise _wrong(path, tree, (*at, "provider"), f"{offer.provider} is not among `providers`")
        known_places = places.get(found.providers[offer.provider].adapter)
        if known_places is not None and offer.cloud_region not in known_places:
            message = f"{found.providers[offer.provider].adapter} has no region {offer.cloud_region}"
            raise _wrong(path, tree, (*at, "cloud_region"), message)
        if (offer.provider, offer.data_center, offer.size) in keys:
            raise _wrong(path, tree, (*at, "size"), "the same provider, data center and size are offered twice")
        keys.add((offer.provider, offer.data_center, offer.size))


def _wrong(path: Path, tree: yaml.Node | None, where: tuple[int | str, ...], rule: str) -> InputRejected:
    name = ".".join(str(part) for part in where)
    message = f"{path} line {_line(tree, where)}: {name}: {rule}"
    return InputRejected("setting_invalid", message, field="capacity_file", rule=rule)


def _line(node: yaml.Node | None, where: tuple[int | str, ...]) -> int:
    """The line of a part, or of the nearest thing around it that is there."""
    line = 1 if node is None else node.start_mark.line + 1
    for part in where:
        inner: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    inner, line = value, key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            inner = node.value[part]
            line = inner.start_mark.line + 1
        if inner is None:
            return line
        node = inner
    return line


def _buying(found: PurchasingFile, settings: Settings) -> Buying:
    terms = found.terms
    caps = {n: p.budget_usd_per_hour for n, p in sorted(found.providers.items()) if p.budget_usd_per_hour is not None}
    return Buying(
        offers=tuple(sorted((_offer(part) for part in found.offers), key=lambda offer: offer.key)),
        dry_run=settings.capacity_dry_run,
        max_machines=settings.capacity_max_machines,
        rule=BufferRule(
            absolute=terms.warm_at_least,
            busy_ppm=round(terms.warm_share_pct * 10_000),
            quantile=terms.warm_quantile,
            cold_start_s=float(settings.capacity_cold_start_s),
            survive_ppm=round(terms.survive_place_pct * 10_000),
        ),
        terms=Terms(
            budget_uusd_h=_uusd(settings.capacity_budget_usd_per_hour),
            diversity_ppm=round(terms.max_share_of_provider_pct * 10_000),
            delay_uusd_ms_h=_uusd(terms.usd_per_ms_and_hour),
            max_rtt_us=round(terms.max_rtt_ms * 1_000),
            survive_ppm=round(terms.survive_provider_pct * 10_000),
            provider_uusd_h={name: _uusd(cap) for name, cap in caps.items()},
        ),
        join_s=terms.join_s,
        canary=terms.canary,
    )


def _offer(part: OfferPart) -> Offer:
    return Offer(
        provider=part.provider,
        data_center=DataCenterId(part.data_center),
        region=RegionId(""),  # that of its data center, whenever the inventory has it
        size=part.size,
        price_uusd_h=-1 if part.price_usd_per_hour is None else _uusd(part.price_usd_per_hour),
        agents=part.agents,
        quota=part.max_machines,
        egress_uusd_gb=_uusd(part.egress_usd_per_gb),
        cloud_region=part.cloud_region,
        zone=part.zone,
        pools=tuple(PoolId(pool) for pool in part.pools),
    )


def _uusd(usd: float) -> int:
    return round(usd * 1e6)
