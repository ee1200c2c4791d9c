"""Capacity: how many agents there are, will be needed, and are bought where, and why there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from pydantic import Field

from router.core.capacity import CapacityBoard, Launch, LaunchState, Offer, PlaceBoard, Plan, Rejected
from router.core.capacity.machines import COMING as UNDER_WAY
from router.core.capacity.machines import Proof
from router.core.model import DataCenterId, Inventory, Micros, PoolId
from router.core.pools import COMING, HOLDING, STANDINGS, Places
from router.core.tables import View
from router.schemas.fields import Answer
from router.schemas.units import known_rfc3339, rfc3339

SHOWN = 100  # launches that have ended, newest first
_RUNNING = (LaunchState.SERVING, LaunchState.LEAVING, LaunchState.RETURNING)


class CapacityPlace(Answer):
    """A pool's agents in one data center; places, not agents, are counted as idle and busy."""

    data_center: str
    provider: str | None
    idle: int
    busy: int
    warming: int = Field(description="places of agents that come up or reset")
    cordoned: int = Field(description="agents that take no more sessions")
    states: dict[str, int] = Field(description="agents per state")


class CapacityRegion(Answer):
    """What a pool has and will need in a region; users of a region without agents count where theirs are."""

    region: str
    busy: int
    idle: int
    coming: int = Field(description="places that load, or on machines that were bought and do not serve yet")
    queued: int
    forecast: float = Field(description="sessions to expect within `horizon_s`, a cold start")
    forecast_at_most: int = Field(description="what they will not exceed, with the probability that the terms ask for")
    horizon_s: float
    level: float = Field(description="today over the season of the day; 1 while no season is known")
    spike: bool = Field(description="more began lately than chance allows, and the forecast is raised")
    buffer: int = Field(description="idle places that should be there")
    buffer_rule: str = Field(description="who set the buffer")
    desired: int = Field(description="busy, waiting and buffer together")
    missing: int
    spare: int = Field(description="idle places that were not needed for ten minutes")


class CapacityProvider(Answer):
    """What a pool has with one provider, in all regions together."""

    provider: str
    busy: int
    idle: int
    warming: int
    pending_launches: int = Field(description="machines that were bought and do not serve yet")
    machines: int = Field(description="bought machines that serve, or leave")
    price_usd_per_hour: float = Field(description="of all machines that were bought")


class RejectedOffer(Answer):
    """An offer that was not taken, by which rule, with its number and its limit."""

    provider: str
    data_center: str
    size: str
    rule: str
    number: int
    limit: int
    detail: str


class PurchaseAnswer(Answer):
    """Agents of one offer for the users of one region, and why these."""

    region: str = Field(description="of the users")
    provider: str
    data_center: str
    size: str
    agents: int
    usd_per_agent_hour: float = Field(description="with egress and delay")
    delay_ms: float
    rejected: list[RejectedOffer]


class PurchasePlanAnswer(Answer):
    """What was bought last for a pool, or would be in a dry run."""

    at: str
    by: str = Field(description="`programme`, or `next best` where an answer was needed at once")
    machines: dict[str, int] = Field(description="provider/data center/size -> how many")
    cost_usd_per_hour: float
    purchases: list[PurchaseAnswer]
    unmet: dict[str, int] = Field(description="agents that could not be bought, by region")
    notes: list[str]


class CapacityAnswer(Answer):
    """How much of a pool there is, is expected, and is bought."""

    pool: str
    idle: int
    busy: int
    warming: int
    queued: int = Field(description="sessions that wait for an agent")
    buffer: int
    forecast: float
    pending_launches: int
    price_usd_per_hour: float
    data_centers: list[CapacityPlace]
    regions: list[CapacityRegion]
    providers: list[CapacityProvider]
    plan: PurchasePlanAnswer | None = Field(description="null until something was missing")


class OfferAnswer(Answer):
    """Machines that may be bought, as they are known now."""

    provider: str
    data_center: str
    size: str
    agents: int
    price_usd_per_hour: float | None = Field(description="null: nobody told it, and none is bought")
    left: int = Field(description="machines that the settings and the provider still allow, bought ones included")
    blocked: str = Field(description="why it is not asked now; empty if it is")


