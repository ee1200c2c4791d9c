"""Users of a simulated world and their sessions: where they are, what they ask for, what becomes of them.

A user asks the control plane for a place, goes to the edge it was given, talks with an agent and hangs up. Placement is
``steering.place`` on the View, commit-first on :class:`router.sim.rows.Rows`; moves are the core's own ``MoveSessions``
effects. Media flows while the edge can be reached and the route in force to the agent and back crosses no dead hop. A
user without media tries again by the ladder of the LiveKit JavaScript client (0, 0.3, 1.2, 2.7, 4.8, then 7 s): first
at its edge, then wherever the control plane sends it; after ``PATIENCE_S`` it is lost. Nodes renew their leases and
tell what happened to them; what they cannot tell while the control plane or its database is away they tell later.

What is left out: reflexes. Nodes here follow the last routes that were published and change nothing by themselves, so
interruptions are those that a control plane alone would leave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from router.core import drain as drains
from router.core import steering
from router.core.errors import InputRejected, TendrilError, Unavailable
from router.core.geography import distance_km
from router.core.messages import Moved, MoveSessions
from router.core.model import (
    Agent,
    AgentId,
    Client,
    DataCenterId,
    Micros,
    NodeId,
    PoolId,
    Role,
    Session,
    SessionId,
    SessionState,
    TrafficClass,
)
from router.core.tables import DIRECT, Context
from router.sim import hearing
from router.sim.engine import START, stream
from router.sim.faults import Kind
from router.sim.upkeep import Upkeep

if TYPE_CHECKING:
    from router.sim.simulation import Simulation

POOL = PoolId("agents")
LADDER_S = (0.0, 0.3, 1.2, 2.7, 4.8, 7.0, 7.0, 7.0, 7.0, 7.0)  # research/steering.md, fact 9
PATIENCE_S = 60.0  # longer than the ladder; also the grace that the control plane gives
NOTICED_S = 3.0  # a user without any media tries another way after this
STALLED_S = 20.0  # and one whose edge answers, but whose agent is silent, after this
FIRST_AT_S = 6.0  # the first routes are there
RUSH_S = 14.0  # the crowd of the start comes within this
SWEEP_US = 1_000_000
MOVE_US = 300_000  # until a node's next beat tells a user to go elsewhere
ATTACH_LEASE_US = 30_000_000
MOVE_LEASE_US = 10_000_000
LOSSY = 0.3  # a hop that loses so much carries no conversation
ACCESS_US = 4_000  # last mile, one way
DETOUR = 1.6  # of a way over the open Internet against a straight fibre
HOMES = 24


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many users there are: ``sessions`` at once on average, each ``length_s`` long, ``agents`` per hub.

    With a cold start machines of four agents are bought at hubs where agents are missing, and come so much later.
    """

    sessions: int
    length_s: float = 60.0
    agents: int = 50
    cold_start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Home:
    """A place that users live in."""

    client: Client
    access_us: dict[DataCenterId, int]


@dataclass(slots=True)
class User:
    """One user and what it knows: the edge it talks through now (None: nowhere), and its session's name."""

    session: SessionId
    home: Home
    asked_at: Micros
    ends_at: Micros
    edge: DataCenterId | None = None
    node: NodeId | None = None
    agent: AgentId | None = None
    failing: bool = False  # a gray node accepted it and does not carry it
    silent_since: Micros | None = None
    away_since: Micros | None = None
    avoid: tuple[DataCenterId, ...] = ()
    done: bool = False
    moves: list[Micros] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Placed:
    """A new session was given a place."""

    at: Micros
    session: SessionId
    data_center: DataCenterId


@dataclass(frozen=True, slots=True)
class Sample:
    """A second of all users: those who talk, those who hear nothing, those who are on their way back."""

    at: Micros
    talking: int
    silent: int
    away: int


