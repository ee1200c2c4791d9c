"""What sessions saw of their users' networks: round trips in heartbeats become evidence about client networks.

A few sessions per heartbeat are enough: networks are many, and each is kept as a handful of witnesses anyway. The
sessions are looked up beside the heartbeat, which does not wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from router.core.messages import Beacon, Beaconed
from router.core.model import DataCenterId, NodeId, Session, SessionId
from router.runtime import Runtime
from router.schemas.sessions import ChangedSession
from router.schemas.units import ppm, us
from router.store import Store

MOST = 32  # sessions of one heartbeat that are looked up


def learn_from_sessions(
    runtime: Runtime, node: NodeId, data_center: DataCenterId, changed: Sequence[ChangedSession]
) -> None:
    """Take the round trips of a node's heartbeat as measurements, soon."""
    told = {one.id: one for one in changed if one.rtt_ms}
    if told:
        runtime.beside(_learn(runtime, node, data_center, dict(list(told.items())[:MOST])))


async def _learn(runtime: Runtime, node: NodeId, data_center: DataCenterId, told: dict[str, ChangedSession]) -> None:
    def read(store: Store) -> dict[str, Session | None]:
        return {id: store.session(SessionId(id)) for id in told}

    beacons = []
    for id, session in (await runtime.read(read)).items():
        one = told[id]
        if session is None or session.edge != data_center or one.rtt_ms is None:
            continue
        client = runtime.addresses.network(session.client)
        if client is not None:
            loss = None if one.loss_pct is None else ppm(one.loss_pct)
            jitter = None if one.jitter_ms is None else us(one.jitter_ms)
            beacons.append(Beacon(client, data_center, us(one.rtt_ms), f"node {node}:session", loss, jitter))
    if beacons:
        await runtime.submit(Beaconed(tuple(beacons)))
