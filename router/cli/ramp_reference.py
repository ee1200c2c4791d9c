"""The page about ramps: its table of steps is that of the code."""

# ruff: noqa: E501 - lines of the page, not of code

from __future__ import annotations

from router.core.ramp import KINDS, RUNGS_PPM, TRANSITIONS
from router.core.ramp.evidence import DROP_FLOOR, MARGINS, SETUP_FLOOR, WORSE

HEAD = """# Ramps

A data center whose intent is `canary`, or that comes back from a drain, takes its users step by step, and so does a new
[version of agents](#versions-of-agents). Its ramp is a row in the database; what its sessions and robots have shown on the present rung is kept in memory, and a restart begins that rung anew.
How to use it: [Slot in your own data center](../how-to/slot-in-your-own-data-center.md).

Who is in the share: a hash of the user and the data center. Steering shows it as rule `dial`: `canary share 5 %, this user is
not in it`. A share is given up, before full edges are, when no other edge passes; a share of 0 never is.

## Steps

This table is generated from the code.

| from | event | to |
|---|---|---|
"""
REST = """
The rungs of `canary` are {rungs} %.

| kind | begins | with | goes back to, at the next attempt |
|---|---|---|---|
{kinds}
## How it is judged

Two arms. *Canary*: who was steered there. *Control*: who would have been, but stands outside the share (the quarter of all users
next to it by the hash) and went to the old best edge. Each test is a bet on the next observation that never gains on average
unless the canary is worse (Waudby-Smith and Ramdas, 2024), so it may be looked at after every session; half of the money is bet
from the start, the rest bit by bit, for what goes wrong late (Shin, Ramdas and Rinaldo, 2023). A weighted mean of all tests is
the e-value of the rung. At 333 on the first, and at 1,667 when the tests begin anew, the ramp is rolled back; by Ville's
inequality and a union bound this happens to less than 1 % of all climbs of a data center like its neighbours.

| test | compares | tolerates |
|---|---|---|
| `rtt` | the rank of a session's round trip among the control arm's newest of the same network and country | {rtt} |
| `rtt_tail` | whether it lies beyond their 90th percentile, against a quarter of sessions | {rtt_tail} |
| `setup_time` | the rank of the time until the node reports the user | {setup_time} |
| `loss` | the rank of its loss | {loss} |
| `setup` | whether it was set up | {setup} % failures, or {worse} times the upper end of the control arm's |
| `setup_arm` | whose each failed set-up is, the canary's or the control arm's, by the sizes of the arms | 1.25 times the control arm's with 0.1 % added |
| `drops` | whether its user was lost before its end | {drops} %, or {worse} times the control arm's |

A session counts for what its node says in heartbeats (`rtt_ms`, `loss_pct`, events). Robots bet in the same way, against 1 %.
Those that probe and those that call are counted apart: hundreds of probes must not hide a few calls that fail.

## How many it may meet

Shares are of users by a hash, and hashes are uneven. So counts bound what a bad one can do, too; where one is reached, the dial
goes to 0 until it allows more, and says why:

| while | at most |
|---|---|
| fewer than 50 sessions of the rung are judged | 20 in flight that have shown nothing |
| there is a doubt (e-value above 3, or more failed set-ups than promised) | 4 in flight that have shown nothing |
| on the first rung | 0.8 % of the sessions of its catchment since the rung began (the control arm tells how many these are; 4 are free) |

A rung is passed with 10 minutes, 200 judged sessions, no doubt, and failed set-ups bounded: the upper end of their interval is
under 2.5 %, or 1.5 times the control arm's. Where too few users come, time passes it: after 24 h on the first rung, 2 h on
others, if 50 sessions were compared or the next rung would meet at most 20 in that time, and after three days in any case; never
with two or more failed set-ups that the control arm does not explain: those wait for more sessions, or for a person. For a `return` 20 minutes are enough,
and 10 if nobody came at all.

## Versions of agents

A pool with `ramp_versions` sends every version that it does not have, as agents say it when they register (`version`), through a
ramp of kind `version`; for any pool `tendril ramp begin POOL@VERSION` does so. It begins with the registration of the first such
agent, before anybody can take it, if agents of another version are there. It has the rungs, tests, bounds and pauses of this page
and begins with its first users: robots cannot tell what a version says.

Its agents are a lane of their own. A user in the share, by a hash of the user and of `POOL@VERSION`, gets one of them if one is
free at the nearest hub with agents, else one that is proven; everybody else gets agents of proven versions, and one on a ramp
only if no other is free at any hub (never one that was rolled back: it takes nobody, and does not count as free). A lost agent
counts as a dropped user. The session keeps its agent when its version is rolled back. Who has passed stays proven; a version that
has gone and comes back while another serves has to prove itself like any other. In metrics and events it is called `POOL@VERSION`.

Bought machines of a data center that serves have a short ramp of their own, by the agents that may take sessions:
[How capacity is decided](../explanation/how-capacity-is-decided.md).

A canary relays nobody else's traffic: a route serves all users, so a relay cannot take a share of them.
"""


def page() -> str:
    """The page."""
    steps = "".join(f"| `{state.value}` | {event} | `{to.value}` |\n" for (state, event), to in TRANSITIONS.items())
    margins = {
        name: f"{least / 1000:g} ms or {share:.0%}, the larger"
        for name, (least, share) in MARGINS.items()
        if name != "loss"
    }
    least, share = MARGINS["loss"]
    kinds = "".join(
        f"| `{kind.value}` | `{how.start.value}` | {how.share_ppm / 10_000:g} % | `{how.start.value}` |\n"
        for kind, how in KINDS.items()
    )
    rest = REST.format(
        kinds=kinds,
        rungs=", ".join(f"{rung / 10_000:g}" for rung in RUNGS_PPM),
        loss=f"{least / 10_000:g} % or {share:.0%} of it, the larger",
        setup=f"{100 * SETUP_FLOOR:g}",
        drops=f"{100 * DROP_FLOOR:g}",
        worse=f"{WORSE:g}",
        **margins,
    )
    return HEAD + steps + rest
