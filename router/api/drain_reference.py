"""``docs/reference/drains.md``: states, events and limits of drains, generated from the tables that the code obeys."""
# ruff: noqa: E501  (rows of tables)

from __future__ import annotations

from router.core.drain import EVENT_MEANINGS, RUNNING, TRANSITIONS
from router.core.drain.automatic import GAP_US, MAX_MACHINES_PCT, MAX_UNWELL
from router.core.drain.comeback import COOL_DOWN_S, WELL_S
from router.core.drain.gates import MAX_BAD_GROWTH, MAX_RECEIVER_PCT, MAX_SETUP_GROWTH
from router.core.drain.pace import HEADROOM_PCT_PER_S, IN_FLIGHT_S, MOVE_FLOOR, MOVE_LIMIT
from router.core.drain.plan import AGENTS_S, LONGEST_S, STAGE_S
from router.core.drain.rules import MAX_DRAINED_SHARE, MAX_GROWTH_US, MAX_LINK_PCT, MIN_HEADROOM_PCT
from router.core.drain.stages import SHARES_PPM, STAGED_FROM
from router.core.drain.usual import LEAST_S, MARGIN, REMEMBERED
from router.core.model import DrainState

_ANYWHERE = ("pause", "undo")  # drawn as words, not as arrows from everywhere


def page() -> str:
    """The whole page."""
    return f"""# Drains

Generated from `router.core.drain` by `docs/generate.py`.

{_diagram()}
{_events()}
## Limits

| What | Limit |
|---|---|
| stages of a soft drain | {", ".join(f"{share // 10_000} %" for share in SHARES_PPM)}, 0 % of new users, {STAGE_S} s each (`stage_s`); from {STAGED_FROM} live sessions on, with fewer 0 % at once |
| gates between the stages | no receiver down, newly degraded, surely blamed, or above {MAX_RECEIVER_PCT} % of its capacity; of its sessions surely not {MAX_BAD_GROWTH:.1%} more go badly than when the drain began, of set-ups not {MAX_SETUP_GROWTH:.0%} more fail |
| moves | {MOVE_LIMIT} per second and data center, and {HEADROOM_PCT_PER_S} % of the free places of all receivers per second, but at least {MOVE_FLOOR}; no more are under way at once than this allows in {IN_FLIGHT_S} s |
| a move is taken back | when its user has not arrived in `move_deadline_s`; after a start of the control plane only once both nodes have been heard for so long, or a minute has passed |
| agents of the targets, data centers or single machines | take nobody; finish what they hold within {AGENTS_S // 3600} h, or until the deadline; then their sessions get other agents |
| a drain is stuck | when its moves take {MARGIN:g} times as long as three quarters of the last {REMEMBERED} drains took for their plans, and longer than {LEAST_S} s; `drain.stuck` is told once, and it goes on |
| how long a drain lasts | at most {LONGEST_S // 3600} h; then `drain.expired` says what its return would break, and nothing else happens |
| `min_headroom`, `n_plus_1` | {MIN_HEADROOM_PCT:g} % of the remaining edges' capacity stay free, also when the largest of them fails on top |
| `max_drained_share`, `last_edge` | {MAX_DRAINED_SHARE:.0%} of all edges out of rotation, and never the last one |
| `warm_agents` | pools of the targets keep a tenth of their held places free elsewhere, at least one |
| `no_place` | every session finds an edge with a free place and a path to its agent |
| `link_load` | {MAX_LINK_PCT:g} % of a link's or data center's declared Mbit/s |
| `delay_growth` | {MAX_GROWTH_US // 1000} ms one way at the 95th percentile; told to people, binding for automation |
| coming back after `drained` | well for {WELL_S} s, and {COOL_DOWN_S} s per other drain of the same targets within a day |
| coming back by a ramp | who was emptied (and had sessions, or was out for {WELL_S} s), and every target of an automatic or emergency drain: 10-25-50-100 % of its users, see [Ramps](ramps.md); who still holds sessions has them all back at once, and so has everybody where no other edge takes all of its users |
| automatic drains | one at a time, one per {GAP_US // 60_000_000} min, {MAX_MACHINES_PCT} % of all machines (one in any case), none while more than one data center in {MAX_UNWELL} is not well |

`force` overrides every rule of a plan and of a comeback, and undoes without ramps; it overrides nothing of automation.
"""


def _diagram() -> str:
    drawn: dict[tuple[DrainState, DrainState], list[str]] = {}
    for (state, event), to in TRANSITIONS.items():
        if event not in _ANYWHERE and not event.startswith("resume_") and state is not to:
            drawn.setdefault((state, to), []).append(event)
    first = [
        f"    [*] --> {state.value}: {mode}"
        for state, mode in (
            (DrainState.SHIFTING, "soft, many sessions"),
            (DrainState.BLEEDING, "soft"),
            (DrainState.MOVING, "hard"),
            (DrainState.CORDONED, "emergency"),
        )
    ]
    edges = [f"    {a.value} --> {b.value}: {', '.join(events)}" for (a, b), events in drawn.items()]
    running = ", ".join(f"`{state.value}`" for state in RUNNING)
    told = f"`pause` leads from {running} to `paused`, `resume` back; `undo` from everywhere to `undone`."
    return "\n".join(["```mermaid", "stateDiagram-v2", *first, *edges, "```", "", told, ""])


def _events() -> str:
    lines = ["## Events", "", "| event | meaning | from |", "|---|---|---|"]
    for event, meaning in EVENT_MEANINGS.items():
        stem = event.rstrip("*")
        states = [s.value for s, name in TRANSITIONS if name == event or (stem != event and name.startswith(stem))]
        lines.append(f"| `{event}` | {meaning} | {', '.join(f'`{s}`' for s in dict.fromkeys(states))} |")
    return "\n".join(lines) + "\n"
