"""What a group commit asks of the database, finds there, and writes; the same for both databases.

Rows are plain mappings with the columns of :mod:`router.store.tables`, JSON columns decoded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from router.core.model import Micros
from router.store.rows import Row
from router.store.takes import Place

dumped: Callable[[object], str] = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

# What changes when an agent is taken or freed.
AGENT_COLUMNS = ("id", "state", "epoch", "held", "served", "session", "since", "deadline_at")
# What a session that begins says; the other columns are empty until it has lived.
SESSION_COLUMNS = (
    "id", "state", "traffic_class", "client_prefix", "client_asn", "client_country", "client_latitude",
    "client_longitude", "edge", "edge_node", "edges", "epoch", "created_at", "lease_expires_at", "pool", "agent",
    "agent_data_center", "constraints", "metadata", "reasons", "agent_epoch",
)  # fmt: skip
KEY_COLUMNS = ("key", "request_hash", "session", "expires_at")
DEPARTURE_COLUMNS = ("node", "session", "stray", "created_at")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a batch wants to know: it ends these sessions for these reasons, and looks for these things."""

    ends: Mapping[str, str]
    places: Mapping[Place, int]  # so many agents of each, those with the least room first
    keys: Sequence[str]
    edges: Sequence[str]
    nodes: Sequence[str]
    now: Micros


@dataclass(frozen=True, slots=True)
class Sight:
    """What is there. The sessions in ``ended`` have just ended; agents are locked, edges and nodes stay for now."""

    ended: Sequence[Row]
    held: Sequence[Row]  # agents of the sessions that ended
    pools: Sequence[Row]  # of these agents
    free: Sequence[Row]  # agents that may be taken
    known: frozenset[str]  # keys that were used before
    edges: frozenset[str]
    homes: Mapping[str, str]  # data centers of the nodes
    queued: frozenset[str]  # pools, of those in question, in which sessions wait
    legs: bool  # some of the ended sessions have, or had, further legs
    on_ramps: frozenset[tuple[str, str]]  # pools and versions of agents that are lanes of their own
    closed: frozenset[str]  # machines whose agents take nobody


@dataclass(slots=True)
class Notes:
    """Rows to write: agents by id, everything else anew."""

    agents: list[Row] = field(default_factory=list)
    sessions: list[Row] = field(default_factory=list)
    keys: list[Row] = field(default_factory=list)
    departures: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
