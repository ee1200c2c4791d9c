"""Where to buy as a linear programme, and its answer read back as whole machines.

Variables are agents ``x[need, offer]``, and three kinds of give: users without an agent, agents beyond a provider's
share of a region, agents that are missing when a provider is lost. The give is priced far above everything that can
be bought, in this order, so the programme always has an answer and says what it could not keep. The core builds it and
reads the answer; a worker has it solved (HiGHS: Huangfu and Hall, Math. Prog. Comp. 2018). The budget has no give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from router.core.capacity.greedy import Cart
from router.core.capacity.linear import Builder, Linear, Solution, binding
from router.core.capacity.offers import Market, Offer, Plan
from router.core.model import RegionId

UNMET, CROWDED, EXPOSED = 1_000.0, 30.0, 10.0  # times the dearest agent: what giving a rule up costs


@dataclass(frozen=True, eq=False)
class Programme:
    """The programme of a market; its first columns are the pairs."""

    market: Market
    pairs: tuple[tuple[RegionId, Offer], ...]
    linear: Linear


def programme(market: Market) -> Programme:
    """The programme of a market. Offers that cannot serve anybody have no column."""
    pairs = tuple(
        (need, offer)
        for need in sorted(market.needs)
        for offer in sorted(market.offers, key=lambda o: o.key)
        if market.needs[need] > 0 and market.refusal(need, offer) is None
    )
    build = Builder()
    for need, offer in pairs:
        build.column(market.unit_uusd_h(need, offer) / 1e6)
    dearest = max(build.cost, default=1.0) or 1.0
    _needs(build, market, pairs, dearest)
    _quotas(build, market, pairs)
    _diversity(build, market, pairs, dearest)
    _survivors(build, market, pairs, dearest)
    return Programme(market, pairs, build.built())


def _needs(build: Builder, market: Market, pairs: Sequence[tuple[RegionId, Offer]], dearest: float) -> None:
    for need in sorted(market.needs):
        if market.needs[need] > 0:
            entries = [(k, -1.0) for k, (region, _) in enumerate(pairs) if region == need]
            build.row(f"need {need}", -market.needs[need], [*entries, (build.column(UNMET * dearest), -1.0)])


def _quotas(build: Builder, market: Market, pairs: Sequence[tuple[RegionId, Offer]]) -> None:
    for offer in sorted(market.offers, key=lambda o: o.key):
        entries = [(k, 1.0) for k, (_, other) in enumerate(pairs) if other.key == offer.key]
        if entries:
            build.row(f"quota {'/'.join(offer.key)}", offer.quota * offer.agents, entries)
    if market.terms.budget_uusd_h is not None:
        prices = [(k, offer.price_uusd_h / offer.agents / 1e6) for k, (_, offer) in enumerate(pairs)]
        build.row("budget", market.terms.budget_uusd_h / 1e6, prices)
    for provider, cap in sorted(market.terms.provider_uusd_h.items()):
        own = [(k, o.price_uusd_h / o.agents / 1e6) for k, (_, o) in enumerate(pairs) if o.provider == provider]
        if own:
            build.row(f"budget of {provider}", cap / 1e6, own)
    if market.terms.machines is not None:
        build.row("machines", market.terms.machines, [(k, 1 / o.agents) for k, (_, o) in enumerate(pairs)])


def _diversity(build: Builder, market: Market, pairs: Sequence[tuple[RegionId, Offer]], dearest: float) -> None:
    share = market.terms.diversity_ppm / 1e6
    for region, provider in sorted({(offer.region, offer.provider) for _, offer in pairs}):
        held = market.held.get(region, {})
        here = [(k, o) for k, (_, o) in enumerate(pairs) if o.region == region]
        entries = [(k, (1.0 if o.provider == provider else 0.0) - share) for k, o in here]
        one = max(o.agents for _, o in here)
        bound = share * sum(held.values()) - held.get(provider, 0) + one * (1 - share)
        build.row(f"diversity {region}/{provider}", bound, [*entries, (build.column(CROWDED * dearest), -1.0)])


def _survivors(build: Builder, market: Market, pairs: Sequence[tuple[RegionId, Offer]], dearest: float) -> None:
    if not market.terms.survive_ppm:
        return
    for region, provider in sorted({(offer.region, offer.provider) for _, offer in pairs}):
        held = market.held.get(region, {})
        left = sum(n for name, n in held.items() if name != provider)
        wanted = (market.needs.get(region, 0) + sum(held.values())) * market.terms.survive_ppm / 1e6
        entries = [(k, -1.0) for k, (_, o) in enumerate(pairs) if o.region == region and o.provider != provider]
        build.row(f"survive {region}/{provider}", left - wanted, [*entries, (build.column(EXPOSED * dearest), -1.0)])


def read(asked: Programme, solution: Solution) -> Plan:
    """The answer as whole machines: what is whole of it, then the remainder by the next best offer under all rules."""
    cart = Cart(asked.market)
    agents: dict[tuple[str, str, str], float] = {}
    for k, (_, offer) in enumerate(asked.pairs):
        agents[offer.key] = agents.get(offer.key, 0.0) + max(0.0, float(solution.x[k]))
    for offer in sorted(asked.market.offers, key=lambda o: o.key):
        cart.machines(offer, int(agents.get(offer.key, 0.0) / offer.agents + 1e-6))
    for k, (need, offer) in enumerate(asked.pairs):
        cart.give(need, offer, int(solution.x[k] + 1e-6))
    cart.fill()
    return cart.plan("programme", tuple(_told(asked, solution)))


def _told(asked: Programme, solution: Solution) -> Iterator[str]:
    for name, price in binding(asked.linear, solution):
        if not name.startswith("need "):
            yield f"{name} binds: one more would save {price:.4f} USD an hour, penalties included"
