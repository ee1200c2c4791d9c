"""The market of one pool at one moment, and a plan as drafts of launches with their reasons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from router.core.capacity.ground import Delays
from router.core.capacity.machines import COMING, Buying, Launch, LaunchId, LaunchState
from router.core.capacity.offers import Market, Offer, Plan, Purchase
from router.core.messages import Priced
from router.core.model import DataCenterId, Inventory, Micros, NodeId, PoolId, RegionId
from router.core.pools import PRESENT, Places

_Key = tuple[str, DataCenterId, str]


def priced(offer: Offer, known: Priced) -> Offer:
    """An offer with what its provider says: a price where the settings have none, never more than its quota."""
    price = known.price_uusd_h.get(offer.key) if offer.price_uusd_h < 0 else None
    free = known.free.get(offer.key)
    quota = offer.quota if free is None else min(offer.quota, free)
    return replace(offer, price_uusd_h=offer.price_uusd_h if price is None else price, quota=quota)


def located(offers: Iterable[Offer], inventory: Inventory) -> tuple[Offer, ...]:
    """Offers with the region of their data center, where it is known."""
    return tuple(
        replace(offer, region=inventory.data_centers[offer.data_center].region)
        if offer.data_center in inventory.data_centers
        else offer
        for offer in offers
    )


def held(
    inventory: Inventory, stocked: Iterable[Places], launches: Mapping[LaunchId, Launch]
) -> Mapping[PoolId, Mapping[RegionId, Mapping[str, int]]]:
    """Places of agents per pool, region and provider: there already, or bought and on their way."""
    found: dict[PoolId, dict[RegionId, dict[str, int]]] = {}

    def add(pool: PoolId, region: RegionId, provider: str, count: int) -> None:
        mine = found.setdefault(pool, {}).setdefault(region, {})
        mine[provider] = mine.get(provider, 0) + count

    for row in stocked:
        center = inventory.data_centers.get(row.data_center)
        if center is not None and row.state in PRESENT:
            add(row.pool, center.region, center.provider, row.capacity)
    for launch in launches.values():
        if launch.state in COMING:
            add(launch.pool, launch.region, launch.provider, launch.agents)
    return found


def market(
    buying: Buying,
    offers: Sequence[Offer],
    pool: PoolId,
    needs: Mapping[RegionId, int],
    inventory: Inventory,
    rtt_us: Delays,
    launches: Mapping[LaunchId, Launch],
    mine: Mapping[RegionId, Mapping[str, int]],
    blocked: Mapping[_Key, str],
) -> Market:
    """What may be bought for a pool now: caps and quotas less what is bought already."""
    bought = [launch for launch in launches.values() if launch.open]
    spent: dict[str, int] = {}
    many: dict[_Key, int] = {}
    for launch in bought:
        spent[launch.provider] = spent.get(launch.provider, 0) + launch.price_uusd_h
        many[launch.offer] = many.get(launch.offer, 0) + 1
    budget, caps = buying.terms.budget_uusd_h, buying.terms.provider_uusd_h
    own = inventory.pools[pool].max_rtt_us
    terms = replace(
        buying.terms,
        budget_uusd_h=None if budget is None else max(0, budget - sum(spent.values())),
        provider_uusd_h={name: max(0, cap - spent.get(name, 0)) for name, cap in caps.items()},
        machines=max(0, buying.max_machines - len(bought)),
        max_rtt_us=buying.terms.max_rtt_us if own is None else min(own, buying.terms.max_rtt_us),
    )
    left = tuple(replace(offer, quota=max(0, offer.quota - many.get(offer.key, 0))) for offer in offers)
    unusable = {offer.key: why for offer in offers if (why := _unusable(offer, pool, inventory)) is not None}
    return Market(needs, left, rtt_us, terms, mine, blocked, unusable)


def _unusable(offer: Offer, pool: PoolId, inventory: Inventory) -> tuple[str, str] | None:
    """Rule and text of what keeps an offer out for good."""
    center = inventory.data_centers.get(offer.data_center)
    if center is None:
        return "unknown_data_center", f"there is no data center {offer.data_center}"
    if center.provider != offer.provider:
        return "wrong_provider", f"{center.id} belongs to {center.provider}"
    if not center.intent.takes_new_sessions:
        return "not_serving", f"{center.id} is {center.intent.value}"
    if offer.pools and pool not in offer.pools:
        return "other_pool", f"it is for {', '.join(offer.pools)}"
    if offer.price_uusd_h < 0:
        return "price_unknown", "neither the settings nor the provider tell a price"
    return None


def drafts(plan: Plan, pool: PoolId, now: Micros, why: str = "") -> tuple[Launch, ...]:
    """Launches that a plan asks for, one per machine; each is for those who get most of its agents."""
    found: list[Launch] = []
    for key in sorted(plan.machines):
        mine = [purchase for purchase in plan.purchases if purchase.offer.key == key]
        left = {purchase.need: purchase.agents for purchase in mine}
        if not left:
            continue  # rounding left it without users
        for _ in range(plan.machines[key]):
            need = max(sorted(left), key=lambda one: left[one])
            first = next(purchase for purchase in mine if purchase.need == need)
            left[need] = max(0, left[need] - first.offer.agents)
            found.append(_draft(first, pool, (*_told(first, plan), *((why,) if why else ())), now))
    return tuple(found)


def _draft(purchase: Purchase, pool: PoolId, why: tuple[str, ...], now: Micros) -> Launch:
    offer = purchase.offer
    return Launch(
        id=LaunchId(""), state=LaunchState.ANNOUNCED, pool=pool, need=purchase.need, provider=offer.provider,
        data_center=offer.data_center, region=offer.region, cloud_region=offer.cloud_region, size=offer.size,
        zone=offer.zone, agents=offer.agents, price_uusd_h=offer.price_uusd_h, node=NodeId(""),
        reason=f"{purchase.agents} agents for {purchase.need} are missing", why=why, created_at=now, since=now,
    )  # fmt: skip


def _told(purchase: Purchase, plan: Plan) -> Iterator[str]:
    """Why this purchase: what it costs, and the next offers with the rule that kept them out."""
    offer = purchase.offer
    yield (
        f"{offer.price_uusd_h / 1e6:.4f} USD an hour for {offer.agents} agents; {purchase.unit_uusd_h / 1e6:.4f} each "
        f"with egress and {purchase.delay_us / 1000:.1f} ms of delay ({plan.by})"
    )
    for other in purchase.rejected:
        number = f"{other.rule} ({other.number}, limit {other.limit})"
        yield f"not {'/'.join(other.offer.key)}: {number} {other.text}".strip()
    yield from plan.notes
