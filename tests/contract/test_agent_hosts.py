"""Agents of a machine that is drained: taken by nobody, counted as not free, cut from what they hold at the end."""

from __future__ import annotations

from dataclasses import replace

from router.core.model import Agent, AgentId, DataCenterId, Intent, Node, NodeId, PoolId, Session, SessionId
from router.store import Store
from router.store.takes import End, Start
from tests.contract.conftest import World

IAD, POOL, HOST, OTHER = DataCenterId("oracle-iad"), PoolId("tutors"), NodeId("oracle-iad-1"), NodeId("oracle-iad-2")


def furnished(world: World) -> None:
    """Two machines with an agent each, of two places."""
    world.seed(agents=0)
    world.apply(Node(OTHER, IAD, {"internet": "127.2.0.2"}))
    for id, node in (("a", HOST), ("b", OTHER)):
        agent = Agent(AgentId(id), POOL, IAD, node=node, address=f"{id}:1", capacity=2)
        world.do(lambda agent=agent: world.store.register_agent(agent, world.now))  # type: ignore[misc]


def intend(world: World, store: Store, intent: Intent) -> None:
    node = replace(store.inventory().nodes[HOST], intent=intent)
    world.do(lambda: store.put(node, if_match=None, actor="test", now=world.now))


def exchange(world: World, *starts: str, ends: tuple[str, ...] = ()) -> list[str]:
    asked = [Start(world.session(id), (IAD,)) for id in starts]
    done = world.store.exchange(asked, [End(SessionId(id), "test") for id in ends], world.now)
    world.counters = world.store.counters()
    return [str(one.agent) if isinstance(one, Session) else "none" for one in done.result.started]


def test_places_of_agents_are_counted_by_machine(world: World, store: Store) -> None:
    furnished(world)
    assert store.counters().idle_on == {HOST: 2, OTHER: 2} and store.counters().held_on == {}
    world.start(world.session("s1"))
    assert world.counters == store.counters() and store.counters().held_on == {HOST: 1}


def test_nobody_takes_an_agent_of_a_machine_that_is_drained(world: World, store: Store) -> None:
    furnished(world)
    intend(world, store, Intent.DRAINING)  # the differences are compared with a fresh count
    assert world.counters.idle_on == {OTHER: 2} and world.counters.idle == {(POOL, IAD): 2}
    assert exchange(world, "s1", "s2", "s3") == ["b", "b", "none"]
    intend(world, store, Intent.SERVING)
    assert exchange(world, "s3") == ["a"]


def test_one_that_is_freed_in_the_same_batch_is_not_taken_again(world: World, store: Store) -> None:
    furnished(world)
    assert exchange(world, "s1", "s2", "s3", "s4") == ["a", "a", "b", "b"]
    intend(world, store, Intent.DRAINED)
    assert exchange(world, "s5", ends=("s1",)) == ["none"]
    assert exchange(world, "s5", ends=("s3",)) == ["b"]


def test_what_is_left_on_a_machine_is_cut_and_its_neighbours_keep_theirs(world: World, store: Store) -> None:
    furnished(world)
    assert exchange(world, "s1", "s2", "s3") == ["a", "a", "b"]
    assert store.cut_agents(IAD, "drain d-1", world.now, HOST).result == 2
    left = {id: store.session(SessionId(id)) for id in ("s1", "s2", "s3")}
    assert [one.agent for one in left.values() if one is not None] == [None, None, "b"]
    assert store.counters().held_on == {OTHER: 1}
