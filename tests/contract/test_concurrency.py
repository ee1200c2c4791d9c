"""Many threads on one database: nothing is given out twice, and nothing is left half done."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event

from router.access import JoinToken, mint_key
from router.core.errors import InputRejected
from router.core.model import Agent, AgentState, Node, Policy, Provider, Region, SessionState
from router.store import Store
from router.store.rebinds import Rebind

THREADS = 8


def together(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run jobs at the same moment, one thread each; a refusal is returned as its code."""
    start = threading.Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return job()
        except InputRejected as error:
            return error.code

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def test_no_agent_is_taken_twice_and_none_is_left_over(store: Store, world: Any) -> None:
    world.seed(agents=20)

    def taker(number: int) -> Callable[[], list[Any]]:
        def take() -> list[Any]:
            mine = [world.session(f"s-{number}-{turn}") for turn in range(5)]
            return [
                store.start_session(
                    session, ("oracle-iad",), idempotency_key=session.id, request_hash=b"", now=world.now
                )
                for session in mine
            ]

        return take

    commits = [commit for some in together([taker(number) for number in range(THREADS)]) for commit in some]
    taken = [commit.result.agent for commit in commits if commit.result is not None]
    assert len(taken) == len(set(taken)) == 20
    assert sum(commit.result is None for commit in commits) == THREADS * 5 - 20
    changes = Counter[str]()
    for commit in commits:
        for change in commit.changes:
            changes.update({"sessions": sum(change.sessions.values()), "idle": sum(change.idle.values())})
            changes.update({"busy": sum(change.busy.values())})
    assert changes == {"sessions": 20, "idle": -20, "busy": 20}
    for agent in store.agents("tutors"):
        assert (agent.state, agent.epoch) == (AgentState.RESERVED, 1)
        assert store.session(agent.session).agent == agent.id


def test_takes_and_returns_at_once_keep_every_agent_bound_to_one_session(store: Store, world: Any) -> None:
    world.seed(agents=4)

    def worker(number: int) -> Callable[[], int]:
        def run() -> int:
            done = 0
            for turn in range(6):
                session = world.session(f"s-{number}-{turn}")
                started = store.start_session(
                    session, ("oracle-iad",), idempotency_key=None, request_hash=b"", now=world.now
                ).result
                if started is not None:
                    assert store.agent(started.agent).session == started.id
                    store.end_session(started.id, reason="done", now=world.now)
                    done += 1
            return done

        return run

    finished = sum(together([worker(number) for number in range(THREADS)]))
    assert finished >= 6
    epochs = [agent.epoch for agent in store.agents("tutors")]
    assert sum(epochs) == finished, "every take raised exactly one epoch"
    assert store.counters().idle == {("tutors", "oracle-iad"): 4}
    assert store.counters().sessions == store.counters().busy == {}


def test_simultaneous_retries_of_one_request_start_one_session(store: Store, world: Any) -> None:
    world.seed(agents=20)

    def request(number: int) -> Callable[[], Any]:
        session = world.session(f"s-{number}")
        return lambda: store.start_session(
            session, ("oracle-iad",), idempotency_key="same", request_hash=b"h", now=world.now
        )

    commits = together([request(number) for number in range(THREADS)])
    assert len({commit.result.id for commit in commits}) == 1
    assert sum(bool(commit.changes) for commit in commits) == 1
    assert store.counters().busy == {("tutors", "oracle-iad"): 1}


def test_one_of_many_movers_wins_and_the_rest_are_fenced(store: Store, world: Any) -> None:
    world.seed()
    live = world.live("s-1")

    def mover(number: int) -> Callable[[], Any]:
        return lambda: store.rebind_session(
            Rebind(
                live.id,
                expect_epoch=1,
                state=SessionState.MOVING,
                edge="oracle-fra" if number % 2 else "oracle-iad",
                edge_node=None,
                edges=(),
                moved_from=live.edge,
                reasons=(),
                lease_expires_at=world.lease,
                event_kind="session.moved",
            ),
            world.now,
        )

    answers = together([mover(number) for number in range(THREADS)])
    assert answers.count("fenced") == THREADS - 1
    (winner,) = (answer for answer in answers if answer != "fenced")
    assert store.session("s-1") == winner.result
    assert store.counters().sessions == {winner.result.edge: 1}


def test_a_join_token_redeemed_by_many_is_used_by_one(store: Store, world: Any) -> None:
    world.seed()
    store.add_join_token(JoinToken(b"hash", "oracle-fra", 1, world.now + 9), actor="ops")

    def joiner(number: int) -> Callable[[], Any]:
        node, (key, _) = Node(f"new-{number}", "oracle-fra"), mint_key(f"agent:new-{number}", "n", 1)
        return lambda: store.redeem_join_token(b"hash", node, key, world.now)

    answers = together([joiner(number) for number in range(THREADS)])
    assert answers.count("token_used") == THREADS - 1
    (winner,) = (answer.result for answer in answers if answer != "token_used")
    kept = store.keys()
    assert [key.scope for key in kept] == [f"agent:{winner.id}"]
    assert [id for id in store.inventory().nodes if id.startswith("new")] == [winner.id]


def test_one_of_many_writers_of_a_revision_wins(store: Store) -> None:
    store.put(Provider("p"), if_match=0, actor="ops", now=1)
    jobs = [
        lambda name=str(number): store.put(Provider("p", name), if_match=1, actor=name, now=2)
        for number in range(THREADS)
    ]
    answers = together(jobs)
    assert answers.count("revision_conflict") == THREADS - 1
    assert store.inventory().providers["p"].revision == 2
    assert len(store.events(kind="provider.updated")) == 1


