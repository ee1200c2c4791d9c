"""The JSON text of a session, written straight from its fields: byte for byte what dumping its JSON form gives.

Building the form and dumping it costs more than placing the session; half of it never changes between two sessions.
``tests/unit/test_session_text.py`` compares both ways.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from json.encoder import encode_basestring

from router.core.model import Client, Constraints, DataCenterId, Inventory, Micros, NodeId, Session
from router.core.steering import RankedEdge
from router.schemas.clients import constraints_json
from router.schemas.sessions import edge_url
from router.schemas.units import rfc3339

_dump: Callable[[object], str] = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
).encode
_NO_WISHES = Constraints()
_NO_WISHES_TEXT = _dump(constraints_json(_NO_WISHES))
_UNKNOWN_NUMBERS = (
    '"access_ms":null,"access_provenance":null,"forward_ms":null,"return_ms":null,"total_ms":null,"reason":null'
)
MOST_EDGES = 10_000  # texts of edges that are kept


class EdgeTexts:
    """Where users reach edges, as text; kept while the inventory is the very same object."""

    def __init__(self) -> None:
        self._inventory: Inventory | None = None
        self._texts: dict[tuple[DataCenterId, NodeId | None], str] = {}

    def text(self, inventory: Inventory, data_center: DataCenterId, node: NodeId | None) -> str:
        """``"data_center":…,"node":…,"url":…`` of an edge."""
        if self._inventory is not inventory or len(self._texts) > MOST_EDGES:
            self._inventory, self._texts = inventory, {}
        found = self._texts.get((data_center, node))
        if found is None:
            place = {"data_center": data_center, "node": node, "url": edge_url(inventory, data_center, node)}
            found = self._texts[data_center, node] = _dump(place)[1:-1]
        return found

    def head(
        self,
        session: Session,
        inventory: Inventory,
        *,
        agent_address: str,
        generation: int,
        ranked: Sequence[RankedEdge],
    ) -> str:
        """What comes before the paths in a session's text, without braces."""
        hub = quoted(session.agent_data_center)
        edges = ",".join(map(_ranked, ranked)) or ",".join(self._remembered(session, inventory, hub))
        agent = "null"
        if session.agent is not None:
            agent = f'{{"id":{quoted(session.agent)},"data_center":{hub},"address":{quoted(agent_address)}}}'
        return (
            f'"id":{quoted(session.id)},"state":"{session.state.value}","class":"{session.traffic_class.value}",'
            f'"client":{_client(session.client)},'
            f'"edge":{{{self.text(inventory, session.edge, session.edge_node)}}},"edges":[{edges}],'
            f'"agent":{agent},"pool":{quoted(session.pool)},"to":{hub},"generation":{generation}'
        )

    def _remembered(self, session: Session, inventory: Inventory, hub: str) -> list[str]:
        here, node = session.edge, session.edge_node
        return [
            f'{{{self.text(inventory, dc, node if dc == here else None)},"hub":{hub},{_UNKNOWN_NUMBERS}}}'
            for dc in session.edges
        ]


def tail(
    session: Session, *, grace_s: int, token: str | None, legs: Sequence[Mapping[str, object]], position: int | None
) -> str:
    """What comes after the paths in a session's text, without braces."""
    wishes = _NO_WISHES_TEXT if session.constraints == _NO_WISHES else _dump(constraints_json(session.constraints))
    return (
        f'"epoch":{session.epoch},"token":{quoted(token)},"created_at":"{rfc3339(session.created_at)}",'
        f'"lease_expires_at":"{rfc3339(session.lease_expires_at)}","grace_s":{grace_s},'
        f'"moved_from":{quoted(session.moved_from)},"position":{"null" if position is None else position},'
        f'"queued_until":{_time(session.queued_until)},"constraints":{wishes},'
        f'"metadata":{_labels(session.metadata)},"reasons":[{",".join(map(encode_basestring, session.reasons))}],'
        f'"ended_at":{_time(session.ended_at)},"end_reason":{quoted(session.end_reason)},'
        f'"legs":{_dump(list(legs)) if legs else "[]"}'
    )


def quoted(text: str | None) -> str:
    """A string of JSON, or null."""
    return "null" if text is None else encode_basestring(text)


def _time(at: Micros | None) -> str:
    return f'"{rfc3339(at)}"' if at else "null"


def _ms(value_us: int | None) -> str:
    # A quotient of integers is the double nearest to the three decimals meant, so rounding would not change it.
    return "null" if value_us is None or value_us < 0 else repr(value_us / 1000)


def _number(value: float | None) -> str:
    return "null" if value is None else repr(value)


def _client(client: Client) -> str:
    return (
        f'{{"prefix":{quoted(client.prefix)},"asn":{_number(client.asn)},"country":{quoted(client.country)},'
        f'"latitude":{_number(client.latitude)},"longitude":{_number(client.longitude)}}}'
    )


def _labels(labels: Mapping[str, str]) -> str:
    return f"{{{','.join(f'{encode_basestring(k)}:{encode_basestring(v)}' for k, v in labels.items())}}}"


def _ranked(edge: RankedEdge) -> str:
    id, node, url, hub, access_us, provenance, forward_us, return_us, total_us, reason = edge
    return (
        f'{{"data_center":{encode_basestring(id)},"node":{quoted(node)},"url":{encode_basestring(url)},'
        f'"hub":{quoted(hub)},"access_ms":{_ms(access_us)},'
        f'"access_provenance":{encode_basestring(provenance)},"forward_ms":{_ms(forward_us)},'
        f'"return_ms":{_ms(return_us)},"total_ms":{_ms(total_us)},"reason":{encode_basestring(reason)}}}'
    )
