"""Further legs on both databases: they take agents, hold leases with their node, move and roll back, and end."""

from __future__ import annotations

from typing import Any

import pytest

from router.core.errors import InputRejected
from router.core.model import Client, DataCenterId, Leg, LegId, NodeId, PoolId, SessionId, SessionState
from router.store import Store
from router.store.takes import End

SECOND = 1_000_000


@pytest.fixture
def seeded(world: Any) -> Any:
    """The fleet with four agents, and a session whose user is there."""
    world.seed(agents=4)
    world.live("s-1")
    return world


def person(world: Any, store: Store, id: str = "l-1", edge: str = "oracle-fra") -> Leg:
    leg = Leg(
        SessionId("s-1"), LegId(id), Client(asn=64501), DataCenterId(edge), NodeId(f"{edge}-1"),
        (DataCenterId(edge),), SessionState.ATTACHING, 1, world.now, world.lease,
    )  # fmt: skip
    return added(world, store, leg)


def helper(world: Any, store: Store, id: str = "l-2") -> Leg:
    leg = Leg(
        SessionId("s-1"), LegId(id), Client(), None, None, (), SessionState.ACTIVE, 1, world.now, world.lease,
        pool=PoolId("tutors"),
    )  # fmt: skip
    return added(world, store, leg)


def added(world: Any, store: Store, leg: Leg, key: str | None = None) -> Leg:
    hubs = (DataCenterId("oracle-iad"),)
    made: Leg | None = world.do(lambda: store.add_leg(leg, hubs, idempotency_key=key, request_hash=b"", now=world.now))
    assert made is not None
    return made


def state(store: Store, id: str = "l-1") -> SessionState:
    found = store.leg(SessionId("s-1"), LegId(id))
    assert found is not None
    return found[0].state


def held(store: Store) -> dict[str, int]:
    return {agent.id: agent.held for agent in store.agents(PoolId("tutors")) if agent.held}


def test_every_agent_of_a_session_is_free_again_when_it_ends(store: Store, seeded: Any) -> None:
    legs = [helper(seeded, store, f"l-{n}") for n in range(3)]
    assert len(held(store)) == 4
    assert len({leg.agent for leg in legs}) == 3
    found = seeded.do(lambda: store.exchange([], [_end("s-1")], seeded.now))
    assert held(store) == {}
    (shown,) = found.legs.values()
    assert [(leg.id, leg.state, leg.end_reason) for leg in shown] == [
        (f"l-{n}", SessionState.ENDED, "session_ended") for n in range(3)
    ]
    again = seeded.do(lambda: store.exchange([], [_end("s-1")], seeded.now))
    assert again.legs == found.legs


def _end(id: str) -> End:
    return End(SessionId(id), "caller")


def test_an_agent_that_gives_up_its_lease_of_a_leg_ends_the_leg_alone(store: Store, seeded: Any) -> None:
    leg = helper(seeded, store)
    assert leg.agent is not None
    seeded.do(lambda: store.release_agent(PoolId("tutors"), leg.agent, leg.agent_epoch, seeded.now, "s-1/l-2"))
    assert state(store, "l-2") is SessionState.ENDED
    assert leg.agent not in held(store)
    session = store.session(SessionId("s-1"))
    assert session is not None
    assert session.state is SessionState.ACTIVE
    assert [event.kind for event in store.session_events(SessionId("s-1"))][-1] == "session.leg_ended"
    with pytest.raises(InputRejected) as refused:  # what it gave up it cannot give up for others
        store.release_agent(PoolId("tutors"), leg.agent, leg.agent_epoch - 1, seeded.now)
    assert refused.value.code == "fenced"


