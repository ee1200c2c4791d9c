"""Simulated providers: orders are answered after a while, machines come up after a cold start, and some are full.

The rows obey the same table as the store's (``capacity.machines.TRANSITIONS``); what a machine runs are agents of its
pool, which register when it has come up, and are deleted with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from router.core.capacity import Launch, LaunchId, LaunchState, NodeStock, Refusal
from router.core.capacity.machines import begin, step
from router.core.errors import InputRejected
from router.core.messages import AnnounceLaunches, DriveLaunch, LaunchChanged, ResourcesChanged, StepLaunch, StockTaken
from router.core.model import Agent, AgentId, AgentState, DataCenterId, Node, NodeId, PoolId
from router.core.pools import COMING, HOLDING, Places

if TYPE_CHECKING:
    from router.sim.simulation import Simulation

STOCK_US = 5_000_000


@dataclass(frozen=True, slots=True)
class Provision:
    """How providers behave: ``machines`` that each still has, absent: without end."""

    answer_us: int = 900_000
    cold_start_us: int = 90_000_000
    machines: Mapping[str, int] = field(default_factory=dict)


class SimClouds:
    """What was bought, and what became of it."""

    def __init__(self, sim: Simulation, provision: Provision) -> None:
        self._sim = sim
        self._provision = provision
        self._left = dict(provision.machines)
        self.launches: dict[LaunchId, Launch] = {}
        self.unserved: dict[tuple[PoolId, DataCenterId], int] = {}
        sim.engine.every(STOCK_US, self.count)

    def carry_out(self, wish: AnnounceLaunches | DriveLaunch | StepLaunch) -> None:
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
        elif held.revision == wish.revision:
            self._step(held.id, wish.step, wish.reason)

    def count(self) -> None:
        """Tell the core what there is."""
        rows, found = self._sim.rows, dict[tuple[PoolId, DataCenterId, AgentState, bool], list[int]]()
        for agent in rows.agents.values():
            sums = found.setdefault((agent.pool, agent.data_center, agent.state, agent.cordoned), [0, 0, 0])
            sums[0], sums[1], sums[2] = sums[0] + 1, sums[1] + agent.capacity, sums[2] + agent.held
        places = tuple(Places(*key, *sums) for key, sums in sorted(found.items(), key=lambda item: item[0]))
        unserved, self.unserved = self.unserved, {}
        nodes = {one.node: self._on(one.node) for one in self.launches.values() if one.open}
        self._sim.submit(StockTaken(places, {}, dict(sorted(unserved.items())), nodes))

    def _on(self, node: NodeId) -> NodeStock:
        mine = [agent for agent in self._sim.rows.agents.values() if agent.node == node]
        ready = sum(agent.capacity for agent in mine if agent.state in HOLDING)
        return NodeStock(ready, sum(agent.held for agent in mine), sum(a.capacity for a in mine if a.state in COMING))

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
        node = Node(launch.node, launch.data_center, {"internet": "127.0.0.1"})
        rows.inventory = replace(rows.inventory, nodes=dict(sorted({**rows.inventory.nodes, node.id: node}.items())))
        self._sim.commit((ResourcesChanged((node,)),))
        self._step(id, "joined", f"{node.id} has joined")
        self._sim.commit(rows.put_agents(_agents(launch, self._sim.engine.now)))

    def _take_back(self, id: LaunchId) -> None:
        launch, rows = self.launches[id], self._sim.rows
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
        cordoned = {(LaunchState.SERVING, LaunchState.LEAVING): True, (LaunchState.LEAVING, LaunchState.SERVING): False}
        if (before.state, after.state) in cordoned:
            on = cordoned[before.state, after.state]
            mine = [agent for agent in self._sim.rows.agents.values() if agent.node == before.node]
            self._sim.commit(self._sim.rows.put_agents([replace(agent, cordoned=on) for agent in mine]))
        self._put(after)

    def _put(self, launch: Launch) -> None:
        new = replace(launch, revision=launch.revision + 1)
        self.launches[new.id] = new
        self._sim.counts[f"launches_{new.state.value}"] += 1
        self._sim.commit((LaunchChanged(new),))

    def _later(self, delay_us: int, action: Callable[[], None]) -> None:
        self._sim.engine.at(self._sim.engine.now + delay_us, action)


def _agents(launch: Launch, now: int) -> Iterable[Agent]:
    for k in range(launch.agents):
        yield Agent(AgentId(f"{launch.node}-{k}"), launch.pool, launch.data_center, launch.node, seen_at=now)
