"""Hard state of a simulated control plane: what the database would hold, in memory, one transaction per method.

It obeys the same tables as ``router.store`` (``pools.SESSION_TRANSITIONS``, ``pools.AGENT_TRANSITIONS``, the drains'
own) and the same rules: epochs fence, drains have revisions, a node's lease holds what its users are attached to, and
nothing is told to the core before it is written. Every method that writes returns what it changed, for ``Committed``;
while the database is away (``reachable`` is False) all of them raise ``Unavailable`` and change nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from router.core import pools as life
from router.core.errors import InputRejected, Unavailable
from router.core.messages import Change, DrainChanged, RampChanged, ResourcesChanged, SessionsChanged
from router.core.model import (
    KINDS,
    Agent,
    AgentId,
    AgentState,
    Counters,
    DataCenterId,
    Drain,
    DrainId,
    DrainState,
    Flow,
    Intent,
    Inventory,
    Micros,
    NodeId,
    PoolId,
    Ramp,
    RampId,
    Resource,
    Session,
    SessionId,
    SessionState,
    kind_of,
)

Changes = tuple[Change, ...]


class Rows:
    """All rows; the indexes beside them are private."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.sessions: dict[SessionId, Session] = {}
        self.agents: dict[AgentId, Agent] = {}
        self.drains: dict[DrainId, Drain] = {}
        self.ramps: dict[RampId, Ramp] = {}
        self.node_leases: dict[NodeId, Micros] = {}
        self.reachable = True
        self.epoch = 1
        self._live: dict[SessionId, None] = {}
        self._at: dict[DataCenterId, dict[SessionId, None]] = {}  # live sessions, by the edge they are placed at
        self._free: dict[tuple[PoolId, DataCenterId], dict[AgentId, None]] = {}
        self._idle: Counter[tuple[PoolId, DataCenterId]] = Counter()
        self._busy: Counter[tuple[PoolId, DataCenterId]] = Counter()

    # --- reading -----------------------------------------------------------------------------------------------------

    def counters(self) -> Counters:
        """Counters as the database would count them."""
        return Counters(
            {dc: len(ids) for dc, ids in sorted(self._at.items()) if ids},
            {place: n for place, n in sorted(self._idle.items()) if n},
            {place: n for place, n in sorted(self._busy.items()) if n},
        )

    def flows(self) -> Mapping[Flow, int]:
        """Live sessions with an agent, by edge, data center of the agent and class."""
        found: Counter[Flow] = Counter()
        for session in self.live():
            if session.agent_data_center is not None:
                found[session.edge, session.agent_data_center, session.traffic_class] += 1
        return dict(sorted(found.items()))

    def live(self) -> list[Session]:
        """Sessions that have not ended, oldest first."""
        return [self.sessions[id] for id in self._live]

    def movable(self, data_center: DataCenterId, limit: int, node: NodeId | None = None) -> list[Session]:
        """Live sessions placed at an edge, or on one machine of it, oldest first."""
        found = [self.sessions[id] for id in self._at.get(data_center, {})]
        return [s for s in found if node is None or s.edge_node == node][:limit]

    def count_on(self, data_center: DataCenterId, node: NodeId | None = None) -> int:
        """Live sessions at an edge, or on one machine of it, those on their way to another one included."""
        if node is not None:
            held = (self.sessions[id] for id in self._live)
            return sum(node in (s.edge_node if s.edge == data_center else None, s.held_by) for s in held)
        leaving = sum(self.sessions[id].moved_from == data_center for id in self._live)
        return len(self._at.get(data_center, {})) + leaving

    def count_leaving(self, data_center: DataCenterId, node: NodeId | None = None) -> int:
        """Live sessions on their way from an edge, or from one machine of it, to another place."""
        moving = (self.sessions[id] for id in self._live if self.sessions[id].moved_from == data_center)
        return sum(s.state is SessionState.MOVING and (node is None or s.held_by == node) for s in moving)

    def left_on(self, drain: Drain) -> int:
        """Live sessions on what a drain is about."""
        machines = [self.inventory.nodes[id] for id in drain.nodes if id in self.inventory.nodes]
        on_machines = sum(self.count_on(node.data_center, node.id) for node in machines)
        return sum(self.count_on(dc) for dc in drain.targets) + on_machines

    # --- sessions ----------------------------------------------------------------------------------------------------

    def start(self, session: Session, hubs: Sequence[DataCenterId]) -> tuple[Session | None, Changes]:
        """Take an agent if a pool is asked for, and write the session; None, and nothing written, if there is none."""
        self._writable()
        if session.id in self.sessions:
            return self.sessions[session.id], ()  # the answer to its first request was lost
        tally = _Tally(self)
        if session.pool is not None:
            agent = self._take(session.pool, hubs, tally, session.created_at)
            if agent is None:
                return None, ()
            session = replace(session, agent=agent.id, agent_data_center=agent.data_center, agent_epoch=agent.epoch)
        self._write(session, tally)
        return session, tally.changes()

    def queue(self, session: Session) -> Changes:
        """Write a session that waits for an agent."""
        self._writable()
        tally = _Tally(self)
        self._write(session, tally)
        return tally.changes()

    def dispatch(
        self, id: SessionId, hubs: Sequence[DataCenterId], lease_expires_at: Micros, now: Micros
    ) -> tuple[Session | None, Changes]:
        """Give a session that waits an agent; None if there is none."""
        self._writable()
        old, tally = self.sessions[id], _Tally(self)
        state = life.next_session_state(old.state, "dispatched")
        assert old.pool is not None
        agent = self._take(old.pool, hubs, tally, now)
        if agent is None:
            return None, ()
        new = replace(
            old, state=state, agent=agent.id, agent_data_center=agent.data_center, agent_epoch=agent.epoch,
            lease_expires_at=lease_expires_at,
        )  # fmt: skip
        self._write(new, tally)
        return new, tally.changes()

    def rebind(
        self,
        id: SessionId,
        event: str,
        *,
        expect_epoch: int,
        edge: DataCenterId,
        edge_node: NodeId | None,
        edges: tuple[DataCenterId, ...],
        lease_expires_at: Micros,
        moved_from: DataCenterId | None = None,
        reasons: tuple[str, ...] = (),
    ) -> tuple[Session, Changes]:
        """Place a live session anew: moved, resumed, rolled_back. Raises ``fenced``, ``bad_transition``."""
        self._writable()
        old = self.sessions[id]
        state = life.next_session_state(old.state, event)
        if old.epoch != expect_epoch:
            raise InputRejected("fenced", f"session {id} is at epoch {old.epoch}, not {expect_epoch}", field="epoch")
        moving = state is SessionState.MOVING
        still = old.moved_from if old.state is SessionState.MOVING else moved_from
        holder = old.held_by if moving or (state is SessionState.ACTIVE and old.held_by == edge_node) else None
        tally = _Tally(self)
        new = replace(
            old, state=state, edge=edge, edge_node=edge_node, edges=edges, epoch=old.epoch + 1,
            moved_from=still if moving else None, held_by=holder, lease_expires_at=lease_expires_at, reasons=reasons,
        )  # fmt: skip
        self._write(new, tally)
        return new, tally.changes()

    def attach(self, id: SessionId, node: NodeId | None, now: Micros) -> Changes:
        """Its user has arrived at its edge."""
        self._writable()
        old = self.sessions[id]
        state = life.next_session_state(old.state, "attached")
        tally = _Tally(self)
        self._write(replace(old, state=state, moved_from=None, edge_node=node, held_by=node), tally)
        agent = None if old.agent is None else self.agents.get(old.agent)
        if agent is not None and agent.state is AgentState.RESERVED:
            self._put_agent(life.step(agent, "attached", self.inventory.pools[agent.pool], now), tally)
        return tally.changes()

    def detach(self, id: SessionId, grace_until: Micros) -> Changes:
        """Its user is gone, for how long nobody knows."""
        self._writable()
        old = self.sessions[id]
        state = life.next_session_state(old.state, "detached")
        tally = _Tally(self)
        self._write(replace(old, state=state, moved_from=None, held_by=None, lease_expires_at=grace_until), tally)
        return tally.changes()

    def end(self, id: SessionId, reason: str, now: Micros) -> Changes:
        """End a session and free its agent; ending it again changes nothing."""
        self._writable()
        tally = _Tally(self)
        self._end(self.sessions[id], reason, now, tally)
        return tally.changes()

    def redispatch(self, id: SessionId, hubs: Sequence[DataCenterId], now: Micros) -> tuple[Session | None, Changes]:
        """Give a session whose agent is lost another one; None if there is none."""
        self._writable()
        old, tally = self.sessions[id], _Tally(self)
        assert old.pool is not None
        agent = self._take(old.pool, hubs, tally, now)
        if agent is None:
            return None, ()
        agent = agent if old.state is SessionState.ATTACHING else self._arrived(agent, tally, now)
        self._give_back(old, now, tally)
        new = replace(old, agent=agent.id, agent_data_center=agent.data_center, agent_epoch=agent.epoch)
        self._write(new, tally)
        return new, tally.changes()

    def renew(self, node: NodeId, until: Micros) -> None:
        """A node says that it lives: it holds what it has until a later time."""
        self._writable()
        if node not in self.node_leases:
            for session in self.live():
                if session.edge_node == node and session.state is SessionState.ACTIVE and session.held_by is None:
                    self.sessions[session.id] = replace(session, held_by=node)
        self.node_leases[node] = max(until, self.node_leases.get(node, 0))

    def roll_back(self, now: Micros) -> tuple[list[Session], Changes]:
        """Take back moves that nobody followed in time, where the old node still has the user."""
        self._writable()
        back: list[Session] = []
        changes: list[Change] = []
        for old in self.live():
            if old.state is not SessionState.MOVING or old.held_by is None or old.lease_expires_at > now:
                continue
            if old.moved_from is None:
                continue
            rest = tuple(dc for dc in old.edges if dc != old.moved_from)
            session, changed = self.rebind(
                old.id, "rolled_back", expect_epoch=old.epoch, edge=old.moved_from, edge_node=old.held_by,
                edges=(old.moved_from, *rest), lease_expires_at=old.lease_expires_at,
                reasons=(f"its user did not arrive at {old.edge} in time",),
            )  # fmt: skip
            back.append(session)
            changes += changed
        return back, tuple(changes)

    def expire(self, now: Micros) -> tuple[list[Session], Changes]:
        """End what nobody holds any more and whose lease is over; nodes that fell silent hold nothing."""
        self._writable()
        for node in [node for node, until in self.node_leases.items() if until <= now]:
            until = self.node_leases.pop(node)
            for session in self.live():
                if session.held_by == node:
                    later = max(until, session.lease_expires_at)
                    self.sessions[session.id] = replace(session, held_by=None, lease_expires_at=later)
        tally = _Tally(self)
        over = [s for s in self.live() if s.held_by is None and s.lease_expires_at <= now]
        for session in over:
            self._end(session, "lease_expired", now, tally)
        return over, tally.changes()

    # --- agents ------------------------------------------------------------------------------------------------------

    def put_agents(self, agents: Iterable[Agent]) -> Changes:
        """Agents that register, or that somebody changed."""
        self._writable()
        tally = _Tally(self)
        for agent in agents:
            self._put_agent(agent, tally)
        return tally.changes()

    def step_agent(self, id: AgentId, event: str, now: Micros) -> Changes:
        """An agent takes an event of ``pools.AGENT_TRANSITIONS``; a lost one is fenced. Raises ``bad_transition``."""
        self._writable()
        tally, before = _Tally(self), self.agents[id]
        pool = self.inventory.pools[before.pool]
        after = life.wrapped(before, pool, now) if event == "wrapped" else life.step(before, event, pool, now)
        self._put_agent(replace(after, epoch=after.epoch + (event == "lost")), tally)
        return tally.changes()

    def part(self, id: AgentId) -> Changes:
        """An agent comes up anew without what it held: its sessions live on, and wait for another one."""
        self._writable()
        tally, agent = _Tally(self), self.agents[id]
        for session in self.live():
            if session.agent == id:
                self._write(replace(session, agent=None), tally)
        if agent.held:
            self._put_agent(replace(agent, held=0, session=None, epoch=agent.epoch + 1), tally)
        return tally.changes()

    def cut(self, data_center: DataCenterId, now: Micros, node: NodeId | None = None) -> Changes:
        """The agents of a data center, or of one machine of it, lose what they hold; these sessions wait for others."""
        self._writable()
        changes: list[Change] = []
        for agent in [a for a in self.agents.values() if a.data_center == data_center and a.held]:
            if node in (None, agent.node) and life.STANDINGS[agent.state].holds:
                changes += (*self.part(agent.id), *self.step_agent(agent.id, "lost", now))
        return tuple(changes)

    def forget_agent(self, id: AgentId) -> Changes:
        """Delete an agent that may be deleted. Raises ``agent_in_use`` for one that holds a session."""
        self._writable()
        tally, agent = _Tally(self), self.agents[id]
        if agent.held or not life.STANDINGS[agent.state].expendable:
            raise InputRejected("agent_in_use", f"agent {id} is {agent.state.value} and holds {agent.held} sessions")
        tally.agent(agent, None)
        self._free.get((agent.pool, agent.data_center), {}).pop(id, None)
        del self.agents[id]
        return tally.changes()

    # --- intent ------------------------------------------------------------------------------------------------------

    def put_drain(
        self,
        drain: Drain,
        intents: Mapping[DataCenterId, Intent],
        *,
        nodes: Mapping[NodeId, Intent] | None = None,
        ended: Sequence[Drain] = (),
    ) -> Changes:
        """Write a drain at its next revision, the intents that go with it, and drains that it takes over.

        Raises ``revision_conflict``, ``drain_overlaps``.
        """
        self._writable()
        old = self.drains.get(drain.id)
        current = 0 if old is None else old.revision
        if drain.revision != current:
            message = f"drain {drain.id} is at revision {current}, not {drain.revision}; read it again"
            raise InputRejected("revision_conflict", message, field="revision", limit=current)
        closed = tuple(change for other in ended for change in self.put_drain(other, {}))
        if old is None:
            self._refuse_overlap(drain)
        inventory = self.inventory
        changed: list[Resource] = [
            replace(inventory.data_centers[dc], intent=intent) for dc, intent in sorted(intents.items())
        ]
        machines = sorted((nodes or {}).items())
        changed += [replace(inventory.nodes[id], intent=i) for id, i in machines if id in inventory.nodes]
        changes = self.put(changed)
        if drain == old:
            return (*closed, *changes)
        self.drains[drain.id] = new = replace(drain, revision=current + 1)
        return (*closed, DrainChanged(new), *changes)

    def put_ramp(self, ramp: Ramp, intents: Mapping[DataCenterId, Intent]) -> Changes:
        """Write a ramp at its next revision, and the intents that go with it.

        Raises ``revision_conflict``, ``ramp_exists``.
        """
        self._writable()
        old = self.ramps.get(ramp.id)
        current = 0 if old is None else old.revision
        if ramp.revision != current:
            message = f"ramp {ramp.id} is at revision {current}, not {ramp.revision}; read it again"
            raise InputRejected("revision_conflict", message, field="revision", limit=current)
        if old is None and any(r.open and r.subject == ramp.subject for r in self.ramps.values()):
            raise InputRejected("ramp_exists", f"another ramp already brings {ramp.subject} in", field="data_center")
        centers = self.inventory.data_centers
        changes = self.put([replace(centers[dc], intent=i) for dc, i in sorted(intents.items()) if dc in centers])
        self.ramps[ramp.id] = new = replace(ramp, revision=current + 1)
        return (RampChanged(new), *changes)

    def put(self, resources: Sequence[Resource], deletes: Sequence[tuple[str, str]] = ()) -> Changes:
        """Write resources at their next revisions, and delete others."""
        self._writable()
        collections = {kind: dict(getattr(self.inventory, kind.replace("-", "_"))) for kind in KINDS}
        written = []
        for resource in resources:
            held = collections[kind_of(resource)].get(resource.id)
            new = replace(resource, revision=1 if held is None else held.revision + 1)
            collections[kind_of(resource)][resource.id] = new
            written.append(new)
        for kind, id in deletes:
            collections[kind].pop(id, None)
        if not written and not deletes:
            return ()
        ordered = {kind.replace("-", "_"): dict(sorted(items.items())) for kind, items in collections.items()}
        self.inventory = Inventory(**ordered)
        return (ResourcesChanged(tuple(written), tuple(deletes)),)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _writable(self) -> None:
        if not self.reachable:
            raise Unavailable("store_unavailable", "the database cannot be reached")

    def _refuse_overlap(self, drain: Drain) -> None:
        for other in self.drains.values():
            overlap = sorted({*other.targets} & {*drain.targets}) + sorted({*other.nodes} & {*drain.nodes})
            if other.state is not DrainState.UNDONE and overlap:
                message = f"drain {other.id} already has {', '.join(overlap)}; undo it or narrow the selector"
                raise InputRejected("drain_overlaps", message, field="selector")

    def _take(self, pool: PoolId, hubs: Sequence[DataCenterId], tally: _Tally, now: Micros) -> Agent | None:
        """The agent with room that has been used longest ago in the first hub that has one."""
        for hub in hubs:
            free = self._free.get((pool, hub))
            if free:
                agent = self.agents[next(iter(free))]
                held = agent.held + 1
                event = "taken" if held < agent.capacity else "filled"
                taken = life.step(agent, event, self.inventory.pools[pool], now)
                return self._put_agent(replace(taken, held=held, epoch=agent.epoch + 1, served=agent.served + 1), tally)
        return None

    def _arrived(self, agent: Agent, tally: _Tally, now: Micros) -> Agent:
        if agent.state is not AgentState.RESERVED:
            return agent
        return self._put_agent(life.step(agent, "attached", self.inventory.pools[agent.pool], now), tally)

    def _put_agent(self, agent: Agent, tally: _Tally) -> Agent:
        tally.agent(self.agents.get(agent.id), agent)
        self.agents[agent.id] = agent
        free = self._free.setdefault((agent.pool, agent.data_center), {})
        free.pop(agent.id, None)
        if agent.state is AgentState.READY and not agent.cordoned and agent.held < agent.capacity:
            free[agent.id] = None
        return agent

    def _write(self, session: Session, tally: _Tally) -> None:
        old = self.sessions.get(session.id)
        before = None if old is None or not old.state.live else old.edge
        after = session.edge if session.state.live else None
        self.sessions[session.id] = session
        if before != after:
            tally.session(before, after)
            if before is not None:
                self._at[before].pop(session.id, None)
            if after is not None:
                self._at.setdefault(after, {})[session.id] = None
        if after is None:
            self._live.pop(session.id, None)
        elif before is None:
            self._live[session.id] = None
            if session.pool is not None:
                tally.began[session.pool, session.edge] += 1

    def _end(self, session: Session, reason: str, now: Micros, tally: _Tally) -> None:
        if not session.state.live:
            return
        state = life.next_session_state(session.state, "expired" if reason == "lease_expired" else "ended")
        ended = replace(session, state=state, moved_from=None, held_by=None, ended_at=now, end_reason=reason)
        self._write(ended, tally)
        self._give_back(session, now, tally)

    def _give_back(self, session: Session, now: Micros, tally: _Tally) -> None:
        agent = None if session.agent is None else self.agents.get(session.agent)
        if agent is not None:
            held = max(0, agent.held - 1)
            self._put_agent(life.freed(agent, held, self.inventory.pools[agent.pool], now), tally)


