"""Counting live sessions reads one index and no row: it is done every ten seconds, of a million of them."""

from __future__ import annotations

from typing import Any

import pytest

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
