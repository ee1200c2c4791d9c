"""Bugs on purpose: each is planted into the product for some histories, and the rules must notice it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from importlib import import_module
from itertools import count
from typing import Any

import numpy as np

from bench.histories import acts, place
from bench.histories.acts import play
from router.core import drain, pools
from router.core.drain import states
from router.core.errors import InputRejected
from router.core.model import AgentState, DrainState, Intent, RampState, SessionState
from router.core.ramp import book as climbing
from router.core.ramp import life
from router.core.tables import Dial
from router.sim import rows

placing: Any = import_module("router.core.steering.place")  # the package gives the function of that name

Patch = tuple[Any, str, Any]


def _without(table: Mapping[Any, Any], *keys: Any) -> dict[Any, Any]:
    return {key: value for key, value in table.items() if key not in keys}


def _panic_picks_drained() -> list[Patch]:
    """When most edges look down the ladder gives up what operators wanted, too (Envoy issue 46800)."""
    honest = placing._fit

    def fit(verdict: Any) -> Any:
        found = honest(verdict)
        panic = not found.size or verdict[found[0]] == placing.DOWN
        return np.sort(np.append(found, np.flatnonzero(verdict == placing.INTENT))) if panic else found

    return [(placing, "_fit", fit)]


def _dials_are_ignored() -> list[Patch]:
    """Everybody is in every share."""
    return [(placing, "_ask_dials", lambda view, out, verdict: None)]


def _placement_wavers() -> list[Patch]:
    """The draw between near-equals is another one each time."""
    numbers = count()
    return [(placing, "_rendezvous", lambda seed, dc: blake2b(str(next(numbers)).encode(), digest_size=8).digest())]


def _preflight_accepts_all() -> list[Patch]:
    """No rule of the preflight ever breaks."""
    honest = drain.preflight
    return [(drain, "preflight", lambda view, request, now: replace(honest(view, request, now), refusals=()))]


def _undo_leaves_targets() -> list[Patch]:
    """An undo ends the drain and not what it did."""
    honest = drain.step

    def step(view: Any, id: Any, event: str, now: int) -> Any:
        after, intents = honest(view, id, event, now)
        return after, {} if event == "undo" else intents

    return [(drain, "step", step)]


def _drain_never_ends() -> list[Patch]:
    """A drain with nobody left does not notice it."""
    honest = acts.drive
    patched = lambda view, one, now: [e for e in honest(view, one, now) if type(e).__name__ != "FinishDrain"]  # noqa: E731
    return [(acts, "drive", patched)]


def _drained_too_early() -> list[Patch]:
    """A drain is called drained while sessions are left."""
    return [(rows.Rows, "left_on", lambda self, one: 0),
            (acts, "drive", _eager(acts.drive))]  # fmt: skip


def _eager(honest: Callable[..., Any]) -> Callable[..., Any]:
    from router.core.messages import FinishDrain

    running = {state for state, event in drain.TRANSITIONS if event == "empty"}
    return lambda view, one, now: [FinishDrain(one.id)] if one.state in running else honest(view, one, now)


def _overlaps_are_allowed() -> list[Patch]:
    """Two drains may have the same target."""
    honest = drain.open_drain

    def open_drain(view: Any, *rest: Any) -> Any:
        return honest(replace(view, drains={}), *rest)

    return [
        (drain, "open_drain", open_drain),
        (drain, "taken_over", lambda *asked: ((), {})),
        (rows.Rows, "_refuse_overlap", lambda self, one: None),
    ]


def _drains_keep_serving() -> list[Patch]:
    """A drain leaves its targets serving: only its row says that it runs."""
    honest = drain.step

    def step(view: Any, id: Any, event: str, now: int) -> Any:
        after, intents = honest(view, id, event, now)
        return after, {dc: Intent.SERVING if i is Intent.DRAINED else i for dc, i in intents.items()}

    return [(drain, "step", step)]


def _stale_tokens_pass() -> list[Patch]:
    """Epochs do not fence."""
    honest = rows.Rows.rebind

    def rebind(self: Any, id: Any, event: str, *, expect_epoch: int, **rest: Any) -> Any:
        return honest(self, id, event, expect_epoch=self.sessions[id].epoch, **rest)

    return [(rows.Rows, "rebind", rebind)]


def _busy_agents_are_deleted() -> list[Patch]:
    """The pool shrinks by whoever is named."""
    honest = rows.Rows.forget_agent

    def forget(self: Any, id: Any) -> Any:
        agent = self.agents[id]
        self.agents[id] = replace(agent, state=AgentState.READY, held=0)
        try:
            return honest(self, id)
        except InputRejected:
            self.agents[id] = agent
            raise

    return [(rows.Rows, "forget_agent", forget)]


def _agents_are_freed_early() -> list[Patch]:
    """An agent that attaches is free for the next one."""
    table = dict(pools.AGENT_TRANSITIONS) | {(AgentState.BUSY, "silent"): AgentState.BROKEN}
    return [(pools, "AGENT_TRANSITIONS", table)]


def _a_leak_of_agents() -> list[Patch]:
    """The end of a session does not give its agent back."""
    return [(rows.Rows, "_give_back", lambda self, session, now, tally: None)]


def _counters_drift() -> list[Patch]:
    """What a move changes is told by half."""
    honest = rows._Tally.session

    def session(self: Any, before: Any, after: Any) -> None:
        honest(self, None if before is not None and after is not None else before, after)

    return [(rows._Tally, "session", session)]


def _moves_never_end() -> list[Patch]:
    """Nobody takes back a move that nobody followed, and nobody arrives."""
    table = _without(pools.SESSION_TRANSITIONS, (SessionState.MOVING, "attached"))
    table[SessionState.MOVING, "attached"] = SessionState.MOVING
    return [(pools, "SESSION_TRANSITIONS", table)]


def _generation_starts_anew() -> list[Patch]:
    """A restart begins to count from one."""
    return [(place, "EPOCH_BITS", 0)]


def _paused_drains_cannot_go_on() -> list[Patch]:
    """The table has no way out of a pause but the undo, and the drain is called running."""
    table = {key: DrainState.BLEEDING if key[0] is DrainState.PAUSED else to for key, to in states.TRANSITIONS.items()}
    return [(states, "TRANSITIONS", table)]


def _rolled_back_keeps_its_users() -> list[Patch]:
    """A ramp that was rolled back turns no dial."""
    honest = climbing._dial

    def dial(ramp: Any, evidence: Any) -> Any:
        return Dial(1_000_000, "all") if ramp.state is RampState.ROLLED_BACK else honest(ramp, evidence)

    return [(climbing, "_dial", dial)]


def _a_climb_skips_rungs() -> list[Patch]:
    """Who passes a rung gets everybody."""
    honest = life._share
    return [
        (life, "_share", lambda ramp, event, state: 1_000_000 if event == "rung_passed" else honest(ramp, event, state))
    ]


PLANTED: Mapping[str, Callable[[], list[Patch]]] = {
    function.__name__.removeprefix("_"): function
    for function in (
        _panic_picks_drained, _dials_are_ignored, _placement_wavers, _preflight_accepts_all, _undo_leaves_targets,
        _drain_never_ends, _drained_too_early, _overlaps_are_allowed, _drains_keep_serving, _stale_tokens_pass,
        _busy_agents_are_deleted, _agents_are_freed_early, _a_leak_of_agents, _counters_drift, _moves_never_end,
        _generation_starts_anew, _paused_drains_cannot_go_on, _rolled_back_keeps_its_users, _a_climb_skips_rungs,
    )
}  # fmt: skip


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Have a bug meanwhile."""
    patches = [(where, what, getattr(where, what), bad) for where, what, bad in PLANTED[name]()]
    try:
        for where, what, _, bad in patches:
            setattr(where, what, bad)
        yield
    finally:
        for where, what, honest, _ in patches:
            setattr(where, what, honest)


def caught(name: str, histories: int, operations: int) -> tuple[int, str] | None:
    """After how many histories a planted bug is noticed, and by which rule; None if it is not."""
    with planted(name):
        for seed in range(1, histories + 1):
            try:
                broken = play(seed, operations).rules.broken
            except (InputRejected, KeyError, AssertionError) as error:
                return seed, f"{type(error).__name__}: {error}"
            if broken:
                return seed, broken[0]
    return None
