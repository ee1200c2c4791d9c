"""Rows of the simulator: the tables of states bite, epochs fence, books balance, an absent database changes nothing."""

from __future__ import annotations

import pytest

from router.core.errors import InputRejected, Unavailable
from router.core.model import (
    Agent,
    AgentId,
    AgentState,
    Client,
    DataCenterId,
    NodeId,
    PoolId,
    Session,
    SessionId,
    SessionState,
    TrafficClass,
)
from router.sim.rows import Rows
from router.sim.worlds import make_world

POOL, EDGE, OTHER = PoolId("agents"), DataCenterId("gcp-fra1"), DataCenterId("gcp-nrt1")
NODE, LATER = NodeId("gcp-fra1-0"), 60_000_000


def rows(agents: int = 2) -> Rows:
    found = Rows(make_world(4, 1, 1).inventory)
    found.put_agents(Agent(AgentId(f"a-{k}"), POOL, EDGE) for k in range(agents))
    return found


def asked(id: str) -> Session:
    return Session(
        SessionId(id), SessionState.ATTACHING, TrafficClass.AGENT, Client(), EDGE, NODE, (EDGE,), 1, 0, LATER, POOL
    )


def started(found: Rows, id: str = "s-1") -> Session:
    session, _ = found.start(asked(id), (EDGE,))
    assert session is not None
    return session


def test_a_session_takes_an_agent_and_gives_it_back() -> None:
    found = rows()
    session = started(found)
    assert found.agents[AgentId("a-0")].state is AgentState.RESERVED
    found.attach(session.id, NODE, 1)
    assert found.agents[AgentId("a-0")].state is AgentState.BUSY
    assert dict(found.counters().idle) == {(POOL, EDGE): 1} and dict(found.counters().busy) == {(POOL, EDGE): 1}
    found.end(session.id, "ended", 2)
    assert found.end(session.id, "ended", 3) == ()  # again: nothing
    assert dict(found.counters().idle) == {(POOL, EDGE): 2} and found.counters().sessions == {}


def test_the_same_start_twice_is_one_session_and_without_an_agent_there_is_none() -> None:
    found = rows(agents=1)
    assert started(found) == started(found)
    assert found.start(asked("s-2"), (EDGE,)) == (None, ())
    assert list(found.sessions) == ["s-1"]


def test_of_two_who_saw_the_same_epoch_one_is_fenced() -> None:
    found = rows()
    session = started(found)
    how = {"expect_epoch": 1, "edge": OTHER, "edge_node": None, "edges": (OTHER,), "lease_expires_at": LATER}
    moved, _ = found.rebind(session.id, "moved", **how)  # type: ignore[arg-type]
    assert (moved.epoch, moved.edge, found.counters().sessions) == (2, OTHER, {OTHER: 1})
    with pytest.raises(InputRejected) as caught:
        found.rebind(session.id, "moved", **how)  # type: ignore[arg-type]
    assert caught.value.code == "fenced"


def test_a_move_that_nobody_follows_goes_back() -> None:
    found = rows()
    session = started(found)
    found.attach(session.id, NODE, 1)
    moving, _ = found.rebind(
        session.id, "moved", expect_epoch=1, edge=OTHER, edge_node=None, edges=(OTHER, EDGE), lease_expires_at=10,
        moved_from=EDGE,
    )  # fmt: skip
    assert (moving.state, moving.moved_from, found.count_on(EDGE)) == (SessionState.MOVING, EDGE, 1)
    assert (found.count_leaving(EDGE), found.count_leaving(EDGE, NODE), found.count_leaving(OTHER)) == (1, 1, 0)
    back, _ = found.roll_back(11)
    assert [(s.state, s.edge, s.edges, s.moved_from) for s in back] == [
        (SessionState.ACTIVE, EDGE, (EDGE, OTHER), None)
    ]


def test_what_a_silent_node_held_ends_when_its_lease_is_over_and_not_before() -> None:
    found = rows()
    session = started(found)
    found.attach(session.id, NODE, 1)
    found.renew(NODE, 100 * LATER)
    assert found.expire(99 * LATER)[0] == []
    assert [s.id for s in found.expire(100 * LATER)[0]] == [session.id]
    assert found.sessions[session.id].end_reason == "lease_expired"


def test_a_lost_agent_is_fenced_and_its_session_gets_another() -> None:
    found = rows()
    session = started(found)
    found.step_agent(AgentId("a-0"), "lost", 5)
    again, _ = found.redispatch(session.id, (EDGE,), 6)
    assert again is not None and again.agent == "a-1"
    assert found.agents[AgentId("a-0")].held == 0 and found.agents[AgentId("a-0")].state is AgentState.LOST
    with pytest.raises(InputRejected) as caught:
        found.forget_agent(AgentId("a-1"))
    assert caught.value.code == "agent_in_use"


def test_without_the_database_nothing_changes() -> None:
    found = rows()
    before = (dict(found.sessions), dict(found.agents), found.counters())
    found.reachable = False
    with pytest.raises(Unavailable):
        started(found)
    with pytest.raises(Unavailable):
        found.put_agents([Agent(AgentId("x"), POOL, EDGE)])
    assert before == (found.sessions, found.agents, found.counters())
