"""Simulated providers: orders are answered after a while, machines come up after a cold start, and some are full.

The rows obey the same table as the store's (``capacity.machines.TRANSITIONS``), and so do the cordons of a machine's
agents; what a machine runs are agents of its pool, which register when it has come up, and are deleted with it. On a
bad machine every agent is lost as soon as it holds a session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from router.core.capacity import BufferRule, Buying, Launch, LaunchId, LaunchState, NodeStock, Offer, Refusal, Terms
from router.core.capacity.machines import begin, step
from router.core.errors import InputRejected
from router.core.messages import (
    AnnounceLaunches,
    Climbed,
    DriveLaunch,
    LaunchChanged,
    OpenAgents,
    ResourcesChanged,
    Sample,
    StepLaunch,
    StockTaken,
)
from router.core.model import (
    Agent,
    AgentId,
    AgentState,
    DataCenterId,
    Inventory,
    Node,
    NodeId,
    PoolId,
    RegionId,
    Role,
    Session,
    SessionId,
)
from router.core.pools import COMING, HOLDING, PRESENT, Places
from router.core.ramp.machines import arms_of

if TYPE_CHECKING:
    from router.sim.simulation import Simulation

Bought = AnnounceLaunches | DriveLaunch | StepLaunch | OpenAgents
STOCK_US = 5_000_000
_OUT = (LaunchState.LEAVING, LaunchState.RETURNING)
_LOST = (AgentState.LOST, AgentState.BROKEN)


@dataclass(frozen=True, slots=True)
class Provision:
    """What may be bought at every hub, and how providers behave.

    ``machines`` is what a provider still has (absent: without end), ``bad`` are those whose machines are of no use.
    """

    answer_us: int = 900_000
    cold_start_us: int = 90_000_000
    machines: Mapping[str, int] = field(default_factory=dict)
    bad: frozenset[str] = frozenset()
    agents: int = 4  # of one machine
    warm_at_least: int = 2
    most_machines: int = 200
    canary: bool = True

    def buying(self, inventory: Inventory) -> Buying:
        """Offers at every hub, each dearer than the one before it."""
        hubs = [dc for dc in inventory.data_centers.values() if Role.HUB in dc.roles]
        offers = tuple(
            Offer(dc.provider, dc.id, RegionId(""), "sim", 100_000 + 1_000 * i, self.agents, self.most_machines)
            for i, dc in enumerate(hubs)
        )
        rule = BufferRule(absolute=self.warm_at_least, busy_ppm=0, cold_start_s=self.cold_start_us / 1e6)
        terms = Terms(budget_uusd_h=10_000_000_000, diversity_ppm=1_000_000)
        return Buying(offers, False, self.most_machines, rule, terms, canary=self.canary)


class SimClouds:
    """What was bought, and what became of it."""

    def __init__(self, sim: Simulation, provision: Provision) -> None:
        self._sim = sim
        self._provision = provision
        self._left = dict(provision.machines)
        self.launches: dict[LaunchId, Launch] = {}
        self.unserved: dict[tuple[PoolId, DataCenterId], int] = {}
        self._on: dict[AgentId, LaunchId] = {}  # agents on canaries
        self._followed: dict[SessionId, tuple[tuple[LaunchId, DataCenterId, bool], ...]] = {}
        sim.engine.every(STOCK_US, self.count)

    def carry_out(self, wish: Bought) -> None:
        """Write rows, or do what the state of one asks for."""
        now = self._sim.engine.now
        if isinstance(wish, AnnounceLaunches):
            for draft in wish.drafts:
                key = f"{len(self.launches) + 1:06}"
                self._put(begin(draft, LaunchId(f"l-{key}"), NodeId(f"{draft.data_center}-x{key}"), now))
            return
        held = self.launches[wish.launch.id if isinstance(wish, DriveLaunch) else wish.launch]
        if isinstance(wish, DriveLaunch):
            self._drive(held)
        elif isinstance(wish, OpenAgents):
            if held.state is LaunchState.CANARY:
                self._cordon(held.node, wish.agents)
        elif held.revision == wish.revision:
            refusal = Refusal.BAD_CANARY.value if wish.step == "bad" else held.refusal
            self._step(held.id, wish.step, wish.reason, refusal=refusal)

    def count(self) -> None:
        """Tell the core what there is."""
        rows, found = self._sim.rows, dict[tuple[PoolId, DataCenterId, AgentState, bool], list[int]]()
        self._spoil()
        for agent in rows.agents.values():
            sums = found.setdefault((agent.pool, agent.data_center, agent.state, agent.cordoned), [0, 0, 0])
            sums[0], sums[1], sums[2] = sums[0] + 1, sums[1] + agent.capacity, sums[2] + agent.held
        places = tuple(Places(*key, *sums) for key, sums in sorted(found.items(), key=lambda item: item[0]))
        unserved, self.unserved = self.unserved, {}
        nodes = {one.node: self._stock(one.node) for one in self.launches.values() if one.open}
        canaries = {one.node: one.id for one in self.launches.values() if one.state is LaunchState.CANARY}
        self._on = {a.id: canaries[a.node] for a in rows.agents.values() if a.node is not None and a.node in canaries}
        self._sim.submit(StockTaken(places, {}, dict(sorted(unserved.items())), nodes))

    # --- what sessions show -------------------------------------------------------------------------------------------

    def begun(self, session: Session) -> None:
        """A session has got its agent."""
        arms = arms_of(self.launches, self._on, session) if self._on else ()
        if arms:
            self._followed[session.id] = arms
            self._show(session.id, begun=True)

    def attached(self, id: SessionId) -> None:
        """Its user has arrived."""
        self._show(id, set_up=True, settled=True)

    def ended(self, id: SessionId, dropped: bool) -> None:
        """It is over, or its user is gone."""
        self._show(id, dropped=dropped)
        self._followed.pop(id, None)

    def _show(self, id: SessionId, **shown: bool) -> None:
        arms = self._followed.get(id, ())
        samples = tuple(Sample(dc, canary, "", machine=launch, **shown) for launch, dc, canary in arms)  # type: ignore[arg-type]
        if samples:
            self._sim.submit(Climbed(samples))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _spoil(self) -> None:
        bad = {one.node for one in self.launches.values() if one.open and one.provider in self._provision.bad}
        for agent in [a for a in self._sim.rows.agents.values() if a.node in bad and a.held]:
            if agent.state in HOLDING:
                self._sim.commit(self._sim.rows.step_agent(agent.id, "lost", self._sim.engine.now))

    def _stock(self, node: NodeId) -> NodeStock:
        mine = [agent for agent in self._sim.rows.agents.values() if agent.node == node]
        present = [agent for agent in mine if agent.state in PRESENT]
        return NodeStock(
            ready=sum(agent.capacity for agent in mine if agent.state in HOLDING),
            held=sum(agent.held for agent in mine),
            coming=sum(agent.capacity for agent in mine if agent.state in COMING),
            shut=sum(agent.capacity - agent.held for agent in present if agent.cordoned),
            agents=len(present),
            open=sum(not agent.cordoned for agent in present),
            lost=sum(agent.state in _LOST for agent in mine),
        )

    def _drive(self, launch: Launch) -> None:
        if launch.state is LaunchState.ANNOUNCED:
            self._step(launch.id, "asked", launch.reason, tries=launch.tries + 1)
            self._later(self._provision.answer_us, lambda: self._answer(launch.id))
        elif launch.state is LaunchState.TERMINATING:
            self._later(self._provision.answer_us, lambda: self._take_back(launch.id))

    def _answer(self, id: LaunchId) -> None:
        launch = self.launches[id]
        left = self._left.get(launch.provider)
        if left is not None and left <= 0:
            self._step(id, "refused", "no machine is left", refusal=Refusal.OUT_OF_CAPACITY.value)
            return
        if left is not None:
            self._left[launch.provider] = left - 1
        self._step(id, "accepted", f"{launch.provider} makes it", machine=f"m-{id}")
        self._later(self._provision.cold_start_us, lambda: self._come_up(id))

    def _come_up(self, id: LaunchId) -> None:
        launch, rows = self.launches[id], self._sim.rows
        if launch.state not in (LaunchState.PENDING, LaunchState.RUNNING):
            return
        node = Node(launch.node, launch.data_center)  # nobody probes it: it has no address
        rows.inventory = replace(rows.inventory, nodes=dict(sorted({**rows.inventory.nodes, node.id: node}.items())))
        self._sim.commit((ResourcesChanged((node,)),))
        self._step(id, "joined", f"{node.id} has joined")
        names = [AgentId(f"{launch.node}-{k}") for k in range(launch.agents)]
        new = [Agent(n, launch.pool, launch.data_center, launch.node, seen_at=self._sim.engine.now) for n in names]
        self._sim.commit(rows.put_agents([replace(agent, cordoned=True) for agent in new]))

    def _take_back(self, id: LaunchId) -> None:
        launch, rows = self.launches[id], self._sim.rows
        if launch.state is not LaunchState.TERMINATING:
            return  # it was asked for twice
        for agent in [a for a in rows.agents.values() if a.node == launch.node]:
            self._sim.commit(rows.forget_agent(agent.id))
        left = {node: found for node, found in rows.inventory.nodes.items() if node != launch.node}
        if len(left) != len(rows.inventory.nodes):
            rows.inventory = replace(rows.inventory, nodes=left)
            self._sim.commit((ResourcesChanged((), (("nodes", launch.node),)),))
        if launch.provider in self._left:
            self._left[launch.provider] += 1
        self._step(id, "terminated", "taken back")

    def _step(self, id: LaunchId, event: str, reason: str, **facts: str | int | None) -> None:
        before = self.launches[id]
        try:
            after = step(before, event, reason, self._sim.engine.now, **facts)
        except InputRejected as error:
            self._sim.counts[f"launch_{error.code}"] += 1
            return
        if after.state is not before.state and after.state in (*_OUT, LaunchState.SERVING):
            self._cordon(before.node, 0 if after.state in _OUT else None)
        self._put(after)

    def _cordon(self, node: NodeId, most: int | None) -> None:
        """Let at most so many agents of a machine take sessions, as the store does; None: all."""
        mine = [agent for agent in self._sim.rows.agents.values() if agent.node == node]
        able = sorted((one for one in mine if one.state in PRESENT), key=lambda one: (-one.held, one.id))
        let_in = {one.id for one in (mine if most is None else able[:most])}
        self._sim.commit(self._sim.rows.put_agents([replace(a, cordoned=a.id not in let_in) for a in mine]))

    def _put(self, launch: Launch) -> None:
        before, new = self.launches.get(launch.id), replace(launch, revision=launch.revision + 1)
        self.launches[new.id] = new
        if before is None or before.state is not new.state:
            self._sim.counts[f"launches_{new.state.value}"] += 1
        self._sim.commit((LaunchChanged(new),))

    def _later(self, delay_us: int, action: Callable[[], None]) -> None:
        self._sim.engine.at(self._sim.engine.now + delay_us, action)
