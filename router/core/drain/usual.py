"""Is a drain slower than drains use to be? Its moves are compared with its plan, and with how past drains kept theirs.

How long moving takes depends on how many there are, so what is remembered of a drain is not its time but how many times
its planned time it took. A drain that has taken twice as long as three quarters of the last ones is told to be stuck
(Maelstrom compares each step with the 75th percentile of its history): an event once, and a line in what it waits for.
It is not paused: its users are better off with each move that still succeeds. Measured and soft; a restart begins anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from router.core.drain.pace import moves_per_s
from router.core.drain.targets import remaining_edges
from router.core.model import Drain, DrainId, DrainState, Micros
from router.core.tables import View

REMEMBERED = 32  # drains
ENOUGH = 4  # past drains before they say what is usual
UNKNOWN = 2.0  # times the plan, until then: users follow a move within seconds, and some at the second time of asking
MARGIN = 2.0  # a quarter of all drains is slower than the 75th percentile, and nothing is wrong with most of them
LEAST_S = 45  # a move that nobody followed is taken back after 10 s and tried again 30 s later


@dataclass(slots=True)
class _Moving:
    since: Micros
    planned_s: float
    is_told: bool = False


class UsualPace:
    """How long drains move their sessions, against their plans; private state of the core."""

    def __init__(self) -> None:
        self._past: deque[float] = deque(maxlen=REMEMBERED)
        self._moving: dict[DrainId, _Moving] = {}

    def note(self, view: View, drain: Drain, left: int, now: Micros) -> None:
        """See how far a drain is; one that has nobody left to move is remembered."""
        one = self._moving.get(drain.id)
        if drain.state is not DrainState.MOVING or not left:
            if one is not None:
                del self._moving[drain.id]
                if not left:
                    self._past.append((now - one.since) / 1e6 / one.planned_s)
            return
        if one is None:
            pace = moves_per_s(view, remaining_edges(view, drain.targets)) * max(1, len(drain.targets))
            self._moving[drain.id] = _Moving(now, 1.0 + left / pace)

    def limit_s(self, drain: DrainId) -> int:
        """Seconds of moving after which this drain is told to be stuck; 0 while it does not move anybody."""
        one = self._moving.get(drain)
        if one is None:
            return 0
        usual = sorted(self._past)[(3 * len(self._past)) // 4] if len(self._past) >= ENOUGH else UNKNOWN
        return max(LEAST_S, round(MARGIN * usual * one.planned_s))

    def stuck(self, drain: DrainId, now: Micros) -> str:
        """Why a drain is told to be stuck; empty while it is not."""
        one, limit_s = self._moving.get(drain), self.limit_s(drain)
        if one is None or now - one.since <= limit_s * 1_000_000:
            return ""
        took_s = (now - one.since) // 1_000_000
        basis = f"the last {len(self._past)} drains" if len(self._past) >= ENOUGH else "no past drains to compare with"
        return f"stuck: has moved sessions for {took_s} s; {limit_s} s is the limit for its size ({basis})"

    def news(self, drain: DrainId, now: Micros) -> str:
        """The same, once."""
        text = self.stuck(drain, now)
        if not text or self._moving[drain].is_told:
            return ""
        self._moving[drain].is_told = True
        return text

    def keep(self, known: Collection[DrainId]) -> None:
        """Forget how drains move that are over."""
        self._moving = {id: one for id, one in self._moving.items() if id in known}
