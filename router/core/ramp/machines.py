"""How a bought machine earns its sessions: few of its agents are open at first, more as sessions on it go well.

A data center that serves buys machines while users come, so the climb is short: a tenth of the machine's agents, half
of them, all. The arms are the sessions of one pool in one data center: *canary* those whose agent is on the new
machine, *control* those whose agent is on one that is not new. They are judged by the tests of ``evidence`` that a
machine can be to blame for: set-ups, their time, and users that were lost; and by its agents, which must not be lost
more often than others. A bad machine is cordoned, ends what it holds, and goes back to its provider; its offer is not
asked for a while.

People who wait are worse off than people on a machine that is not proven: where the free places of a region would not
last the next seconds, all agents are opened, unless there is a doubt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from router.core.capacity.board import PlaceBoard
from router.core.capacity.machines import Launch, LaunchId, LaunchState, NodeStock, Proof
from router.core.messages import Effect, OpenAgents, Sample, StepLaunch, StockTaken
from router.core.model import AgentId, AgentState, DataCenterId, Micros, PoolId, RegionId, Session
from router.core.pools import PRESENT
from router.core.ramp.evidence import Evidence
from router.core.ramp.judge import DOUBTFUL, FIRST_VERDICT, doubt
from router.core.verdicts import Blame, ComponentKind

SHARES_PPM = (100_000, 500_000)  # of a machine's agents; then it serves
RUNG_US = 60_000_000  # a session that fails by its machine does so within its first minute
RUNG_SESSIONS = 3  # settled; three failures in a row are enough to be sent back, see ``sequential``
PATIENCE_US = 180_000_000  # the forecast wanted it within a cold start: nobody comes, nobody is exposed
SOON_S = 15  # free places must last so long: three counts of agents
USUAL_LOST = 0.1  # of the pool's other agents there; where more are lost the machine is not to blame
_GONE = (AgentState.LOST, AgentState.BROKEN)


@dataclass(slots=True)
class _Climb:
    evidence: Evidence
    since: Micros
    rung: int  # as it was written
    first: int  # on which the evidence begins: 0, or the rung that it was on at a restart
    let_in: bool = False  # all agents, because users would have waited
    waits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Scene:
    """What all machines are judged by on one count."""

    places: Mapping[tuple[PoolId, RegionId], PlaceBoard]
    stock: StockTaken
    blame: Blame
    now: Micros


class MachineBook:
    """Bought machines that are canaries. Rungs are rows; what was seen on one is soft, and a restart sees it anew."""

    def __init__(self) -> None:
        self._climbs: dict[LaunchId, _Climb] = {}
        self.proofs: Mapping[LaunchId, Proof] = {}

    def put(self, launch: Launch, now: Micros) -> None:
        """Take a launch as it now is in the database."""
        if launch.state is not LaunchState.CANARY:
            self._climbs.pop(launch.id, None)
            return
        climb = self._climbs.setdefault(launch.id, _Climb(Evidence(now), now, launch.rung, launch.rung))
        if climb.rung != launch.rung:
            climb.rung, climb.since = launch.rung, now

    def observe(self, samples: Iterable[Sample], now: Micros) -> None:
        """Add what sessions on and beside new machines showed."""
        for sample in samples:
            climb = None if sample.machine is None else self._climbs.get(sample.machine)
            if climb is not None:
                climb.evidence.take(sample, now)

    def drive(
        self, launches: Mapping[LaunchId, Launch], places: Iterable[PlaceBoard], stock: StockTaken, blame: Blame,
        now: Micros,
    ) -> list[Effect]:  # fmt: skip
        """What all of them want after agents were counted."""
        scene = _Scene({(one.pool, one.region): one for one in places}, stock, blame, now)
        effects: list[Effect] = []
        proofs = {}
        for id, climb in sorted(self._climbs.items()):
            launch, there = launches[id], stock.nodes.get(launches[id].node, NodeStock())
            step = _verdict(launch, there, climb, scene)
            if step is not None:
                effects.append(step)
                if step.step != "climbed":
                    continue
            wanted = _open(launch, there, climb, scene, climb.rung + (step is not None))
            if wanted != there.open:
                effects.append(OpenAgents(id, launch.revision, wanted))
            proofs[id] = _proof(there, wanted, climb)
        self.proofs = proofs
        return effects


def _verdict(launch: Launch, there: NodeStock, climb: _Climb, scene: _Scene) -> StepLaunch | None:
    """Send it back, let it serve, take it one rung up, or leave it where it is."""
    bad = _bad(launch, there, climb.evidence, scene)
    if bad:
        return StepLaunch(launch.id, launch.revision, "bad", bad)
    climb.waits = _waits(climb, scene.now)
    if climb.waits:
        return None
    seen, passed_s = climb.evidence.canary.settled, (scene.now - launch.since) // 1_000_000
    told = f"{seen} sessions in {passed_s} s, not worse than {climb.evidence.control.settled} beside it"
    up = climb.rung + 1
    if up >= len(rungs(there.agents)):
        return StepLaunch(launch.id, launch.revision, "proven", told)
    return StepLaunch(launch.id, launch.revision, "climbed", f"rung {up + 1} of {len(rungs(there.agents))}: {told}")


def rungs(agents: int) -> tuple[int, ...]:
    """How many agents are open on each rung before the machine serves."""
    found = [-(-agents * share // 1_000_000) for share in SHARES_PPM]
    return tuple(sorted({max(1, n) for n in found}))


def _bad(launch: Launch, there: NodeStock, evidence: Evidence, scene: _Scene) -> str:
    """Why it must go, or nothing."""
    for verdict in scene.blame.sure():
        if (verdict.component.kind, verdict.component.id) == (ComponentKind.NODE, launch.node):
            return f"{launch.node} is to blame with {verdict.sure_pct} % confidence"
    if evidence.worth >= 1 / evidence.alpha:
        arm, other = evidence.canary, evidence.control
        told = f"{arm.setup_failed} of {arm.tried} set-ups failed and {arm.dropped} of {arm.ended} sessions dropped"
        beside = f"beside it {other.setup_failed} of {other.tried} and {other.dropped} of {other.ended}"
        return f"{told}, {beside}; e-value {evidence.worth:.0f}, limit {1 / evidence.alpha:.0f}"
    lost, others = _others(launch, there, scene.stock)
    if there.lost and lost <= USUAL_LOST * max(1, others):
        total = there.agents + there.lost
        return f"{there.lost} of its {total} agents were lost, of {others} others in {launch.data_center} {lost}"
    return ""


def _others(launch: Launch, there: NodeStock, stock: StockTaken) -> tuple[int, int]:
    """Lost agents of its pool on other machines of its data center, and all of them."""
    here = [one for one in stock.places if (one.pool, one.data_center) == (launch.pool, launch.data_center)]
    lost = sum(one.agents for one in here if one.state in _GONE) - there.lost
    present = sum(one.agents for one in here if one.state in PRESENT) - there.agents
    return max(0, lost), max(0, lost) + max(0, present)


def _waits(climb: _Climb, now: Micros) -> tuple[str, ...]:
    """What it waits for before the next rung."""
    seen, passed_us = climb.evidence.canary.settled, now - climb.since
    if why := doubt(climb.evidence):
        return (f"doubt to go: {why}",)
    if passed_us < RUNG_US:
        return (f"{RUNG_US // 1_000_000} s on this rung, {passed_us // 1_000_000} are over",)
    enough = RUNG_SESSIONS * (climb.rung + 1 - climb.first)
    if seen >= enough or passed_us >= PATIENCE_US:
        return ()
    return (f"{enough} sessions, {seen} were there, or {PATIENCE_US // 1_000_000} s",)


def _open(launch: Launch, there: NodeStock, climb: _Climb, scene: _Scene, rung: int) -> int:
    """How many agents may take sessions now."""
    waiting = climb.evidence.unsettled
    if waiting >= DOUBTFUL and doubt(climb.evidence):
        return 0
    climb.let_in |= _short(launch, scene)
    if climb.let_in:
        return there.agents
    if waiting >= FIRST_VERDICT and climb.evidence.canary.settled < RUNG_SESSIONS:
        return 0
    return min(rungs(there.agents)[min(rung, len(rungs(there.agents)) - 1)], there.agents)


def _short(launch: Launch, scene: _Scene) -> bool:
    """Whether the free places of those it was bought for, or of its own region, would not last."""
    for region in (launch.need, launch.region):
        place = scene.places.get((launch.pool, region))
        if place is not None and place.horizon_s > 0:
            soon = place.quantile * SOON_S / max(SOON_S, place.horizon_s)
            if place.queued or place.idle < soon:
                return True
    return False


def _proof(there: NodeStock, wanted: int, climb: _Climb) -> Proof:
    seen = climb.evidence.canary
    waits = (*climb.waits, "all its agents are open: users would have waited") if climb.let_in else climb.waits
    return Proof(
        wanted, there.agents, seen.begun, seen.settled, seen.setup_failed, seen.dropped,
        round(climb.evidence.worth, 3), round(1 / climb.evidence.alpha, 1), waits,
    )  # fmt: skip


def arms_of(
    launches: Mapping[LaunchId, Launch], agents: Mapping[AgentId, LaunchId], session: Session
) -> tuple[tuple[LaunchId, DataCenterId, bool], ...]:
    """Whose canary or control a session is: ``agents`` are those on canaries, and which one each is on."""
    hub = session.agent_data_center
    if hub is None or session.agent is None:
        return ()
    mine = agents.get(session.agent)
    if mine is not None:
        return ((mine, hub, True),)
    found = [launches[id] for id in sorted(set(agents.values())) if id in launches]
    return tuple((one.id, hub, False) for one in found if (one.pool, one.data_center) == (session.pool, hub))
