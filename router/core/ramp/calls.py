"""Robots that call: which real session the next one is to set up, with whose agent, and which way its media goes.

Probes show that a data center carries packets. That it sets up sessions only a session shows, with an agent that is
taken for it and a user's leg at the edge. ``media``: at the newcomer's edge, over the path in force. ``media_relayed``:
the same with an agent that is reached, and answers, over another relay. ``media_through``: between two others, there
and back over the newcomer. A network of media servers of its own is not Tendril's to dial: whoever runs it lets a
client of it call (``POST /v1/ramps/{id}/calls``), and says whether the agent was heard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from router.core.model import DataCenterId, Inventory, PoolId, Ramp, Role
from router.core.ramp.checks import links_are_up, relaying, well
from router.core.tables import Health, View

MEDIA, RELAYED, CARRIED = "media", "media_relayed", "media_through"
CALLS = (MEDIA, RELAYED, CARRIED)
RAMP_LABEL, ERRAND_LABEL, VIA_LABEL = "tendril.ramp", "tendril.errand", "tendril.via"
RESERVED = "tendril."  # metadata of sessions that begins so is Tendril's own


@dataclass(frozen=True, slots=True)
class Call:
    """A session that a robot is to set up: at which edge, with an agent where, and over which relay both ways."""

    errand: str
    edge: DataCenterId
    hub: DataCenterId
    via: DataCenterId | None = None

    def labels(self, ramp: Ramp) -> Mapping[str, str]:
        """What the session says of it, for the edge and for whoever counts it."""
        found = {RAMP_LABEL: str(ramp.id), ERRAND_LABEL: self.errand}
        return found if self.via is None else found | {VIA_LABEL: str(self.via)}


def calls(inventory: Inventory, data_center: DataCenterId) -> tuple[str, ...]:
    """The calls that must have been made before a data center takes its first user; none where nobody has agents."""
    if not inventory.pools or Role.EDGE not in inventory.data_centers[data_center].roles:
        return ()
    relays, others = relaying(inventory), len(inventory.data_centers) - 1
    found = [MEDIA]
    if others >= 2 and any(dc != data_center for dc in relays):
        found.append(RELAYED)
    if others >= 2 and data_center in relays:
        found.append(CARRIED)
    return tuple(found)


def next_call(view: View, ramp: Ramp, pool: PoolId, seed: str) -> Call | None:
    """The call that is most wanted, of those that can be made now; ``seed`` spreads them over agents and relays.

    None where no agent is free in a place from where the newcomer alone would be to blame for a failure.
    """
    climb = view.climbs.get(ramp.id)
    seen = {} if climb is None else climb.robots
    wanted = calls(view.inventory, ramp.data_center)
    for errand in sorted(wanted, key=lambda name: (seen.get(name, (0, 0))[0], _rank(seed, name))):
        found = min(_possible(view, ramp.data_center, pool, errand), key=lambda call: _spread(seed, call), default=None)
        if found is not None:
            return found
    return None


def _possible(view: View, dc: DataCenterId, pool: PoolId, errand: str) -> Iterable[Call]:
    hubs = _hubs(view, dc, pool)
    relays = [at for at in well(view.inventory, view.health, (dc,)) if at != dc]
    edges = [at for at in _serving(view) if at != dc]
    match errand:
        case "media":
            found = [Call(errand, dc, hub) for hub in hubs]
        case "media_relayed":
            found = [Call(errand, dc, hub, via) for hub in hubs if hub != dc for via in relays if via != hub]
        case _:
            found = [Call(errand, edge, hub, dc) for edge in edges for hub in hubs if len({edge, hub, dc}) == 3]
    return [call for call in found if links_are_up(view.inventory, view.links, _way(call))]


def _way(call: Call) -> Sequence[DataCenterId]:
    if call.via is not None:
        return (call.edge, call.via, call.hub)
    return () if call.edge == call.hub else (call.edge, call.hub)


def _hubs(view: View, dc: DataCenterId, pool: PoolId) -> list[DataCenterId]:
    """Places with a free agent that are well; the newcomer's own count however it is."""
    free = {at for (of, at), count in view.counters.idle.items() if of == pool and count > 0}
    up = _up(view)
    return [at for at in view.inventory.data_centers if at in free and (at == dc or at in up)]


def _serving(view: View) -> list[DataCenterId]:
    up = _up(view)
    centers = view.inventory.data_centers
    return [at for at in up if Role.EDGE in centers[at].roles and centers[at].intent.takes_new_sessions]


def _up(view: View) -> list[DataCenterId]:
    known = zip(view.inventory.data_centers, view.health, strict=True)
    return [dc for dc, health in known if health.state is Health.UP]


def _spread(seed: str, call: Call) -> bytes:
    return _rank(seed, f"{call.edge}|{call.hub}|{call.via}")


def _rank(seed: str, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}|{name}".encode(), digest_size=8).digest()
