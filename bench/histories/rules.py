"""What must hold in every history. Everything is computed again, by other means than the decisions themselves do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from router.core import drain as drains
from router.core import steering
from router.core.dial import WHOLE_PPM, identity, position_ppm
from router.core.drain.book import Outcome
from router.core.errors import TendrilError
from router.core.model import (
    Agent,
    AgentId,
    AgentState,
    DataCenterId,
    Drain,
    DrainId,
    DrainOrigin,
    DrainState,
    Intent,
    Micros,
    Ramp,
    RampState,
    Role,
    SessionId,
    SessionState,
)
from router.core.pools import STANDINGS
from router.core.ramp import RUNGS_PPM
from router.core.tables import DrainProgress, Health, View
from router.sim.rows import Rows

SHARE_CAP = 0.5  # of the edges, out of rotation after a drain that nobody forced
HEADROOM = 0.2  # of the capacity of those that remain
OUT = (Intent.CORDONED, Intent.DRAINING, Intent.DRAINED, Intent.RETIRED)
DOCUMENTED = ("selector_empty", "selector_matches_nothing", "drain_overlaps", "drain_unsafe", "bad_transition",
              "expires_too_late")  # fmt: skip
ENDS = (DrainState.DRAINED, DrainState.UNDONE, DrainState.PAUSED)
RANK = {DrainOrigin.OPERATOR: 0, DrainOrigin.PRACTICE: 1, DrainOrigin.AUTOMATIC: 2}


class Rules:
    """Counts what was checked, and keeps what was broken."""

    def __init__(self) -> None:
        self.checks = 0
        self.broken: list[str] = []
        self._generation = 0
        self._left: dict[SessionId, str] = {}

    def want(self, holds: bool, text: str) -> None:
        """One rule."""
        self.checks += 1
        if not holds:
            self.broken.append(text)

    # --- placement ---------------------------------------------------------------------------------------------------

    def placed(
        self, view: View, request: steering.PlaceRequest, decision: steering.Placement | steering.Refused
    ) -> None:
        """No edge that an operator took out, none beyond its dial unless nothing else is left."""
        if isinstance(decision, steering.Refused):
            return
        centers = view.inventory.data_centers
        for edge in decision.edges:
            dc = centers[edge.data_center]
            self.want(dc.intent not in OUT, f"placed at {dc.id}, which is {dc.intent.value}")
            self.want(dc.id not in request.exclude, f"placed at {dc.id}, which was excluded")
        if request.agent_data_center is None:
            for hub in decision.hubs:
                self.want(centers[hub].intent not in OUT, f"an agent of {hub}, which is {centers[hub].intent.value}")
        self._dialled(view, request, decision)

    def _dialled(self, view: View, request: steering.PlaceRequest, decision: steering.Placement) -> None:
        user = identity(request.client, request.labels, request.seed)
        resort = any("last resort" in reason for reason in decision.reasons)
        for edge in decision.edges:
            dial = view.dials.get(edge.data_center)
            if dial is None:
                continue
            inside = position_ppm(user, edge.data_center) < dial.share_ppm
            stays = edge.data_center == request.sticky and dial.share_ppm > 0
            self.want(inside or stays or (resort and dial.share_ppm > 0),
                      f"{edge.data_center} took a user beyond its {dial.share_ppm} ppm")  # fmt: skip

    def same(self, first: object, second: object) -> None:
        """Asked again on a View made from the rows, the same comes out, for the same reasons."""
        if isinstance(first, steering.Placement) and isinstance(second, steering.Placement):
            mine = (first.edges, first.hubs, first.reasons, first.rejected)
            self.want(mine == (second.edges, second.hubs, second.reasons, second.rejected), "a placement differs")
        else:
            self.want(first == second, "a decision made again differs")

    def left(self, session: SessionId, decision: steering.Refused) -> None:
        """A session could not be moved, and this is why."""
        self._left[session] = decision.reason
        self.want(bool(decision.reason), "a refusal without a reason")

    def forget_left(self) -> None:
        """A new round of moves begins."""
        self._left.clear()

    # --- drains ------------------------------------------------------------------------------------------------------

    def refused(self, error: TendrilError) -> None:
        """Every refusal is one that is documented."""
        self.want(error.code in DOCUMENTED, f"refused with {error.code}: {error.message}")

    def opened(self, view: View, request: drains.DrainRequest, drain: Drain) -> None:
        """What an accepted drain leaves: enough edges and room, unless somebody insisted."""
        running = [d for d in view.drains.values() if d.state is not DrainState.UNDONE]
        both = [d for d in running if {*d.targets} & {*drain.targets} or {*d.nodes} & {*drain.nodes}]
        weaker = all(RANK[d.origin] > RANK[drain.origin] for d in both)
        self.want(weaker, "a data center or machine is in two drains")
        taken = {dc for d in running for dc in d.targets}
        if request.force or not drain.targets:
            return
        centers = view.inventory.data_centers.values()
        edges = [dc for dc in centers if Role.EDGE in dc.roles and dc.intent is not Intent.RETIRED]
        if not any(dc.id in drain.targets for dc in edges):
            return  # nothing that serves is lost
        out = taken | set(drain.targets)
        well = dict(zip(view.inventory.data_centers, view.health, strict=True))
        rest = [dc for dc in edges if dc.id not in out and dc.intent not in OUT
                and well[dc.id].state is not Health.DOWN]  # fmt: skip
        self.want(bool(rest), "no edge is left after a drain that nobody forced")
        self.want(1 - len(rest) / len(edges) <= SHARE_CAP + 1e-9, f"{len(edges) - len(rest)} of {len(edges)} edges out")
        if all(dc.capacity_sessions for dc in rest):
            room, live = sum(dc.capacity_sessions for dc in rest), sum(view.counters.sessions.values())
            self._fits(room, live, "after a drain")
            if len(rest) > 1:
                room -= max(dc.capacity_sessions for dc in rest)
                self._fits(room, live, "after a drain and the loss of the largest edge")

    def _fits(self, room: int, sessions: int, when: str) -> None:
        self.want(room - sessions >= HEADROOM * room - 0.06, f"{sessions} sessions for {room} places {when}")

    def stepped(self, view: View, drain: Drain) -> None:
        """An undone drain leaves nothing behind; a drained one has nobody."""
        centers = view.inventory.data_centers
        if drain.state is DrainState.UNDONE:
            others = {dc for d in view.drains.values() if d.state is not DrainState.UNDONE for dc in d.targets}
            for dc in drain.targets:
                kept = dc not in others and centers[dc].intent in (Intent.DRAINING, Intent.DRAINED)
                self.want(not kept or drain.previous[dc] in OUT, f"{dc} is {centers[dc].intent.value} after the undo")
        if drain.state is DrainState.DRAINED:
            for dc in drain.targets:
                self.want(not view.counters.sessions.get(dc), f"{dc} is drained and has sessions")
                self.want(centers[dc].intent in OUT, f"{dc} is drained and {centers[dc].intent.value}")

    # --- ramps -------------------------------------------------------------------------------------------------------

    def climbed(self, view: View, before: Ramp, after: Ramp) -> None:
        """Who has not earned users takes none; one rung at a time; who has passed serves."""
        takes = _takes(view, after)
        users = (RampState.CANARY, RampState.SERVING, RampState.WITHDRAWN, RampState.PAUSED)
        self.want(after.state in users or not takes, f"{after.subject} is {after.state.value} and takes {takes} ppm")
        if after.open:
            self.want(takes <= after.share_ppm, f"{after.subject} takes {takes} of {after.share_ppm} ppm")
        if before.state is RampState.CANARY and after.state is RampState.CANARY:
            next_up = min((rung for rung in RUNGS_PPM if rung > before.share_ppm), default=0)
            self.want(after.share_ppm == next_up, f"from {before.share_ppm} to {after.share_ppm} ppm in a step")
        if after.state is RampState.PAUSED:
            self.want(after.share_ppm == before.share_ppm, "a pause changed the share")
        if after.state is RampState.ROLLED_BACK:
            waits = after.retry_at is None or after.retry_at > after.since
            self.want(waits, "the next attempt begins at once")
        dc = view.inventory.data_centers.get(after.data_center)
        served = dc is None or dc.intent is not Intent.CANARY
        self.want(after.state is not RampState.SERVING or served, f"{after.subject} has passed and is a canary")

    # --- agents ------------------------------------------------------------------------------------------------------

    def killed(self, agent: Agent, rows: Rows) -> None:
        """An agent that was deleted had no session."""
        theirs = [s.id for s in rows.live() if s.agent == agent.id]
        self.want(not theirs, f"agent {agent.id} was deleted under {theirs}")

    # --- the whole ---------------------------------------------------------------------------------------------------

    def generation(self, number: int) -> None:
        """A generation never goes back."""
        self.want(number > self._generation, f"generation {number} after {self._generation}")
        self._generation = max(self._generation, number)

    def restarted(self, before: View, after: View) -> None:
        """Rows say the same as the View that followed their differences."""
        self.want(before.counters == after.counters, "counters of the View and of the rows differ")
        self.want(before.drains == after.drains, "drains of the View and of the rows differ")
        self.want(before.ramps == after.ramps, "ramps of the View and of the rows differ")
        shut = (
            {p: [(one.version, one.rung_ppm) for one in mine] for p, mine in v.lanes.items()} for v in (before, after)
        )
        self.want(next(shut) == next(shut), "lanes of versions are not those of the rows")
        self.want(before.dials == after.dials, "dials of the View and of the rows differ")
        self.want(before.inventory.data_centers == after.inventory.data_centers, "inventories differ")

    def ended(self, view: View, rows: Rows, now: Micros, goes_on: Sequence[DrainId]) -> None:
        """Nothing is stuck (``goes_on``: drains that the next tick ends), and the books balance."""
        book = drains.DrainBook()
        for dc in view.inventory.data_centers:  # as the shell tells of a round of moves
            waiting = [session.id for session in rows.movable(dc, 10_000)]
            refused = sum(id in self._left for id in waiting)
            if refused:
                book.note_move(dc, Outcome(0, refused, len(waiting)))
        book.measure(view, now)
        for drain in rows.drains.values():
            if drain.id not in goes_on or drain.nodes:
                self._at_an_end(drain, rows, book.progress.get(drain.id))
        for session in rows.live():
            self.want(session.state in (SessionState.ACTIVE, SessionState.QUEUED),
                      f"session {session.id} is {session.state.value} after all is over")  # fmt: skip
        held: Counter[AgentId] = Counter(s.agent for s in rows.live() if s.agent is not None)
        for agent in rows.agents.values():
            self.want(agent.held == held[agent.id] or agent.state is AgentState.LOST,
                      f"agent {agent.id} holds {agent.held}, sessions that name it: {held[agent.id]}")  # fmt: skip
            self.want(not agent.held or STANDINGS[agent.state].holds or agent.state is AgentState.LOST,
                      f"agent {agent.id} is {agent.state.value} and holds {agent.held}")  # fmt: skip
        live = Counter[DataCenterId](s.edge for s in rows.live())
        self.want(view.counters.sessions == dict(sorted(live.items())), "sessions per edge differ")

    def _at_an_end(self, drain: Drain, rows: Rows, progress: DrainProgress | None) -> None:
        """A drain has come to an end, or says what it waits for; of those that move, refused moves say it."""
        if drain.state in ENDS:
            self.want(drain.state is not DrainState.PAUSED or progress is not None, "a pause without progress")
            return
        said = () if progress is None else progress.blocked_by
        if drain.state in (DrainState.MOVING, DrainState.FORCING):
            waiting = [s.id for dc in drain.targets for s in rows.movable(dc, 10_000)]
            unexplained = [id for id in waiting if id not in self._left]
            self.want(bool(said or drain.nodes) and not unexplained, f"drain {drain.id} moves for ever: {unexplained}")
            return
        self.want(bool(said), f"drain {drain.id} is {drain.state.value} and does not say what it waits for")


def _takes(view: View, ramp: Ramp) -> int:
    """The share of users that what is on a ramp takes now."""
    if ramp.pool:
        lanes = (lane for lane in view.lanes.get(ramp.pool, ()) if lane.version == ramp.version)
        return next((lane.share_ppm for lane in lanes), WHOLE_PPM)
    dial = view.dials.get(ramp.data_center)
    return WHOLE_PPM if dial is None else dial.share_ppm
