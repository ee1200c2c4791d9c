"""The soft side of drains: how fast they go, and what holds them up. A restart begins to measure anew."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from router.core.blame.outcomes import OutcomeCount
from router.core.drain.comeback import comeback
from router.core.drain.drive import held_agents
from router.core.drain.gates import outcomes_before
from router.core.drain.roads import routes_through
from router.core.drain.states import FINISHED, RUNNING
from router.core.drain.targets import in_force
from router.core.drain.usual import UsualPace
from router.core.model import DataCenterId, Drain, DrainId, DrainState, Micros, NodeId
from router.core.tables import DrainProgress, Health, View

_MOVES = (DrainState.MOVING, DrainState.FORCING)
SAMPLES = 60  # ticks of a second: the rate is that of the last minute


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the last round of moves off a place went."""

    moved: int
    failed: int
    remaining: int
    under_way: int = 0


class DrainBook:
    """Samples per drain and outcomes per place; private state of the core."""

    def __init__(self) -> None:
        self._samples: dict[DrainId, deque[tuple[Micros, int]]] = {}
        self._outcomes: dict[DataCenterId | NodeId, Outcome] = {}
        self.bad_at: dict[DataCenterId, Micros] = {}
        self.expired: set[DrainId] = set()
        self.progress: Mapping[DrainId, DrainProgress] = {}
        self._before: Mapping[DrainId, DrainProgress] = {}
        self._told: dict[str, str] = {}
        self._outcomes_before: dict[DrainId, Mapping[DataCenterId, OutcomeCount]] = {}
        self.usual = UsualPace()

    def note_move(self, place: DataCenterId | NodeId, outcome: Outcome) -> bool:
        """Take in how a round of moves went; returns whether it was news."""
        told, self._outcomes[place] = self._outcomes.get(place), outcome
        return bool(outcome.moved) or (bool(outcome.failed) and outcome != told)

    def note_health(self, view: View, now: Micros) -> None:
        """Remember when each data center was last not well."""
        for dc, health in zip(view.inventory.data_centers, view.health, strict=True):
            if health.state in (Health.DOWN, Health.DEGRADED):
                self.bad_at[dc] = now

    def measure(self, view: View, now: Micros) -> None:
        """Bring every drain's progress up to date."""
        found = {}
        for id, drain in sorted(view.drains.items()):
            if in_force(drain) and drain.state not in FINISHED:
                samples = self._samples.setdefault(id, deque(maxlen=SAMPLES))
                samples.append((now, self._left(view, drain)))
                self.usual.note(view, drain, samples[-1][1], now)
                self._outcomes_before.setdefault(id, outcomes_before(view, drain))
                found[id] = self._progress(view, drain, samples, now)
        self.usual.keep(found)
        self._samples = {id: self._samples[id] for id in found}
        self._outcomes_before = {id: self._outcomes_before[id] for id in found}
        self._before, self.progress = self.progress, found

    def expiry(self, view: View, drain: Drain, now: Micros) -> str:
        """What to tell of a drain whose time is over, once, with what its return would break; empty otherwise."""
        over = drain.expires_at is not None and now >= drain.expires_at and in_force(drain)
        if not over or drain.id in self.expired:
            return ""
        self.expired.add(drain.id)
        broken = "; ".join(refusal.message for refusal in comeback(view, drain.id, now))
        fit = f"it may not come back yet: {broken}" if broken else f"it may come back: undrain {drain.id}"
        return (
            f"was to be over by now and is {drain.state.value}; its targets stay out of use until it is undone; {fit}"
        )

    def news(self, drains: Mapping[DrainId, Drain]) -> tuple[DrainId, ...]:
        """Running drains whose progress is another than at the last measurement."""
        running = (id for id in self.progress if drains[id].state in RUNNING)
        return tuple(id for id in running if self.progress[id] != self._before.get(id))

    def is_news(self, subject: str, text: str) -> bool:
        """Whether this was not said of this subject just before; what differs only in its numbers is no news."""
        words = "".join(letter for letter in text if not letter.isdigit())
        before, self._told[subject] = self._told.get(subject), words
        return words != before

    def _left(self, view: View, drain: Drain) -> int:
        known = (self._outcomes.get(node) for node in drain.nodes)
        on_nodes = sum(outcome.remaining for outcome in known if outcome is not None)
        return sum(view.counters.sessions.get(dc, 0) for dc in drain.targets) + on_nodes

    def _progress(self, view: View, drain: Drain, samples: deque[tuple[Micros, int]], now: Micros) -> DrainProgress:
        (first_at, first), (_, left) = samples[0], samples[-1]
        elapsed_s = (now - first_at) / 1e6
        rate = max(0.0, (first - left) / elapsed_s) if elapsed_s > 0 else 0.0
        held = held_agents(view, drain)
        eta = 0 if not left else round(left / rate) if rate > 0 else None
        if held:
            eta = _agents_eta(drain, eta, now)
        blocked, before = tuple(self._blocked(view, drain, left, held, now)), self._outcomes_before[drain.id]
        return DrainProgress(left, held, round(rate, 2), eta, blocked, before)

    def _blocked(self, view: View, drain: Drain, left: int, held: int, now: Micros) -> Iterator[str]:
        if drain.state is DrainState.PAUSED:
            yield f"paused: {drain.note}" if drain.note else "paused by an operator"
        if stuck := self.usual.stuck(drain.id, now):
            yield stuck
        places: list[DataCenterId | NodeId] = [*drain.targets, *drain.nodes]
        for place in places:
            outcome = self._outcomes.get(place)
            if outcome is not None and outcome.failed and outcome.remaining:
                yield f"{outcome.failed} sessions on {place} found no other edge in the last round"
            elif outcome is not None and outcome.under_way and not outcome.moved and drain.state in _MOVES:
                yield f"{outcome.under_way} sessions on their way from {place} have not arrived yet"
        if drain.state is DrainState.BLEEDING and left and drain.deadline_at is None:
            yield f"{left} sessions must end by themselves: there is no deadline"
        if drain.state is DrainState.CORDONED and left:
            yield f"{left} sessions whose users have not resumed elsewhere; they end with their lease"
        if drain.nodes and drain.state in (DrainState.BLEEDING, DrainState.CORDONED) and not left and not held:
            yield f"whoever is still on {', '.join(drain.nodes)}; only the database knows how many"
        if held and drain.cut_at is None:
            yield f"agents hold {held} sessions, which must end by themselves"
        if held and drain.cut_at is not None:
            minutes = max(0, drain.cut_at - now) // 60_000_000
            yield f"agents hold {held} sessions; what is left in {minutes} min gets other agents"
        through = 0 if left or held else routes_through(view, drain.targets)
        if through and drain.share_ppm == 0:
            yield f"{through} routes still relay over the targets"


def _agents_eta(drain: Drain, edges_s: int | None, now: Micros) -> int | None:
    """Agents are let go at the latest when they are cut off."""
    if drain.cut_at is None:
        return None
    return max(edges_s or 0, max(0, drain.cut_at - now) // 1_000_000)