class _Tally:
    """Adds up how one transaction changes the counters, and keeps those of the rows."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._sessions: Counter[DataCenterId] = Counter()
        self._idle: Counter[tuple[PoolId, DataCenterId]] = Counter()
        self._busy: Counter[tuple[PoolId, DataCenterId]] = Counter()
        self.began: Counter[tuple[PoolId, DataCenterId]] = Counter()

    def session(self, before: DataCenterId | None, after: DataCenterId | None) -> None:
        """A session's edge before and after; None while it does not live."""
        if before is not None:
            self._sessions[before] -= 1
        if after is not None:
            self._sessions[after] += 1

    def agent(self, before: Agent | None, after: Agent | None) -> None:
        """An agent's row before and after; None while there is none."""
        for agent, sign in ((before, -1), (after, 1)):
            if agent is not None and life.STANDINGS[agent.state].holds:
                place = (agent.pool, agent.data_center)
                self._add(self._busy, self._rows._busy, place, sign * agent.held)
                if agent.state is AgentState.READY and not agent.cordoned:
                    self._add(self._idle, self._rows._idle, place, sign * (agent.capacity - agent.held))

    @staticmethod
    def _add(here: Counter[tuple[PoolId, DataCenterId]], total: Counter[tuple[PoolId, DataCenterId]],
             place: tuple[PoolId, DataCenterId], count: int) -> None:  # fmt: skip
        here[place] += count
        total[place] += count

    def changes(self) -> Changes:
        """The differences that are not zero, in id order; nothing if nothing moved."""
        change = SessionsChanged(
            {dc: n for dc, n in sorted(self._sessions.items()) if n},
            {place: n for place, n in sorted(self._idle.items()) if n},
            {place: n for place, n in sorted(self._busy.items()) if n},
            dict(sorted(self.began.items())),
        )
        return (change,) if change.sessions or change.idle or change.busy or change.began else ()
