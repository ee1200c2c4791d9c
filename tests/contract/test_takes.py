"""Many starts and ends in one transaction mean the same as one after the other, on both databases."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection

from router.core.errors import InputRejected
from router.core.messages import SessionsChanged
from router.core.model import (
    Agent,
    AgentId,
    AgentState,
    Client,
    DataCenterId,
    NodeId,
    Pool,
    PoolId,
    Session,
    SessionId,
    SessionState,
)
from router.runtime.turnstile import Turnstile
from router.store import Store, batch_sqlite, migrate, takes
from router.store.commit import Commit
from router.store.engine import Database
from router.store.takes import End, Exchanged, Start
from tests.contract.conftest import NOW, World

IAD, FRA = DataCenterId("oracle-iad"), DataCenterId("oracle-fra")


def asked(world: World, id: str, *hubs: DataCenterId, key: str | None = None, hash: bytes = b"h", **more: Any) -> Start:
    """A start of a session of the pool."""
    return Start(world.session(id, **more), hubs or (IAD,), key, hash)


def exchange(world: World, starts: list[Start], ends: tuple[str, ...] = ()) -> Exchanged:
    """One transaction; the counters must agree with a fresh count after it."""
    wanted = [End(SessionId(id), "test") for id in ends]
    found: Exchanged = world.do(lambda: world.store.exchange(starts, wanted, world.now))
    return found


def codes(outcomes: tuple[Any, ...]) -> list[str]:
    """What each request got: its agent, the code of its refusal, or ``none``."""
    return [
        one.code if isinstance(one, InputRejected) else "none" if one is None else str(one.agent) for one in outcomes
    ]


def with_room(world: World, id: str, capacity: int, data_center: DataCenterId = IAD) -> None:
    """An agent for several sessions."""
    agent = Agent(AgentId(id), PoolId("tutors"), data_center, address=f"{id}:1", capacity=capacity)
    world.do(lambda: world.store.register_agent(agent, world.now))


def test_a_batch_gives_each_agent_once_and_says_where_it_is(world: World) -> None:
    world.seed(agents=3)
    found = exchange(world, [asked(world, f"s-{n}") for n in range(5)])
    assert codes(found.started) == ["a-000", "a-001", "a-002", "none", "none"]
    assert found.reached == {f"a-00{n}": ("127.2.0.9:7424", "") for n in range(3)}
    stored = {id: world.store.session(SessionId(id)) for id in ("s-0", "s-1", "s-2", "s-3")}
    assert stored["s-3"] is None and [stored[f"s-{n}"] for n in range(3)] == list(found.started[:3])
    for session in found.started[:3]:
        assert session is not None and not isinstance(session, InputRejected)
        (started,) = world.store.session_events(session.id)
        assert started.kind == "session.started" and started.detail["agent"] == session.agent


def test_ends_come_first_so_that_their_agents_can_be_taken_again(world: World) -> None:
    world.seed(agents=1)
    exchange(world, [asked(world, "s-0")])
    found = exchange(world, [asked(world, "s-1")], ("s-0", "s-0", "nobody"))
    assert codes(found.started) == ["a-000"]
    assert codes(found.ended) == ["a-000", "a-000", "unknown_session"]
    first, again = found.started[0], found.ended[0]
    assert isinstance(first, Session) and isinstance(again, Session) and first.agent_epoch > again.agent_epoch
    assert found.reached == {"a-000": ("127.2.0.9:7424", "")}
    assert codes(exchange(world, [], ("s-0",)).ended) == ["a-000"], "ending again changes nothing"


def test_every_session_that_began_is_counted_although_as_many_ended_in_the_same_batch(world: World) -> None:
    world.seed(agents=2)
    exchange(world, [asked(world, "s-0"), asked(world, "s-1")])
    ends = [End(SessionId("s-0"), "test"), End(SessionId("s-1"), "test")]
    done = world.store.exchange([asked(world, "s-2"), asked(world, "s-3")], ends, world.now)
    (change,) = [one for one in done.changes if isinstance(one, SessionsChanged)]
    assert sum(change.began.values()) == 2 and not change.busy


def test_a_second_choice_is_served_after_all_first_choices(world: World) -> None:
    world.seed(agents=1)
    world.register("b-000", "oracle-fra")
    found = exchange(world, [asked(world, "s-0", IAD, FRA), asked(world, "s-1", IAD, FRA), asked(world, "s-2", FRA)])
    assert codes(found.started) == ["a-000", "none", "b-000"]


def test_an_agent_with_room_is_filled_before_an_empty_one_is_touched(world: World) -> None:
    world.seed(agents=0)
    for id in ("w-0", "w-1"):
        with_room(world, id, 3)
    assert codes(exchange(world, [asked(world, "s-0")]).started) == ["w-0"]
    found = exchange(world, [asked(world, f"s-{n}") for n in range(1, 5)])
    assert codes(found.started) == ["w-0", "w-0", "w-1", "w-1"]
    exchange(world, [], ("s-1", "s-3"))
    found = exchange(world, [asked(world, f"t-{n}") for n in range(4)])
    assert Counter(codes(found.started)) == {"w-0": 1, "w-1": 2, "none": 1}
    held = {agent.id: agent.held for agent in world.store.agents(PoolId("tutors"))}
    assert held == {"w-0": 3, "w-1": 3}


def test_repeats_of_a_key_get_what_the_first_got(world: World) -> None:
    world.seed(agents=2)
    batch = [asked(world, "s-0", key="k"), asked(world, "s-1", key="k"), asked(world, "s-2", key="k", hash=b"other")]
    assert codes(exchange(world, batch).started) == ["a-000", "a-000", "idempotency_conflict"]
    later = exchange(world, [asked(world, "s-3", key="k"), asked(world, "s-4", key="k", hash=b"other")])
    first, conflict = later.started
    assert isinstance(first, Session) and first.id == "s-0"
    assert isinstance(conflict, InputRejected) and "s-0" in conflict.message


def test_a_key_that_started_nothing_is_free_within_a_batch_too(world: World) -> None:
    world.seed(agents=1)
    batch = [asked(world, "s-0", FRA, key="k"), asked(world, "s-1", key="k", hash=b"other")]
    assert codes(exchange(world, batch).started) == ["none", "a-000"]
    wrong_first = [asked(world, "s-2", key="k"), asked(world, "s-3", key="k", hash=b"other")]
    assert codes(exchange(world, wrong_first).started) == ["idempotency_conflict", "a-000"]


def test_what_is_missing_is_told_to_those_who_named_it(world: World) -> None:
    world.seed(agents=4)
    batch = [
        asked(world, "s-0"),
        asked(world, "s-1", pool="nobody"),
        replace(asked(world, "s-2"), session=world.session("s-2", edge="nowhere")),
        replace(asked(world, "s-3"), session=world.session("s-3", edge_node=NodeId("no-node"))),
        replace(asked(world, "s-4"), session=world.session("s-4", edge="nowhere", edge_node=None)),
        Start(world.session("s-5", pool=None)),
    ]
    found = codes(exchange(world, batch).started)
    assert found == ["a-000", "unknown_pool", "unknown_data_center", "unknown_node", "unknown_data_center", "None"]


def test_ended_sessions_are_forgotten_with_their_trails_and_live_ones_are_not(
    world: World, rows: Callable[[str], list[Any]]
) -> None:
    world.seed(agents=2)
    exchange(world, [asked(world, "s-0"), asked(world, "s-1", key="k")])
    exchange(world, [], ("s-0",))
    assert world.store.forget_ended(NOW).result == 0, "it ended just now"
    assert world.store.forget_ended(NOW + 1).result > 0
    assert world.store.forget_ended(NOW + 1).result == 0
    assert world.store.session(SessionId("s-0")) is None and world.store.session(SessionId("s-1")) is not None
    assert not world.store.session_events(SessionId("s-0"))
    kinds = {kind for (kind,) in rows("SELECT kind FROM events")}
    assert "agent.registered" in kinds and "session.ended" not in kinds


@pytest.mark.parametrize("poison", ["\ud800", "nul\x00"])
async def test_a_value_that_no_database_holds_spoils_nobody_elses_request(world: World, poison: str) -> None:
    world.seed(agents=4)

    async def commit(fn: Any) -> Any:
        done: Commit[Exchanged] = await asyncio.to_thread(fn, world.store)
        return done.result

    turnstile = Turnstile(commit, lambda: NOW)
    bad = asked(world, "s-bad", metadata={"note": poison})
    requests = [turnstile.start(one) for one in (asked(world, "s-0"), bad, asked(world, "s-1"))]
    found = await asyncio.gather(*requests, return_exceptions=True)
    good = [one for one in (found[0], found[2]) if isinstance(one, tuple)]
    assert len(good) == 2 and len({one[0].agent for one in good}) == 2
    assert {one[1] for one in good} == {"127.2.0.9:7424"}
    if isinstance(found[1], InputRejected):  # SQLite holds some of what PostgreSQL does not
        assert found[1].code == "bad_value"
        assert world.store.session(SessionId("s-bad")) is None


@pytest.mark.parametrize("agents", [5, 40])
def test_takers_at_the_same_time_never_share_an_agent(world: World, url: str, agents: int) -> None:
    world.seed(agents=agents)
    taken: list[str] = []
    stores = [Store(url) for _ in range(3)]

    def take(number: int) -> None:
        for turn in range(4):
            starts = [asked(world, f"s-{number}-{turn}-{k}", IAD, FRA) for k in range(5)]
            for one in stores[number].exchange(starts, [], NOW).result.started:
                if isinstance(one, Session):
                    taken.append(str(one.agent))

    threads = [threading.Thread(target=take, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert len(taken) == len(set(taken)) <= agents
    if agents <= 20:  # whoever skipped a locked one asks again, and in the end none is left
        last = world.store.exchange([asked(world, f"s-last-{k}") for k in range(agents)], [], NOW).result.started
        taken += [str(one.agent) for one in last if isinstance(one, Session)]
        assert len(taken) == len(set(taken)) == agents
    counted = world.store.counters()
    assert sum(counted.busy.values()) == len(taken)


def test_a_batch_says_whether_somebody_waits_for_the_agents_that_it_frees(world: World) -> None:
    world.seed(agents=1)
    said: list[bool] = []

    def tell(starts: list[Start], ends: tuple[str, ...] = ()) -> None:
        def write() -> Commit[Exchanged]:
            done = world.store.exchange(starts, [End(SessionId(id), "test") for id in ends], world.now)
            said.append(done.waiting)
            return done

        world.do(write)

    tell([asked(world, "s-0")])
    tell([replace(asked(world, "s-1"), queue_until=NOW + 30_000_000)])
    tell([], ("s-0",))
    tell([], ("s-1",))
    tell([asked(world, "s-2")])
    tell([], ("s-2",))
    del said[3]  # of s-1 itself, which waits before this and not after it
    assert said == [False, True, True, False, False]


@pytest.mark.parametrize("room", [1, 2])
def test_an_agent_that_must_finish_up_is_not_taken_by_the_batch_that_frees_it(world: World, room: int) -> None:
    world.seed(agents=0)
    world.apply(Pool(PoolId("tutors"), wrap_s=5))
    with_room(world, "w-0", room)
    exchange(world, [asked(world, "s-0")])
    found = exchange(world, [asked(world, "s-1")], ("s-0",))
    assert codes(found.ended) == ["w-0"] and codes(found.started) == ["none"]
    agent = world.store.agent(AgentId("w-0"))
    assert agent is not None and agent.state is AgentState.WRAPPING and agent.held == 0 and agent.session is None


@pytest.mark.parametrize("n", [1, 7, 200])
def test_whatever_the_size_of_a_batch_its_sessions_come_back_as_they_were(world: World, n: int) -> None:
    world.seed(agents=1)
    with_room(world, "b-large", n)
    places = [Client(None, 64_512, "DE", 50.1 + i / 3, -i / 7) for i in range(n)]
    drafts = [asked(world, f"s-{i:03}", client=places[i], metadata={"a": '"', "b": "é"}) for i in range(n)]
    begun = exchange(world, drafts).started
    ended = exchange(world, [], tuple(one.session.id for one in drafts)).ended
    for one, first, last in zip(drafts, begun, ended, strict=True):
        assert isinstance(first, Session) and isinstance(last, Session)
        assert first.client == last.client == one.session.client
        assert last == world.store.session(first.id)
        over = {"state": SessionState.ENDED, "ended_at": last.ended_at, "end_reason": "test"}
        assert last == replace(first, **over)  # type: ignore[arg-type]


def test_finding_free_agents_sorts_none(empty_url: str) -> None:
    # A pool of ten thousand sorted for each batch took most of the database's time.
    database = Database(empty_url)
    migrate.upgrade(database)

    def plan(connection: Connection) -> str:
        if database.sqlite:
            steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {batch_sqlite._FREE}", ("p", "d", "", 9))
            return " ".join(str(step[-1]) for step in steps)
        wanted = json.dumps([{"pool": "p", "hub": "d", "lane": "", "at_most": 9}])
        steps = connection.exec_driver_sql(f"EXPLAIN {takes._FREE_EVERYWHERE}", (wanted,))
        return " ".join(steps.scalars())

    found = database.write(plan, batch=True)
    assert "ix_agents_ready" in found
    assert "Sort" not in found and "TEMP B-TREE" not in found
    database.close()
