"""Sessions and agents against a model in memory: random histories on SQLite, compared after every step.

The model knows only rules (the tables of ``core.pools``, who may speak for a session, what a lease is), no SQL. It
follows the counters by counting itself anew, so a wrong difference in a commit shows at once.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.core.errors import InputRejected
from router.core.messages import SessionsChanged
from router.core.model import (
    Agent,
    AgentState,
    Client,
    Counters,
    DataCenter,
    Node,
    Pool,
    Provider,
    Region,
    Session,
    SessionState,
    TrafficClass,
)
from router.core.pools import HOLDING, SESSION_TRANSITIONS
from router.store import Commit, Store
from router.store.heartbeats import Beat
from router.store.rebinds import Rebind

EDGES = ("e-1", "e-2", "e-3")
HUBS = ("h-1", "h-2")
AGENTS = tuple(f"a-{n}" for n in range(4))
LEASE = 10
S, A = SessionState, AgentState


@dataclass
class Known:
    """What the model believes about a session.

    ``holder`` is the edge that must send its user on while it moves, ``held`` the one whose lease keeps it.
    """

    state: SessionState
    edge: str
    epoch: int
    lease: int
    agent: str
    holder: str | None = None
    held: str | None = None


def timeless(agent: Agent) -> Agent:
    """An agent without what the model does not follow."""
    return replace(agent, since=0, served=0)


class SessionsAndAgents(RuleBasedStateMachine):
    """Random starts, heartbeats, moves, resumes, losses and expiries."""

    template: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        shutil.copy(self.template, f"{self.folder.name}/tendril.db")
        self.store = Store(f"sqlite:///{self.folder.name}/tendril.db")
        self.now = 1000
        self.sessions: dict[str, Known] = {}
        self.leases: dict[str, int] = {}  # per edge, those of its node
        self.agents: dict[str, Agent] = {}
        self.keys: dict[str, str] = {}
        self.counters = Counters()

    @initialize()
    def fleet(self) -> None:
        fleet = [Provider("p"), Region("r"), Pool("q"), *(DataCenter(dc, "p", "r") for dc in EDGES + HUBS)]
        self.store.apply([*fleet, *(Node(f"{dc}-1", dc) for dc in EDGES)], [], actor="t", now=self.now)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def commit(self, commit: Commit[Any]) -> Any:
        """Follow the differences."""
        for change in commit.changes:
            assert isinstance(change, SessionsChanged)
            names = ("sessions", "idle", "busy")
            totals = {name: Counter(getattr(self.counters, name)) for name in names}
            for name in names:
                totals[name].update(getattr(change, name))
            self.counters = Counters(**{name: {k: n for k, n in totals[name].items() if n} for name in names})
        return commit.result

    def end(self, id: str) -> None:
        """The model's end of a session."""
        known = self.sessions[id]
        known.state, known.holder = S.ENDED, None
        agent = self.agents[known.agent]
        if agent.session == id:
            state = A.READY if agent.state in HOLDING else agent.state
            self.agents[agent.id] = replace(agent, state=state, session=None, held=0)

    def some(self, data: st.DataObject) -> str:
        """One of the sessions, or one that never was."""
        return data.draw(st.sampled_from([*self.sessions, "ghost"]))

    @rule(id=st.sampled_from(AGENTS), hub=st.sampled_from(HUBS))
    def register(self, id: str, hub: str) -> None:
        old = self.agents.get(id)
        try:
            new = self.commit(self.store.register_agent(Agent(id, "q", hub), self.now))
        except InputRejected as error:
            assert error.code == "agent_busy"
            assert old is not None
            assert old.session is not None
            assert old.data_center != hub
            return
        bound = None if old is None else old.session
        expected = Agent(id, "q", hub, state=A.BUSY if bound else A.READY, session=bound, seen_at=self.now)
        expected = replace(expected, epoch=0 if old is None else old.epoch, held=1 if bound else 0)
        self.agents[id] = timeless(new)
        assert self.agents[id] == expected

    @rule(
        edge=st.sampled_from(EDGES),
        hubs=st.permutations(HUBS),
        key=st.sampled_from([None, "k-1", "k-2"]),
        request=st.sampled_from([b"x", b"x", b"x", b"y"]),
    )
    def start(self, edge: str, hubs: list[str], key: str | None, request: bytes) -> None:
        id = f"s-{len(self.sessions)}"
        lease = self.now + LEASE
        asked = Session(
            id, S.ATTACHING, TrafficClass.AGENT, Client(), edge, f"{edge}-1", (edge,), 1, self.now, lease, "q"
        )
        before = None if key is None else self.keys.get(key)
        call = lambda: self.store.start_session(asked, hubs, idempotency_key=key, request_hash=request, now=self.now)  # noqa: E731
        if before is not None and before.endswith(request.decode()) is False:
            with pytest.raises(InputRejected, match="another request"):
                call()
            return
        got = self.commit(call())
        if before is not None:
            assert got.id == before.rpartition("/")[0]
            return
        ready = [agent for hub in hubs for _, agent in sorted(self.agents.items()) if agent.data_center == hub]
        free = [agent for agent in ready if agent.state is A.READY]
        if not free:
            assert got is None
            return
        assert got == replace(asked, agent=free[0].id, agent_data_center=free[0].data_center,
                              agent_epoch=free[0].epoch + 1)  # fmt: skip
        self.agents[free[0].id] = replace(free[0], state=A.RESERVED, epoch=free[0].epoch + 1, session=id, held=1)
        self.sessions[id] = Known(S.ATTACHING, edge, 1, lease, free[0].id)
        if key is not None:
            self.keys[key] = f"{id}/{request.decode()}"

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), edge=st.sampled_from(EDGES), event=st.sampled_from(["attached", "detached", "ended"]))
    def heartbeat(self, data: st.DataObject, edge: str, event: str) -> None:
        id = self.some(data)
        lease = self.now + LEASE
        beat = Beat(f"{edge}-1", 0, ((id, event),), lease, lease)
        (heard,) = self.commit(self.store.heartbeats([beat], self.now))
        told = heard.leaving
        known = self.sessions.get(id)
        if known is not None and known.state.live:
            leaving = known.holder == edge and known.state is S.MOVING and event != "attached"
            if event != "attached" and known.holder == edge:
                known.holder = None
            if known.edge == edge or leaving:
                self.hear(id, known, event, edge)
        self.leases[edge] = lease
        for known in self.sessions.values():
            if known.held == edge and known.state.live:
                known.lease = lease
        moving = {id for id, known in self.sessions.items() if known.holder == edge and known.state is S.MOVING}
        assert moving <= {session.id for session in told}
        for session in told:
            assert session.state is S.ENDED or session.edge != edge

    def hear(self, id: str, known: Known, event: str, edge: str) -> None:
        """The model's view of a line that counts."""
        state = SESSION_TRANSITIONS.get((known.state, event))
        agent = self.agents[known.agent]
        if event == "attached" and state is not None and agent.state is A.RESERVED:
            self.agents[agent.id] = replace(agent, state=A.BUSY)
        if state is S.ENDED:
            self.end(id)
        elif state is not None and state is not known.state:
            known.state = state
            known.held = edge if event == "attached" else None
            known.lease = self.now + LEASE
            if event == "attached":
                known.holder = None
        elif event == "attached" and state is S.ACTIVE:
            known.held = edge

    @precondition(lambda self: self.sessions)
    @rule(
        data=st.data(),
        edge=st.sampled_from(EDGES),
        event=st.sampled_from(["moved", "moved", "resumed", "rolled_back"]),
        late=st.sampled_from([0, 0, 0, 1]),
    )
    def rebind(self, data: st.DataObject, edge: str, event: str, late: int) -> None:
        id = self.some(data)
        known = self.sessions.get(id)
        state = SESSION_TRANSITIONS.get((known.state, event)) if known else None
        if known is not None and event == "rolled_back" and state is S.ACTIVE:
            edge = known.held or edge
        lease = self.now + LEASE
        try:
            got = self.commit(
                self.store.rebind_session(
                    Rebind(
                        id,
                        expect_epoch=(known.epoch if known else 1) - late,
                        state=state or S.ACTIVE,
                        edge=edge,
                        edge_node=f"{edge}-1",
                        edges=(edge,),
                        moved_from=known.edge if known and state is S.MOVING else None,
                        reasons=(),
                        lease_expires_at=lease,
                        event_kind=f"session.{event}",
                    ),
                    self.now,
                )
            )
        except InputRejected as error:
            gone = known is not None and known.state is S.ENDED
            impossible = "session_ended" if gone else "bad_transition" if state is None else "fenced"
            assert error.code == ("unknown_session" if known is None else impossible)
            assert known is None or state is None or late
            return
        assert known is not None
        assert got.epoch == known.epoch + 1
        if state is S.MOVING and known.state is S.ACTIVE:
            known.holder = known.edge
        elif state is not S.MOVING:
            known.holder = None
        if known.holder == edge:
            known.holder = None
        if state is not S.MOVING:
            known.held = edge if state is S.ACTIVE and known.held == edge else None
        known.state, known.edge, known.epoch, known.lease = state, edge, got.epoch, lease

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        id = self.some(data)
        if id == "ghost":
            with pytest.raises(InputRejected):
                self.store.end_session(id, reason="x", now=self.now)
            return
        assert self.commit(self.store.end_session(id, reason="x", now=self.now)).state is S.ENDED
        if self.sessions[id].state.live:
            self.end(id)

    @precondition(lambda self: self.agents)
    @rule(data=st.data(), off=st.sampled_from([0, 0, 0, -1, 1]), release=st.booleans())
    def agent_speaks(self, data: st.DataObject, off: int, release: bool) -> None:
        agent = self.agents[data.draw(st.sampled_from(sorted(self.agents)))]
        call = self.store.release_agent if release else self.store.heartbeat_agent
        held = agent.state in HOLDING
        if not held or off > 0 or (release and off):
            with pytest.raises(InputRejected) as caught:
                call("q", agent.id, agent.epoch + off, self.now)
            assert caught.value.code == "fenced"
            return
        self.commit(call("q", agent.id, agent.epoch + off, self.now))
        if release and agent.session is not None:
            self.end(agent.session)
        elif not release:
            self.agents[agent.id] = replace(agent, seen_at=self.now)

    @rule(step=st.integers(1, LEASE), patience=st.integers(1, 2 * LEASE))
    def time_passes(self, step: int, patience: int) -> None:
        self.now += step
        lost = self.commit(self.store.expire_agents(self.now - patience, self.now))
        for agent in lost:
            assert self.agents[agent.id].seen_at < self.now - patience
        for id, agent in self.agents.items():
            if agent.seen_at < self.now - patience and agent.state in HOLDING:
                self.agents[id] = replace(agent, state=A.LOST, epoch=agent.epoch + 1)
        for edge in [edge for edge, until in self.leases.items() if until <= self.now]:
            del self.leases[edge]
            for known in self.sessions.values():
                known.held = None if known.held == edge else known.held
        over = {id for id, known in self.sessions.items() if known.state.live and known.lease <= self.now}
        assert {session.id for session in self.commit(self.store.expire_sessions(self.now))} == over
        for id in over:
            self.end(id)

    @invariant()
    def agree(self) -> None:
        assert self.counters == self.store.counters() == self.counted()
        stored = {session.id: session for session in self.store.sessions(limit=1000)}
        assert {id: self.seen(session) for id, session in stored.items()} == {
            id: (known.state, known.edge, known.epoch, known.lease if known.state.live else 0, known.agent)
            for id, known in self.sessions.items()
        }
        if self.agents:
            assert {agent.id: timeless(agent) for agent in self.store.agents("q")} == self.agents

    @staticmethod
    def seen(session: Session) -> tuple[Any, ...]:
        """What the model knows of a stored session."""
        lease = session.lease_expires_at if session.state.live else 0
        return session.state, session.edge, session.epoch, lease, session.agent

    def counted(self) -> Counters:
        """The model's own count."""
        per_edge = Counter(known.edge for known in self.sessions.values() if known.state.live)
        held = {state: Counter[Any]() for state in A}
        for agent in self.agents.values():
            held[agent.state]["q", agent.data_center] += 1
        return Counters(dict(per_edge), dict(held[A.READY]), dict(held[A.BUSY] + held[A.RESERVED]))


def test_random_histories_agree_with_the_model(sqlite_template: Path) -> None:
    SessionsAndAgents.template = sqlite_template
    from hypothesis.stateful import run_state_machine_as_test

    quick = settings(
        max_examples=20,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(SessionsAndAgents, settings=quick)  # type: ignore[no-untyped-call]