class BuyingAnswer(Answer):
    """What may be bought at all; `enabled` is false without a purchasing file."""

    enabled: bool
    dry_run: bool
    counted_at: str | None
    budget_usd_per_hour: float | None
    spent_usd_per_hour: float
    max_machines: int
    machines: int
    failure: str = Field(description="of the last programme; the next best offers were taken then")
    offers: list[OfferAnswer]


class CanaryAnswer(Answer):
    """What a machine that is a canary has shown so far, and what it waits for."""

    open: int = Field(description="agents that may take sessions now")
    agents: int
    begun: int = Field(description="sessions on it since it is a canary")
    settled: int = Field(description="of which enough is known for a verdict")
    setup_failed: int
    dropped: int
    e_value: float = Field(description="of all tests together; it goes back when this reaches `limit`")
    limit: float
    waits: list[str]


class LaunchAnswer(Answer):
    """A machine that was bought; its id is the idempotency key that its provider knows."""

    id: str
    state: LaunchState
    pool: str
    region: str
    need: str = Field(description="region of the users that it was bought for")
    provider: str
    data_center: str
    size: str
    agents: int
    price_usd_per_hour: float
    node: str
    machine: str | None = Field(description="what the provider calls it")
    reason: str
    why: list[str]
    refusal: str
    tries: int
    created_at: str
    since: str
    finished_at: str | None
    revision: int
    canary: CanaryAnswer | None


class CapacityList(Answer):
    """All pools in id order, what may be bought, and what was: open launches first, then the newest."""

    items: list[CapacityAnswer]
    next: str | None
    buying: BuyingAnswer
    launches: list[LaunchAnswer]


def capacity_json(view: View, places: Sequence[Places], queued: Mapping[PoolId, int]) -> dict[str, object]:
    """Return the JSON form of everything about capacity."""
    board = view.capacity or CapacityBoard()
    pools = [_pool_json(view, board, pool, places, queued.get(pool, 0)) for pool in view.inventory.pools]
    launches = sorted(view.launches.values(), key=lambda one: (not one.open, -one.since, one.id))
    still = sum(one.open for one in launches)
    shown = [launch_json(one, view.proofs.get(one.id)) for one in launches[: still + SHOWN]]
    return {"items": pools, "next": None, "buying": _buying_json(board), "launches": shown}


def _pool_json(
    view: View, board: CapacityBoard, pool: PoolId, places: Sequence[Places], queued: int
) -> dict[str, object]:
    by_place: dict[DataCenterId, list[Places]] = {}
    for row in places:
        if row.pool == pool:
            by_place.setdefault(row.data_center, []).append(row)
    rows = [_place_json(view.inventory, dc, there) for dc, there in sorted(by_place.items())]
    regions = [one for one in board.places if one.pool == pool]
    launches = [one for one in view.launches.values() if one.pool == pool and one.open]
    plan = board.plans.get(pool)
    return {
        "pool": pool,
        **{name: _sum(rows, name) for name in ("idle", "busy", "warming")},
        "queued": queued,
        "buffer": sum(one.buffer for one in regions),
        "forecast": round(sum(one.forecast for one in regions), 3),
        "pending_launches": sum(_pending(one) for one in launches),
        "price_usd_per_hour": _usd(one.price_uusd_h for one in launches),
        "data_centers": rows,
        "regions": [_region_json(one) for one in regions],
        "providers": list(_providers_json(rows, launches)),
        "plan": None if plan is None else _plan_json(plan, board.planned_at[pool]),
    }


def _place_json(inventory: Inventory, id: DataCenterId, rows: Sequence[Places]) -> dict[str, object]:
    data_center = inventory.data_centers.get(id)
    states: Counter[str] = Counter()
    for row in rows:
        states[row.state.value] += row.agents
    free = (row.capacity - row.held for row in rows if STANDINGS[row.state].buffer and not row.cordoned)
    return {
        "data_center": id,
        "provider": None if data_center is None else data_center.provider,
        "idle": sum(free),
        "busy": sum(row.held for row in rows if row.state in HOLDING),
        "warming": sum(row.capacity for row in rows if row.state in COMING),
        "cordoned": sum(row.agents for row in rows if row.cordoned),
        "states": dict(sorted(states.items())),
    }


