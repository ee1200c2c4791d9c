"""Launches that providers refuse, on a virtual clock: how long until another provider has accepted the same agents.

How long a provider takes to answer a launch is drawn (log-normal, median 0.9 s, one in a thousand above 5 s): no public
figures were found. What is measured is the decision: it is asked again in the very second of the refusal, and not by
turns, never somebody who just refused, and two at once where one refusal follows another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bench.capacity.world import REGIONS, rtt_ms
from router.core.capacity import Backoff, Launch, LaunchId, LaunchState, Market, Offer, Plan, Refusal, Terms, next_best
from router.core.capacity.machines import step
from router.core.capacity.races import Races, in_a_row, spill
from router.core.model import DataCenterId, NodeId, PoolId, RegionId

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
    beside: int  # accepted although another was enough: given back


def orders(seed: int, count: int) -> Iterator[Spill]:
    """Orders of which the first provider refuses at least the first call."""
    for number in range(count):
        rng, answers = (np.random.default_rng([seed, stream, number]) for stream in (3, 4))
        market, order = _market(rng), f"{REGIONS[rng.integers(len(REGIONS))][0]}"
        need, agents = RegionId(order), int(rng.integers(1, 40))
        first = next_best(replace(market, needs={need: agents})).purchases[0].offer
        others = [o for o in market.offers if o.key != first.key]
        full = {first.key} | {others[k].key for k in rng.choice(len(others), rng.integers(len(others) // 2), False)}
        yield _Order(market, need, full, answers).run(agents)


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


class _Order:
    """Calls of one plan go out together; each refusal is decided on when it arrives."""

    def __init__(self, market: Market, need: RegionId, full: set[tuple[str, str, str]], rng: np.random.Generator):
        self.market, self.need, self.full, self.rng = market, need, full, rng
        self.backoff, self.races = Backoff(), Races()
        self.launches: dict[LaunchId, Launch] = {}
        self.waiting: list[tuple[float, LaunchId]] = []
        self.first: float | None = None
        self.last, self.refusals, self.again, self.unmet, self.beside = 0.0, 0, 0, 0, 0

    def run(self, agents: int) -> Spill:
        """Ask until somebody has accepted, or nobody is left."""
        self._ask((next_best(replace(self.market, needs={self.need: agents})),), agents, 0.0)
        while self.waiting:
            self.waiting.sort()
            at, id = self.waiting.pop(0)
            if self.launches[id].offer in self.full:
                self._refused(self.launches[id], at)
            elif self.races.put(self._step(id, "accepted", at)):
                self.beside += 1
            else:
                self.last = max(self.last, at)
        seconds = 0.0 if self.first is None else self.last - self.first
        return Spill(max(0.0, seconds), self.refusals, self.unmet, self.again, self.beside)

    def _refused(self, launch: Launch, at: float) -> None:
        now = int(at * 1e6)
        self.first, self.refusals = at if self.first is None else self.first, self.refusals + 1
        kind = (Refusal.QUOTA_EXCEEDED, Refusal.OUT_OF_CAPACITY)[int(self.rng.integers(2))]
        ended = self._step(launch.id, "refused", at, refusal=kind.value)
        self.backoff.refused(next(o for o in self.market.offers if o.key == launch.offer), kind, now)
        agents = self.races.refused(ended)
        if agents:
            blocked = self.backoff.blocked(self.market.offers, now)
            asked = replace(self.market, needs={self.need: agents}, blocked=blocked)
            plans = spill(asked, in_a_row(self.launches, ended, now))
            self.unmet += sum(plans[0].unmet.values())
            self.again += sum(purchase.offer.key in blocked for plan in plans for purchase in plan.purchases)
            self._ask(plans, agents, at)

    def _ask(self, plans: tuple[Plan, ...], agents: int, at: float) -> None:
        new = []
        for purchase in (purchase for plan in plans for purchase in plan.purchases):
            offer, id = purchase.offer, LaunchId(f"l-{len(self.launches) + len(new)}")
            new.append(Launch(
                id, LaunchState.ANNOUNCED, PoolId("p"), self.need, offer.provider, offer.data_center, offer.region, "",
                offer.size, None, purchase.agents, 0, NodeId(id), "", (), int(at * 1e6), int(at * 1e6),
            ))  # fmt: skip
        if len(plans) > 1:
            self.races.expect(new, agents, int(at * 1e6))
        for one in new:
            self.launches[one.id] = one
            self.races.put(one)
            self._step(one.id, "asked", at)
            self.waiting.append((at + float(self.rng.lognormal(np.log(ANSWER_S), ANSWER_SIGMA)), one.id))

    def _step(self, id: LaunchId, event: str, at: float, **facts: str) -> Launch:
        self.launches[id] = step(self.launches[id], event, "", int(at * 1e6), **facts)
        return self.launches[id]
