"""Pairwise keys for probe plans: made at the edge for the node itself, and kept nowhere.

A plan leaves the core without keys, and so it goes to viewers and operators. The node that asks for its own plan gets
its own keys and its keys towards everybody in the plan (``probes.keys``), all derived from the control plane's secret
and from the period that it is.
"""

from __future__ import annotations

from dataclasses import replace

from probes.keys import derive, key_id, own_key, own_keys, period_at
from probes.wire import ProbePlan


def with_keys(plan: ProbePlan, secret: bytes, now_us: int = 0, lifetime_us: int = 0) -> ProbePlan:
    """The plan as its node gets it now; keys live so long, 0: for ever."""
    identity = key_id(plan.node)
    period, left_us = period_at(now_us, lifetime_us)
    present, *also = own_keys(secret, plan.node, period)

    def towards(node: str) -> str:
        return derive(own_key(secret, node, period), identity).hex()

    return replace(
        plan,
        own_key=present.hex(),
        own_keys_also=tuple(key.hex() for key in also),
        keys_for_us=left_us,
        peers=tuple(replace(peer, key_id=identity, key=towards(peer.node)) for peer in plan.peers),
        relays=tuple(replace(relay, key_id=identity, key=towards(relay.node)) for relay in plan.relays),
    )
