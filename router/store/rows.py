"""Model <-> row: columns are named like fields, so copying is by name and only the odd types are listed here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import Enum
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import RowMapping

from router.access import Key
from router.core.capacity import Launch, LaunchState
from router.core.model import (
    KINDS,
    Agent,
    AgentState,
    Client,
    Constraints,
    Drain,
    DrainMode,
    DrainOrigin,
    DrainState,
    Event,
    Intent,
    Leg,
    Ramp,
    RampKind,
    RampState,
    Resource,
    Role,
    Selector,
    Session,
    SessionState,
    TrafficClass,
)

Row = Mapping[str, Any] | RowMapping
T = TypeVar("T")


def _optional(decode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else decode(value)


def _sorted(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value[key] for key in sorted(value)}


_tuple = _optional(tuple)
_DECODE: Mapping[str, Callable[[Any], Any]] = {
    "labels": _sorted,
    "addresses": _sorted,
    "match_labels": _sorted,
    "metadata": _sorted,
    "detail": dict,
    "roles": lambda value: tuple(Role(role) for role in value),
    "intent": Intent,
    "traffic_class": TrafficClass,
    "match_class": _optional(TrafficClass),
    "edges": tuple,
    "reasons": tuple,
    "targets": tuple,
    "pin": tuple,
    "previous": lambda value: {id: Intent(value[id]) for id in sorted(value)},
    "mode": DrainMode,
    **dict.fromkeys(("allow_providers", "deny_providers", "allow_regions", "deny_regions", "allow_transports"), _tuple),
}
_DRAIN_DECODE: Mapping[str, Callable[[Any], Any]] = {
    **_DECODE,
    "state": DrainState,
    "selector": lambda value: Selector(**value),
    "origin": DrainOrigin,
    "paused_from": _optional(DrainState),
    "previous_nodes": _DECODE["previous"],
    "agents_behind": _sorted,
    "nodes": tuple,
    "receivers": tuple,
}
_RAMP_DECODE = {"kind": RampKind, "state": RampState, "paused_from": _optional(RampState)}
_AS_STORED: Mapping[str, Callable[[Any], Any]] = {}
_AGENT_DECODE = {**_DECODE, "state": AgentState}
_CLIENT_FIELDS = tuple(field.name for field in fields(Client))


def row_of(value: Resource | Agent | Event | Key) -> dict[str, Any]:
    """Columns of anything whose fields are columns as they are."""
    return _encode(value)


def read_resource(kind: str, row: Row) -> Resource:
    """The resource in a row of the table of ``kind``."""
    return _decode(KINDS[kind], row, _DECODE)


def read_agent(row: Row) -> Agent:
    """The agent in a row."""
    return _decode(Agent, row, _AGENT_DECODE)


def session_row(session: Session) -> dict[str, Any]:
    """Columns of a session; its client is flattened, its constraints are one JSON value."""
    row = _encode(session)
    del row["client"]
    row.update({f"client_{name}": getattr(session.client, name) for name in _CLIENT_FIELDS})
    row["constraints"] = _encode(session.constraints)
    return row


def started_row(session: Session) -> dict[str, Any]:
    """Columns of a session that begins; those that are left out are empty until it has lived."""
    client, wishes = session.client, session.constraints
    return {
        "id": session.id, "state": session.state.value, "traffic_class": session.traffic_class.value,
        "client_prefix": client.prefix, "client_asn": client.asn, "client_country": client.country,
        "client_latitude": client.latitude, "client_longitude": client.longitude, "edge": session.edge,
        "edge_node": session.edge_node, "edges": session.edges, "epoch": session.epoch,
        "created_at": session.created_at, "lease_expires_at": session.lease_expires_at, "pool": session.pool,
        "agent": session.agent, "agent_data_center": session.agent_data_center,
        "constraints": _NO_WISHES_ROW if wishes == _NO_WISHES else _encode(wishes),
        "metadata": _sorted(session.metadata), "reasons": session.reasons, "agent_epoch": session.agent_epoch,
    }  # fmt: skip


def read_session(row: Row) -> Session:
    """The session in a row."""
    known = {**_placed(row), "constraints": _decode(Constraints, row["constraints"], _DECODE)}
    return _decode(Session, {**row, **known}, _DECODE)


def _placed(row: Row) -> dict[str, Any]:
    """What sessions and legs have in common; a lease that a node holds for them counts if it was read along."""
    known: dict[str, Any] = {
        "state": SessionState(row["state"]),
        "client": Client(**{name: row[f"client_{name}"] for name in _CLIENT_FIELDS}),
    }
    held_until = row.get("holder_until")
    if held_until is not None:
        known["lease_expires_at"] = max(held_until, row["lease_expires_at"])
    return known


def leg_row(leg: Leg) -> dict[str, Any]:
    """Columns of a leg; its client is flattened."""
    row = _encode(leg)
    del row["client"]
    row.update({f"client_{name}": getattr(leg.client, name) for name in _CLIENT_FIELDS})
    return row


def read_leg(row: Row) -> Leg:
    """The leg in a row."""
    return _decode(Leg, {**row, **_placed(row)}, _DECODE)


def drain_row(drain: Drain) -> dict[str, Any]:
    """Columns of a drain."""
    return {**_encode(drain), "selector": _encode(drain.selector)}


def read_drain(row: Row) -> Drain:
    """The drain in a row."""
    return _decode(Drain, row, _DRAIN_DECODE)


def ramp_row(ramp: Ramp) -> dict[str, Any]:
    """Columns of a ramp."""
    return _encode(ramp)


def read_ramp(row: Row) -> Ramp:
    """The ramp in a row."""
    return _decode(Ramp, row, _RAMP_DECODE)


def launch_row(launch: Launch) -> dict[str, Any]:
    """Columns of a launch."""
    return _encode(launch)


def read_launch(row: Row) -> Launch:
    """The launch in a row."""
    return _decode(Launch, row, {"state": LaunchState, "why": tuple})


def read_event(row: Row) -> Event:
    """The event in a row."""
    return _decode(Event, row, _DECODE)


def read_key(row: Row) -> Key:
    """The key in a row."""
    return _decode(Key, row, _AS_STORED)


def _encode(value: Any) -> dict[str, Any]:
    names, values = _fields(type(value))
    return dict(zip(names, map(_plain, values(value)), strict=True))


def _fields(cls: type[Any]) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """Names of a dataclass' fields, and what picks their values: looking them up costs more than copying."""
    known = _FIELDS.get(cls)
    if known is None:
        names = tuple(field.name for field in fields(cls))
        known = _FIELDS[cls] = (names, attrgetter(*names))
    return known


_FIELDS: dict[type[Any], tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]] = {}


_NO_WISHES = Constraints()
_NO_WISHES_ROW = {field.name: getattr(_NO_WISHES, field.name) for field in fields(Constraints)}
_AS_IT_IS = frozenset((str, int, float, bool, bytes, type(None)))


def _plain(value: Any) -> Any:
    if type(value) in _AS_IT_IS:
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value)}
    return value


def _decode(cls: type[T], row: Row, decode: Mapping[str, Callable[[Any], Any]]) -> T:
    known = _DECODERS.get((cls, id(decode)))
    if known is None:
        known = _DECODERS[cls, id(decode)] = tuple((name, decode.get(name)) for name in _fields(cls)[0])
    return cls(*[row[name] if read is None else read(row[name]) for name, read in known])


# By the identity of the mapping of decoders: there are a few, and they live as long as this module.
_DECODERS: dict[tuple[type[Any], int], tuple[tuple[str, Callable[[Any], Any] | None], ...]] = {}
