"""Agents whose version is on a ramp: begun by the first that registers, taken by their lane alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from router.core.model import (
    Agent,
    AgentId,
    AgentState,
    DataCenterId,
    Pool,
    PoolId,
    Ramp,
    RampKind,
    RampState,
    Session,
    SessionId,
)
from router.store import Store
from router.store.takes import End, Exchanged, Start
from tests.contract.conftest import World

IAD, FRA, POOL = DataCenterId("oracle-iad"), DataCenterId("oracle-fra"), PoolId("tutors")


def register(world: World, id: str, version: str, at: DataCenterId = IAD) -> Agent:
    agent = Agent(AgentId(id), POOL, at, address=f"{id}:1", agent_version=version, state=AgentState.READY)
    found: Agent = world.do(lambda: world.store.register_agent(agent, world.now))
    return found


def take(world: World, *asked: tuple[str, str], hubs: tuple[DataCenterId, ...] = (IAD,)) -> list[str]:
    """The agents of sessions that start together; each is named with its lane."""
    starts = [Start(world.session(id), hubs, version=lane) for id, lane in asked]
    found: Exchanged = world.do(lambda: world.store.exchange(starts, [], world.now))
    return [
        "none" if one is None else str(one.agent) for one in found.started if one is None or isinstance(one, Session)
    ]


def only(store: Store) -> Ramp:
    (found,) = store.boot(0).ramps
    return found


def stepped(world: World, **changes: Any) -> Ramp:
    after = replace(only(world.store), **changes)
    done: Ramp = world.do(lambda: world.store.put_ramp(after, {}, actor="ann", now=world.now))
    return done


@pytest.fixture
def rolled_out(world: World, store: Store) -> World:
    """Two agents of the old version and one of the new, which is on a ramp."""
    world.seed(agents=0)
    world.apply(Pool(POOL, ramp_versions=True))
    for id in ("a1", "a2"):
        register(world, id, "1")
    assert store.boot(0).ramps == (), "the first version of a pool has nobody to be compared with"
    register(world, "b1", "2")
    return world


def test_the_first_agent_of_a_new_version_begins_its_ramp_and_the_second_does_not(
    rolled_out: World, store: Store
) -> None:
    ramp = only(store)
    assert (ramp.kind, ramp.pool, ramp.version, ramp.state) == (RampKind.VERSION, POOL, "2", RampState.CANARY)
    assert ramp.share_ppm == 10_000 and ramp.reason == "agent b1 is the first of 2" and ramp.subject == "tutors@2"
    register(rolled_out, "b2", "2")
    register(rolled_out, "a3", "1")
    assert only(store) == ramp
    assert [event.kind for _, event in store.events(limit=50) if event.kind.startswith("ramp.")] == ["ramp.begun"]


def test_a_pool_that_does_not_ask_for_it_takes_every_version(world: World, store: Store) -> None:
    world.seed(agents=0)
    register(world, "a1", "1")
    register(world, "b1", "2")
    assert store.boot(0).ramps == ()
    assert take(world, ("s1", ""), ("s2", "")) == ["a1", "b1"]


def test_agents_on_a_ramp_are_for_their_lane_alone_while_others_are_free(rolled_out: World) -> None:
    assert take(rolled_out, ("s1", ""), ("s2", "2")) == ["a1", "b1"]
    assert take(rolled_out, ("s3", "2")) == ["a2"], "none of it is free: near and proven is better than none"


def test_who_finds_no_proven_agent_anywhere_gets_one_on_a_ramp_but_none_that_was_rolled_back(rolled_out: World) -> None:
    register(rolled_out, "c1", "1", FRA)
    assert take(rolled_out, ("s1", ""), ("s2", ""), ("s3", ""), hubs=(IAD, FRA)) == ["a1", "a2", "c1"]
    stepped(rolled_out, state=RampState.ROLLED_BACK, share_ppm=0)
    assert take(rolled_out, ("s4", ""), hubs=(IAD, FRA)) == ["none"]
    assert (POOL, IAD) not in rolled_out.counters.idle or not rolled_out.counters.idle[POOL, IAD]
    stepped(rolled_out, state=RampState.CANARY, share_ppm=10_000)
    assert rolled_out.counters.idle[POOL, IAD] == 1
    assert take(rolled_out, ("s4", ""), hubs=(IAD, FRA)) == ["b1"]


def test_what_has_passed_is_taken_like_any_other_and_stays_proven(rolled_out: World, store: Store) -> None:
    stepped(rolled_out, state=RampState.SERVING, share_ppm=1_000_000, finished_at=rolled_out.now)
    assert sorted(take(rolled_out, ("s1", ""), ("s2", ""), ("s3", ""))) == ["a1", "a2", "b1"]
    register(rolled_out, "b2", "2")
    assert only(store).state is RampState.SERVING


def test_an_agent_that_is_freed_in_the_same_batch_stays_in_its_lane(rolled_out: World) -> None:
    assert take(rolled_out, ("s1", "2")) == ["b1"]
    starts = [Start(rolled_out.session(id), (IAD,)) for id in ("s2", "s3", "s4")]
    found = rolled_out.do(lambda: rolled_out.store.exchange(starts, [End(SessionId("s1"), "test")], rolled_out.now))
    names = [one.agent for one in found.started if isinstance(one, Session)]
    assert names == ["a1", "a2", "b1"], "the last one finds nobody else, and its version was not rolled back"
    reached = found.reached[AgentId("b1")]
    assert reached == ("b1:1", "2")
