"""Launches that providers refuse, on a virtual clock: how long until another provider has accepted the same agents.

How long a provider takes to answer a launch is drawn (log-normal, median 0.9 s, one in a thousand above 5 s): no public
figures were found. What is measured is the decision: it is asked again in the very second of the refusal, and not by
turns, and never somebody who just refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bench.capacity.world import REGIONS, rtt_ms
from router.core.capacity import Backoff, Market, Offer, Refusal, Terms, next_best, spill
from router.core.model import DataCenterId, RegionId

PROVIDERS = ("azure", "gcp", "linode", "oracle", "vultr")
ANSWER_S, ANSWER_SIGMA = 0.9, 0.555
BUDGET_UUSD_H = 10_000_000_000


@dataclass(frozen=True)
class Spill:
    """One order: from the first refusal until the last of its agents was accepted."""

    seconds: float
    refusals: int
    unmet: int
    asked_again: int  # times somebody was asked who was in back-off


def orders(seed: int, count: int) -> Iterator[Spill]:
    """Orders of which the first provider refuses at least the first call."""
    rng = np.random.default_rng([seed, 3])
    for _ in range(count):
        market, order = _market(rng), f"{REGIONS[rng.integers(len(REGIONS))][0]}"
        need, agents = RegionId(order), int(rng.integers(1, 40))
        first = next_best(replace(market, needs={need: agents})).purchases[0].offer
        others = [o for o in market.offers if o.key != first.key]
        full = {first.key} | {others[k].key for k in rng.choice(len(others), rng.integers(len(others) // 2), False)}
        yield _order(market, need, agents, full, rng)


def _market(rng: np.random.Generator) -> Market:
    offers = []
    for region, *_ in REGIONS:
        some = rng.choice(len(PROVIDERS), int(rng.integers(2, 5)), False)
        for k in sorted(some.tolist()):
            price = int(rng.integers(400_000, 2_000_000))
            offers.append(
                Offer(PROVIDERS[k], DataCenterId(f"{PROVIDERS[k]}-{region}"), RegionId(region), "gpu-4", price, 4, 30)
            )
    rtt = rtt_ms()
    pairs = {
        (RegionId(a[0]), RegionId(b[0])): int(rtt[i, j] * 1000)
        for i, a in enumerate(REGIONS)
        for j, b in enumerate(REGIONS)
        if i != j
    }
    return Market({}, tuple(offers), pairs, Terms(budget_uusd_h=BUDGET_UUSD_H))


def _order(
    market: Market, need: RegionId, agents: int, full: set[tuple[str, str, str]], rng: np.random.Generator
) -> Spill:
    """Calls of one plan go out together; each refusal is decided on when it arrives."""
    backoff, offers = Backoff(), {offer.key: offer for offer in market.offers}
    calls = [(float(rng.lognormal(np.log(ANSWER_S), ANSWER_SIGMA)), key) for key in _keys(market, need, agents)]
    sizes = dict.fromkeys((key for _, key in calls), 0)
    for purchase in next_best(replace(market, needs={need: agents})).purchases:
        sizes[purchase.offer.key] += purchase.agents
    waiting = [(at, key, sizes[key]) for at, key in calls]
    first: float | None = None
    last, refusals, again, unmet = 0.0, 0, 0, 0
    while waiting:
        waiting.sort(key=lambda call: (call[0], call[1]))
        at, key, many = waiting.pop(0)
        last = at
        if key not in full:
            continue
        first, refusals = at if first is None else first, refusals + 1
        kind = (Refusal.QUOTA_EXCEEDED, Refusal.OUT_OF_CAPACITY)[int(rng.integers(2))]
        backoff.refused(offers[key], kind, int(at * 1e6))
        plan = spill(market, need, many, backoff, int(at * 1e6))
        unmet += sum(plan.unmet.values())
        blocked = backoff.blocked(market.offers, int(at * 1e6))
        for purchase in plan.purchases:
            again += purchase.offer.key in blocked
            waiting.append(
                (at + float(rng.lognormal(np.log(ANSWER_S), ANSWER_SIGMA)), purchase.offer.key, purchase.agents)
            )
    return Spill(0.0 if first is None else last - first, refusals, unmet, again)


def _keys(market: Market, need: RegionId, agents: int) -> list[tuple[str, DataCenterId, str]]:
    return [purchase.offer.key for purchase in next_best(replace(market, needs={need: agents})).purchases]
