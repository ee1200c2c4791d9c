"""The database as of one moment, for questions that take longer than one should keep others waiting."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from router.core.model import Counters, Flow
from router.store import session_queries
from router.store.commit import count_agents, count_all
from router.store.engine import Database


class Pinned:
    """A snapshot that stands since this was made; to be closed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection = database.pin()

    def counters(self) -> Counters:
        """Sessions and agents, counted."""
        return self._database.ask(self._connection, count_all)

    def agents(self) -> Counters:
        """Agents, counted, and no sessions."""
        return self._database.ask(self._connection, count_agents)

    def flows(self) -> Mapping[Flow, int]:
        """Live sessions with an agent per edge, agent's data center and class."""
        return self._database.ask(self._connection, session_queries.flows)

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()
