"""Who is on which machine: live sessions and legs by the machine that they were placed on, agents by their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, Table, case, func, select

from router.core.blame.facts import Fits
from router.core.model import NodeId
from router.core.pools import HOLDING
from router.store.tables import LIVE, LIVE_LEG, OPEN_TO_TAKERS, agents, legs, sessions


def on_nodes(connection: Connection) -> Mapping[NodeId, Fits]:
    """Sessions and places of agents of every machine that has some, in id order."""
    live: Counter[str] = Counter()
    for table, alive in ((sessions, LIVE), (legs, LIVE_LEG)):
        live.update(_per_node(connection, table, alive))
    free = case((OPEN_TO_TAKERS, agents.c.capacity - agents.c.held), else_=0)
    held = select(agents.c.node, func.sum(free), func.sum(agents.c.held)).where(agents.c.state.in_(HOLDING))
    rows = connection.execute(held.where(agents.c.node.is_not(None)).group_by(agents.c.node))
    places = {str(node): (int(idle), int(busy)) for node, idle, busy in rows}
    names = sorted({*live, *places})
    return {NodeId(name): Fits(live[name], 0, *places.get(name, (0, 0))) for name in names}


def _per_node(connection: Connection, table: Table, alive: ColumnElement[bool]) -> dict[str, int]:
    node = table.c.edge_node
    query = select(node, func.count()).where(alive, node.is_not(None)).group_by(node)
    return {str(name): int(count) for name, count in connection.execute(query)}
