"""What nodes and users say of sessions in a simulated world, as outcomes for the core.

As in ``runtime.outcomes``: a node's beat says of each of its sessions whether it is good or bad, and of a user without
any media on a gray node nothing, since that node believes itself well; a user who found an edge silent names it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from router.core.blame import Outcome
from router.core.messages import Observed
from router.core.model import Client, DataCenterId, NodeId, SessionId
from router.runtime.outcomes import MOST, outcome_of

if TYPE_CHECKING:
    from router.sim.simulation import Simulation
    from router.sim.users import User


def attached(sim: Simulation, node: NodeId, session: SessionId) -> None:
    """A node tells that a user has arrived."""
    row = sim.rows.sessions[session]
    _say(sim, [replace(outcome_of(sim.plane.view, _group(row.client), row, node), setup_ok=1)])


def named(sim: Simulation, client: Client, edge: DataCenterId, node: NodeId | None) -> None:
    """A user names an edge that did not answer, and its session says which machine of it that was."""
    _say(sim, [Outcome(edge, node, _group(client), setup_failed=1)])


def beat(sim: Simulation, node: NodeId, users: list[User]) -> None:
    """A node says how its sessions are."""
    heard = [user for user in users if not user.failing and sim.rows.sessions[user.session].state.live]
    found: Counter[Outcome] = Counter()
    for user in heard[:MOST]:
        row, good = sim.rows.sessions[user.session], user.silent_since is None
        crossed = outcome_of(sim.plane.view, _group(row.client), row, node)
        found[replace(crossed, good=int(good), bad=int(not good))] += 1
    rest = heard[MOST:]
    bad = sum(user.silent_since is not None for user in rest)
    outcomes = [replace(one, good=one.good * n, bad=one.bad * n) for one, n in found.items()]
    if rest:
        home = sim.world.inventory.nodes[node].data_center
        outcomes.append(Outcome(home, node, good=len(rest) - bad, bad=bad))
    _say(sim, outcomes)


def _say(sim: Simulation, outcomes: list[Outcome]) -> None:
    if outcomes and sim.answers:
        sim.submit(Observed(tuple(outcomes)))


def _group(client: Client) -> str:
    return "" if client.asn is None else f"as{client.asn}"
