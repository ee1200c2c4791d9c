"""Capacity in the control plane: counts to purchases, refusals to spills, quiet to releases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.capacity import BufferRule, Buying, Launch, LaunchId, LaunchState, NodeStock, Offer, Terms
from router.core.capacity.desk import CapacityDesk
from router.core.capacity.machines import TRANSITIONS, begin, step
from router.core.errors import InputRejected
from router.core.messages import (
    AnnounceLaunches,
    DriveLaunch,
    Effect,
    Optimise,
    Optimised,
    OptimiseFailed,
    Priced,
    Record,
    StepLaunch,
    StockTaken,
)
from router.core.model import (
    AgentState,
    DataCenter,
    DataCenterId,
    Intent,
    Inventory,
    Node,
    NodeId,
    Pool,
    PoolId,
    Provider,
    ProviderId,
    Region,
    RegionId,
)
from router.core.plane import ControlPlane
from router.core.pools import Places
from router.solver import optimum

SECOND = 1_000_000
POOL, FRA = PoolId("p"), RegionId("fra")
CHEAP, DEAR = DataCenterId("cheap-fra"), DataCenterId("dear-fra")
LINKS = ControlPlane().view.links


def offer(provider: str, price: int, **more: object) -> Offer:
    made = Offer(provider, DataCenterId(f"{provider}-fra"), RegionId(""), "s", price, agents=2, quota=9)
    return replace(made, **more)  # type: ignore[arg-type]


OFFERS = (offer("cheap", 100_000), offer("dear", 300_000))
BUYING = Buying(
    offers=OFFERS, dry_run=False, max_machines=9, rule=BufferRule(absolute=2, busy_ppm=0, cold_start_s=60),
    terms=Terms(budget_uusd_h=2_000_000, diversity_ppm=1_000_000), join_s=600,
)  # fmt: skip


def inventory(*nodes: NodeId) -> Inventory:
    centers = {id: DataCenter(id, ProviderId(id.split("-")[0]), FRA) for id in (CHEAP, DEAR)}
    return Inventory(
        {ProviderId(p): Provider(ProviderId(p)) for p in ("cheap", "dear")}, {FRA: Region(FRA)}, centers,
        {id: Node(id, CHEAP) for id in sorted(nodes)}, pools={POOL: Pool(POOL)},
    )  # fmt: skip


class Floor:
    """A desk with what a shell would do: rows as they are written, programmes as they are solved."""

    def __init__(self, buying: Buying = BUYING) -> None:
        self.desk = CapacityDesk(buying)
        self.now = 0
        self.world = inventory()
        self.effects: list[Effect] = []
        self.solve = True

    def count(self, idle: int = 0, busy: int = 0, nodes: dict[NodeId, NodeStock] | None = None, **more: object) -> None:
        places = (Places(POOL, CHEAP, AgentState.READY, False, idle + busy, idle + busy, busy),) if idle + busy else ()
        self.now += 5 * SECOND
        self._do(self.desk.taken(StockTaken(places, nodes=nodes or {}, **more), self.world, LINKS, self.now))  # type: ignore[arg-type]

    def put(self, launch: Launch) -> None:
        self._do(self.desk.put(replace(launch, revision=launch.revision + 1), self.now))

    def step(self, launch: Launch, event: str, **facts: str | int | None) -> None:
        self.put(step(launch, event, "tested", self.now, **facts))

    def _do(self, effects: list[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            if isinstance(effect, AnnounceLaunches):
                for draft in effect.drafts:
                    key = len(self.desk.launches) + 1
                    self.put(begin(draft, LaunchId(f"l-{key}"), NodeId(f"n-{key}"), self.now))
            if isinstance(effect, Optimise) and self.solve:
                asked = effect.shopping
                self._do(self.desk.answered(Optimised(asked.number, optimum(asked.asked.linear)), self.now))

    @property
    def launches(self) -> list[Launch]:
        return list(self.desk.launches.values())

    def served(self) -> Launch:
        """Buy what is missing and let its one machine serve."""
        self.count()
        (launch,) = self.launches
        for event in ("asked", "accepted", "runs", "joined", "serves"):
            self.step(self.desk.launches[launch.id], event)
        return self.desk.launches[launch.id]


def test_what_is_missing_is_bought_where_it_is_cheapest_and_says_why() -> None:
    floor = Floor()
    floor.count()
    (launch,) = floor.launches
    assert (launch.provider, launch.state, launch.agents) == ("cheap", LaunchState.ANNOUNCED, 2)
    assert launch.reason == "2 agents for fra are missing"
    assert launch.why[0].startswith("0.1000 USD an hour for 2 agents; 0.0500 each")
    assert launch.why[1].startswith("not dear/dear-fra/s: dearer (150000, limit 50000) micro-USD per agent and hour")
    assert [type(effect) for effect in floor.effects if isinstance(effect, DriveLaunch)] == [DriveLaunch]
    floor.count()
    assert len(floor.launches) == 1  # what comes is counted


def test_a_dry_run_plans_and_announces_nothing() -> None:
    floor = Floor(replace(BUYING, dry_run=True))
    floor.count()
    floor.count()
    assert floor.launches == []
    assert floor.desk.board.plans[POOL].machines == {OFFERS[0].key: 1}
    told = [effect.event for effect in floor.effects if isinstance(effect, Record)]
    assert [event.kind for event in told] == ["capacity.planned"]
    assert told[0].reason == "would buy 1 x cheap/cheap-fra/s for 0.10 USD an hour"


def test_a_refusal_is_answered_in_the_same_instant_by_another_provider() -> None:
    floor = Floor()
    floor.count()
    floor.step(floor.launches[0], "asked")
    at = floor.now
    floor.step(floor.launches[0], "refused", refusal="out_of_capacity")
    refused, spilled = floor.launches
    assert (refused.state, spilled.provider, spilled.state) == (LaunchState.FAILED, "dear", LaunchState.ANNOUNCED)
    assert spilled.created_at == at
    assert spilled.why[-1] == "instead of l-1 at cheap/cheap-fra/s: out_of_capacity"
    floor.step(spilled, "asked")
    floor.step(floor.desk.launches[spilled.id], "refused", refusal="auth_failed")
    assert len(floor.launches) == 2  # nobody is left
    last = floor.effects[-1]
    assert isinstance(last, Record) and last.event.kind == "capacity.short"
    floor.now += 70 * SECOND
    floor.count()
    assert floor.launches[-1].provider == "cheap"  # its back-off is over


def test_a_refusal_right_after_new_prices_is_answered_at_once_too() -> None:
    floor = Floor()
    floor.count()
    floor.step(floor.launches[0], "asked")
    floor.desk.priced(Priced({}, {}))
    floor.step(floor.launches[0], "refused", refusal="out_of_capacity")
    refused, spilled = floor.launches
    assert (refused.state, spilled.provider) == (LaunchState.FAILED, "dear")


PROVIDERS = ("cheap", "dear", "third", "last")


def in_short_supply() -> tuple[Floor, Launch, Launch]:
    """A floor on which two refused in a row, so that two others are asked at once."""
    offers = tuple(offer(name, 100_000 * (k + 1)) for k, name in enumerate(PROVIDERS))
    floor = Floor(replace(BUYING, offers=offers))
    centers = {o.data_center: DataCenter(o.data_center, ProviderId(o.provider), FRA) for o in offers}
    providers = {ProviderId(name): Provider(ProviderId(name)) for name in PROVIDERS}
    floor.world = replace(floor.world, providers=providers, data_centers=centers)
    floor.count()
    for k in range(2):
        floor.step(floor.launches[k], "asked")
        floor.now += SECOND
        floor.step(floor.launches[k], "refused", refusal="out_of_capacity")
    assert [one.provider for one in floor.launches] == list(PROVIDERS)
    third, last = floor.launches[2:]
    assert third.why[-1] == last.why[-1]
    assert last.why[-1].endswith("; 2 refusals in a row, so two are asked at once and one is kept")
    for one in (third, last):
        floor.step(one, "asked")
    return floor, third, last


def test_of_two_that_are_asked_at_once_the_first_that_accepts_is_kept() -> None:
    floor, third, last = in_short_supply()
    floor.step(floor.desk.launches[last.id], "accepted")
    floor.effects.clear()
    floor.step(floor.desk.launches[third.id], "accepted")
    (back,) = floor.effects
    assert isinstance(back, StepLaunch) and (back.launch, back.step) == (third.id, "surplus")
    floor.step(floor.desk.launches[third.id], "runs")  # it was told meanwhile: asked again at the newer revision
    again = floor.effects[-1]
    assert isinstance(again, StepLaunch) and again.revision == back.revision + 1
    floor.step(floor.desk.launches[third.id], again.step)
    floor.step(floor.desk.launches[last.id], "runs")
    states = [floor.desk.launches[one.id].state for one in (third, last)]
    assert states == [LaunchState.TERMINATING, LaunchState.RUNNING]


def test_who_refuses_beside_another_is_followed_by_nobody_until_that_one_refuses_as_well() -> None:
    floor, third, last = in_short_supply()
    floor.step(floor.desk.launches[third.id], "refused", refusal="quota_exceeded")
    assert len(floor.launches) == 4  # the other one may accept yet
    floor.step(floor.desk.launches[last.id], "refused", refusal="quota_exceeded")
    short = floor.effects[-1]
    assert isinstance(short, Record) and short.event.kind == "capacity.short"

    floor, third, last = in_short_supply()
    floor.step(floor.desk.launches[third.id], "accepted")
    floor.effects.clear()
    floor.step(floor.desk.launches[last.id], "refused", refusal="quota_exceeded")
    assert floor.effects == [] and len(floor.launches) == 4


def test_refusals_that_are_long_ago_are_no_row() -> None:
    offers = tuple(offer(name, 100_000 * (k + 1)) for k, name in enumerate(("cheap", "dear")))
    floor = Floor(replace(BUYING, offers=(*offers, offer("cheap", 900_000, size="big"))))
    floor.count()
    floor.step(floor.launches[0], "asked")
    floor.step(floor.launches[0], "refused", refusal="out_of_capacity")
    floor.now += 20 * SECOND
    floor.step(floor.launches[1], "asked")
    floor.step(floor.launches[1], "refused", refusal="out_of_capacity")
    assert len(floor.launches) == 3 and "in a row" not in floor.launches[2].why[-1]


def test_a_late_answer_is_dropped_and_a_failed_programme_is_answered_by_the_next_best() -> None:
    floor = Floor()
    floor.solve = False
    floor.count()
    asked = floor.desk.pending
    assert asked is not None
    late = Optimised(asked.number + 1, optimum(asked.asked.linear))
    assert floor.desk.answered(late, floor.now) == [] and floor.desk.pending is asked
    floor._do(floor.desk.answered(OptimiseFailed(asked.number, "no optimum"), floor.now))
    assert [one.provider for one in floor.launches] == ["cheap"]
    assert floor.desk.board.plans[POOL].by == "next best"
    assert floor.desk.board.failure == "no optimum"


def test_caps_of_machines_money_and_provider_are_kept() -> None:
    for capped, many in (
        (replace(BUYING, max_machines=1), 1),
        (replace(BUYING, terms=replace(BUYING.terms, budget_uusd_h=250_000)), 2),
        (replace(BUYING, terms=replace(BUYING.terms, provider_uusd_h={"cheap": 100_000, "dear": 0})), 1),
    ):
        floor = Floor(replace(capped, rule=replace(BUYING.rule, absolute=10)))
        for _ in range(4):
            floor.count()
        assert len(floor.launches) == many
        assert sum(one.price_uusd_h for one in floor.launches) <= 250_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"data_center": DataCenterId("nowhere")}, "unknown_data_center"),
        ({"data_center": DEAR}, "wrong_provider"),
        ({"price_uusd_h": -1}, "price_unknown"),
        ({"pools": (PoolId("q"),)}, "other_pool"),
    ],
)
def test_an_offer_that_cannot_be_is_left_out_and_named(wrong: dict[str, object], rule: str) -> None:
    floor = Floor(replace(BUYING, offers=(offer("cheap", 100_000, **wrong), OFFERS[1])))
    floor.count()
    assert [one.provider for one in floor.launches] == ["dear"]
    assert any(f": {rule} " in why for why in floor.launches[0].why)


def test_a_price_that_the_provider_tells_is_used_and_its_quota_counts() -> None:
    floor = Floor(replace(BUYING, offers=(offer("cheap", -1), OFFERS[1])))
    floor.desk.priced(Priced({OFFERS[0].key: 50_000}, {OFFERS[0].key: 1}))
    floor.count()
    assert [(one.provider, one.price_uusd_h) for one in floor.launches] == [("cheap", 50_000)]
    assert floor.desk.board.offers[0].quota == 1


def test_sessions_without_an_agent_are_demand_and_raise_the_buffer() -> None:
    floor = Floor(replace(BUYING, rule=replace(BUYING.rule, absolute=0)))
    for _ in range(20):
        floor.count(unserved={(POOL, CHEAP): 3})
    (place,) = floor.desk.board.places
    assert place.forecast > 10 and place.rule == "arrivals during a cold start"
    assert floor.launches


def test_a_machine_goes_from_joined_to_serving_as_its_agents_register() -> None:
    floor = Floor()
    floor.count()
    floor.step(floor.launches[0], "asked")
    floor.step(floor.launches[0], "accepted", machine="m-1")
    launch = floor.launches[0]
    floor.world = inventory(launch.node)
    floor.count()
    steps = [effect for effect in floor.effects if isinstance(effect, StepLaunch)]
    assert [one.step for one in steps] == ["joined"]
    floor.step(launch, "joined")
    floor.count(nodes={launch.node: NodeStock(0, 0, 2)})
    floor.count(idle=2, nodes={launch.node: NodeStock(2, 0, 0)})
    assert [e.step for e in floor.effects if isinstance(e, StepLaunch)] == ["joined", "tried"]
    floor.desk.board = replace(floor.desk.board, buying=replace(BUYING, canary=False))
    floor.count(idle=2, nodes={launch.node: NodeStock(2, 0, 0)})
    assert [e.step for e in floor.effects if isinstance(e, StepLaunch)][-1] == "serves"


def test_agents_of_a_canary_that_nobody_may_take_yet_are_on_their_way_and_nothing_is_bought_instead() -> None:
    floor = Floor()
    floor.count()
    launch = floor.launches[0]
    for event in ("asked", "accepted", "runs", "joined", "tried"):
        floor.step(floor.desk.launches[launch.id], event)
    floor.count(nodes={launch.node: NodeStock(2, 0, 0, 2, 2, 0)})
    (place,) = floor.desk.board.places
    assert (place.idle, place.coming, place.missing) == (0, 2, 0)
    floor.count(idle=1, nodes={launch.node: NodeStock(2, 0, 0, 1, 2, 1)})
    (place,) = floor.desk.board.places
    assert (place.idle, place.coming, place.missing) == (1, 1, 0)
    assert len(floor.launches) == 1


def test_a_canary_that_was_bad_is_not_wanted_again_and_its_offer_waits_once() -> None:
    floor = Floor()
    floor.count()
    launch = floor.launches[0]
    for event in ("asked", "accepted", "runs", "joined", "tried"):
        floor.step(floor.desk.launches[launch.id], event)
    floor.step(floor.desk.launches[launch.id], "bad", refusal="bad_canary")
    assert floor.desk.launches[launch.id].state is LaunchState.RETURNING
    floor.effects.clear()
    floor.count(nodes={launch.node: NodeStock(2, 1, 0, 1, 2, 0)})
    assert not [e for e in floor.effects if isinstance(e, StepLaunch)]  # one still talks
    assert floor.launches[-1].provider == "dear"  # bought instead: the cheap offer is not asked
    floor.count(nodes={launch.node: NodeStock(2, 0, 0, 2, 2, 0)})
    assert [e.step for e in floor.effects if isinstance(e, StepLaunch)] == ["emptied"]
    floor.step(floor.desk.launches[launch.id], "emptied")
    assert all("refused 1 times" in why for why in floor.desk.board.blocked.values())


@pytest.mark.parametrize(
    ("events", "after"),
    [
        ((), LaunchState.FAILED),
        (("asked",), LaunchState.TERMINATING),
        (("asked", "accepted", "runs", "joined"), LaunchState.TERMINATING),
        (("asked", "accepted", "runs", "joined", "tried"), LaunchState.RETURNING),
        (("asked", "accepted", "runs", "joined", "serves"), LaunchState.RETURNING),
        (("asked", "accepted", "runs", "joined", "serves", "released"), LaunchState.RETURNING),
    ],
)
def test_an_operator_gives_a_machine_back_whatever_it_does(events: tuple[str, ...], after: LaunchState) -> None:
    floor = Floor()
    floor.count()
    id = floor.launches[0].id
    for event in (*events, "returned"):
        floor.step(floor.desk.launches[id], event)
    assert floor.desk.launches[id].state is after
    with pytest.raises(InputRejected, match="does not take the event wanted_again"):
        step(floor.desk.launches[id], "wanted_again", "", 0)


def test_a_machine_that_never_joins_is_given_back_and_its_offer_waits() -> None:
    floor = Floor()
    floor.count()
    floor.step(floor.launches[0], "asked")
    floor.step(floor.launches[0], "accepted", machine="m-1")
    floor.now += 601 * SECOND
    floor.count()
    assert [e.step for e in floor.effects if isinstance(e, StepLaunch)] == ["overdue"]
    floor.step(floor.launches[0], "overdue", refusal="never_joined")
    floor.count()
    assert [one.provider for one in floor.launches if one.state is LaunchState.ANNOUNCED] == ["dear"]


def quiet(floor: Floor, launch: Launch, held: int = 0) -> None:
    """Eleven minutes in which four more agents are there than are wanted."""
    for _ in range(11 * 12 + 2):
        floor.count(idle=6 - held, busy=held, nodes={launch.node: NodeStock(2, held, 0)})


def test_spare_machines_leave_after_ten_minutes_and_never_busy() -> None:
    floor = Floor()
    launch = floor.served()
    floor.effects.clear()
    quiet(floor, launch, held=2)
    assert not [e for e in floor.effects if isinstance(e, StepLaunch)]  # both of its places are held
    quiet(floor, launch)
    (first, *_) = [e for e in floor.effects if isinstance(e, StepLaunch)]
    assert (first.step, first.launch) == ("released", launch.id)
    floor.step(launch, "released")
    floor.effects.clear()
    leaving = floor.desk.launches[launch.id]
    floor.count(idle=4, nodes={launch.node: NodeStock(2, 1, 0)})
    assert not [e for e in floor.effects if isinstance(e, StepLaunch)]  # one still talks
    floor.count(idle=4, nodes={launch.node: NodeStock(2, 0, 0)})
    assert [e.step for e in floor.effects if isinstance(e, StepLaunch)] == ["emptied"]
    floor.effects.clear()
    floor.count(idle=0, busy=4, nodes={launch.node: NodeStock(2, 1, 0)})
    assert [(e.step, e.revision) for e in floor.effects if isinstance(e, StepLaunch)] == [
        ("wanted_again", leaving.revision)
    ]


def test_a_data_center_that_takes_nobody_is_not_bought_for() -> None:
    floor = Floor()
    cordoned = replace(floor.world.data_centers[CHEAP], intent=Intent.CORDONED)
    floor.world = replace(floor.world, data_centers={**floor.world.data_centers, CHEAP: cordoned})
    floor.count()
    assert [one.provider for one in floor.launches] == ["dear"]


def test_the_table_of_launches_bites() -> None:
    floor = Floor()
    floor.count()
    with pytest.raises(InputRejected, match="a launch that is announced does not take the event serves"):
        step(floor.launches[0], "serves", "", 0)
    assert {state for state, _ in TRANSITIONS} == {*LaunchState} - {LaunchState.GONE, LaunchState.FAILED}
