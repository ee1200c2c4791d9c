"""Many rows in few statements say what as many statements would, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from router.store import bulk
from router.store.engine import Database
from router.store.migrate import upgrade
from router.store.tables import events, node_leases


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 200])
def test_rows_of_any_number_are_written_and_changed_in_order(empty_url: str, count: int) -> None:
    database = Database(empty_url)
    upgrade(database)
    leases = [{"node": f"n-{i:03}", "epoch": i, "expires_at": 10 * i} for i in range(count)]
    told = [
        {"at": i, "kind": "k", "subject": f"s-{i}", "actor": "a", "reason": "", "detail": {"n": i, "x": None}}
        for i in range(count)
    ]
    database.write(lambda c: (bulk.insert(c, node_leases, leases), bulk.insert(c, events, told)))
    database.write(lambda c: bulk.update(c, node_leases, [{**row, "expires_at": 7} for row in leases[::2]]))
    found = database.read(lambda c: c.execute(select(node_leases).order_by(node_leases.c.node)).all())
    assert [tuple(row) for row in found] == [
        (row["node"], row["epoch"], row["expires_at"] if i % 2 else 7) for i, row in enumerate(leases)
    ]
    trail = database.read(lambda c: c.execute(select(events.c.subject, events.c.detail).order_by(events.c.id)).all())
    assert [tuple(row) for row in trail] == [(row["subject"], row["detail"]) for row in told]
    database.close()


def test_rows_of_sqlite_go_in_pieces_so_that_the_interpreter_is_let_go_of_few_times(tmp_path: object) -> None:
    database = Database(f"sqlite:///{tmp_path}/pieces.db")
    upgrade(database)
    said: list[str] = []

    def work(connection: object) -> None:
        raw = connection.connection.driver_connection  # type: ignore[attr-defined]
        raw.set_trace_callback(said.append)
        bulk.insert(connection, node_leases, [{"node": f"n-{i}", "epoch": 1, "expires_at": 1} for i in range(200)])  # type: ignore[arg-type]
        raw.set_trace_callback(None)

    database.write(work)
    assert len([text for text in said if text.startswith("INSERT")]) == 200 // 64 + 1
    database.close()
