"""Life of sessions and agents as tables that bite: the store asks them before it writes a state.

``attaching --attached--> active --moved--> moving --attached--> active --detached--> detached --attached--> active``,
and everything live ends by ``ended`` or ``expired``. A move that nobody follows goes back by ``rolled_back``.
"""

from __future__ import annotations

from router.core.errors import InputRejected
from router.core.model import AgentState, SessionState

_S, _A = SessionState, AgentState

SESSION_TRANSITIONS: dict[tuple[SessionState, str], SessionState] = {
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

AGENT_TRANSITIONS: dict[tuple[AgentState, str], AgentState] = {
    (_A.READY, "taken"): _A.BUSY,
    (_A.READY, "lost"): _A.LOST,
    (_A.READY, "retired"): _A.RETIRED,
    (_A.READY, "registered"): _A.READY,
    (_A.BUSY, "registered"): _A.BUSY,  # adopted: it comes back with its live session
    (_A.BUSY, "released"): _A.READY,
    (_A.BUSY, "lost"): _A.LOST,
    (_A.LOST, "registered"): _A.READY,
    (_A.LOST, "adopted"): _A.BUSY,  # it was silent, not dead, and its session still lives
    (_A.RETIRED, "registered"): _A.READY,
}


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
