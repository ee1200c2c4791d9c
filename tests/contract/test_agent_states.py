"""Every transition of an agent's table happens in the store, and no other one does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from router.core.errors import InputRejected
from router.core.model import Agent, AgentState, Pool
from router.core.pools import (
    AGENT_TRANSITIONS,
    DOUBTED,
    EVENT_MEANINGS,
    PRESENT,
    STANDINGS,
    deadline,
    freed,
    next_agent_state,
    spent,
    step,
    wrapped,
)
from router.store import Store
from tests.contract.conftest import World

A = AgentState
SECOND = 1_000_000


class Bench:
    """One agent that is put into any state past the store, and then spoken to through it."""

    def __init__(self, store: Store, world: Any, url: str) -> None:
        self.store, self.world, self.url, self.now = store, world, url, world.now
        world.seed(agents=0)

    def pool(self, **changes: Any) -> None:
        """Change what the pool asks of its agents."""
        self.world.apply(Pool("tutors", **changes))

    def register(self, state: A = A.READY, nonce: str = "one", capacity: int = 2, lists: Any = None) -> Agent:
        """The agent registers."""
        agent = Agent("a", "tutors", "oracle-iad", state=state, capacity=capacity, nonce=nonce, address="x:1")
        result: Agent = self.world.do(lambda: self.store.register_agent(agent, self.now, lists))
        return result

    def put(self, state: A) -> None:
        """Force a state."""
        engine = create_engine(self.url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE agents SET state = :s, deadline_at = NULL"), {"s": state.value})
        engine.dispose()
        self.world.counters = self.store.counters()

    def hold(self, sessions: int, capacity: int = 2) -> None:
        """Register, and take so many of its places."""
        self.register(capacity=capacity)
        for n in range(sessions):
            assert self.world.start(self.world.session(f"s-{n}")) is not None

    def end(self, id: str = "s-0") -> None:
        """End a session."""
        self.world.do(lambda: self.store.end_session(id, reason="x", now=self.now))

    def state(self) -> A:
        """What the store says."""
        found = self.store.agent("a")
        assert found is not None
        return found.state

    def later(self, seconds: int, suspect: bool = False) -> None:
        """Let time pass without a sign of life."""
        now = self.now + seconds * SECOND
        suspect_before = now if suspect else None
        self.world.do(lambda: self.store.expire_agents(self.now if suspect else now, now, suspect_before))


@pytest.fixture
def bench(store: Store, world: Any, url: str) -> Bench:
    return Bench(store, world, url)


def _declare(bench: Bench, state: A, event: str) -> None:
    bench.register()
    bench.put(state)
    bench.register(A(event), nonce="two", lists=[])


def _unattested(bench: Bench, state: A, event: str) -> None:
    del event
    bench.pool(reset=True)
    bench.hold(1)
    bench.put(state)
    bench.register(lists=[])


def _adopt(bench: Bench, state: A, event: str) -> None:
    bench.hold(1, capacity=1 if event == "adopted_full" else 2)
    bench.put(state)
    bench.register(capacity=1 if event == "adopted_full" else 2, lists=["s-0"])


def _take(bench: Bench, state: A, event: str) -> None:
    bench.hold(0, capacity=1 if event == "filled" else 2)
    bench.put(state)
    bench.world.start(bench.world.session("s-0"))


def _attach(bench: Bench, state: A, event: str) -> None:
    del event
    bench.hold(1, capacity=1)
    bench.put(state)
    bench.world.touch("linode-fra-1", ("s-0", "attached"))


def _end_one(bench: Bench, state: A, event: str) -> None:
    if event in ("spent", "retired"):
        bench.pool(max_sessions=1)
    if event == "left":
        bench.pool(wrap_s=9)
    if event == "emptied":
        bench.pool(reset=True)
    if state is A.WRAPPING:
        bench.hold(1)
        bench.end()
        bench.put(state)
        agent = bench.store.agent("a")
        assert agent is not None
        bench.world.do(lambda: bench.store.release_agent("tutors", "a", agent.epoch, bench.now))
        return
    bench.hold(2 if event in ("spent", "freed") else 1)
    bench.put(state)
    bench.end()


def _retire(bench: Bench, state: A, event: str) -> None:
    if state in (*DOUBTED, A.SUSPECT, A.WRAPPING):
        _end_one(bench, state, event)
        return
    bench.pool(max_sessions=1)
    bench.hold(1)
    bench.end()
    bench.put(state)
    bench.register()  # the same instance again


def _overdue(bench: Bench, state: A, event: str) -> None:
    del event
    bench.register()
    bench.put(A.LOST)
    if state is A.RESETTING:
        bench.pool(reset=True)
        bench.hold(1)
        bench.end()
    else:
        bench.register(state, nonce="two")
    assert bench.state() is state
    bench.world.do(lambda: bench.store.tend_pools(bench.now + SECOND))
    assert bench.state() is state, "its time is not over"
    for _ in range(2):  # as another replica would, a moment later
        bench.world.do(lambda: bench.store.tend_pools(bench.now + 61 * SECOND))


def _silent(bench: Bench, state: A, event: str) -> None:
    del event
    bench.register()
    bench.put(state)
    bench.later(5, suspect=True)


def _heard(bench: Bench, state: A, event: str) -> None:
    bench.hold(1, capacity=1 if event == "heard_full" else 2)
    bench.put(state)
    bench.world.do(lambda: bench.store.heartbeat_agent("tutors", "a", 0, bench.now + SECOND))


def _lose(bench: Bench, state: A, event: str) -> None:
    del event
    bench.register()
    bench.put(state)
    bench.later(60)


DRIVERS: dict[str, Callable[[Bench, A, str], None]] = {
    **dict.fromkeys(("announced", "warming", "ready"), _declare),
    "unattested": _unattested,
    **dict.fromkeys(("adopted", "adopted_full"), _adopt),
    **dict.fromkeys(("taken", "filled"), _take),
    "attached": _attach,
    **dict.fromkeys(("freed", "spent", "left", "emptied", "wrapped"), _end_one),
    "retired": _retire,
    "overdue": _overdue,
    "silent": _silent,
    **dict.fromkeys(("heard", "heard_full"), _heard),
    "lost": _lose,
}


def test_every_event_of_the_table_has_a_driver_and_a_meaning() -> None:
    named = {event for _, event in AGENT_TRANSITIONS}
    assert named == set(DRIVERS) == set(EVENT_MEANINGS)
    assert {state for state, _ in AGENT_TRANSITIONS} == set(A) == set(STANDINGS)
    assert len(AGENT_TRANSITIONS) == 100


@pytest.mark.parametrize(
    ("state", "event"), sorted(AGENT_TRANSITIONS), ids=lambda x: x.value if isinstance(x, A) else x
)
def test_each_transition_happens_in_the_store(tmp_path: Any, sqlite_template: Any, state: A, event: str) -> None:
    shutil.copy(sqlite_template, tmp_path / "tendril.db")
    url = f"sqlite:///{tmp_path / 'tendril.db'}"
    store = Store(url)
    bench = Bench(store, World(store), url)
    DRIVERS[event](bench, state, event)
    assert bench.state() is AGENT_TRANSITIONS[state, event]
    store.close()


@pytest.mark.parametrize("event", sorted(DRIVERS))
def test_each_event_happens_on_both_databases(bench: Bench, event: str) -> None:
    state = min(at for at, name in AGENT_TRANSITIONS if name == event)
    DRIVERS[event](bench, state, event)
    assert bench.state() is AGENT_TRANSITIONS[state, event]


def test_what_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(InputRejected, match="does not take"):
        next_agent_state(A.LOST, "taken")


def test_timers_come_from_the_table() -> None:
    pool = Pool("q", wrap_s=7)
    assert {state: deadline(state, pool, 0) for state in A if deadline(state, pool, 0) is not None} == {
        A.ANNOUNCED: 10 * SECOND, A.WARMING: 60 * SECOND, A.WRAPPING: 7 * SECOND, A.RESETTING: 15 * SECOND,
    }  # fmt: skip
    assert {state for state in A if STANDINGS[state].buffer} == {A.READY}
    assert not {state for state in A if STANDINGS[state].expendable} & {A.RESERVED, A.BUSY, A.WRAPPING, A.SUSPECT}
    assert set(PRESENT) == set(A) - {A.BROKEN, A.LOST, A.RETIRED}


def test_the_end_of_a_session_leads_where_the_pool_says() -> None:
    agent = Agent("a", "q", "h", state=A.BUSY, held=1, served=3)
    assert freed(agent, 0, Pool("q"), 5).state is A.READY
    wrapping = freed(agent, 0, Pool("q", wrap_s=1, reset=True), 5)
    assert (wrapping.state, wrapping.since, wrapping.deadline_at) == (A.WRAPPING, 5, SECOND + 5)
    assert wrapped(wrapping, Pool("q", reset=True), 9).state is A.RESETTING
    assert freed(agent, 0, Pool("q", max_sessions=3, reset=True), 5).state is A.RETIRED
    assert not spent(agent, Pool("q", max_sessions=4))
    stranger = replace(agent, state=A.WARMING)
    assert freed(stranger, 0, Pool("q"), 5).state is A.WARMING, "it came up anew meanwhile"
    assert step(agent, "spent", Pool("q"), 5) is agent
