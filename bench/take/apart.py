"""Takes alone and returns alone: a pool with so many agents that none has to come back meanwhile."""

from __future__ import annotations

import time

from sqlalchemy import func, or_, select

from router.core.model import Agent, AgentId, AgentState, DataCenterId, PoolId
from router.store import bulk
from router.store.engine import Database
from router.store.rows import row_of
from router.store.tables import agents

AT_ONCE = 5_000


def stock(url: str, pool: str, hubs: list[str], count: int) -> None:
    """Write ``count`` more ready agents, spread over the hubs; registering them one by one takes minutes."""
    database, now = Database(url), int(time.time() * 1e6)
    made = [
        Agent(AgentId(f"b-{number:06}"), PoolId(pool), DataCenterId(hubs[number % len(hubs)]), state=AgentState.READY,
              address="127.0.0.9:7424", seen_at=now, epoch=1, since=now)
        for number in range(count)
    ]  # fmt: skip
    for start in range(0, count, AT_ONCE):
        part = [row_of(agent) for agent in made[start : start + AT_ONCE]]
        database.write(lambda connection, part=part: bulk.insert(connection, agents, part))  # type: ignore[misc]
    database.close()


def held_or_lost(url: str) -> int:
    """Agents that are not free, counted from the rows."""
    database = Database(url)
    busy = or_(agents.c.state != AgentState.READY.value, agents.c.held > 0, agents.c.session.is_not(None))
    try:
        return database.read(lambda connection: connection.execute(select(func.count()).where(busy)).scalar_one())
    finally:
        database.close()
