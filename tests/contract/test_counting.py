"""Counting live sessions reads one index and no row: it is done every ten seconds, of a million of them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from router.core.model import NodeId, SessionState
from router.store.heartbeats import Beat

PER_EDGE = "SELECT edge, count(*) FROM sessions WHERE state <> 'ended' GROUP BY edge"
PER_FLOW = (
    "SELECT edge, agent_data_center, traffic_class, count(*) FROM sessions"
    " WHERE state <> 'ended' AND agent_data_center IS NOT NULL GROUP BY edge, agent_data_center, traffic_class"
)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # PostgreSQL chooses by statistics, which say little here
@pytest.mark.parametrize("question", [PER_EDGE, PER_FLOW])
def test_sqlite_counts_from_a_covering_index(rows: Any, question: str) -> None:
    plan = " ".join(str(step[-1]) for step in rows(f"EXPLAIN QUERY PLAN {question}"))
    assert "USING COVERING INDEX ix_sessions_live_flow" in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_taking_moves_back_looks_at_those_that_move_and_not_at_all_that_are_held(world: Any) -> None:
    """It runs every two seconds in the writer: a million held sessions once took it half a second."""
    asked: list[tuple[str, Any]] = []
    engine = world.store._database.engine

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        asked.append((statement, values))

    event.listen(engine, "before_cursor_execute", note)
    world.store.roll_back_moves(world.now)
    event.remove(engine, "before_cursor_execute", note)
    questions = [(text, values) for text, values in asked if "FROM sessions" in text]
    assert questions
    with engine.connect() as connection:
        for text, values in questions:
            plan = [str(step[-1]) for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]
            assert plan == ["SEARCH sessions USING INDEX ix_sessions_live_moved_from (moved_from>?)"], plan


@pytest.mark.parametrize("said", ["attached", "detached"])
def test_a_heartbeat_takes_as_many_statements_for_sixteen_users_as_for_two(world: Any, said: str) -> None:
    """When a provider dies, hundreds of users arrive elsewhere within a second, and all of that waits for one disk."""
    world.seed(agents=18)
    statements: list[str] = []
    engine = world.store._database.engine

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    taken = []
    for first, many in ((0, 2), (2, 16)):  # powers of two: SQLite writes rows in pieces of such a size
        names = [f"s-{first + i}" for i in range(many)]
        for name in names:
            session = world.start(world.session(name))
            if said == "detached":
                world.touch(session.edge_node, (name, "attached"))
        statements.clear()
        event.listen(engine, "before_cursor_execute", count)
        heard = world.beat("linode-fra-1", *((name, said) for name in names))
        event.remove(engine, "before_cursor_execute", count)
        taken.append(len([one for one in statements if not one.startswith(("BEGIN", "SELECT 1"))]))
        assert heard.leaving == ()
        wanted = SessionState.ACTIVE if said == "attached" else SessionState.DETACHED
        assert {world.store.session(name).state for name in names} == {wanted}
        if said == "attached":
            assert {world.store.agent(world.store.session(name).agent).state.value for name in names} == {"busy"}
    assert taken[1] <= taken[0]  # the first one writes the node's lease, too


def test_heartbeats_without_news_take_as_many_statements_for_twelve_as_for_two(world: Any) -> None:
    """A thousand quiet nodes speak every few seconds, and starts and resumes wait for the same writer."""
    world.seed(agents=1)
    world.beat("linode-fra-1")
    statements: list[str] = []
    engine = world.store._database.engine

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    taken = []
    for many in (2, 12):
        until = world.lease + many
        beats = [Beat(NodeId("linode-fra-1"), 0, (), until - 1 + i % 2, until) for i in range(many)]
        statements.clear()
        event.listen(engine, "before_cursor_execute", count)
        found = world.do(lambda beats=beats: world.store.heartbeats(beats, world.now))
        event.remove(engine, "before_cursor_execute", count)
        taken.append(len([one for one in statements if not one.startswith(("BEGIN", "SELECT 1"))]))
        assert {heard.lease.expires_at for heard in found} == {until}
    assert taken[0] == taken[1]
