"""What must hold of sessions in every run with users, whatever the world does.

Placement: no new session at a data center that an operator took out of use, and asking again on the same View gives
the same decision. Life: nobody who has media loses it by the control plane's own doing; a session keeps its agent as
long as that lives; no session stays between two states beyond its time; moves come in no storm. Books: what agents hold
is what sessions say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from router.core import steering
from router.core.model import AgentId, AgentState, Micros, SessionState
from router.core.tables import View

if TYPE_CHECKING:
    from router.sim.rows import Rows
    from router.sim.users import User, Users

AGAIN_EVERY = 16  # placements between two that are decided twice
BOOKS_EVERY = 10  # looks between two audits
MOVES_A_MINUTE = 3  # of one session: a drain or two and a move back
BETWEEN_US = 15_000_000  # beyond its lease a session may wait so long for somebody to look at it
BETWEEN = (SessionState.ATTACHING, SessionState.MOVING, SessionState.DETACHED)


class SessionRules:
    """Remembers what the checks compare with; ``broken`` takes one sentence per broken rule."""

    def __init__(self, rows: Rows, broken: Callable[[str], None]) -> None:
        self._rows, self._broken = rows, broken
        self._placements = self._looks = 0
        self.checks = 0

    def placed(
        self, view: View, request: steering.PlaceRequest, decision: steering.Placement | steering.Refused, now: Micros
    ) -> None:
        """A decision about a new session."""
        self._placements += 1
        self.checks += 1
        if isinstance(decision, steering.Refused):
            return
        best = decision.edges[0].data_center
        intent = view.inventory.data_centers[best].intent
        if not intent.takes_new_sessions:
            self._broken(f"session {request.seed} was placed at {best}, which is {intent.value}")
        if self._placements % AGAIN_EVERY == 0:
            again = steering.place(view, request, now)
            if isinstance(again, steering.Refused) or (again.edges, again.reasons) != (
                decision.edges,
                decision.reasons,
            ):
                self._broken(f"asked again, session {request.seed} is placed otherwise")

    def moved(self, user: User, now: Micros) -> None:
        """A session was moved."""
        recent = sum(now - at < 60_000_000 for at in user.moves)
        if recent > MOVES_A_MINUTE:
            self._broken(f"session {user.session} was moved {recent} times within a minute")

    def look(self, users: Users, now: Micros) -> None:
        """Look at all sessions."""
        self._looks += 1
        self.checks += 1
        for user in users.users.values():
            row = self._rows.sessions.get(user.session)
            if row is None or user.edge is None:
                continue
            if not row.state.live and row.end_reason != "ended":
                self._broken(f"session {row.id} was ended ({row.end_reason}) while its user talks at {user.edge}")
                user.ends_at = now  # told once
            if row.state.live and row.agent not in (user.agent, None):
                self._broken(f"session {row.id} has agent {row.agent} and had {user.agent}, which was not lost")
                user.agent = row.agent
        if users.upkeep.listens(now):
            self._look_for_stuck(now)
        if self._looks % BOOKS_EVERY == 0:
            self._audit()

    def _look_for_stuck(self, now: Micros) -> None:
        for row in self._rows.live():
            if row.state in BETWEEN and row.held_by is None and now > row.lease_expires_at + BETWEEN_US:
                late_s = (now - row.lease_expires_at) / 1e6
                self._broken(f"session {row.id} is {row.state.value} since {late_s:.0f} s after its lease was over")

    def _audit(self) -> None:
        held: Counter[AgentId] = Counter()
        for row in self._rows.live():
            if row.agent is not None:
                held[row.agent] += 1
        for agent in self._rows.agents.values():
            if agent.held != held[agent.id] and agent.state is not AgentState.LOST:
                self._broken(f"agent {agent.id} holds {agent.held} sessions, sessions that name it: {held[agent.id]}")
