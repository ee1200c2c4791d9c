"""What operators do in a scenario: drains and their steps, cordons, changes of the inventory.

``ACTIONS`` is the table of what may be done, with what each takes. Everything is decided on the View and committed to
the rows, as the API does it; a refusal is an outcome, with its code, and part of what the run tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from router.core import drain as drains
from router.core.errors import InputRejected, TendrilError
from router.core.model import (
    DataCenter,
    DataCenterId,
    Drain,
    DrainId,
    DrainMode,
    Intent,
    NodeId,
    ProviderId,
    RegionId,
    Selector,
)
from router.sim.faults import Number, members
from router.sim.wishes import returns

if TYPE_CHECKING:
    from router.sim.simulation import Simulation

DAY_S = 86_400.0


class Do(StrEnum):
    """What an operator can do."""

    DRAIN = "drain"
    PAUSE = "pause"
    RESUME = "resume"
    UNDO = "undo"
    CORDON = "cordon"
    UNCORDON = "uncordon"
    PUT = "put"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class ActionRule:
    """What an action takes beside ``id``, ``do`` and ``at_s``: a ``target``, or the ``id`` of a drain."""

    about: str
    of_drain: bool = False
    numbers: Mapping[str, Number] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


ACTIONS: Mapping[Do, ActionRule] = {
    Do.DRAIN: ActionRule(
        "take the data centers that the target matches out of use",
        numbers={"deadline_s": Number(1, DAY_S), "expires_s": Number(1, 3 * DAY_S), "stage_s": Number(0, 3_600)},
        words={"mode": tuple(mode.value for mode in DrainMode)},
        flags=("force",),
    ),
    Do.PAUSE: ActionRule("stop moving sessions", of_drain=True),
    Do.RESUME: ActionRule("go on after a pause", of_drain=True),
    Do.UNDO: ActionRule("bring the targets back into use", of_drain=True),
    Do.CORDON: ActionRule("take no new sessions and relay nothing; live sessions stay"),
    Do.UNCORDON: ActionRule("the reverse of a cordon"),
    Do.PUT: ActionRule(
        "write the data centers as the world has them, with another capacity if one is given; brings deleted ones "
        "back; canary: they earn their users on a ramp",
        numbers={"capacity_sessions": Number(0, 1e9)},
        flags=("canary",),
    ),
    Do.DELETE: ActionRule("remove the data centers and their nodes from the inventory"),
}


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that an operator does at a time; ``drain`` is the id of the action that opened it."""

    id: str
    do: Do
    at_us: int
    target: Mapping[str, str] = field(default_factory=dict)
    drain: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an action: ``code`` is that of the refusal, empty if it was done."""

    id: str
    do: Do
    at: int
    code: str
    text: str


class Operator:
    """Carries out actions and remembers what came of them."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._first = sim.world.inventory  # as the world was made
        self.outcomes: list[Outcome] = []
        self.targets: dict[str, tuple[DataCenterId, ...]] = {}  # by action
        self.since: dict[str, int] = {}
        self._drains: dict[str, DrainId] = {}
        self._about: dict[str, str] = {}

    def opened(self, action: str) -> str:
        """The action that opened the drain that this one was about."""
        return self._about.get(action, "")

    def plan(self, actions: tuple[Action, ...], start: int) -> None:
        """Let actions happen at their times."""
        for action in actions:
            self._sim.engine.at(start + action.at_us, lambda a=action: self.act(a))  # type: ignore[misc]

    def act(self, action: Action) -> None:
        """Do it now."""
        now, inventory = self._sim.engine.now, self._sim.rows.inventory
        self.since[action.id], self._about[action.id] = now, action.drain
        known = self._first if action.do is Do.PUT else inventory
        self.targets[action.id] = members(known, action.target) if action.target else ()
        try:
            if not self._sim.answers:
                raise InputRejected("unreachable", "the control plane does not answer")
            text = self._carry_out(action)
        except TendrilError as error:
            self.outcomes.append(Outcome(action.id, action.do, now, error.code, error.message))
        else:
            self.outcomes.append(Outcome(action.id, action.do, now, "", text))

    def _carry_out(self, action: Action) -> str:
        match action.do:
            case Do.DRAIN:
                return self._drain(action)
            case Do.PAUSE | Do.RESUME | Do.UNDO:
                id = self._drains.get(action.drain)
                if id is None:
                    raise InputRejected("unknown_drain", f"{action.drain} opened no drain")
                return self.step(id, action.do.value)
            case Do.CORDON | Do.UNCORDON:
                intent = Intent.CORDONED if action.do is Do.CORDON else Intent.SERVING
                changed = [replace(dc, intent=intent) for dc in self._here(action)]
                self._sim.commit(self._sim.rows.put(changed))
                return f"{len(changed)} are {intent.value}"
            case Do.PUT:
                return self._put(action)
            case _:
                return self._delete(action)

    def _here(self, action: Action) -> list[DataCenter]:
        centers = self._sim.rows.inventory.data_centers
        return [centers[dc] for dc in self.targets[action.id] if dc in centers]

    def _put(self, action: Action) -> str:
        capacity = action.numbers.get("capacity_sessions")
        held = self._sim.rows.inventory.data_centers
        changed = []
        for id in self.targets[action.id]:
            dc = held.get(id, self._first.data_centers[id])
            dc = dc if capacity is None else replace(dc, capacity_sessions=round(capacity))
            changed.append(replace(dc, intent=Intent.CANARY) if "canary" in action.flags else dc)
        nodes = [n for n in self._first.nodes.values() if n.data_center in self.targets[action.id]]
        fresh = [n for n in nodes if n.id not in self._sim.rows.inventory.nodes]
        self._sim.commit(self._sim.rows.put([*changed, *fresh]))
        return f"{len(changed)} written"

    def _delete(self, action: Action) -> str:
        rows = self._sim.rows
        for id in self.targets[action.id]:
            used = rows.count_on(id) + sum(agent.data_center == id for agent in rows.agents.values())
            if used:
                text = f"{id} has {used} sessions and agents; drain it first"
                raise InputRejected("data_center_in_use", text, field="target", limit=0)
        gone: list[tuple[str, str]] = [("nodes", n.id) for n in rows.inventory.nodes.values()
                                       if n.data_center in self.targets[action.id]]  # fmt: skip
        gone += [("data-centers", id) for id in self.targets[action.id]]
        self._sim.commit(rows.put([], gone))
        return f"{len(self.targets[action.id])} deleted"

    # --- drains ------------------------------------------------------------------------------------------------------

    def _drain(self, action: Action) -> str:
        now = self._sim.engine.now
        deadline, expires = action.numbers.get("deadline_s"), action.numbers.get("expires_s")
        request = drains.DrainRequest(
            selector_of(action.target),
            DrainMode(action.words.get("mode", DrainMode.HARD.value)),
            reason=f"scenario {action.id}",
            deadline_s=None if deadline is None else round(deadline),
            expires_at=None if expires is None else now + round(expires * 1e6),
            force="force" in action.flags,
            stage_s=None if "stage_s" not in action.numbers else round(action.numbers["stage_s"]),
        )
        drain = self.open(request)
        self._drains[action.id] = drain.id
        return f"drain {drain.id} of {', '.join((*drain.targets, *drain.nodes))}"

    def open(self, request: drains.DrainRequest) -> Drain:
        """Open a drain as the API does. Raises what ``drain.preflight`` and ``drain.open_drain`` raise."""
        view, now = self._sim.plane.view, self._sim.engine.now
        plan = drains.preflight(view, request, now)
        id = DrainId(f"d-{len(self._sim.rows.drains) + 1}")
        drain, intents = drains.open_drain(view, request, plan, id, "sim", now)
        ended, restored = drains.taken_over(view, request, plan, now)
        nodes = drains.node_intents(view.inventory, drain)
        self._sim.commit(self._sim.rows.put_drain(drain, {**restored, **intents}, nodes=nodes, ended=ended))
        return drain

    def step(self, id: DrainId, event: str, outcome: str = "") -> str:
        """Take a drain a step further. Raises ``unknown_drain``, ``bad_transition``, ``revision_conflict``."""
        view, rows, now = self._sim.plane.view, self._sim.rows, self._sim.engine.now
        changed, intents = drains.step(view, id, event, now)
        changed = replace(changed, outcome=outcome) if outcome else changed
        back = drains.returning(view, view.drains[id], intents, now) if event == "undo" else ()
        changes = rows.put_drain(changed, intents, nodes=drains.node_intents(view.inventory, changed))
        for ramp in returns(back, len(rows.ramps), id, now):
            changes += rows.put_ramp(ramp, {})
        self._sim.commit(changes)
        return f"drain {id} is {changed.state.value}"


def selector_of(parts: Mapping[str, str]) -> Selector:
    """A selector of the core from the parts of one of a scenario."""
    return Selector(
        provider=ProviderId(parts["provider"]) if "provider" in parts else None,
        region=RegionId(parts["region"]) if "region" in parts else None,
        data_center=DataCenterId(parts["data_center"]) if "data_center" in parts else None,
        node=NodeId(parts["node"]) if "node" in parts else None,
    )