class Users:
    """Everybody who calls; ``counts`` of the simulation tells what became of them."""

    def __init__(self, sim: Simulation, crowd: Crowd, seed: int) -> None:
        self._sim, self.crowd = sim, crowd
        self.rows, self.engine, self.counts = sim.rows, sim.engine, sim.counts
        self._rng = stream(seed, "users")
        self._gray = stream(seed, "gray-nodes")
        self.users: dict[SessionId, User] = {}
        self.placed: list[Placed] = []
        self.samples: list[Sample] = []
        self.placed_at: list[tuple[Micros, Counter[DataCenterId]]] = []  # live sessions per edge, every second
        self.lost: list[tuple[Micros, SessionId, str]] = []
        self.asked: list[tuple[Micros, bool]] = []  # when, and whether a place was given at once
        self.moved_at: list[Micros] = []
        self.upkeep = Upkeep(sim, self)
        self._pending: dict[NodeId, list[tuple[SessionId, str]]] = {}
        self._number = 0
        self._homes = self._make_homes()
        self._start()

    # --- the crowd ---------------------------------------------------------------------------------------------------

    def _make_homes(self) -> list[Home]:
        inventory = self._sim.world.inventory
        edges = [dc for dc in inventory.data_centers.values() if Role.EDGE in dc.roles]
        homes = []
        for i in range(HOMES):
            near = edges[i % len(edges)]
            latitude = longitude = None
            if near.latitude is not None and near.longitude is not None:
                latitude = near.latitude + self._rng.uniform(-3, 3)
                longitude = near.longitude + self._rng.uniform(-3, 3)
            access = {}
            for dc in inventory.data_centers.values():
                km = 0.0
                if None not in (latitude, longitude, dc.latitude, dc.longitude):
                    km = distance_km(latitude, longitude, dc.latitude, dc.longitude)  # type: ignore[arg-type]
                access[dc.id] = ACCESS_US + int(km * 5 * DETOUR)
            country = inventory.regions[near.region].country or None
            homes.append(Home(Client(asn=64_500 + i, country=country, latitude=latitude, longitude=longitude), access))
        return homes

    def _start(self) -> None:
        inventory = self._sim.world.inventory
        hubs = [dc.id for dc in inventory.data_centers.values() if Role.HUB in dc.roles]
        self._sim.commit(
            self.rows.put_agents(
                Agent(AgentId(f"{hub}-agent-{k:03}"), POOL, hub, seen_at=START)
                for hub in hubs
                for k in range(self.crowd.agents)
            )
        )
        for k in range(self.crowd.sessions):
            self._later(FIRST_AT_S + RUSH_S * k / self.crowd.sessions, self._arrival)
        self._later(FIRST_AT_S + RUSH_S, self._next_arrival)
        self.engine.every(SWEEP_US, self._sweep)
        self.upkeep.start()

    def _next_arrival(self) -> None:
        self._arrival()
        rate = self.crowd.sessions / self.crowd.length_s
        self._later(self._rng.expovariate(max(1e-6, rate * self._sim.faults.rush())), self._next_arrival)

    def _arrival(self) -> None:
        self._number += 1
        now = self.engine.now
        length_us = round(self._rng.expovariate(1 / self.crowd.length_s) * 1e6) + 1_000_000
        user = User(SessionId(f"s-{self._number:06}"), self._rng.choice(self._homes), now, now + length_us)
        self.users[user.session] = user
        self.counts["sessions_asked"] += 1
        self._ask(user, 0)

    def _ask(self, user: User, tries: int) -> None:
        """Ask for a place; a control plane that does not answer is asked again by the ladder."""
        if user.done:
            return
        given = self._try_to_place(user)
        if tries == 0:
            self.asked.append((self.engine.now, given))
        if given or user.done:
            return
        if tries + 1 == len(LADDER_S):
            self.counts["sessions_unanswered"] += 1
            self._forget(user)
            return
        self._later(LADDER_S[tries + 1], lambda: self._ask(user, tries + 1))

    def _try_to_place(self, user: User) -> bool:
        if not self._sim.answers:
            return False
        now, view = self.engine.now, self._sim.plane.view
        request = steering.PlaceRequest(user.home.client, TrafficClass.AGENT, POOL, seed=user.session)
        decision = steering.place(view, request, now)
        self._sim.rules.placed(view, request, decision, now)
        if isinstance(decision, steering.Refused):
            self.counts[f"refused_{decision.code}"] += 1
            if decision.code == "no_idle_agent":
                self._missed(request)
            self._forget(user)
            return False
        best = decision.edges[0]
        session = Session(
            user.session, SessionState.ATTACHING, TrafficClass.AGENT, user.home.client, best.data_center, best.node,
            tuple(e.data_center for e in decision.edges), 1, now, now + ATTACH_LEASE_US, POOL,
            reasons=decision.reasons,
        )  # fmt: skip
        written, changes = self.rows.start(session, decision.hubs)
        if written is None:
            self.counts["refused_no_idle_agent"] += 1
            self._sim.note_unserved(POOL, best.data_center)
            self._forget(user)
            return False
        self._sim.commit(changes)
        if self._sim.clouds is not None:
            self._sim.clouds.begun(written)
        self.counts["sessions_placed"] += 1
        self.placed.append(Placed(now, user.session, best.data_center))
        user.agent = written.agent
        self._later(2e-6 * user.home.access_us[best.data_center], lambda: self._arrive(user, best.data_center))
        return True

    def _missed(self, request: steering.PlaceRequest) -> None:
        """Nobody had an agent: it is demand all the same, at the edge it would have got."""
        decision = steering.place(self._sim.plane.view, replace(request, edge_only=True), self.engine.now)
        if isinstance(decision, steering.Placement):
            self._sim.note_unserved(POOL, decision.edges[0].data_center)

    # --- at the edge -------------------------------------------------------------------------------------------------

    def _arrive(self, user: User, edge: DataCenterId) -> None:
        """A user reaches an edge, or finds that it cannot."""
        row = self.rows.sessions[user.session]
        if user.done or not row.state.live or row.edge != edge:
            return
        nodes = self._sim.world.inventory.nodes_by_data_center[edge]
        if self.dark(edge) or not nodes or (user.edge is None and self._sim.faults.isolated(edge)):
            self.counts["edges_unreachable"] += 1
            hearing.named(self._sim, user.home.client, edge, row.edge_node)
            user.avoid = (edge,)
            if user.edge is None and user.away_since is None:
                self._go_away(user)
            return
        arrived_first = user.edge is None and user.away_since is None
        user.edge, user.node = edge, row.edge_node or nodes[0].id
        user.away_since = user.silent_since = None
        user.avoid = ()
        user.failing = self._fails(user.node)
        self.counts["sessions_attached" if arrived_first else "sessions_reattached"] += 1
        self.tell(user.node, user.session, "attached")

    def _fails(self, node: NodeId) -> bool:
        for fault in self._sim.faults.active_of(Kind.GRAY_NODE):
            if node in self._sim.faults.nodes(fault) and self._gray.random() * 100 < fault.number("share_percent"):
                self.counts["sessions_failed_by_gray"] += 1
                return True
        return False

    def _go_away(self, user: User) -> None:
        """The user has no media any more and begins to climb its ladder."""
        if user.edge is not None and user.node is not None and not self.dark(user.edge):
            self.tell(user.node, user.session, "detached")
        user.edge = user.node = None
        user.failing = False
        user.away_since = self.engine.now
        self._climb(user, 0)

    def _climb(self, user: User, step: int) -> None:
        if user.done or user.away_since is None:
            return
        row = self.rows.sessions[user.session]
        if not row.state.live:
            self._lose(user, f"its session had ended: {row.end_reason}")
            return
        if self.engine.now - user.away_since > PATIENCE_S * 1e6:
            self._lose(user, f"found no way back within {PATIENCE_S:g} s")
            return
        if step > 0 or user.avoid:
            self._resume(user)
        elif not self.dark(row.edge):
            self._later(2e-6 * user.home.access_us[row.edge], lambda: self._arrive(user, row.edge))
        wait_s = LADDER_S[min(step + 1, len(LADDER_S) - 1)]
        self._later(max(1.0, wait_s), lambda: self._climb(user, step + 1))

    def _resume(self, user: User) -> None:
        """Ask for another place with the same agent."""
        row = self.rows.sessions[user.session]
        if not self._sim.answers:
            return
        now, away = self.engine.now, tuple(dict.fromkeys((*user.avoid, *((row.edge,) if self.dark(row.edge) else ()))))
        request = steering.PlaceRequest(
            row.client, row.traffic_class, row.pool, seed=row.id, sticky=row.edge, exclude=away,
            agent_data_center=row.agent_data_center,
        )  # fmt: skip
        decision = steering.place(self._sim.plane.view, request, now)
        if isinstance(decision, steering.Refused):
            self.counts[f"resume_refused_{decision.code}"] += 1
            return
        best = decision.edges[0]
        self._rebind(row, "resumed", decision, now + ATTACH_LEASE_US)
        self.counts["sessions_resumed"] += 1
        self._later(2e-6 * user.home.access_us[best.data_center], lambda: self._arrive(user, best.data_center))

    def _rebind(
        self, row: Session, event: str, decision: steering.Placement, lease: Micros, reason: str = ""
    ) -> Session:
        best = decision.edges[0]
        new, changes = self.rows.rebind(
            row.id, event, expect_epoch=row.epoch, edge=best.data_center, edge_node=best.node,
            edges=tuple(e.data_center for e in decision.edges), moved_from=row.edge if event == "moved" else None,
            lease_expires_at=lease, reasons=(reason, *decision.reasons) if reason else decision.reasons,
        )  # fmt: skip
        self._sim.commit(changes)
        return new

    # --- moves -------------------------------------------------------------------------------------------------------

    def move(self, effect: MoveSessions) -> Moved:
        """Carry out a ``MoveSessions`` effect as ``runtime.moves`` does."""
        now, moved, failed = self.engine.now, 0, 0
        found = self.rows.movable(effect.data_center, effect.limit + self.upkeep.backing_off, effect.node)
        fresh = [row for row in found if not self.upkeep.backs_off(row.id)]
        under_way = self.rows.count_leaving(effect.data_center, effect.node)
        for row in fresh[: drains.moves_now(effect.limit, under_way)]:
            away = (effect.data_center,) if effect.node is None else ()
            request = steering.PlaceRequest(
                row.client, row.traffic_class, row.pool, seed=row.id, exclude=away,
                agent_data_center=row.agent_data_center,
            )  # fmt: skip
            decision = steering.place(self._sim.plane.view, request, now)
            if isinstance(decision, steering.Refused) or decision.edges[0].node == (effect.node or ""):
                failed += 1
                continue
            self._move_one(row, decision, effect.reason, now)
            moved += 1
        left = self.rows.count_on(effect.data_center, effect.node)
        return Moved(effect.data_center, moved, failed, left, effect.node, under_way)

    def _move_one(self, row: Session, decision: steering.Placement, reason: str, now: Micros) -> None:
        lease = now + MOVE_LEASE_US if row.held_by is not None else max(row.lease_expires_at, now + MOVE_LEASE_US)
        new, user = self._rebind(row, "moved", decision, lease, reason), self.users[row.id]
        self.counts["sessions_moved"] += 1
        self.moved_at.append(now)
        user.moves = [*user.moves, now][-8:]
        self._sim.rules.moved(user, now)
        delay_s = MOVE_US / 1e6 + 2e-6 * user.home.access_us[new.edge]
        self._later(delay_s, lambda: self._arrive(user, new.edge))

    # --- every second ------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        now, talking, silent, away = self.engine.now, 0, 0, 0
        way: dict[tuple[DataCenterId, DataCenterId], bool] = {}
        for user in list(self.users.values()):
            if now >= user.ends_at and user.edge is not None:
                self._hang_up(user)
            elif user.edge is None:
                away += user.away_since is not None
            elif self._hears(user, way):
                talking += 1
                user.silent_since = None
            else:
                silent += 1
                self._is_silent(user, now)
        self.samples.append(Sample(now, talking, silent, away))
        live = self.rows.live()
        counts = Counter(row.edge for row in live)
        counts.update(row.moved_from for row in live if row.moved_from is not None)
        self.placed_at.append((now, counts))
        self._sim.rules.look(self, now)

    def _is_silent(self, user: User, now: Micros) -> None:
        self.counts["silent_seconds"] += 1
        user.silent_since = user.silent_since or now
        assert user.edge is not None
        row = self.rows.sessions[user.session]
        if not row.state.live:
            self._lose(user, f"its session was ended: {row.end_reason}")
            return
        limit_s = NOTICED_S if user.failing or self.dark(user.edge) else STALLED_S
        if now - user.silent_since >= limit_s * 1e6:
            if limit_s == NOTICED_S:
                hearing.named(self._sim, user.home.client, user.edge, user.node)
            self._go_away(user)

    def _hears(self, user: User, way: dict[tuple[DataCenterId, DataCenterId], bool]) -> bool:
        row = self.rows.sessions[user.session]
        if user.failing or not row.state.live or user.edge is None or self.dark(user.edge):
            return False
        hub = row.agent_data_center
        if hub is None:
            return True
        pair = (user.edge, hub)
        if pair not in way:
            way[pair] = not self.dark(hub) and self._carries(*pair) and self._carries(hub, user.edge)
        return way[pair]

    def _carries(self, a: DataCenterId, b: DataCenterId) -> bool:
        """Whether the route in force from one data center to another crosses no dead hop."""
        table, world = self._sim.table, self._sim.world
        if a == b:
            return True
        if table is None or a not in table.snapshot.data_centers or b not in table.snapshot.data_centers:
            return False
        ids = table.snapshot.data_centers
        c, u, v = table.snapshot.contexts.index(Context(TrafficClass.AGENT)), ids.index(a), ids.index(b)
        if not table.reachable[c, u, v]:
            return False
        path = (a, *(ids[int(k)] for k in table.relays[c, u, v] if k != DIRECT), b)
        return all(not world.cut.get(hop) and world.lossy.get(hop, world.loss) < LOSSY for hop in pairwise(path))

    # --- ends --------------------------------------------------------------------------------------------------------

    def _hang_up(self, user: User) -> None:
        self.counts["sessions_ended"] += 1
        assert user.node is not None
        self.tell(user.node, user.session, "ended")
        self._forget(user)

    def _lose(self, user: User, why: str) -> None:
        self.counts["sessions_lost"] += 1
        self.lost.append((self.engine.now, user.session, why))
        self._forget(user)

    def _forget(self, user: User) -> None:
        user.done = True
        user.edge = user.node = None
        self.users.pop(user.session, None)

    # --- what nodes say ----------------------------------------------------------------------------------------------

    def dark(self, data_center: DataCenterId) -> bool:
        """Whether nobody outside can reach a data center."""
        return self._sim.faults.dark(data_center)

    def tell(self, node: NodeId, session: SessionId, event: str) -> None:
        """A node tells of a session; what it cannot tell now it tells with a later beat."""
        self._pending.setdefault(node, []).append((session, event))
        self.flush((node,))

    def beat(self, node: NodeId) -> None:
        """A node tells what it has to, and how its sessions are."""
        self.flush((node,))
        hearing.beat(self._sim, node, [user for user in self.users.values() if user.node == node])

    def flush(self, nodes: Iterable[NodeId]) -> None:
        """Let nodes tell what they have to, as far as they are heard."""
        for node in nodes:
            home = self._sim.world.inventory.nodes[node].data_center
            if not self._pending.get(node) or not self._sim.answers or self.dark(home):
                continue
            for session, event in self._pending.pop(node):
                try:
                    self._hear(node, session, event)
                except (InputRejected, Unavailable) as error:
                    self._late(error)

    def _late(self, error: TendrilError) -> None:
        """An event that cannot happen in the present state changes nothing: beats repeat and overtake each other."""
        self.counts[f"late_{error.code}"] += 1

    def _hear(self, node: NodeId, session: SessionId, event: str) -> None:
        row, now = self.rows.sessions[session], self.engine.now
        here = row.edge_node == node or (
            row.edge_node is None and row.edge == self._sim.world.inventory.nodes[node].data_center
        )
        if self._sim.clouds is not None and event == "attached":
            self._sim.clouds.attached(session)
        elif self._sim.clouds is not None:
            self._sim.clouds.ended(session, dropped=event == "detached")
        if event == "ended":
            self._sim.commit(self.rows.end(session, "ended", now))
        elif event == "attached" and here:
            self._sim.commit(self.rows.attach(session, node, now))
            hearing.attached(self._sim, node, session)
        elif event == "detached" and (here or row.held_by == node):
            self._sim.commit(self.rows.detach(session, now + round(PATIENCE_S * 1e6)))

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self.engine.at(self.engine.now + round(seconds * 1e6), action)
