"""Random histories of pools with rooms, queues, losses and restarts: what must hold after every step, whatever came.

No place is taken twice and none is lost, no session is without a lease, no fenced message has an effect, the queue is
served oldest first, and every session ends in one of its documented states for a documented reason.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from router.core.errors import InputRejected
from router.core.messages import SessionsChanged
from router.core.model import (
    Agent,
    AgentState,
    Client,
    DataCenter,
    Node,
    Pool,
    Provider,
    Region,
    Session,
    SessionState,
    TrafficClass,
)
from router.core.pools import HOLDING
from router.store import Commit, Store
from router.store.heartbeats import Beat
from router.store.queue import Offer
from router.store.takes import Start

A, S = AgentState, SessionState
SECOND = 1_000_000
AGENTS = {"a-1": 1, "a-2": 1, "a-3": 2, "a-4": 3}  # and how many sessions each can hold
REASONS = {"x", "agent_released", "no_idle_agent", "lease_expired"}


class Pools(RuleBasedStateMachine):
    """Everything that agents, callers, nodes and time can do to a pool."""

    template: ClassVar[Path]
    pool: ClassVar[Pool]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        shutil.copy(self.template, f"{self.folder.name}/tendril.db")
        self.store = Store(f"sqlite:///{self.folder.name}/tendril.db")
        self.now = 1_000 * SECOND
        self.totals: dict[str, dict[Any, int]] = {"sessions": {}, "idle": {}, "busy": {}}
        self.count = 0
        self.leases: dict[str, tuple[str, int]] = {}  # the newest lease of each session
        self.old: set[tuple[str, str, int]] = set()  # leases that are no longer in force
        self.instances: dict[str, int] = {}

    @initialize()
    def fleet(self) -> None:
        fleet = [
            Provider("p"),
            Region("r"),
            self.pool,
            DataCenter("e", "p", "r"),
            DataCenter("h", "p", "r"),
            Node("n", "e"),
        ]
        self.store.apply(fleet, [], actor="t", now=self.now)
        for id in ("a-1", "a-3"):
            self.register(id, A.READY, True, None)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def commit(self, commit: Commit[Any]) -> Any:
        """Follow the counters by their differences alone."""
        for change in commit.changes:
            assert isinstance(change, SessionsChanged)
            for name, totals in self.totals.items():
                for key, n in getattr(change, name).items():
                    totals[key] = totals.get(key, 0) + n
        return commit.result

    @rule(
        id=st.sampled_from(sorted(AGENTS)),
        state=st.sampled_from([A.READY, A.READY, A.READY, A.WARMING, A.ANNOUNCED]),
        fresh=st.booleans(),
        lists=st.sampled_from([None, None, "all", "none"]),
    )
    def register(self, id: str, state: A, fresh: bool, lists: str | None) -> None:
        self.instances[id] = self.instances.get(id, 0) + fresh
        held = [session for session, (agent, _) in self.leases.items() if agent == id] if lists == "all" else []
        agent = Agent(id, "q", "h", state=state, capacity=AGENTS[id], nonce=f"n{self.instances[id]}", address="x:1")
        self.commit(self.store.register_agent(agent, self.now, None if lists is None else held))

    @rule(id=st.sampled_from(sorted(AGENTS)), behind=st.sampled_from([0, 0, 1]), release=st.booleans())
    def agent_speaks(self, id: str, behind: int, release: bool) -> None:
        agent = self.store.agent(id)
        if agent is None:
            return
        call = self.store.release_agent if release else self.store.heartbeat_agent
        try:
            self.commit(call("q", id, max(0, agent.epoch - behind), self.now))
        except InputRejected as error:
            assert error.code == "fenced"
        else:
            assert not (release and behind and agent.epoch)

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def a_fenced_agent_gives_up_what_it_lost(self, data: st.DataObject) -> None:
        session, agent, epoch = data.draw(st.sampled_from(sorted(self.old)))
        before = self.store.session(session)
        try:
            self.commit(self.store.release_agent("q", agent, epoch, self.now, session))
        except InputRejected as error:
            assert error.code in ("fenced", "unknown_agent")
        after = self.store.session(session)
        assert (before.state, before.agent) == (after.state, after.agent)

    @rule(waits=st.booleans())
    def start(self, waits: bool) -> None:
        self.count += 1
        session = Session(
            f"s-{self.count:03}", S.ATTACHING, TrafficClass.AGENT, Client(), "e", "n", ("e",), 1,
            self.now + self.count, self.now + 20 * SECOND, "q",
        )  # fmt: skip
        crowded = bool(self.store.queue_lengths())
        until = self.now + 10 * SECOND if waits else None
        (outcome,) = self.commit(self.store.exchange([Start(session, ("h",), queue_until=until)], [], self.now)).started
        assert outcome is None or isinstance(outcome, Session)
        assert outcome is not None or not waits
        if waits and crowded:
            assert outcome is not None and outcome.state is S.QUEUED

    @rule()
    def deal(self) -> None:
        queue = self.store.waiting().get("q", ())
        assert [s.id for s in queue] == sorted(s.id for s in queue)
        offers = [Offer(s.id, "e", "n", ("e",), ("h",), (), self.now + 20 * SECOND) for s in queue]
        bound = self.commit(self.store.dispatch("q", offers, self.now))
        assert [s.id for s in bound] == [s.id for s in queue][: len(bound)]

    @rule()
    def rescue(self) -> None:
        for orphan in self.store.orphans(self.now):
            self.commit(self.store.redispatch(orphan, ("h",), (), self.now))

    @precondition(lambda self: self.count)
    @rule(data=st.data(), event=st.sampled_from(["attached", "detached", "rebound"]))
    def node_speaks(self, data: st.DataObject, event: str) -> None:
        id = f"s-{data.draw(st.integers(1, self.count)):03}"
        self.commit(
            self.store.heartbeats(
                [Beat("n", 0, ((id, event),), self.now + 20 * SECOND, self.now + 20 * SECOND)], self.now
            )
        )

    @precondition(lambda self: self.count)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        id = f"s-{data.draw(st.integers(1, self.count)):03}"
        if self.store.session(id) is not None:
            self.commit(self.store.end_session(id, reason="x", now=self.now))

    @rule(id=st.sampled_from(sorted(AGENTS)), on=st.booleans())
    def cordon(self, id: str, on: bool) -> None:
        if self.store.agent(id) is not None:
            self.commit(self.store.cordon_agent("q", id, on, actor="t", now=self.now))

    @rule(step_s=st.sampled_from([1, 1, 1, 2, 4, 12]), heard=st.sets(st.sampled_from(sorted(AGENTS)), max_size=3))
    def time_passes(self, step_s: int, heard: set[str]) -> None:
        self.now += step_s * SECOND
        for id in sorted(heard):
            self.agent_speaks(id, 0, False)
        self.commit(self.store.tend_pools(self.now))
        self.commit(self.store.expire_agents(self.now - 6 * SECOND, self.now, self.now - 3 * SECOND))
        self.commit(self.store.expire_sessions(self.now))
        self.deal()
        self.rescue()

    @rule(id=st.sampled_from(sorted(AGENTS)))
    def an_agent_dies(self, id: str) -> None:
        agent = self.store.agent(id)
        if agent is None or agent.state not in HOLDING:
            return
        for other in AGENTS:
            if other != id:
                self.agent_speaks(other, 0, False)
        self.now += SECOND
        for other in AGENTS:
            if other != id:
                self.agent_speaks(other, 0, False)
        if agent.seen_at < self.now:
            self.commit(self.store.expire_agents(self.now, self.now))

    @rule()
    def somebody_comes_up(self) -> None:
        for id in sorted(AGENTS):
            agent = self.store.agent(id)
            if agent is None or agent.state in (A.LOST, A.BROKEN, A.RETIRED, A.RESETTING):
                self.register(id, A.READY, True, None)
                break

    @invariant()
    def nothing_is_lost_and_nothing_is_double(self) -> None:
        sessions = {session.id: session for session in self.store.sessions(limit=1000)}
        agents = {agent.id: agent for agent in self.store.agents("q")} if self.count or self.instances else {}
        bound: dict[str, list[str]] = {}
        for session in sessions.values():
            if session.state is S.ENDED:
                assert session.end_reason in REASONS
                continue
            assert session.lease_expires_at > self.now - 12 * SECOND
            assert (session.queued_until is not None) == (session.state is S.QUEUED)
            if session.agent is not None:
                bound.setdefault(session.agent, []).append(session.id)
        for agent in agents.values():
            mine = bound.get(agent.id, [])
            assert agent.held == len(mine) <= agent.capacity
            assert not mine or agent.state in (*HOLDING, A.LOST)
            assert agent.state is not A.READY or agent.held < agent.capacity
            assert agent.session == (mine[0] if mine and agent.capacity == 1 else None)
            assert all(sessions[id].agent_epoch <= agent.epoch for id in mine)
        self._follow_leases(sessions)
        counted = self.store.counters()
        for name, totals in self.totals.items():
            assert {key: n for key, n in totals.items() if n} == dict(getattr(counted, name)), name

    def _follow_leases(self, sessions: dict[str, Session]) -> None:
        for id, session in sessions.items():
            present = None if session.agent is None or not session.state.live else (session.agent, session.agent_epoch)
            before = self.leases.get(id)
            if before is not None and before != present:
                self.old.add((id, *before))
            if present is None:
                self.leases.pop(id, None)
                continue
            assert before is None or before[0] != present[0] or present[1] >= before[1], "an older lease never wins"
            self.old.discard((id, *present))
            self.leases[id] = present


def _run(template: Path, pool: Pool) -> None:
    Pools.template, Pools.pool = template, pool
    quick = settings(
        max_examples=15, stateful_step_count=40, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(Pools, settings=quick)  # type: ignore[no-untyped-call]


def test_random_histories_of_a_plain_pool(sqlite_template: Path) -> None:
    _run(sqlite_template, Pool("q", agent_grace_s=2))


def test_random_histories_of_a_pool_that_resets_wraps_and_retires(sqlite_template: Path) -> None:
    _run(sqlite_template, Pool("q", agent_grace_s=0, wrap_s=4, reset=True, max_sessions=3))
