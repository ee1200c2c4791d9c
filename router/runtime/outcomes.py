"""From what nodes and users say about sessions to outcomes that blame, ramps and drains count.

A heartbeat names some sessions with what was measured, and sums over all: the named ones are looked up, so that their
client network, hub and path are known; the rest is counted for the node alone. A user who names an edge that did not
answer is a failed set-up there, and so is a session whose user never came while the dispatch was held for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from router.core.blame import Outcome
from router.core.messages import Observed
from router.core.model import Client, DataCenterId, NodeId, Session, SessionId, TrafficClass
from router.core.tables import DIRECT, Context, View

if TYPE_CHECKING:
    from router.runtime.shell import Runtime
    from router.store import Store

MOST = 64  # sessions of one heartbeat that are looked up
BAD_LOSS_PCT, BAD_RTT_MS = 5.0, 500.0  # what nobody calls good: speech breaks up, people talk over each other


@dataclass(frozen=True, slots=True)
class Said:
    """What a heartbeat says of one session."""

    event: str | None = None
    loss_pct: float | None = None
    rtt_ms: float | None = None

    @property
    def is_measured(self) -> bool:
        """Whether anything was measured."""
        return self.loss_pct is not None or self.rtt_ms is not None

    @property
    def is_bad(self) -> bool:
        """Whether what was measured is bad."""
        return (self.loss_pct or 0.0) >= BAD_LOSS_PCT or (self.rtt_ms or 0.0) >= BAD_RTT_MS


@dataclass(frozen=True, slots=True)
class Sums:
    """A node's sums since its last heartbeat."""

    good: int = 0
    bad: int = 0
    setup_failures: int = 0


def from_heartbeat(
    runtime: Runtime, node: NodeId, data_center: DataCenterId, said: Mapping[str, Said], sums: Sums
) -> None:
    """Take a heartbeat's sessions as outcomes, soon."""
    told = {id: one for id, one in said.items() if one.is_measured or one.event == "attached"}
    if told or sums != Sums():
        runtime.beside(_from_heartbeat(runtime, node, data_center, dict(list(told.items())[:MOST]), sums))


async def _from_heartbeat(
    runtime: Runtime, node: NodeId, data_center: DataCenterId, told: Mapping[str, Said], sums: Sums
) -> None:
    def read(store: Store) -> dict[str, Session]:
        found = {id: store.session(SessionId(id)) for id in told}
        return {id: session for id, session in found.items() if session is not None}

    sessions = await runtime.read(read) if told else {}
    outcomes, good, bad = list[Outcome](), 0, 0
    for id, session in sessions.items():
        one = told[id]
        if session.edge != data_center:
            continue
        is_good = one.is_measured and not one.is_bad
        good, bad = good + is_good, bad + one.is_bad
        crossed = outcome_of(runtime.view, group_of(runtime, session.client), session, node)
        outcomes.append(replace(crossed, setup_ok=int(one.event == "attached"), good=int(is_good), bad=int(one.is_bad)))
    rest = Outcome(
        data_center, node, good=max(0, sums.good - good), bad=max(0, sums.bad - bad), setup_failed=sums.setup_failures
    )
    if rest.good or rest.bad or rest.setup_failed:
        outcomes.append(rest)
    if outcomes:
        await runtime.submit(Observed(tuple(outcomes)))


def from_unreachable(runtime: Runtime, client: Client, edges: Sequence[DataCenterId], session: Session) -> None:
    """A user could not reach these edges; of the one its session is placed at, the machine is known."""
    group = group_of(runtime, client)
    at = {session.edge: session.edge_node}
    runtime.post(Observed(tuple(Outcome(edge, at.get(edge), group, setup_failed=1) for edge in edges)))


def from_expired(runtime: Runtime, ended: Iterable[Session]) -> None:
    """Sessions whose lease ran out: those whose user never came are set-ups that failed.

    One that was attached once had its lease renewed, so it ended later than the dispatch was held.
    """
    held_us = runtime.options.attach_lease_us
    found = tuple(
        replace(outcome_of(runtime.view, group_of(runtime, session.client), session, session.edge_node), setup_failed=1)
        for session in ended
        if session.lease_expires_at <= session.created_at + held_us
    )
    if found:
        runtime.post(Observed(found))


def group_of(runtime: Runtime, client: Client) -> str:
    """The client network as blame calls it; empty where it is not known."""
    known = runtime.addresses.network(client)
    asn = client.asn if known is None else known.asn
    return "" if asn is None else f"as{asn}"


def outcome_of(view: View, group: str, session: Session, node: NodeId | None) -> Outcome:
    """An outcome with everything that a session crosses, and no counts yet."""
    hub = session.agent_data_center
    relays = () if hub is None else relays_between(view, session.edge, hub, session.traffic_class)
    return Outcome(session.edge, node, group, hub, relays)


def relays_between(view: View, edge: DataCenterId, hub: DataCenterId, kind: TrafficClass) -> tuple[DataCenterId, ...]:
    """Relays of the path in force, without a policy's exceptions."""
    table = view.routes
    if table is None or edge == hub:
        return ()
    ids, context = table.snapshot.data_centers, Context(kind)
    if edge not in ids or hub not in ids or context not in table.snapshot.contexts:
        return ()
    path = table.relays[table.snapshot.contexts.index(context), ids.index(edge), ids.index(hub)].tolist()
    return tuple(ids[i] for i in path if i != DIRECT)
