"""Sessions that wait for an agent, sessions whose agent was lost, and agents with room for several."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from router.core.errors import InputRejected
from router.core.model import Agent, AgentState, Pool, Session, SessionState
from router.store import Store
from router.store.queue import Offer
from router.store.takes import Start

A, S = AgentState, SessionState
SECOND = 1_000_000


@pytest.fixture
def seeded(world: Any) -> Any:
    world.seed(agents=1)
    return world


def refusal(call: Any) -> InputRejected:
    """How a call is refused."""
    with pytest.raises(InputRejected) as caught:
        call()
    return caught.value


def queue(world: Any, id: str, at: int = 0, wait_s: int = 30, key: str | None = None) -> Session:
    """Ask for a session that may wait."""
    session = world.session(id, created_at=world.now + at)
    start = Start(session, ("oracle-iad",), key, b"x", world.now + wait_s * SECOND)
    done = world.do(lambda: world.store.exchange([start], [], world.now + at))
    outcome = done.started[0]
    assert isinstance(outcome, Session), outcome
    return outcome


def offer(session: Session, *hubs: str, edge: str = "linode-fra") -> Offer:
    """Where a waiting session may go."""
    return Offer(session.id, edge, f"{edge}-1", (edge,), hubs or ("oracle-iad",), ("waited",), session.created_at + 99)


def deal(world: Any, *offers: Offer) -> list[str]:
    """Dispatch; who was bound."""
    return [s.id for s in world.do(lambda: world.store.dispatch("tutors", offers, world.now + SECOND))]


def test_who_finds_no_agent_waits_and_is_served_in_order(store: Store, seeded: Any) -> None:
    assert queue(seeded, "s-0").state is S.ATTACHING
    waiting = [queue(seeded, f"s-{n}", at=n) for n in (1, 2, 3)]
    assert {(s.state, s.agent, s.queued_until) for s in waiting} == {(S.QUEUED, None, seeded.now + 30 * SECOND)}
    assert [store.queue_position(s) for s in waiting] == [1, 2, 3]
    assert store.queue_lengths() == {"tutors": 3}
    assert [s.id for s in store.waiting()["tutors"]] == ["s-1", "s-2", "s-3"]
    assert deal(seeded, *map(offer, waiting)) == []
    seeded.do(lambda: store.end_session("s-0", reason="x", now=seeded.now))
    assert deal(seeded, *map(offer, waiting)) == ["s-1"]
    bound = store.session("s-1")
    assert (bound.state, bound.agent, bound.agent_epoch, bound.queued_until) == (S.ATTACHING, "a-000", 2, None)
    assert [e.kind for e in store.session_events("s-1")] == ["session.queued", "session.dispatched"]
    assert store.session_events("s-1")[-1].detail["waited_ms"] == 999
    assert [store.queue_position(s) for s in waiting[1:]] == [1, 2]


def test_nobody_who_may_wait_overtakes_but_who_cannot_wait_is_served(store: Store, seeded: Any) -> None:
    queue(seeded, "s-0")
    first = queue(seeded, "s-1", at=1)
    seeded.do(lambda: store.end_session("s-0", reason="x", now=seeded.now))
    assert queue(seeded, "s-2", at=2).state is S.QUEUED, "an agent is free, but it is not its turn"
    assert seeded.start(seeded.session("s-3")).agent == "a-000"
    assert deal(seeded, offer(first)) == []


def test_a_younger_one_goes_first_only_where_the_older_may_not(store: Store, seeded: Any) -> None:
    queue(seeded, "s-0")
    older, younger = queue(seeded, "s-1", at=1), queue(seeded, "s-2", at=2)
    seeded.register("b-000", "oracle-fra")
    assert deal(seeded, offer(older, "oracle-iad"), offer(younger, "oracle-iad", "oracle-fra")) == ["s-2"]
    assert store.session("s-2").agent_data_center == "oracle-fra"


def test_the_deadline_refuses_and_an_end_leaves_the_queue(store: Store, seeded: Any) -> None:
    queue(seeded, "s-0")
    waiting = [queue(seeded, f"s-{n}", at=n) for n in (1, 2)]
    seeded.do(lambda: store.end_session("s-1", reason="caller", now=seeded.now))
    assert store.queue_position(waiting[1]) == 1
    for at, refused in ((29, []), (30, ["s-2"]), (30, [])):
        found = seeded.do(lambda at=at: store.tend_pools(seeded.now + at * SECOND))
        assert [s.id for s in found] == refused
    ended = store.session("s-2")
    assert (ended.state, ended.end_reason) == (S.ENDED, "no_idle_agent")
    kinds = [e.kind for e in store.session_events("s-2")]
    assert kinds == ["session.queued", "session.refused", "session.ended"]
    assert deal(seeded, *map(offer, waiting)) == []


def test_the_same_key_finds_the_same_place_in_the_queue(store: Store, seeded: Any) -> None:
    queue(seeded, "s-0")
    first, again = queue(seeded, "s-1", key="k"), queue(seeded, "s-2", key="k")
    assert (first.id, again.id) == ("s-1", "s-1")
    assert store.queue_lengths() == {"tutors": 1}


def lose(world: Any, after_s: int = 20) -> None:
    """Everybody who is not heard is lost."""
    world.do(lambda: world.store.expire_agents(world.now + 1, world.now + after_s * SECOND))


def rescue(world: Any, at_s: int, *hubs: str) -> list[Session]:
    """Find other agents for those who need one."""
    now = world.now + at_s * SECOND
    found = world.store.orphans(now)
    bound = [world.do(lambda o=o: world.store.redispatch(o, hubs, ("why",), now)) for o in found]
    return [session for session in bound if session is not None]


def test_a_session_whose_agent_is_lost_gets_another_one_after_the_grace(store: Store, seeded: Any) -> None:
    seeded.live("s-1")
    lose(seeded)
    seeded.register("b-000", "oracle-fra", now=seeded.now + 21 * SECOND)
    assert rescue(seeded, 24, "oracle-iad", "oracle-fra") == []
    (bound,) = rescue(seeded, 25, "oracle-iad", "oracle-fra")
    assert (bound.agent, bound.agent_data_center, bound.agent_epoch, bound.state) == (
        "b-000",
        "oracle-fra",
        1,
        S.ACTIVE,
    )
    assert rescue(seeded, 26, "oracle-fra") == []
    told = store.session_events("s-1")[-1]
    assert (told.kind, told.detail["from"], told.detail["agent"]) == ("session.redispatched", "a-000", "b-000")
    assert "has not been heard for" in told.reason
    assert store.agent("b-000").state is A.BUSY
    old = store.agent("a-000")
    assert (old.state, old.held, old.session) == (A.LOST, 0, None)
    # The first agent never gets hold of the session again, whatever it says.
    for epoch in (1, 2):
        assert refusal(lambda e=epoch: store.release_agent("tutors", "a-000", e, 1)).code == "fenced"
    back = seeded.register("a-000", now=seeded.now + 30 * SECOND)
    assert (back.state, back.held) == (A.READY, 0)
    assert refusal(lambda: store.release_agent("tutors", "a-000", 1, 1)).code == "fenced"
    assert store.session("s-1").agent == "b-000"


def test_an_agent_that_is_back_in_time_keeps_its_session(store: Store, seeded: Any) -> None:
    seeded.live("s-1")
    lose(seeded)
    late = store.orphans(seeded.now + 25 * SECOND)
    back = seeded.register("a-000", now=seeded.now + 24 * SECOND)
    assert (back.state, back.epoch, store.session("s-1").agent_epoch) == (A.BUSY, 2, 2)
    seeded.register("b-000")
    assert seeded.do(lambda: store.redispatch(late[0], ("oracle-iad",), (), seeded.now)) is None
    assert store.session("s-1").agent == "a-000"


def test_the_edge_is_told_until_it_confirms(store: Store, seeded: Any) -> None:
    seeded.live("s-1")
    lose(seeded)
    seeded.register("b-000", now=seeded.now + 21 * SECOND)
    rescue(seeded, 30, "oracle-iad")
    (told,) = store.rebounds()
    assert (told.node, told.session, told.agent, told.address) == ("linode-fra-1", "s-1", "b-000", "127.2.0.9:7424")
    seeded.touch("oracle-fra-1", ("s-1", "rebound"))
    assert len(store.rebounds()) == 1, "another node has no say"
    seeded.touch("linode-fra-1", ("s-1", "rebound"))
    assert store.rebounds() == ()


def several(world: Any, id: str = "m", capacity: int = 3, **more: Any) -> Agent:
    """An agent with room for several."""
    lists = more.pop("lists", None)
    agent = Agent(id, "tutors", "oracle-iad", address="x:1", capacity=capacity, **more)
    result: Agent = world.do(lambda: world.store.register_agent(agent, world.now, lists))
    return result


def test_an_agent_with_room_is_filled_first_and_gives_back_one_by_one(store: Store, seeded: Any) -> None:
    several(seeded)
    taken = Counter(seeded.start(seeded.session(f"s-{n}")).agent for n in range(4))
    assert taken == {"m": 3, "a-000": 1} or taken == {"a-000": 1, "m": 3}
    full = store.agent("m")
    assert (full.state, full.held, full.session) == (A.RESERVED, 3, None)
    held = dict(store.agent_leases(["m"])["m"])
    first = min(held)
    freed = seeded.do(lambda: store.release_agent("tutors", "m", held[first], seeded.now, first))
    assert (freed.state, freed.held) == (A.READY, 2)
    assert store.session(first).end_reason == "agent_released"
    late = refusal(lambda: store.release_agent("tutors", "m", held[first], seeded.now, first))
    assert late.code == "fenced"
    seeded.do(lambda: store.release_agent("tutors", "m", freed.epoch, seeded.now))
    assert store.agent("m").held == 0


def test_what_an_agent_lists_is_adopted_and_what_it_forgot_gets_another(store: Store, seeded: Any) -> None:
    several(seeded, nonce="one")
    seeded.do(lambda: store.cordon_agent("tutors", "a-000", True, actor="t", now=seeded.now))
    for n in range(2):
        seeded.live(f"s-{n}")
    back = several(seeded, nonce="one", lists=["s-1", "s-9"])
    assert (back.held, back.state) == (1, A.READY)
    assert dict(store.agent_leases(["m"])["m"]).keys() == {"s-1"}
    assert store.session("s-0").agent is None
    assert store.session_events("s-0")[-1].kind == "session.agent_lost"
    (bound,) = rescue(seeded, 0, "oracle-iad")
    assert (bound.id, bound.agent) == ("s-0", "m")


def test_cordoned_agents_keep_what_they_hold_and_take_no_more(store: Store, seeded: Any) -> None:
    several(seeded)
    seeded.start(seeded.session("s-0"))
    where = store.session("s-0").agent
    for id in ("m", "a-000"):
        for _ in range(2):
            assert seeded.do(lambda id=id: store.cordon_agent("tutors", id, True, actor="t", now=1)).cordoned
    assert seeded.start(seeded.session("s-1")) is None
    assert store.agent(where).held == 1
    seeded.do(lambda: store.cordon_agent("tutors", "m", False, actor="t", now=1))
    assert seeded.start(seeded.session("s-1")).agent == "m"


def test_a_pool_with_reset_wants_another_instance_after_each_session(store: Store, seeded: Any) -> None:
    seeded.apply(Pool("tutors", reset=True, wrap_s=5))
    several(seeded, capacity=1, nonce="one")
    seeded.do(lambda: store.cordon_agent("tutors", "a-000", True, actor="t", now=1))
    seeded.live("s-0")
    seeded.do(lambda: store.end_session("s-0", reason="x", now=seeded.now))
    assert store.agent("m").state is A.WRAPPING
    assert seeded.do(lambda: store.release_agent("tutors", "m", 1, seeded.now)).state is A.RESETTING
    assert several(seeded, capacity=1, nonce="one").state is A.RESETTING, "the same instance remembers"
    assert several(seeded, capacity=1, nonce="two").state is A.READY
    assert refusal(lambda: store.heartbeat_agent("tutors", "m", 1, 1, nonce="one")).code == "fenced"
    assert seeded.start(seeded.session("s-1")).agent == "m"


def test_a_suspect_agent_is_not_taken_and_not_lost(store: Store, seeded: Any) -> None:
    quiet = lambda: store.expire_agents(seeded.now - 9, seeded.now + 4 * SECOND, seeded.now + SECOND)  # noqa: E731
    assert seeded.do(quiet) == ()
    assert store.agent("a-000").state is A.SUSPECT
    assert seeded.start(seeded.session("s-0")) is None
    assert seeded.do(lambda: store.heartbeat_agent("tutors", "a-000", 0, seeded.now + 5 * SECOND)).state is A.READY
    assert seeded.start(seeded.session("s-0")) is not None


def test_an_agent_comes_up_step_by_step(store: Store, seeded: Any) -> None:
    agent = several(seeded, capacity=1, state=A.ANNOUNCED)
    assert (agent.state, agent.deadline_at) == (A.ANNOUNCED, seeded.now + 10 * SECOND)
    for says in (A.WARMING, A.READY):
        done = seeded.do(lambda s=says: store.heartbeat_agent("tutors", "m", 0, seeded.now, says=s))
        assert done.state is says
    assert done.deadline_at is None
    states = Counter({(p.state, p.cordoned): p.agents for p in store.agent_places()})
    assert states == {(A.READY, False): 2}
    assert replace(done, seen_at=0) == replace(store.agent("m"), seen_at=0)
