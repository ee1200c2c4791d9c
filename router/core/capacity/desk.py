"""Capacity's place in the control plane: counts to forecasts, what is missing to a programme, its answer to launches.

Nothing is bought here: the core announces launches and says when each is to be driven on; the shell writes rows first
and asks providers then. What a provider says comes back as a changed row, and a refusal is answered in the same
instant: others are asked for the same agents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from router.core.capacity import market as markets
from router.core.capacity.board import CapacityBoard, PlaceBoard
from router.core.capacity.buffer import RULES, Quiet, Stock, Want
from router.core.capacity.errands import Errands
from router.core.capacity.forecast import ArrivalBook, Forecast
from router.core.capacity.greedy import next_best
from router.core.capacity.ground import Delays, Ground, Place, delays, ground, stock
from router.core.capacity.launches import Backoff, Refusal
from router.core.capacity.machines import Buying, Launch, LaunchId, LaunchState
from router.core.capacity.offers import Market, Plan
from router.core.capacity.programme import Programme, programme, read
from router.core.capacity.races import WRITTEN_WITHIN_US, Races, in_a_row, spill
from router.core.messages import (
    AnnounceLaunches,
    Effect,
    Optimise,
    Optimised,
    OptimiseFailed,
    Priced,
    Record,
    StepLaunch,
    StockTaken,
)
from router.core.model import DataCenterId, Event, Inventory, Micros, PoolId, RegionId
from router.core.tables import I64, LinkTable

KEPT_US = 86_400_000_000  # how long an ended launch is shown, and what of it comes late is reaped
PLAN_GAP_US = 30_000_000  # between two plans in a dry run: it buys nothing, and the next would be the same


@dataclass(frozen=True, eq=False)
class Shopping:
    """What the outstanding programme is about."""

    number: int
    pool: PoolId
    asked: Programme


class CapacityDesk:
    """Private state of the core; what it decides is in ``board`` and ``launches``."""

    def __init__(self, buying: Buying | None = None) -> None:
        self.board = CapacityBoard(buying=buying or Buying())
        self.launches: Mapping[LaunchId, Launch] = {}
        self.pending: Shopping | None = None
        self._offers = self.board.buying.offers
        self._ground = Ground((), {}, np.zeros((0, 0), bool))
        self._book, self._quiet = ArrivalBook(0), Quiet(0)
        self._began: dict[tuple[PoolId, DataCenterId], int] = {}
        self._backoff = Backoff()
        self._errands = Errands()
        self._races = Races()
        self._count = 0
        self._inventory = Inventory()
        self._delays: Delays = {}
        self._held: Mapping[PoolId, Mapping[RegionId, Mapping[str, int]]] = {}
        self._lacking: dict[PoolId, dict[RegionId, int]] = {}  # still to be bought for
        self._planned: dict[PoolId, Mapping[RegionId, int]] = {}
        self._told: dict[PoolId, tuple[object, ...]] = {}
        self._announcing = 0  # launches that are being written
        self._announced_at: Micros = 0

    # --- what comes in -----------------------------------------------------------------------------------------------

    def count(self, began: Mapping[tuple[PoolId, DataCenterId], int]) -> None:
        """Take in sessions that began, by pool and edge."""
        for place, count in began.items():
            self._began[place] = self._began.get(place, 0) + count

    def take(
        self, event: StockTaken | Priced | Optimised | OptimiseFailed, inventory: Inventory, links: LinkTable,
        now: Micros,
    ) -> list[Effect]:  # fmt: skip
        """A count, prices, or what came of a programme."""
        match event:
            case StockTaken():
                return self.taken(event, inventory, links, now)
            case Priced():
                self.priced(event)
                return []
            case Optimised() | OptimiseFailed():
                return self.answered(event, now)

    def priced(self, event: Priced) -> None:
        """Take in what providers say of prices and quotas; what the settings say of a price stays."""
        offers = tuple(markets.priced(offer, event) for offer in self.board.buying.offers)
        self._offers = markets.located(offers, self._inventory)  # a refusal may come before the next count

    def booted(self, launches: Iterable[Launch]) -> None:
        """Take in all launches; what was under way goes on with the next count."""
        self.launches = {launch.id: launch for launch in sorted(launches, key=lambda one: one.id)}

    def put(self, launch: Launch, now: Micros) -> list[Effect]:
        """Take a launch as it now is in the database; a refusal is answered at once."""
        before = self.launches.get(launch.id)
        self.launches = dict(sorted({**self.launches, launch.id: launch}.items()))
        if launch.state is LaunchState.ANNOUNCED:
            self._announcing = max(0, self._announcing - 1)
        offer = next((o for o in self._offers if o.key == launch.offer), None)
        if offer is not None and launch.state is LaunchState.PENDING:
            self._backoff.launched(offer)
        blamed = launch.open and launch.refusal and not (before is not None and before.refusal)
        if offer is not None and blamed:  # it was made, and was of no use
            self._backoff.refused(offer, Refusal(launch.refusal), now)
        if launch.state is LaunchState.FAILED and launch.refusal:
            if offer is not None:
                self._backoff.refused(offer, Refusal(launch.refusal), now)
            return self._spill(launch, now)
        if self._races.put(launch):
            return [StepLaunch(launch.id, launch.revision, "surplus", "it was asked beside another, which was faster")]
        return list(self._errands.at_once(launch, now))

    def taken(self, event: StockTaken, inventory: Inventory, links: LinkTable, now: Micros) -> list[Effect]:
        """Count, forecast, and say what is to be done about every machine and what is missing."""
        self._inventory, self._delays = inventory, delays(inventory, links)
        self._offers = markets.located(self._offers, inventory)
        self.launches = {id: one for id, one in self.launches.items() if one.open or now - one.since < KEPT_US}
        self._settle(ground(inventory, self._offers, event.places, self._delays, self._buying.terms.max_rtt_us))
        self._held = markets.held(inventory, event.places, self.launches)
        began = self._counted(event.unserved)
        self._book.observe(began, now)
        forecast = self._book.forecast(self._buying.rule.cold_start_s, now)
        there = stock(self._ground, inventory, event.places, event.queued, self.launches, event.nodes, now)
        arrivals = forecast.pooled(self._buying.rule.quantile, self._ground.reach)
        want = self._quiet.wanted(self._buying.rule, there, arrivals, now, self._ground.reach)
        self._publish(there, forecast, arrivals, want, began, now)
        missing = {place: int(n) for place, n in zip(self._ground.places, want.up, strict=True) if n}
        spare = {place: int(n) for place, n in zip(self._ground.places, want.down, strict=True) if n}
        may_change = not self._buying.dry_run
        errands = self._errands.all(
            self.launches, event.nodes, inventory, missing if may_change else {}, spare if may_change else {},
            self._buying, now,
        )  # fmt: skip
        return [*errands, *self._shop(missing, now)]

    def answered(self, event: Optimised | OptimiseFailed, now: Micros) -> list[Effect]:
        """A programme was solved, or could not be; the second is answered by the next best offers."""
        if self.pending is None or self.pending.number != event.number:
            return []  # late answer to a question nobody asks any more
        asked, self.pending = self.pending, None
        if isinstance(event, OptimiseFailed):
            self.board = replace(self.board, failure=event.error)
            return self._bought(asked.pool, next_best(asked.asked.market), now)
        self.board = replace(self.board, failure="")
        return self._bought(asked.pool, read(asked.asked, event.solution), now)

    # --- inside ------------------------------------------------------------------------------------------------------

    @property
    def _buying(self) -> Buying:
        return self.board.buying

    def _settle(self, found: Ground) -> None:
        """Keep the books' columns in step with the places."""
        if found.places != self._ground.places:
            known = self._ground.number
            sources = [known.get(place) for place in found.places]
            self._book, self._quiet = self._book.moved(sources), self._quiet.moved(sources)
        self._ground = found

    def _counted(self, unserved: Mapping[tuple[PoolId, DataCenterId], int]) -> I64:
        """Beginnings per place since the last count, those that found no agent included."""
        self.count(unserved)
        began = np.zeros(len(self._ground.places), np.int64)
        for (pool, edge), count in self._began.items():
            center = self._inventory.data_centers.get(edge)
            at = None if center is None else self._ground.home.get((pool, center.region))
            if at is not None:
                began[at] += count
        self._began = {}
        return began

    def _publish(self, there: Stock, forecast: Forecast, arrivals: I64, want: Want, began: I64, now: Micros) -> None:
        rows = tuple(
            PlaceBoard(
                pool=pool, region=region, busy=int(there.busy[i]), idle=int(there.idle[i]),
                coming=int(there.coming[i]), queued=int(there.queued[i]), began=int(began[i]),
                horizon_s=forecast.horizon_s, forecast=round(float(forecast.mean[i]), 3), quantile=int(arrivals[i]),
                level=round(float(forecast.level[i]), 3), spike=bool(forecast.spike[i]), buffer=int(want.buffer[i]),
                rule=RULES[int(want.rule[i])], desired=int(want.desired[i]), missing=int(want.up[i]),
                spare=int(want.down[i]),
            )
            for i, (pool, region) in enumerate(self._ground.places)
        )  # fmt: skip
        held = [launch for launch in self.launches.values() if launch.open]
        self.board = replace(
            self.board, at=now, offers=self._offers, places=rows, spent_uusd_h=sum(one.price_uusd_h for one in held),
            machines=len(held), blocked=self._backoff.blocked(self._offers, now),
        )  # fmt: skip

    def _shop(self, missing: Mapping[Place, int], now: Micros) -> list[Effect]:
        """Ask for a programme for the pool that lacks most; the others follow when it is answered."""
        if self.pending is not None or not self._offers:
            return []
        if self._announcing and now - self._announced_at < WRITTEN_WITHIN_US:
            return []
        self._lacking = {}
        for (pool, region), count in missing.items():
            self._lacking.setdefault(pool, {})[region] = count
        if self._buying.dry_run:
            self._lacking = {pool: needs for pool, needs in self._lacking.items() if self._is_news(pool, needs, now)}
        return self._next(now)

    def _is_news(self, pool: PoolId, needs: Mapping[RegionId, int], now: Micros) -> bool:
        """Whether a plan would differ from the last one: in a dry run nothing becomes less by planning."""
        waited_us = now - self.board.planned_at.get(pool, -PLAN_GAP_US)
        return waited_us >= PLAN_GAP_US or self._planned.get(pool) != needs

    def _next(self, now: Micros) -> list[Effect]:
        if not self._lacking:
            return []
        pool = min(self._lacking, key=lambda one: (-sum(self._lacking[one].values()), one))
        needs = self._planned[pool] = self._lacking.pop(pool)
        self._count += 1
        self.pending = Shopping(self._count, pool, programme(self._market(pool, needs, now)))
        return [Optimise(self.pending)]

    def _market(self, pool: PoolId, needs: Mapping[RegionId, int], now: Micros) -> Market:
        mine = self._held.get(pool, {})
        return markets.market(
            self._buying, self._offers, pool, needs, self._inventory, self._delays, self.launches, mine,
            self._backoff.blocked(self._offers, now),
        )  # fmt: skip

    def _bought(self, pool: PoolId, plan: Plan, now: Micros) -> list[Effect]:
        """Show a plan and announce what it buys."""
        board = self.board
        self.board = replace(board, plans={**board.plans, pool: plan}, planned_at={**board.planned_at, pool: now})
        drafts = () if self._buying.dry_run else markets.drafts(plan, pool, now)
        effects = self._announce(drafts, now)
        summary = (tuple(plan.machines.items()), tuple(plan.unmet.items()))
        if self._told.get(pool) != summary and (self._buying.dry_run or plan.unmet):
            self._told[pool] = summary
            effects.append(Record(Event(now, "capacity.planned", pool, reason=_told(plan, self._buying.dry_run))))
        return effects + self._next(now)

    def _announce(self, drafts: tuple[Launch, ...], now: Micros) -> list[Effect]:
        if not drafts:
            return []
        self._announcing, self._announced_at = self._announcing + len(drafts), now
        return [AnnounceLaunches(drafts)]

    def _spill(self, launch: Launch, now: Micros) -> list[Effect]:
        """Ask others for the agents that a provider refused, without a programme: each second counts."""
        agents = self._races.refused(launch)
        if self._buying.dry_run or not agents:
            return []
        row = in_a_row(self.launches, launch, now)
        plans = spill(self._market(launch.pool, {launch.need: agents}, now), row)
        plan, why = plans[0], f"instead of {launch.id} at {'/'.join(launch.offer)}: {launch.refusal}"
        if len(plans) > 1:
            why += f"; {row} refusals in a row, so two are asked at once and one is kept"
        drafts = tuple(draft for one in plans for draft in markets.drafts(one, launch.pool, now, why))
        if len(plans) > 1:
            self._races.expect(drafts, agents, now)
        self.board = replace(
            self.board, plans={**self.board.plans, launch.pool: plan},
            planned_at={**self.board.planned_at, launch.pool: now},
        )  # fmt: skip
        if drafts:
            return self._announce(drafts, now)
        text = f"{launch.agents} agents for {launch.need} refused by {launch.provider}: nobody else may be asked now"
        return [Record(Event(now, "capacity.short", launch.pool, reason=text))]


def _told(plan: Plan, dry_run: bool) -> str:
    machines = ", ".join(f"{n} x {'/'.join(key)}" for key, n in plan.machines.items()) or "nothing"
    unmet = ", ".join(f"{n} agents for {region}" for region, n in plan.unmet.items())
    said = f"{'would buy' if dry_run else 'buys'} {machines} for {plan.cost_uusd_h / 1e6:.2f} USD an hour"
    return f"{said}; still missing: {unmet}" if unmet else said
