"""What the shell does beside the core in a simulated control plane: leases, silent agents, moves that nobody followed.

The rules are those of ``runtime.upkeep``: while this process could not write, and for ``PATIENCE_US`` after a start,
nothing expires, because the silence may have been ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.core import pools as life
from router.core import steering
from router.core.model import Agent, AgentState, DataCenterId, Micros, PoolId, SessionId, SessionState

if TYPE_CHECKING:
    from router.sim.simulation import Simulation
    from router.sim.users import Users

BEAT_US = 5_000_000  # media nodes
NODE_LEASE_US = 60_000_000
ROUND_US = 2_000_000
DEAF_US = 15_000_000
PATIENCE_US = 60_000_000
SUSPECT_US, LOST_US = 3_000_000, 10_000_000  # silence of agents
BACK_OFF_US = 30_000_000


class Upkeep:
    """Periodic work on the rows; does nothing while the control plane is away."""

    def __init__(self, sim: Simulation, users: Users) -> None:
        self._sim, self._users, self._rows = sim, users, sim.rows
        self._listening_since: Micros = 0
        self._worked_at: Micros = 0
        self._back_off: dict[SessionId, Micros] = {}
        self._silent: dict[DataCenterId, Micros] = {}
        self._agentless: dict[SessionId, Micros] = {}

    def start(self) -> None:
        """Begin."""
        self._sim.engine.every(BEAT_US, self._beats)
        self._sim.engine.every(ROUND_US, self._round)
        self._sim.engine.every(1_000_000, self._agents)

    def restarted(self) -> None:
        """Another process does the work from now on."""
        self._listening_since = self._worked_at = self._sim.engine.now

    def listens(self, now: Micros) -> bool:
        """Whether leases that are over have been ended for some time already."""
        return self._sim.answers and now - self._listening_since >= PATIENCE_US + DEAF_US

    @property
    def backing_off(self) -> int:
        """How many sessions were sent back to their old edge a moment ago."""
        return len(self._back_off)

    def backs_off(self, id: SessionId) -> bool:
        """Whether a session was sent back to its old edge a moment ago, and should not be moved again yet."""
        return self._back_off.get(id, 0) > self._sim.engine.now

    def _beats(self) -> None:
        if not self._sim.answers:
            return
        until = self._sim.engine.now + NODE_LEASE_US
        for node in self._rows.inventory.nodes.values():
            if not self._users.dark(node.data_center):
                self._rows.renew(node.id, until)
                self._users.beat(node.id)

    def _round(self) -> None:
        now = self._sim.engine.now
        if not self._sim.answers:
            return
        if now - self._worked_at > DEAF_US:
            self._listening_since = now
        self._worked_at = now
        back, changes = self._rows.roll_back(now)
        self._sim.commit(changes)
        self._sim.counts["moves_rolled_back"] += len(back)
        self._back_off = {id: until for id, until in self._back_off.items() if until > now}
        self._back_off |= {session.id: now + BACK_OFF_US for session in back}
        if now - self._listening_since >= PATIENCE_US:
            ended, changes = self._rows.expire(now)
            self._sim.counts["sessions_expired"] += len(ended)
            self._sim.commit(changes)

    def _agents(self) -> None:
        """Agents of data centers that nobody hears are suspect, then lost; back again, they register anew."""
        now = self._sim.engine.now
        if not self._sim.answers:
            self._silent.clear()  # how long they were silent nobody has heard
            return
        for hub in sorted({agent.data_center for agent in self._rows.agents.values()}):
            if self._users.dark(hub):
                self._fell_silent(hub, now - self._silent.setdefault(hub, now), now)
            elif self._silent.pop(hub, None) is not None:
                self._came_back(hub, now)
        self._find_others(now)

    def _fell_silent(self, hub: DataCenterId, silent_us: int, now: Micros) -> None:
        for agent in self._of(hub):
            if silent_us >= LOST_US and agent.state in life.PRESENT:
                self._sim.commit(self._rows.step_agent(agent.id, "lost", now))
                self._sim.counts["agents_lost"] += 1
            elif silent_us >= SUSPECT_US and agent.state in life.DOUBTED:
                self._sim.commit(self._rows.step_agent(agent.id, "silent", now))

    def _came_back(self, hub: DataCenterId, now: Micros) -> None:
        for agent in self._of(hub):
            if agent.state is AgentState.SUSPECT:
                event = "heard" if agent.held < agent.capacity else "heard_full"
            elif agent.state is AgentState.LOST:
                event = "adopted" if agent.held < agent.capacity else "adopted_full"
            else:
                continue
            self._sim.commit(self._rows.step_agent(agent.id, event, now))

    def _of(self, hub: DataCenterId) -> list[Agent]:
        return [agent for agent in self._rows.agents.values() if agent.data_center == hub]

    def _find_others(self, now: Micros) -> None:
        """Sessions whose agent is lost get another one after the pool's grace."""
        grace_us = self._rows.inventory.pools[self._pool()].agent_grace_s * 1_000_000
        for session in self._rows.live():
            agent = None if session.agent is None else self._rows.agents.get(session.agent)
            well = session.pool is None if agent is None else agent.state is not AgentState.LOST
            if well or session.state is SessionState.QUEUED:
                self._agentless.pop(session.id, None)
            elif now - self._agentless.setdefault(session.id, now) >= grace_us:
                self._give_another(session.id, now)

    def _give_another(self, id: SessionId, now: Micros) -> None:
        session, view = self._rows.sessions[id], self._sim.plane.view
        request = steering.PlaceRequest(session.client, session.traffic_class, session.pool, seed=session.id)
        hubs = steering.hubs_from(view, request, session.edge)
        new, changes = self._rows.redispatch(id, hubs, now)
        self._sim.commit(changes)
        if new is None:
            self._sim.counts["agents_not_replaced"] += 1
            return
        self._agentless.pop(id, None)
        self._sim.counts["agents_replaced"] += 1
        user = self._users.users.get(id)
        if user is not None:
            user.agent = new.agent
            user.silent_since = None

    def _pool(self) -> PoolId:
        return next(iter(self._rows.inventory.pools))