def test_a_lost_agent_s_leg_ends_after_the_grace_and_its_session_does_not(store: Store, seeded: Any) -> None:
    leg = helper(seeded, store)
    later = seeded.now + 60 * SECOND
    session = store.session(SessionId("s-1"))
    assert session is not None and session.agent is not None
    for agent in ("a-000", "a-001", "a-002", "a-003"):
        if agent != leg.agent:
            seeded.register(agent, now=later)
    (lost,) = seeded.do(lambda: store.expire_agents(later - SECOND, later))
    assert lost.id == leg.agent
    assert state(store, "l-2") is SessionState.ACTIVE  # it may come back
    seeded.do(lambda: store.tend_pools(later + 5 * SECOND))
    assert state(store, "l-2") is SessionState.ENDED
    session = store.session(SessionId("s-1"))
    assert session is not None
    assert session.state is SessionState.ACTIVE
    kinds = [event.kind for event in store.session_events(SessionId("s-1"))]
    assert kinds[-2:] == ["session.leg_agent_lost", "session.leg_ended"]
    assert held(store) == {session.agent: 1}


def test_a_leg_lives_by_the_lease_of_the_node_that_has_its_person(store: Store, seeded: Any) -> None:
    person(seeded, store)
    seeded.touch("oracle-fra-1", ("s-1/l-1", "attached"), lease=seeded.now + 30 * SECOND)
    seeded.touch("linode-fra-1", lease=seeded.now + 600 * SECOND)
    seeded.do(lambda: store.expire_sessions(seeded.now + 29 * SECOND))
    assert state(store) is SessionState.ACTIVE
    seeded.touch("oracle-fra-1", lease=seeded.now + 90 * SECOND)  # says nothing of the leg, and holds it all the same
    seeded.do(lambda: store.expire_sessions(seeded.now + 89 * SECOND))
    assert state(store) is SessionState.ACTIVE
    (ended,) = seeded.do(lambda: store.expire_sessions(seeded.now + 91 * SECOND))
    assert (ended.id, ended.end_reason) == ("s-1/l-1", "lease_expired")
    session = store.session(SessionId("s-1"))
    assert session is not None
    assert session.state is SessionState.ACTIVE


def test_a_restarted_node_detaches_the_legs_it_does_not_list(store: Store, seeded: Any) -> None:
    person(seeded, store)
    person(seeded, store, "l-3")
    seeded.beat("oracle-fra-1", ("s-1/l-1", "attached"), ("s-1/l-3", "attached"), epoch=1)
    seeded.beat("oracle-fra-1", ("s-1/l-3", "attached"), epoch=2)
    assert (state(store), state(store, "l-3")) == (SessionState.DETACHED, SessionState.ACTIVE)


@pytest.mark.parametrize("arrives", [True, False])
def test_a_move_of_a_leg_is_followed_or_taken_back(store: Store, seeded: Any, arrives: bool) -> None:
    person(seeded, store)
    seeded.touch("oracle-fra-1", ("s-1/l-1", "attached"), lease=seeded.now + 900 * SECOND)
    found = store.leg(SessionId("s-1"), LegId("l-1"))
    assert found is not None
    until = seeded.now + 10 * SECOND
    seeded.rebind(found[1], "linode-fra", "session.moved", SessionState.MOVING, lease_expires_at=until)
    assert [leg.id for leg in seeded.touch("oracle-fra-1", lease=seeded.now + 900 * SECOND)] == ["s-1/l-1"]
    if arrives:
        seeded.touch("linode-fra-1", ("s-1/l-1", "attached"), lease=seeded.now + 900 * SECOND)
    back = seeded.do(lambda: store.roll_back_moves(until))
    found = store.leg(SessionId("s-1"), LegId("l-1"))
    assert found is not None
    leg = found[0]
    assert [session.id for session in back] == ([] if arrives else ["s-1/l-1"])
    assert (leg.state, leg.moved_from) == (SessionState.ACTIVE, None)
    assert leg.edge == ("linode-fra" if arrives else "oracle-fra")
    assert leg.held_by == f"{leg.edge}-1"
    assert leg.epoch == (2 if arrives else 3)


def test_legs_of_many_sessions_are_found_together(store: Store, seeded: Any) -> None:
    seeded.live("s-2", pool=None)
    person(seeded, store)
    helper(seeded, store)
    found = store.legs_of([SessionId("s-1"), SessionId("s-2"), SessionId("nobody")])
    assert {session: [leg.id for leg in legs] for session, legs in found.items()} == {"s-1": ["l-1", "l-2"]}