def _sum(rows: Iterable[Mapping[str, object]], name: str) -> int:
    return sum(int(str(row[name])) for row in rows)


def _usd(uusd: Iterable[int]) -> float:
    return round(sum(uusd) / 1e6, 6)


def _pending(launch: Launch) -> bool:
    return launch.state in UNDER_WAY


def _region_json(one: PlaceBoard) -> dict[str, object]:
    return {
        "region": one.region, "busy": one.busy, "idle": one.idle, "coming": one.coming, "queued": one.queued,
        "forecast": one.forecast, "forecast_at_most": one.quantile, "horizon_s": one.horizon_s, "level": one.level,
        "spike": one.spike, "buffer": one.buffer, "buffer_rule": one.rule, "desired": one.desired,
        "missing": one.missing, "spare": one.spare,
    }  # fmt: skip


def _providers_json(rows: Sequence[Mapping[str, object]], launches: Sequence[Launch]) -> Iterable[dict[str, object]]:
    names = {str(row["provider"]) for row in rows if row["provider"] is not None} | {one.provider for one in launches}
    for name in sorted(names):
        mine = [row for row in rows if row["provider"] == name]
        bought = [one for one in launches if one.provider == name]
        yield {
            "provider": name,
            **{what: _sum(mine, what) for what in ("busy", "idle", "warming")},
            "pending_launches": sum(_pending(one) for one in bought),
            "machines": sum(one.state in _RUNNING for one in bought),
            "price_usd_per_hour": _usd(one.price_uusd_h for one in bought),
        }


def _plan_json(plan: Plan, at: Micros) -> dict[str, object]:
    return {
        "at": rfc3339(at),
        "by": plan.by,
        "machines": {"/".join(key): count for key, count in plan.machines.items()},
        "cost_usd_per_hour": plan.cost_uusd_h / 1e6,
        "purchases": [
            {
                "region": one.need, **_offer_key(one.offer), "agents": one.agents,
                "usd_per_agent_hour": one.unit_uusd_h / 1e6, "delay_ms": one.delay_us / 1000,
                "rejected": [_rejected_json(other) for other in one.rejected],
            }
            for one in plan.purchases
        ],
        "unmet": dict(plan.unmet),
        "notes": list(plan.notes),
    }  # fmt: skip


def _offer_key(offer: Offer) -> dict[str, object]:
    return {"provider": offer.provider, "data_center": offer.data_center, "size": offer.size}


def _rejected_json(one: Rejected) -> dict[str, object]:
    return {**_offer_key(one.offer), "rule": one.rule, "number": one.number, "limit": one.limit, "detail": one.text}


def _buying_json(board: CapacityBoard) -> dict[str, object]:
    buying = board.buying
    budget = buying.terms.budget_uusd_h
    return {
        "enabled": bool(buying.offers),
        "dry_run": buying.dry_run,
        "counted_at": known_rfc3339(board.at or None),
        "budget_usd_per_hour": None if budget is None else budget / 1e6,
        "spent_usd_per_hour": board.spent_uusd_h / 1e6,
        "max_machines": buying.max_machines,
        "machines": board.machines,
        "failure": board.failure,
        "offers": [
            {
                **_offer_key(offer), "agents": offer.agents,
                "price_usd_per_hour": None if offer.price_uusd_h < 0 else offer.price_uusd_h / 1e6,
                "left": offer.quota, "blocked": board.blocked.get(offer.key, ""),
            }
            for offer in board.offers or buying.offers
        ],
    }  # fmt: skip


def launch_json(one: Launch, proof: Proof | None = None) -> dict[str, object]:
    """Return the JSON form of a launch."""
    return {
        "id": one.id, "state": one.state, "pool": one.pool, "region": one.region, "need": one.need,
        "provider": one.provider, "data_center": one.data_center, "size": one.size, "agents": one.agents,
        "price_usd_per_hour": one.price_uusd_h / 1e6, "node": one.node, "machine": one.machine, "reason": one.reason,
        "why": list(one.why), "refusal": one.refusal, "tries": one.tries, "created_at": rfc3339(one.created_at),
        "since": rfc3339(one.since), "finished_at": known_rfc3339(one.finished_at), "revision": one.revision,
        "canary": None if proof is None else asdict(proof) | {"waits": list(proof.waits)},
    }  # fmt: skip
