"""What is to be done about each bought machine now: ask, look, take into use, let go.

Letting go is three steps, so that nobody loses an agent: the agents of the emptiest machine are cordoned, what they
hold ends by itself, and only a machine on which nothing is held is given back. Demand that comes back meanwhile lets
them in again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from router.core.capacity.ground import Place
from router.core.capacity.machines import Buying, Launch, LaunchId, LaunchState, NodeStock
from router.core.messages import DriveLaunch, Effect, StepLaunch
from router.core.model import Inventory, Micros, NodeId

_L = LaunchState
SECOND = 1_000_000
# How often a provider is asked about a machine in each state; a node joins within a minute or two.
PERIOD_S: Mapping[LaunchState, int] = {
    _L.ANNOUNCED: 5,
    _L.REQUESTED: 5,
    _L.PENDING: 10,
    _L.RUNNING: 30,
    _L.JOINED: 30,
    _L.CANARY: 30,
    _L.SERVING: 120,
    _L.LEAVING: 120,
    _L.RETURNING: 120,
    _L.TERMINATING: 10,
    _L.GONE: 15,
}
AT_ONCE = (_L.ANNOUNCED, _L.TERMINATING)
LOST_TRIES = 5  # answers lost in a row, about a minute; then the reaper finds what was made
MOST_DOUBLINGS = 4


class Errands:
    """When each machine was last driven on."""

    def __init__(self) -> None:
        self._driven: dict[LaunchId, Micros] = {}

    def at_once(self, launch: Launch, now: Micros) -> Iterator[Effect]:
        """What a change of a row asks for."""
        if launch.state in AT_ONCE:
            self._driven[launch.id] = now
            yield DriveLaunch(launch)

    def all(
        self,
        launches: Mapping[LaunchId, Launch],
        nodes: Mapping[NodeId, NodeStock],
        inventory: Inventory,
        missing: dict[Place, int],
        spare: dict[Place, int],
        buying: Buying,
        now: Micros,
    ) -> list[Effect]:
        """What all machines ask for; takes what comes back into use off ``missing``."""
        effects: list[Effect] = [*_kept(launches, nodes, missing), *_let_go(launches, nodes, spare)]
        stepped = {effect.launch for effect in effects if isinstance(effect, StepLaunch)}
        for launch in launches.values():
            if launch.id in stepped:
                continue
            step = _step(launch, nodes.get(launch.node), inventory, buying, now)
            if step is not None:
                effects.append(step)
            elif self._is_due(launch, inventory, now):
                self._driven[launch.id] = now
                effects.append(DriveLaunch(launch))
        self._driven = {id: at for id, at in self._driven.items() if id in launches}
        return effects

    def _is_due(self, launch: Launch, inventory: Inventory, now: Micros) -> bool:
        if launch.state not in PERIOD_S or (launch.state is _L.GONE and launch.node not in inventory.nodes):
            return False
        again = min(launch.tries, MOST_DOUBLINGS) if launch.state is _L.REQUESTED else 0
        return now - self._driven.get(launch.id, 0) >= (PERIOD_S[launch.state] << again) * SECOND


def _step(
    launch: Launch, there: NodeStock | None, inventory: Inventory, buying: Buying, now: Micros
) -> StepLaunch | None:
    waited_s, join_s = (now - launch.created_at) // SECOND, buying.join_s
    if launch.state in (_L.REQUESTED, _L.PENDING, _L.RUNNING) and launch.node in inventory.nodes:
        return _to(launch, "joined", f"{launch.node} has joined after {waited_s} s")
    if launch.state is _L.JOINED and there is not None and there.ready:
        event = "tried" if buying.canary else "serves"
        return _to(launch, event, f"{there.ready} of {launch.agents} places are ready after {waited_s} s")
    if launch.state is _L.REQUESTED and launch.tries >= LOST_TRIES:
        return _to(launch, "overdue", f"{launch.tries} answers of {launch.provider} were lost")
    if launch.state in (_L.PENDING, _L.RUNNING, _L.JOINED) and waited_s > join_s:
        return _to(launch, "overdue", f"{launch.state.value} after {waited_s} s, the limit is {join_s} s")
    if launch.state in (_L.LEAVING, _L.RETURNING) and (there is None or not there.held):
        return _to(launch, "emptied", "none of its agents holds a session")
    return None


def _kept(
    launches: Mapping[LaunchId, Launch], nodes: Mapping[NodeId, NodeStock], missing: dict[Place, int]
) -> Iterator[StepLaunch]:
    """Machines that are leaving and are wanted again, those with most sessions first."""
    leaving = [launch for launch in launches.values() if launch.state is _L.LEAVING]
    for launch in sorted(leaving, key=lambda one: (-nodes.get(one.node, NodeStock()).held, one.id)):
        place = launch.pool, launch.region
        if missing.get(place, 0) > 0:
            missing[place] -= launch.agents
            yield _to(launch, "wanted_again", f"agents are missing in {launch.region}")


def _let_go(
    launches: Mapping[LaunchId, Launch], nodes: Mapping[NodeId, NodeStock], spare: dict[Place, int]
) -> Iterator[StepLaunch]:
    """Machines that are not needed, the emptiest first, the dearest of these."""
    serving = [launch for launch in launches.values() if launch.state is _L.SERVING]

    def rank(one: Launch) -> tuple[int, int, str]:
        return nodes.get(one.node, NodeStock()).held, -one.price_uusd_h, one.id

    for launch in sorted(serving, key=rank):
        place, there = (launch.pool, launch.region), nodes.get(launch.node, NodeStock())
        if 0 < launch.agents <= spare.get(place, 0) and there.held * 2 <= launch.agents:
            spare[place] -= launch.agents
            yield _to(launch, "released", f"spare for ten minutes in {launch.region}; it holds {there.held} sessions")


def _to(launch: Launch, event: str, reason: str) -> StepLaunch:
    return StepLaunch(launch.id, launch.revision, event, reason)
