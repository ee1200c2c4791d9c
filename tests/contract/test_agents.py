"""Agents: registered, adopted, kept alive, released, lost; and who is fenced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from router.core.errors import InputRejected
from router.core.model import Agent, AgentState, SessionState
from router.store import Store

A = AgentState


@pytest.fixture
def seeded(world: Any) -> Any:
    world.seed(agents=1)
    return world


def refusal(call: Any) -> InputRejected:
    """How a call is refused."""
    with pytest.raises(InputRejected) as caught:
        call()
    return caught.value


def test_a_new_agent_is_ready_whatever_it_claims(store: Store, seeded: Any) -> None:
    claimed = Agent("liar", "tutors", "oracle-iad", state=A.BUSY, epoch=99, session="mine", seen_at=1)
    registered = seeded.do(lambda: store.register_agent(claimed, seeded.now))
    assert (registered.state, registered.epoch, registered.session) == (A.READY, 0, None)
    assert registered.seen_at == seeded.now
    assert store.agents("tutors") == (store.agent("a-000"), registered)


def test_places_of_agents_must_exist(store: Store, seeded: Any) -> None:
    good = Agent("x", "tutors", "oracle-iad", "oracle-iad-1")
    for agent, code in (
        (replace(good, pool="nobody"), "unknown_pool"),
        (replace(good, data_center="atlantis"), "unknown_data_center"),
        (replace(good, node="nobody"), "unknown_node"),
        (replace(good, data_center="oracle-fra"), "wrong_data_center"),
    ):
        assert refusal(lambda agent=agent: store.register_agent(agent, 1)).code == code
    assert refusal(lambda: store.agents("nobody")).code == "unknown_pool"
    assert store.agent("x") is None


def test_an_idle_agent_may_move_and_a_busy_one_is_adopted_where_it_is(store: Store, seeded: Any) -> None:
    assert seeded.register("a-000", "oracle-fra").data_center == "oracle-fra"
    seeded.register("a-000", "oracle-iad")
    session = seeded.start(seeded.session("s-1"))
    adopted = seeded.register("a-000")
    assert (adopted.state, adopted.session, adopted.epoch) == (A.BUSY, session.id, 1)
    assert refusal(lambda: seeded.register("a-000", "oracle-fra")).code == "agent_busy"


def test_a_heartbeat_keeps_alive_and_tells_of_a_session(store: Store, seeded: Any) -> None:
    idle = seeded.do(lambda: store.heartbeat_agent("tutors", "a-000", 0, seeded.now + 5))
    assert (idle.seen_at, idle.state) == (seeded.now + 5, A.READY)
    seeded.start(seeded.session("s-1"))
    told = seeded.do(lambda: store.heartbeat_agent("tutors", "a-000", 0, seeded.now + 6))
    assert (told.state, told.session, told.epoch) == (A.RESERVED, "s-1", 1)
    error = refusal(lambda: store.heartbeat_agent("tutors", "a-000", 2, seeded.now))
    assert (error.code, error.limit) == ("fenced", 1)
    for pool, id in (("tutors", "nobody"), ("nobody", "a-000")):
        call = lambda pool=pool, id=id: store.heartbeat_agent(pool, id, 0, 1)  # noqa: E731
        assert refusal(call).code == "unknown_agent"


def test_release_ends_the_session_and_needs_the_current_epoch(store: Store, seeded: Any) -> None:
    seeded.start(seeded.session("s-1"))
    assert refusal(lambda: store.release_agent("tutors", "a-000", 0, 1)).code == "fenced"
    for _ in range(2):
        freed = seeded.do(lambda: store.release_agent("tutors", "a-000", 1, seeded.now))
        assert (freed.state, freed.epoch) == (A.READY, 1)
    ended = store.session("s-1")
    assert (ended.state, ended.end_reason) == (SessionState.ENDED, "agent_released")
    again = seeded.start(seeded.session("s-2"))
    assert refusal(lambda: store.release_agent("tutors", "a-000", 1, 1)).code == "fenced", "a late release"
    assert store.session(again.id).state is SessionState.ATTACHING


def test_a_silent_agent_is_lost_and_its_session_is_told(store: Store, seeded: Any) -> None:
    seeded.start(seeded.session("s-1"))
    seeded.register("idle", now=seeded.now + 1)
    assert seeded.do(lambda: store.expire_agents(seeded.now, seeded.now)) == ()
    lost = seeded.do(lambda: store.expire_agents(seeded.now + 2, seeded.now + 9 * seeded.second))
    assert [(agent.id, agent.state, agent.epoch) for agent in lost] == [("a-000", A.LOST, 2), ("idle", A.LOST, 1)]
    told = store.session_events("s-1")[-1]
    assert (told.kind, told.detail, told.reason) == ("session.agent_lost", {"agent": "a-000"}, "not seen for 9 s")
    assert store.session("s-1").state.live
    assert refusal(lambda: store.heartbeat_agent("tutors", "a-000", 1, 1)).code == "fenced"
    assert refusal(lambda: store.release_agent("tutors", "a-000", 2, 1)).code == "fenced"
    assert seeded.start(seeded.session("s-2")) is None, "nobody is there to be taken"
    assert store.counters().busy == store.counters().idle == {}


def test_a_lost_agent_comes_back_to_its_session_or_to_the_pool(store: Store, seeded: Any) -> None:
    seeded.start(seeded.session("s-1"))
    seeded.do(lambda: store.expire_agents(seeded.now + 1, seeded.now + 1))
    back = seeded.register("a-000")
    assert (back.state, back.session, back.epoch) == (A.BUSY, "s-1", 2)
    seeded.do(lambda: store.expire_agents(seeded.now + 1, seeded.now + 1))
    seeded.do(lambda: store.end_session("s-1", reason="x", now=seeded.now))
    gone = store.agent("a-000")
    assert (gone.state, gone.session) == (A.LOST, None)
    assert seeded.register("a-000").state is A.READY
