"""Sessions: started with an agent, moved, resumed, ended, expired; leases and what nodes must let go of.

Every write goes through ``world.do``, which compares the counters kept by the changes with a fresh count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from router.core.errors import TendrilError
from router.core.model import AgentState, Client, Session, SessionState
from router.store import Store

S = SessionState


@pytest.fixture
def seeded(world: Any) -> Any:
    world.seed()
    return world


def code_of(call: Callable[[], object]) -> str:
    """The code with which a call is refused."""
    with pytest.raises(TendrilError) as caught:
        call()
    return caught.value.code


def kinds(store: Store, id: str) -> list[str]:
    """What happened to a session."""
    return [event.kind.removeprefix("session.") for event in store.session_events(id)]


def test_a_session_comes_back_as_it_was_started_with_its_agent(store: Store, seeded: Any) -> None:
    asked = seeded.session("s-1")
    started = seeded.start(asked)
    assert started == replace(asked, agent="a-000", agent_data_center="oracle-iad", agent_epoch=1)
    assert store.session("s-1") == started
    agent = store.agent("a-000")
    assert (agent.state, agent.epoch, agent.session) == (AgentState.RESERVED, 1, "s-1")
    assert kinds(store, "s-1") == ["started"]


def test_the_first_hub_with_an_agent_gives_one(store: Store, seeded: Any) -> None:
    seeded.register("b-1", "oracle-fra")
    hubs = ("linode-fra", "oracle-fra", "oracle-iad")
    taken = [seeded.start(seeded.session(f"s-{n}"), hubs).agent for n in range(3)]
    assert taken == ["b-1", "a-000", "a-001"]
    assert seeded.start(seeded.session("s-9"), hubs) is None
    assert store.session("s-9") is None
    assert store.session_events("s-9") == ()


def test_a_session_without_a_pool_needs_no_agent(store: Store, seeded: Any) -> None:
    assert seeded.start(seeded.session("s-1", pool=None), ()).agent is None
    assert store.counters().sessions == {"linode-fra": 1}


def test_unknown_places_are_refused(store: Store, seeded: Any) -> None:
    for session, code in (
        (seeded.session("s", edge="atlantis"), "unknown_data_center"),
        (seeded.session("s", edge="atlantis", edge_node=None), "unknown_data_center"),
        (seeded.session("s", edge_node="oracle-fra-1"), "unknown_node"),
        (seeded.session("s", pool="nobody"), "unknown_pool"),
    ):
        assert code_of(lambda session=session: seeded.start(session)) == code
    assert store.sessions() == ()


def test_a_retry_with_the_same_key_gets_the_same_session(store: Store, seeded: Any) -> None:
    first = seeded.start(seeded.session("s-1"), key="k")
    assert seeded.start(seeded.session("s-2"), key="k") == first
    assert store.session("s-2") is None
    other = seeded.session("s-3", client=Client(country="BR"))
    assert code_of(lambda: seeded.start(other, key="k")) == "idempotency_conflict"
    assert seeded.start(seeded.session("s-4"), key="another").id == "s-4"


def test_a_key_that_found_no_agent_can_be_used_again(seeded: Any) -> None:
    assert seeded.start(seeded.session("s-1"), hubs=("linode-fra",), key="k") is None
    assert seeded.start(seeded.session("s-2"), key="k").id == "s-2"


def test_keys_are_forgotten_after_a_day(store: Store, seeded: Any, rows: Any) -> None:
    seeded.start(seeded.session("s-1", pool=None), key="k")
    seeded.now += 24 * 3600 * seeded.second
    assert seeded.start(seeded.session("s-2", pool=None), key="k").id == "s-2"
    seeded.now += 25 * 3600 * seeded.second
    seeded.do(lambda: store.forget_old(seeded.now))
    assert rows("SELECT count(*) FROM idempotency_keys") == [(0,)]


def test_a_move_keeps_the_agent_and_raises_the_epoch(store: Store, seeded: Any) -> None:
    live = seeded.live("s-1")
    moved = seeded.rebind(live, "oracle-fra", "session.moved", S.MOVING)
    assert (moved.edge, moved.moved_from, moved.epoch, moved.agent) == ("oracle-fra", "linode-fra", 2, live.agent)
    assert store.counters().sessions == {"oracle-fra": 1}
    assert code_of(lambda: seeded.rebind(live, "oracle-fra", "moved", S.MOVING)) == "fenced"
    assert seeded.touch("oracle-fra-1", ("s-1", "attached")) == ()
    arrived = store.session("s-1")
    assert (arrived.state, arrived.moved_from) == (S.ACTIVE, None)
    assert kinds(store, "s-1") == ["started", "attached", "moved", "attached"]


def test_states_change_only_as_the_table_says(seeded: Any) -> None:
    live = seeded.live("s-1")
    assert code_of(lambda: seeded.rebind(live, "oracle-fra", "moved", S.ACTIVE)) == "bad_transition"
    assert code_of(lambda: seeded.rebind(live, "oracle-fra", "rolled_back", S.ACTIVE)) == "bad_transition"
    assert code_of(lambda: seeded.rebind(live, "atlantis", "moved", S.MOVING)) == "unknown_data_center"
    ghost = replace(live, id="ghost")
    assert code_of(lambda: seeded.rebind(ghost, "oracle-fra", "moved", S.MOVING)) == "unknown_session"
    seeded.do(lambda: seeded.store.end_session("s-1", reason="over", now=seeded.now))
    assert code_of(lambda: seeded.rebind(live, "oracle-fra", "moved", S.MOVING)) == "session_ended"


def test_the_old_node_is_told_of_a_move_until_it_lets_go(seeded: Any) -> None:
    moved = seeded.rebind(seeded.live("s-1"), "oracle-fra", "moved", S.MOVING)
    assert seeded.touch("linode-fra-1") == (moved,)
    assert seeded.touch("oracle-fra-1") == ()
    (again,) = seeded.touch("linode-fra-1", ("s-1", "attached"))
    assert again.state is S.MOVING, "the old node saying it still holds the user is no arrival"
    assert seeded.touch("linode-fra-1", ("s-1", "detached")) == ()
    assert seeded.store.session("s-1").state is S.DETACHED
    assert seeded.touch("oracle-fra-1", ("s-1", "attached")) == ()
    assert seeded.store.session("s-1").state is S.ACTIVE


def test_a_move_that_is_rolled_back_is_no_errand(seeded: Any) -> None:
    moved = seeded.rebind(seeded.live("s-1"), "oracle-fra", "moved", S.MOVING)
    back = seeded.rebind(moved, "linode-fra", "rolled_back", S.ACTIVE)
    assert (back.epoch, back.edge) == (3, "linode-fra")
    assert seeded.touch("linode-fra-1") == ()


def test_a_second_move_leaves_the_errand_with_the_node_that_has_the_user(seeded: Any) -> None:
    moved = seeded.rebind(seeded.live("s-1"), "oracle-fra", "moved", S.MOVING)
    again = seeded.rebind(moved, "oracle-iad", "moved", S.MOVING, moved_from="oracle-fra")
    assert again.moved_from == "linode-fra"
    assert seeded.touch("linode-fra-1") == (again,)
    assert seeded.touch("oracle-fra-1") == ()


def test_a_user_who_has_not_arrived_is_carried_by_nobody(seeded: Any) -> None:
    expected = seeded.start(seeded.session("s-1"))
    moved = seeded.rebind(expected, "oracle-fra", "moved", S.ATTACHING, moved_from="linode-fra")
    assert moved.moved_from is None
    assert seeded.touch("linode-fra-1") == ()
    assert seeded.touch("linode-fra-1", ("s-1", "attached")) == (moved,), "who arrives there all the same is sent on"


def test_a_user_who_is_moved_back_before_leaving_need_not_leave(seeded: Any) -> None:
    moved = seeded.rebind(seeded.live("s-1"), "oracle-fra", "moved", S.MOVING)
    seeded.rebind(moved, "linode-fra", "moved", S.MOVING)
    assert seeded.touch("linode-fra-1") == ()
    seeded.touch("linode-fra-1", ("s-1", "attached"))
    assert seeded.store.session("s-1").state is S.ACTIVE


def test_the_node_with_the_user_renews_the_lease_of_a_moving_session(store: Store, seeded: Any) -> None:
    seeded.rebind(seeded.live("s-1"), "oracle-fra", "moved", S.MOVING)
    later = seeded.lease + seeded.second
    seeded.touch("oracle-fra-1", lease=later)
    assert store.session("s-1").lease_expires_at == seeded.lease
    seeded.touch("linode-fra-1", lease=later)
    assert store.session("s-1").lease_expires_at == later


def test_a_heartbeat_renews_active_sessions_of_its_node_alone(store: Store, seeded: Any) -> None:
    seeded.live("here")
    seeded.live("elsewhere", edge="oracle-fra")
    seeded.start(seeded.session("expected", pool=None))
    seeded.live("gone", pool=None)
    later = seeded.lease + seeded.second
    seeded.touch("linode-fra-1", ("gone", "detached"), lease=later)
    renewed = {session.id for session in store.sessions() if session.lease_expires_at == later}
    assert renewed == {"here"}


def test_a_node_speaks_for_its_own_sessions_only(store: Store, seeded: Any) -> None:
    live = seeded.live("s-1")
    (returned,) = seeded.touch("oracle-iad-1", ("s-1", "attached"))
    assert returned == live, "told to let go"
    for event in ("detached", "attached", "ended"):
        seeded.touch("oracle-iad-1", ("s-1", event))
    assert store.session("s-1") == live
    assert seeded.touch("oracle-iad-1") == ()
    assert code_of(lambda: seeded.touch("nobody", ("s-1", "ended"))) == "unknown_node"
    assert code_of(lambda: seeded.touch("linode-fra-1", ("s-1", "vanished"))) == "unknown_event"
    assert seeded.touch("linode-fra-1", ("never-heard-of", "attached")) == ()


def test_a_session_without_a_node_takes_the_first_that_it_attaches_to(store: Store, seeded: Any) -> None:
    seeded.start(seeded.session("s-1", edge_node=None))
    seeded.touch("oracle-fra-1", ("s-1", "attached"))
    assert store.session("s-1").edge_node is None
    seeded.touch("linode-fra-1", ("s-1", "attached"))
    found = store.session("s-1")
    assert (found.edge_node, found.state) == ("linode-fra-1", S.ACTIVE)


def test_heartbeats_may_repeat(store: Store, seeded: Any) -> None:
    seeded.live("s-1")
    for _ in range(2):
        seeded.touch("linode-fra-1", ("s-1", "attached"))
    assert kinds(store, "s-1") == ["started", "attached"]
    for _ in range(2):
        seeded.touch("linode-fra-1", ("s-1", "detached"))
    seeded.touch("linode-fra-1", ("s-1", "attached"), ("s-1", "ended"))
    for event in ("ended", "detached"):
        assert seeded.touch("linode-fra-1", ("s-1", event)) == ()
    assert kinds(store, "s-1") == ["started", "attached", "detached", "attached", "ended"]
    (returned,) = seeded.touch("linode-fra-1", ("s-1", "attached"))
    assert returned.state is S.ENDED


def test_ending_frees_the_agent_once_and_tells_the_node(store: Store, seeded: Any) -> None:
    live = seeded.live("s-1")
    for _ in range(2):
        ended = seeded.do(lambda: store.end_session("s-1", reason="hung up", now=seeded.now + 5))
    assert (ended.state, ended.ended_at, ended.end_reason) == (S.ENDED, seeded.now + 5, "hung up")
    agent = store.agent(live.agent)
    assert (agent.state, agent.session, agent.epoch) == (AgentState.READY, None, 1)
    assert kinds(store, "s-1")[-1] == "ended"
    assert kinds(store, "s-1").count("ended") == 1
    assert seeded.touch("linode-fra-1") == (ended,)
    assert seeded.touch("linode-fra-1", ("s-1", "ended")) == ()
    assert code_of(lambda: store.end_session("ghost", reason="x", now=1)) == "unknown_session"


def test_an_end_while_moving_is_told_to_both_nodes(store: Store, seeded: Any) -> None:
    seeded.rebind(seeded.live("s-1"), "oracle-fra", "moved", S.MOVING)
    ended = seeded.do(lambda: store.end_session("s-1", reason="x", now=seeded.now))
    assert seeded.touch("linode-fra-1") == seeded.touch("oracle-fra-1") == (ended,)
    assert ended.moved_from is None


def test_errands_of_nodes_that_never_answer_are_forgotten(store: Store, seeded: Any) -> None:
    seeded.live("s-1")
    seeded.do(lambda: store.end_session("s-1", reason="x", now=seeded.now))
    seeded.do(lambda: store.forget_old(seeded.now + 3600 * seeded.second))
    assert seeded.touch("linode-fra-1") == ()


def test_a_lease_that_is_over_ends_the_session_and_frees_the_agent(store: Store, seeded: Any) -> None:
    seeded.live("s-1")
    seeded.start(seeded.session("s-2", lease_expires_at=seeded.lease + 1))
    assert seeded.do(lambda: store.expire_sessions(seeded.lease - 1)) == ()
    (expired,) = seeded.do(lambda: store.expire_sessions(seeded.lease))
    assert (expired.id, expired.end_reason) == ("s-1", "lease_expired")
    assert store.agent("a-000").state is AgentState.READY
    assert store.agent("a-001").state is AgentState.RESERVED
    assert seeded.do(lambda: store.expire_sessions(seeded.lease)) == ()


def test_thousands_of_leases_end_together(store: Store, seeded: Any) -> None:
    for number in range(600):
        store.start_session(
            seeded.session(f"s-{number:04}", pool=None), (), idempotency_key=None, request_hash=b"", now=seeded.now
        )
    commit = store.expire_sessions(seeded.lease)
    assert len(commit.result) == 600
    assert commit.changes[0].sessions == {"linode-fra": -600}
    assert store.counters().sessions == {}


def test_sessions_are_found_by_what_describes_them(store: Store, seeded: Any) -> None:
    def start(id: str, **changes: Any) -> Session:
        return seeded.start(seeded.session(id, pool=None, **changes))

    start("a", metadata={"tenant": "acme", 'we"ird.key': "1"})
    start("b", client=Client("203.0.113.0/24", 64501, "BR"), metadata={"tenant": "acme"})
    start("c", edge="oracle-fra", metadata={})
    seeded.start(seeded.session("d", metadata={"tenant": "zeta"}))
    seeded.do(lambda: store.end_session("c", reason="x", now=1))

    def ids(**question: Any) -> str:
        return "".join(session.id for session in store.sessions(**question))

    assert ids() == "abcd"
    assert (ids(limit=2), ids(limit=2, after="b")) == ("ab", "cd")
    assert (ids(data_center="oracle-fra"), ids(data_center="linode-fra")) == ("c", "abd")
    assert (ids(state=S.ENDED), ids(state=S.ATTACHING), ids(state=S.ACTIVE)) == ("c", "abd", "")
    assert (ids(client="203.0.113.0/24"), ids(client="AS64501"), ids(client="64500"), ids(client="br")) == (
        "b",
        "b",
        "acd",
        "b",
    )
    assert ids(pool="tutors") == "d"
    assert (ids(metadata={"tenant": "acme"}), ids(metadata={'we"ird.key': "1", "tenant": "acme"})) == ("ab", "a")
    assert ids(metadata={"tenant": "acme' OR 1=1 --"}) == ""
    assert [session.id for session in store.movable("linode-fra", 2)] == ["a", "b"]
    assert (store.count_on("linode-fra"), store.count_on("oracle-fra")) == (3, 0)
