"""The page about ramps: its table of steps is that of the code."""

# ruff: noqa: E501 - lines of the page, not of code

from __future__ import annotations

from router.core.ramp import RUNGS_PPM, TRANSITIONS
from router.core.ramp.evidence import DROP_FLOOR, MARGINS, SETUP_FLOOR, WORSE

HEAD = """# Ramps

A data center whose intent is `canary`, or that comes back from a drain, takes its users step by step. Its ramp is a row in the
database; what its sessions and robots have shown on the present rung is kept in memory, and a restart begins that rung anew.
How to use it: [Slot in a data center](../how-to/slot-in-a-data-center.md).

Who is in the share: a hash of the user and the data center. Steering shows it as rule `dial`: `canary share 5 %, this user is
not in it`. A share is given up, before full edges are, when no other edge passes; a share of 0 never is.

## Steps

This table is generated from the code.

| from | event | to |
|---|---|---|
"""
REST = """
The rungs of `canary` are {rungs} %.

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
| `drops` | whether its user was lost before its end | {drops} %, or {worse} times the control arm's |

A session counts for what its node says in heartbeats (`rtt_ms`, `loss_pct`, events). Until 50 sessions are judged at most 20
may be in flight that have shown nothing; then the dial goes to 0 until they have. Robots bet in the same way, against 1 %.

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
    rest = REST.format(
        rungs=", ".join(f"{rung / 10_000:g}" for rung in RUNGS_PPM),
        loss=f"{least / 10_000:g} % or {share:.0%} of it, the larger",
        setup=f"{100 * SETUP_FLOOR:g}",
        drops=f"{100 * DROP_FLOOR:g}",
        worse=f"{WORSE:g}",
        **margins,
    )
    return HEAD + steps + rest
