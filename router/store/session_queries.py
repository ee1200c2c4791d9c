"""Questions about sessions that change nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, Select, String, Table, and_, bindparam, func, or_, select, text

from router.core.model import DataCenterId, Event, Flow, NodeId, Session, SessionState, TrafficClass
from router.store import events, legs
from router.store.rows import read_session
from router.store.tables import HOLDER_UNTIL, LIVE, LIVE_LEG, sessions

_ASN = re.compile(r"(?:AS)?([0-9]{1,10})", re.IGNORECASE)


def find(
    connection: Connection,
    *,
    data_center: DataCenterId | None,
    state: SessionState | None,
    client: str | None,
    pool: str | None,
    metadata: Mapping[str, str] | None,
    limit: int,
    after: str | None,
) -> tuple[Session, ...]:
    """Return sessions in id order, those after ``after``; ``data_center`` is their edge."""
    query = select(sessions, HOLDER_UNTIL).order_by(sessions.c.id).limit(limit)
    for column, value in ((sessions.c.edge, data_center), (sessions.c.state, state), (sessions.c.pool, pool)):
        if value is not None:
            query = query.where(column == value)
    if state is not None and state.live:
        query = query.where(LIVE)
    if after is not None:
        query = query.where(sessions.c.id > after)
    if client is not None:
        query = query.where(_of_client(client))
    query = _with_metadata(query, metadata or {}, connection.dialect.name)
    return tuple(read_session(row) for row in connection.execute(query).mappings())


def _of_client(client: str) -> ColumnElement[bool]:
    """Match the text of a prefix, an ASN (with or without ``AS``), or a country."""
    ways = [sessions.c.client_prefix == client, sessions.c.client_country == client.upper()]
    asn = _ASN.fullmatch(client)
    return or_(*ways, sessions.c.client_asn == int(asn[1])) if asn else or_(*ways)


def _with_metadata(
    query: Select[*tuple[object, ...]], metadata: Mapping[str, str], dialect: str
) -> Select[*tuple[object, ...]]:
    if not metadata:
        return query
    if dialect == "postgresql":
        return query.where(
            sessions.c.metadata.op("@>")(bindparam("wanted", dict(metadata), type_=sessions.c.metadata.type))
        )
    # Not a JSON path: a key may contain quotes and dots, and a parameter cannot be misread.
    pairs = [
        text(
            f"EXISTS (SELECT 1 FROM json_each(sessions.metadata) WHERE key = :key{i} AND value = :value{i})"
        ).bindparams(bindparam(f"key{i}", key, String), bindparam(f"value{i}", metadata[key], String))
        for i, key in enumerate(sorted(metadata))
    ]
    return query.where(and_(*pairs))


def movable(
    connection: Connection, data_center: DataCenterId, limit: int, node: NodeId | None = None
) -> tuple[Session, ...]:
    """Live sessions that are placed on an edge, or on one machine of it, oldest first, and after them such legs."""
    mine = select(sessions, HOLDER_UNTIL).where(LIVE, *_placed(sessions, data_center, node))
    query = mine.order_by(sessions.c.created_at, sessions.c.id).limit(limit)
    found = [read_session(row) for row in connection.execute(query).mappings()]
    if len(found) < limit:
        here = (LIVE_LEG, *_placed(legs.table, data_center, node))
        found.extend(legs.find(connection, *here, limit=limit - len(found)).values())
    return tuple(found)


def _placed(table: Table, data_center: DataCenterId, node: NodeId | None) -> list[ColumnElement[bool]]:
    here = [table.c.edge == data_center]
    return here if node is None else [*here, table.c.edge_node == node]


def count_on(connection: Connection, data_center: DataCenterId, node: NodeId | None = None) -> int:
    """How many live sessions and legs an edge has: those placed on it and those whose users are still to leave it.

    Of one machine: those placed on it and those whom it still holds.
    """

    def there(table: Table) -> ColumnElement[bool]:
        if node is not None:
            return or_(table.c.edge_node == node, table.c.held_by == node)
        return or_(table.c.edge == data_center, table.c.moved_from == data_center)

    count = select(func.count())
    placed = connection.execute(count.select_from(sessions).where(LIVE, there(sessions))).scalar_one()
    return placed + connection.execute(count.select_from(legs.table).where(LIVE_LEG, there(legs.table))).scalar_one()


def count_leaving(connection: Connection, data_center: DataCenterId, node: NodeId | None = None) -> int:
    """How many live sessions and legs are on their way from an edge, or from one machine of it, to another place."""

    def leaving(table: Table) -> list[ColumnElement[bool]]:
        there = [table.c.moved_from == data_center, table.c.state == SessionState.MOVING]
        return there if node is None else [*there, table.c.held_by == node]

    count = select(func.count())
    users = connection.execute(count.select_from(sessions).where(LIVE, *leaving(sessions))).scalar_one()
    return users + connection.execute(count.select_from(legs.table).where(LIVE_LEG, *leaving(legs.table))).scalar_one()


def flows(connection: Connection) -> Mapping[Flow, int]:
    """Count live sessions with an agent per edge, agent's data center and class, in their order."""
    place = (sessions.c.edge, sessions.c.agent_data_center, sessions.c.traffic_class)
    query = select(*place, func.count()).where(LIVE, sessions.c.agent_data_center.is_not(None)).group_by(*place)
    found = [((DataCenterId(a), DataCenterId(b), TrafficClass(k)), n) for a, b, k, n in connection.execute(query) if b]
    return dict(sorted(found))


def trail(connection: Connection, id: str) -> tuple[Event, ...]:
    """The life of a session, oldest first."""
    return events.of_subject(connection, id, "session.")
