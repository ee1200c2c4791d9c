"""Life of sessions and agents as tables that bite: the store asks them before it writes a state.

``attaching --attached--> active --moved--> moving --attached--> active --detached--> detached --attached--> active``,
and everything live ends by ``ended`` or ``expired``. A move that nobody follows goes back by ``rolled_back``; a session
that waits for an agent is ``queued`` until it is dispatched or refused.

An agent is ``ready`` as long as it has room; whether it *is* taken depends on its free places and the flag
``cordoned``. What states mean to others, and how long they may last, is data as well (``STANDINGS``): the store, the
counters and the reference page read the same table. With its last session an agent goes through what its pool asks
for: finish up (``wrap_s``), then forget (``reset``: another instance must say that it is ready) or retire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router.core.altered import altered
from router.core.errors import InputRejected
from router.core.model import Agent, AgentState, DataCenterId, Micros, Pool, PoolId, SessionState

_S, _A = SessionState, AgentState

SESSION_TRANSITIONS: dict[tuple[SessionState, str], SessionState] = {
    (_S.QUEUED, "dispatched"): _S.ATTACHING,
    (_S.QUEUED, "moved"): _S.QUEUED,  # its edge is drained while it waits
    (_S.ATTACHING, "attached"): _S.ACTIVE,
    (_S.ATTACHING, "moved"): _S.ATTACHING,
    (_S.ATTACHING, "resumed"): _S.ATTACHING,
    (_S.ACTIVE, "attached"): _S.ACTIVE,
    (_S.ACTIVE, "moved"): _S.MOVING,
    (_S.ACTIVE, "resumed"): _S.ATTACHING,
    (_S.ACTIVE, "detached"): _S.DETACHED,
    (_S.MOVING, "attached"): _S.ACTIVE,
    (_S.MOVING, "moved"): _S.MOVING,
    (_S.MOVING, "resumed"): _S.ATTACHING,
    (_S.MOVING, "detached"): _S.DETACHED,
    (_S.MOVING, "rolled_back"): _S.ACTIVE,
    (_S.DETACHED, "attached"): _S.ACTIVE,
    (_S.DETACHED, "moved"): _S.DETACHED,
    (_S.DETACHED, "resumed"): _S.ATTACHING,
    (_S.DETACHED, "detached"): _S.DETACHED,
    **{(state, event): _S.ENDED for state in _S if state.live for event in ("ended", "expired")},
}


@dataclass(frozen=True, slots=True)
class Standing:
    """What a state means to those who count agents, and how long it may last."""

    holds: bool = False  # its sessions are held: they count as busy
    buffer: bool = False  # its free places are the warm buffer of its pool
    coming: bool = False  # will be part of the buffer soon
    expendable: bool = False  # may be deleted when the pool shrinks, if it holds nothing
    present: bool = True  # lives, as far as we know: what it runs on cannot be deleted under it
    timer_s: int | None = None  # None: no limit of its own
    overdue: str = ""  # the event when that time is over


WRAP_TIMER = -1  # the pool says how long
STANDINGS: Mapping[AgentState, Standing] = {
    # A process that was started must speak soon; a model of many gigabytes loads within a minute from a local disk.
    _A.ANNOUNCED: Standing(coming=True, expendable=True, timer_s=10, overdue="overdue"),
    _A.WARMING: Standing(coming=True, expendable=True, timer_s=60, overdue="overdue"),
    _A.READY: Standing(holds=True, buffer=True, expendable=True),
    _A.RESERVED: Standing(holds=True),  # its limit is the lease of its session
    _A.BUSY: Standing(holds=True),
    _A.WRAPPING: Standing(timer_s=WRAP_TIMER, overdue="wrapped"),
    _A.RESETTING: Standing(coming=True, expendable=True, timer_s=15, overdue="overdue"),
    _A.BROKEN: Standing(expendable=True, present=False),
    _A.SUSPECT: Standing(holds=True),  # its limit is the silence after which an agent is lost
    _A.LOST: Standing(expendable=True, present=False),
    _A.RETIRED: Standing(expendable=True, present=False),
}
HOLDING = tuple(state for state in _A if STANDINGS[state].holds)
COMING = tuple(state for state in _A if STANDINGS[state].coming)
PRESENT = tuple(state for state in _A if STANDINGS[state].present)
DOUBTED = (_A.READY, _A.RESERVED, _A.BUSY)  # whose silence makes them suspect first: somebody may need them
SILENCE = "suspect after `agent_suspect_s` of silence, lost after `agent_lease_s`"

_UP = {"announced": _A.ANNOUNCED, "warming": _A.WARMING, "ready": _A.READY}  # what an instance says of itself
_WORKING = (*DOUBTED, _A.SUSPECT)
_USED = (*_WORKING, _A.WRAPPING, _A.RESETTING, _A.BROKEN, _A.LOST, _A.RETIRED)  # may remember somebody

AGENT_TRANSITIONS: dict[tuple[AgentState, str], AgentState] = {
    **{(state, event): to for state in _A for event, to in _UP.items()},
    **{(state, "unattested"): _A.RESETTING for state in _USED},
    **{(state, "adopted"): _A.READY for state in (*_WORKING, _A.LOST)},
    **{(state, "adopted_full"): _A.BUSY for state in (*_WORKING, _A.LOST)},
    (_A.READY, "taken"): _A.READY,
    (_A.READY, "filled"): _A.RESERVED,
    (_A.RESERVED, "attached"): _A.BUSY,
    **{(state, "freed"): _A.READY for state in DOUBTED},
    **{(state, "spent"): _A.BUSY for state in DOUBTED},
    **{(state, event): state for state in (_A.SUSPECT, _A.LOST) for event in ("freed", "spent")},
    **{(state, "left"): _A.WRAPPING for state in _WORKING},
    **{(state, "emptied"): _A.RESETTING for state in (*_WORKING, _A.WRAPPING)},
    **{(state, "retired"): _A.RETIRED for state in _USED},
    (_A.WRAPPING, "wrapped"): _A.READY,
    **{(state, "overdue"): _A.BROKEN for state in (_A.ANNOUNCED, _A.WARMING, _A.RESETTING)},
    **{(state, "silent"): _A.SUSPECT for state in DOUBTED},
    (_A.SUSPECT, "heard"): _A.READY,
    (_A.SUSPECT, "heard_full"): _A.BUSY,
    **{(state, "lost"): _A.LOST for state in PRESENT},
}
EVENT_MEANINGS: Mapping[str, str] = {
    "announced": "an instance is known and has not begun to load",
    "warming": "an instance loads its model",
    "ready": "an instance can be taken; after `resetting` only one with another nonce",
    "unattested": "the instance that served somebody registers again without a new nonce, and the pool wants a reset",
    "adopted": "it registers again with its live sessions, and has room for more",
    "adopted_full": "it registers again with as many live sessions as it can hold",
    "taken": "a session takes a place, and others are left",
    "filled": "a session takes its last place",
    "attached": "the user of its session has arrived",
    "freed": "a session ended, and nothing more is to be done",
    "spent": "a session ended; after those it still holds it retires (`max_sessions`)",
    "left": "its last session ended, and the pool lets it finish up (`wrap_s`)",
    "emptied": "its last session is over, and the pool wants a reset",
    "retired": "its last session is over, and it has had as many as the pool allows (`max_sessions`)",
    "wrapped": "it finished up, or its time for that is over",
    "overdue": "its time is over",
    "silent": "it was not heard of lately",
    "heard": "it was heard again and has room",
    "heard_full": "it was heard again and is full",
    "lost": "it was not heard of for too long: fenced, and its sessions get other agents",
}


@dataclass(frozen=True, slots=True)
class Places:
    """Agents of one state in one place; cordoned ones apart, because nobody may take them."""

    pool: PoolId
    data_center: DataCenterId
    state: AgentState
    cordoned: bool
    agents: int
    capacity: int
    held: int


def next_session_state(state: SessionState, event: str) -> SessionState:
    """Where ``event`` takes a session. Raises ``session_ended`` or ``bad_transition``."""
    found = SESSION_TRANSITIONS.get((state, event))
    if found is None:
        code = "session_ended" if state is SessionState.ENDED else "bad_transition"
        raise InputRejected(code, f"a session that is {state.value} does not take the event {event}", field="event")
    return found


def next_agent_state(state: AgentState, event: str) -> AgentState:
    """Where ``event`` takes an agent. Raises ``bad_transition``."""
    found = AGENT_TRANSITIONS.get((state, event))
    if found is None:
        raise InputRejected("bad_transition", f"an agent that is {state.value} does not take the event {event}")
    return found


def deadline(state: AgentState, pool: Pool, now: Micros) -> Micros | None:
    """When an agent that is in a state since ``now`` must have left it; None if it may stay."""
    timer_s = STANDINGS[state].timer_s
    if timer_s is None:
        return None
    return now + (pool.wrap_s if timer_s == WRAP_TIMER else timer_s) * 1_000_000


def step(agent: Agent, event: str, pool: Pool, now: Micros) -> Agent:
    """The agent after an event. Raises ``bad_transition``."""
    state = next_agent_state(agent.state, event)
    if state is agent.state:
        return agent
    return altered(agent, state=state, since=now, deadline_at=deadline(state, pool, now))


def spent(agent: Agent, pool: Pool) -> bool:
    """Whether an agent has had as many sessions as its pool allows."""
    return 0 < pool.max_sessions <= agent.served


def freed(agent: Agent, held: int, pool: Pool, now: Micros) -> Agent:
    """The agent after sessions of its ended and ``held`` are left."""
    after = altered(agent, held=held, session=None)
    if not STANDINGS[agent.state].holds and agent.state is not AgentState.LOST:
        return after  # it has come up anew since; what it held then is not its own
    if held or agent.state is AgentState.LOST:
        return step(after, "spent" if spent(agent, pool) else "freed", pool, now)
    return step(after, "left", pool, now) if pool.wrap_s else _finished(after, "freed", pool, now)


def wrapped(agent: Agent, pool: Pool, now: Micros) -> Agent:
    """The agent after it finished up."""
    return _finished(agent, "wrapped", pool, now)


def _finished(agent: Agent, otherwise: str, pool: Pool, now: Micros) -> Agent:
    event = "retired" if spent(agent, pool) else "emptied" if pool.reset else otherwise
    return step(agent, event, pool, now)
