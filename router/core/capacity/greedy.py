"""Buying the next best offer under all rules: rounds a programme's answer, and answers alone where time is short."""

from __future__ import annotations

from collections.abc import Iterator

from router.core.capacity.offers import Market, Offer, Plan, Purchase, Rejected
from router.core.model import DataCenterId, RegionId

TOLD = 3  # offers that were not taken, named with each purchase


class Cart:
    """Machines as they are put in; keeps quota and budget always, shares while another offer is left."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self._machines: dict[tuple[str, DataCenterId, str], int] = {}
        self._free: dict[tuple[str, DataCenterId, str], int] = {}  # agents on them that nobody has
        self._given: dict[tuple[RegionId, tuple[str, DataCenterId, str]], int] = {}
        self._unmet = {need: n for need, n in sorted(market.needs.items()) if n > 0}
        self._cost_uusd_h = 0

    def machines(self, offer: Offer, count: int) -> int:
        """Put machines in, as many of them as quota and budget allow; how many it were."""
        count = min([count, offer.quota - self._machines.get(offer.key, 0), *self._left(offer)])
        if count <= 0:
            return 0
        self._machines[offer.key] = self._machines.get(offer.key, 0) + count
        self._free[offer.key] = self._free.get(offer.key, 0) + count * offer.agents
        self._cost_uusd_h += count * offer.price_uusd_h
        return count

    def _left(self, offer: Offer) -> Iterator[int]:
        """Machines of an offer that each cap still allows."""
        terms, price = self.market.terms, offer.price_uusd_h
        if terms.machines is not None:
            yield terms.machines - sum(self._machines.values())
        if terms.budget_uusd_h is not None and price:
            yield (terms.budget_uusd_h - self._cost_uusd_h) // price
        if offer.provider in terms.provider_uusd_h and price:
            yield (terms.provider_uusd_h[offer.provider] - self._spent_with(offer.provider)) // price

    def _spent_with(self, provider: str) -> int:
        return sum(
            self._machines[o.key] * o.price_uusd_h
            for o in self.market.offers
            if o.provider == provider and o.key in self._machines
        )

    def give(self, need: RegionId, offer: Offer, agents: int) -> int:
        """Give agents that are in the cart to users of a region; how many it were."""
        agents = min(agents, self._free.get(offer.key, 0), self._unmet.get(need, 0))
        if agents > 0:
            self._free[offer.key] -= agents
            self._unmet[need] -= agents
            where = need, offer.key
            self._given[where] = self._given.get(where, 0) + agents
        return agents

    def fill(self) -> None:
        """Buy for whoever is left without, machine by machine."""
        for keep_shares in (True, False):  # a session without an agent is worse than a provider with too large a share
            for need in self._unmet:
                for offer in self._ranked(need):
                    self._serve(need, offer, keep_shares)

    def _serve(self, need: RegionId, offer: Offer, keep_shares: bool) -> None:
        self.give(need, offer, self._unmet[need])
        while self._unmet[need] > 0:
            many = 1 if keep_shares else -(-self._unmet[need] // offer.agents)
            if (keep_shares and self._crowds(offer)) or not self.machines(offer, many):
                return
            self.give(need, offer, self._unmet[need])

    def _ranked(self, need: RegionId) -> list[Offer]:
        free = [offer for offer in self.market.offers if self.market.refusal(need, offer) is None]
        return sorted(free, key=lambda offer: (self.market.unit_uusd_h(need, offer), offer.key))

    def _in_region(self, region: RegionId) -> dict[str, int]:
        """Agents per provider: there already, and in the cart."""
        found = dict(self.market.held.get(region, {}))
        for offer in self.market.offers:
            if offer.region == region:
                found[offer.provider] = found.get(offer.provider, 0) + self._machines.get(offer.key, 0) * offer.agents
        return found

    def _crowds(self, offer: Offer) -> bool:
        """Whether one more machine lets a provider have more than its share; the first of a region always may come."""
        here = self._in_region(offer.region)
        with_it = here.get(offer.provider, 0) + offer.agents
        limit = self.market.terms.diversity_ppm * (sum(here.values()) + offer.agents) // 1_000_000
        return with_it - offer.agents > 0 and with_it > limit + offer.agents // 2

    def plan(self, by: str, notes: tuple[str, ...] = ()) -> Plan:
        """What is in the cart."""
        unmet = {need: n for need, n in self._unmet.items() if n}
        return Plan(
            tuple(self._purchases()),
            dict(sorted(self._machines.items())),
            unmet,
            self._cost_uusd_h,
            by,
            (*self._crowded(), *notes),
        )

    def _crowded(self) -> Iterator[str]:
        """Providers that this plan lets have more than their share of a region, by more than one machine."""
        bought = {(o.region, o.provider): o for o in self.market.offers if self._machines.get(o.key)}
        for (region, provider), offer in sorted(bought.items()):
            here = self._in_region(region)
            limit = self.market.terms.diversity_ppm * sum(here.values()) // 1_000_000
            if here[provider] > limit + offer.agents:
                yield f"{provider} has {here[provider]} of {sum(here.values())} agents in {region}: others had no room"

    def _purchases(self) -> Iterator[Purchase]:
        offers = {offer.key: offer for offer in self.market.offers}
        for (need, key), agents in sorted(self._given.items()):
            offer = offers[key]
            unit, delay = self.market.unit_uusd_h(need, offer), self.market.delay_us(need, offer) or 0
            yield Purchase(need, offer, agents, unit, delay, self._rejected(need, offer))

    def _rejected(self, need: RegionId, taken: Offer) -> tuple[Rejected, ...]:
        """Offers for the same users that were not taken, cheapest first, with what stopped them."""
        others = [offer for offer in self.market.offers if (need, offer.key) not in self._given and offer != taken]
        others.sort(key=lambda offer: (self.market.unit_uusd_h(need, offer), offer.key))
        return tuple(self._why_not(need, offer, taken) for offer in others[:TOLD])

    def _why_not(self, need: RegionId, offer: Offer, taken: Offer) -> Rejected:
        market, bought = self.market, self._machines.get(offer.key, 0)
        refused = market.refusal(need, offer)
        if refused is not None:
            return refused
        if bought >= offer.quota:
            return Rejected(offer, "quota", bought, offer.quota, "its quota is used up by this plan")
        passed = self._passes(offer)
        if passed is not None:
            return passed
        if self._crowds(offer):
            share = 1_000_000 * (self._in_region(offer.region).get(offer.provider, 0) + offer.agents)
            of = max(1, sum(self._in_region(offer.region).values()) + offer.agents)
            return Rejected(offer, "diversity", share // of, market.terms.diversity_ppm, "share of the region in ppm")
        mine, its = market.unit_uusd_h(need, taken), market.unit_uusd_h(need, offer)
        text = "micro-USD per agent and hour with delay and egress"
        return Rejected(offer, "dearer" if its >= mine else "whole_machines", its, mine, text)

    def _passes(self, offer: Offer) -> Rejected | None:
        """The cap that one more machine would pass."""
        terms, many = self.market.terms, sum(self._machines.values())
        if terms.machines is not None and many >= terms.machines:
            return Rejected(offer, "machines", many, terms.machines, "no more machines may be bought")
        cost = self._cost_uusd_h + offer.price_uusd_h
        if terms.budget_uusd_h is not None and cost > terms.budget_uusd_h:
            return Rejected(offer, "budget", cost, terms.budget_uusd_h, "it would pass the budget")
        own, cap = self._spent_with(offer.provider) + offer.price_uusd_h, terms.provider_uusd_h.get(offer.provider)
        if cap is not None and own > cap:
            return Rejected(offer, "provider_budget", own, cap, "it would pass the budget of its provider")
        return None


def next_best(market: Market) -> Plan:
    """What to buy without a programme: in the same second in which a provider refused."""
    cart = Cart(market)
    cart.fill()
    return cart.plan("next best")
