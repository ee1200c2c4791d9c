"""What a running drain wants now. A pure function of the View: whoever asks again after a restart gets the same."""

from __future__ import annotations

import math

from router.core.drain.gates import red_gate
from router.core.drain.pace import moves_per_s
from router.core.drain.roads import routes_through
from router.core.drain.stages import next_share
from router.core.drain.states import RUNNING
from router.core.drain.targets import remaining_edges
from router.core.messages import AdvanceDrain, CutAgents, Effect, FinishDrain, MoveSessions
from router.core.model import Drain, DrainMode, DrainState, Micros
from router.core.tables import View


def drive(view: View, drain: Drain, now: Micros) -> list[Effect]:
    """Finish, go on to the next stage, or move some."""
    if drain.state not in RUNNING:
        return []
    if drain.state is DrainState.SHIFTING:
        return _shift(view, drain, now)
    at_edges, held = left_at_edges(view, drain), held_agents(view, drain)
    if not at_edges and not held and not routes_through(view, drain.targets):
        return [FinishDrain(drain.id)]
    step = _next_step(view, drain, at_edges, held, now)
    if step:
        return [AdvanceDrain(drain.id, step)]
    effects: list[Effect] = []
    if drain.state in (DrainState.MOVING, DrainState.FORCING):
        effects += _moves(view, drain)
    if drain.state is DrainState.FORCING and held:
        effects += [CutAgents(dc, because(drain)) for dc in drain.targets if _held_at(view, dc)]
        machines = [view.inventory.nodes[node] for node in drain.nodes if view.counters.held_on.get(node, 0)]
        effects += [CutAgents(node.data_center, because(drain), node.id) for node in machines]
    # Only the database knows whose edge a machine is.
    return effects + ([FinishDrain(drain.id)] if drain.nodes and not held else [])


def because(drain: Drain) -> str:
    """The reason that sessions are told."""
    return f"drain {drain.id}: {drain.reason}" if drain.reason else f"drain {drain.id}"


def left_at_edges(view: View, drain: Drain) -> int:
    """Live sessions on the targets; of machines the View knows only that there may be some."""
    return sum(view.counters.sessions.get(dc, 0) for dc in drain.targets) or len(drain.nodes)


def held_agents(view: View, drain: Drain) -> int:
    """Places of agents in the targets that hold sessions."""
    at_places = sum(_held_at(view, dc) for dc in drain.targets)
    return at_places + sum(view.counters.held_on.get(node, 0) for node in drain.nodes)


def _held_at(view: View, dc: str) -> int:
    return sum(n for (_, at), n in view.counters.busy.items() if at == dc)


def _shift(view: View, drain: Drain, now: Micros) -> list[Effect]:
    if drain.deadline_at is not None and now >= drain.deadline_at:
        return [AdvanceDrain(drain.id, "deadline")]
    if red_gate(view, drain):
        return [AdvanceDrain(drain.id, "gate")]
    if now < drain.since + drain.stage_s * 1_000_000:
        return []
    return [AdvanceDrain(drain.id, "shift" if next_share(drain.share_ppm) else "shifted")]


def _next_step(view: View, drain: Drain, at_edges: int, held: int, now: Micros) -> str:
    state = drain.state
    if held and drain.cut_at is not None and now >= drain.cut_at and state in (DrainState.BLEEDING, DrainState.MOVING):
        return "overdue"
    if state is DrainState.MOVING and not at_edges:
        return "moved"
    if state is not DrainState.BLEEDING or not at_edges:
        return ""
    if drain.mode is DrainMode.HARD:
        return "late"  # a move that nobody followed came back
    if drain.deadline_at is None:
        return ""
    return "deadline" if now >= drain.deadline_at else "late" if _is_late(view, drain, at_edges, now) else ""


def _is_late(view: View, drain: Drain, at_edges: int, now: Micros) -> bool:
    """Whether the median of what is left would outlast the time there is, less the time that moving takes."""
    assert drain.deadline_at is not None
    edges = max(1, len(drain.targets))
    move_s = at_edges / (edges * moves_per_s(view, remaining_edges(view, drain.targets)))
    slack_s = (drain.deadline_at - now) / 1e6 - move_s
    median_s = 0.0 if view.demand.life_s is None else view.demand.life_s * math.log(2)
    return median_s > slack_s


def _moves(view: View, drain: Drain) -> list[Effect]:
    limit = moves_per_s(view, remaining_edges(view, drain.targets))
    whole: list[Effect] = [
        MoveSessions(dc, limit, because(drain)) for dc in drain.targets if view.counters.sessions.get(dc, 0)
    ]
    machines = [view.inventory.nodes[node] for node in drain.nodes if node in view.inventory.nodes]
    return whole + [MoveSessions(node.data_center, limit, because(drain), node.id) for node in machines]