def test_unconditional_writers_all_count(store: Store) -> None:
    jobs = [
        lambda name=str(number): store.put(Provider("p", name), if_match=None, actor=name, now=2)
        for number in range(THREADS)
    ]
    revisions = sorted(commit.result.revision for commit in together(jobs))
    assert revisions == list(range(1, THREADS + 1))
    assert len(store.events(subject="p")) == THREADS


def test_a_place_is_not_deleted_under_a_session_that_is_starting(store: Store, world: Any) -> None:
    for turn in range(6):
        world.seed(agents=0)
        session = world.session(f"s-{turn}", pool=None, edge_node=None)
        store.delete("nodes", "linode-fra-1", if_match=None, actor="ops", now=1)
        started, deleted = together(
            [
                lambda s=session: store.start_session(s, (), idempotency_key=None, request_hash=b"", now=world.now),
                lambda: store.delete("data-centers", "linode-fra", if_match=None, actor="ops", now=1),
            ]
        )
        outcome = (started == "unknown_data_center", deleted == "sessions_live")
        assert outcome in ((True, False), (False, True)), (started, deleted)
        if outcome[1]:
            store.end_session(session.id, reason="over", now=world.now)


def test_a_policy_never_names_a_provider_that_has_just_gone(store: Store) -> None:
    """A reference inside a list has no foreign key, so the queue of intent writers must protect it."""
    for turn in range(8):
        store.apply([Provider("p")], [], actor="ops", now=turn)
        answers = together(
            [
                lambda: store.put(Policy("eu", deny_providers=("p",)), if_match=None, actor="ops", now=1),
                lambda: store.delete("providers", "p", if_match=None, actor="ops", now=1),
            ]
        )
        assert ("unknown_reference" in answers) != ("in_use" in answers), answers
        if "in_use" in answers:
            store.delete("policies", "eu", if_match=None, actor="ops", now=2)


def test_agents_registering_while_their_pool_goes_are_refused_or_kept(store: Store, world: Any) -> None:
    world.seed(agents=0)
    answers = together(
        [lambda: store.delete("pools", "tutors", if_match=None, actor="ops", now=1)]
        + [lambda id=f"a-{n}": world.store.register_agent(_agent(id), world.now) for n in range(3)]
    )
    if answers[0] == "in_use":
        assert len(store.agents("tutors")) >= 1
    else:
        assert store.inventory().pools == {}
        assert store.agent("a-0") is None


def _agent(id: str) -> Any:
    return Agent(id, "tutors", "oracle-iad")


class Crash(Exception):
    """Something nobody expected, between two statements."""


class CrashAfter:
    """Raises once, when the given number of statements of a transaction have run."""

    def __init__(self, store: Store, statements: int) -> None:
        self.left = statements
        self.engine = store._database.engine
        event.listen(self.engine, "before_cursor_execute", self.count)

    def count(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("BEGIN", "SELECT 1")):
            return
        self.left -= 1
        if self.left < 0:
            raise Crash

    def remove(self) -> None:
        event.remove(self.engine, "before_cursor_execute", self.count)


@pytest.mark.parametrize("statements", range(6))
def test_a_crash_between_statements_leaves_nothing(store: Store, world: Any, rows: Any, statements: int) -> None:
    world.seed()
    tables = ("sessions", "agents", "idempotency_keys", "events", "departures")

    def contents() -> list[Any]:
        return [sorted(rows(f"SELECT * FROM {table}"), key=repr) for table in tables]

    before = contents()
    session = world.session("s-1")
    crash = CrashAfter(store, statements)
    with pytest.raises(Crash):
        store.start_session(session, ("oracle-iad",), idempotency_key="k", request_hash=b"", now=world.now)
    crash.remove()
    assert contents() == before
    assert world.start(session, key="k").agent == "a-000", "and the next one works"


@pytest.mark.parametrize("statements", range(5))
def test_a_crash_while_ending_leaves_the_session_alive(store: Store, world: Any, statements: int) -> None:
    world.seed()
    live = world.live("s-1")
    crash = CrashAfter(store, statements)
    with pytest.raises(Crash):
        store.end_session(live.id, reason="x", now=world.now)
    crash.remove()
    assert store.session("s-1") == live
    assert store.agent(live.agent).session == "s-1"
    assert world.touch("linode-fra-1") == ()


def test_a_crash_in_the_middle_of_a_fleet_leaves_nothing(store: Store) -> None:
    crash = CrashAfter(store, 4)
    with pytest.raises(Crash):
        store.apply([Provider("p"), Region("r")], [], actor="ops", now=1)
    crash.remove()
    assert store.inventory().providers == store.inventory().regions == {}


def test_readers_see_whole_transactions(store: Store, world: Any) -> None:
    """A provider and its data center come and go together; no reader may see one without the other."""
    stop = threading.Event()
    seen: Counter[tuple[bool, bool]] = Counter()

    def read() -> None:
        while not stop.is_set():
            inventory = store.inventory()
            seen["p" in inventory.providers, "p-1" in inventory.data_centers] += 1

    def write() -> None:
        both = [Provider("p"), Region("r"), world.data_center("p-1", "r")]
        try:
            for turn in range(15):
                store.apply(both, [], actor="ops", now=turn)
                store.apply([], [("data-centers", "p-1"), ("providers", "p")], actor="ops", now=turn)
        finally:
            stop.set()

    together([write, read, read])
    assert set(seen) <= {(True, True), (False, False)}
    assert sum(seen.values()) > 0
