"""Writes the reference page about agents from the table of their states, so that neither can drift."""

from __future__ import annotations

from router.core.model import AgentState
from router.core.pools import AGENT_TRANSITIONS, EVENT_MEANINGS, STANDINGS, WRAP_TIMER

_ALWAYS = ("announced", "warming", "ready", "unattested", "lost", "adopted", "adopted_full", "retired")
HEAD = """# Agents of pools

Generated from the code by `make docs`. An agent is a stateful worker that talks to a user; a pool is the set it is
taken from. Agents register natively (`POST /v1/pools/{pool}/agents`), send heartbeats as often as the answer asks
(`heartbeat_s`), and learn from each answer which sessions they hold (`sessions`, each with the epoch of its lease).

- **Taken.** A `ready` agent that is not cordoned has room. Of the nearest data center the agent with most sessions is
  filled first, so that empty ones can be given back. Taking raises the agent's `epoch`; whoever gives a lease up must
  name the epoch of it, and an older one is refused as `fenced`.
- **Given back.** `POST …/release {epoch, session?}` ends one session, or all that the agent holds. After its last one
  an agent does what its pool asks: finish up for `wrap_s` (it may say earlier, by `release`, that it is done), then
  forget (`reset`), or retire after `max_sessions`.
- **Forgetting is attested.** In a pool with `reset` an agent becomes ready again only by registering with another
  `nonce`, as a fresh process does. The same instance stays `resetting` and is `broken` when its time is over.
- **Silence.** After `agent_suspect_s` an agent is `suspect`: not taken, nothing else; the next heartbeat makes it
  `ready` or `busy` again. After `agent_lease_s` it is `lost`: its epoch rises, and it must register again.
- **Lost with a session.** For the pool's `agent_grace_s` the session waits; if the agent registers in that time it is
  adopted with it. Then the session gets the free agent that is nearest to its edge (`session.redispatched`), and the
  first one never gets hold of it again. The edge is told by its heartbeat's answer (`rebound`), until it confirms with
  the event `rebound`.
- **Coming back.** An agent that registers may list the sessions it holds (`sessions`). Its own are adopted; what is not
  its own is named in the answer (`drop`); what it does not list gets another agent.
- **Cordoned** is a flag beside the state: `POST …/cordon` and `…/uncordon`. A cordoned agent keeps what it holds.
- **A new version.** In a pool with `ramp_versions` the first agent of a `version` that the pool does not have begins a
  [ramp](ramps.md#versions-of-agents): a share of users gets such agents, everybody else those that are proven.
- **A drained machine.** Agents that name a `node` which is drained take nobody, and finish what they hold until the
  drain's deadline, as those of a drained data center do.
- **Waiting.** With `queue_s` (of the request, else of the pool) a session that finds no agent is `queued`: 202 with its
  `position`. The oldest is served first; one that may not wait takes what is free. The pool's `max_rtt_ms` holds for
  2 s, twice that until 5 s, then any distance; the request's own limit always. When the time is over, the session ends
  with `no_idle_agent`.

"""


def page() -> str:
    """The whole page."""
    return HEAD + _states() + _diagram() + _events()


def _states() -> str:
    lines = [
        "## States",
        "",
        "| state | holds sessions | warm buffer | may be deleted | ends after |",
        "|---|---|---|---|---|",
    ]
    for state, standing in STANDINGS.items():
        buffer = "yes" if standing.buffer else "coming" if standing.coming else "no"
        timer = "" if standing.timer_s is None else f"{standing.timer_s} s"
        timer = "the pool's `wrap_s`" if standing.timer_s == WRAP_TIMER else timer
        holds, expendable = ("yes" if yes else "no" for yes in (standing.holds, standing.expendable))
        lines.append(f"| `{state.value}` | {holds} | {buffer} | {expendable} | {timer} |")
    return (
        "\n".join(lines) + "\n\nWhoever shrinks a pool spares every agent that holds a session, whatever its state.\n\n"
    )


def _diagram() -> str:
    drawn: dict[tuple[AgentState, AgentState], list[str]] = {}
    for (state, event), to in AGENT_TRANSITIONS.items():
        if event not in _ALWAYS and state is not to:
            drawn.setdefault((state, to), []).append(event)
    edges = [f"    {a.value} --> {b.value}: {', '.join(events)}" for (a, b), events in drawn.items()]
    for state, event in (
        (AgentState.ANNOUNCED, "warming"),
        (AgentState.WARMING, "ready"),
        (AgentState.RESETTING, "ready"),
    ):
        edges.append(f"    {state.value} --> {AGENT_TRANSITIONS[state, event].value}: {event}")
    told = "What happens in many states (registering, being lost, retiring) is only in the table below."
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> announced", *edges, "```", "", told, "", ""])


def _events() -> str:
    lines = ["## Events", "", "| event | meaning | from | to |", "|---|---|---|---|"]
    for event, meaning in EVENT_MEANINGS.items():
        moves = [(state, to) for (state, name), to in AGENT_TRANSITIONS.items() if name == event]
        targets = sorted({to.value for _, to in moves})
        to = f"`{targets[0]}`" if len(targets) == 1 else "stays"
        lines.append(f"| `{event}` | {meaning} | {_sources([state for state, _ in moves])} | {to} |")
    return "\n".join(lines) + "\n"


def _sources(states: list[AgentState]) -> str:
    missing = [state for state in AgentState if state not in states]
    if not missing:
        return "any state"
    if len(missing) <= 2:
        return f"any but {', '.join(f'`{state.value}`' for state in missing)}"
    return ", ".join(f"`{state.value}`" for state in states)
