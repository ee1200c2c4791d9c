"""Pairwise keys for probe plans: made at the edge for the node itself, and kept nowhere.

A plan leaves the core without keys, and so it goes to viewers and operators. The node that asks for its own plan gets
its own key and its keys towards everybody in the plan (``probes.keys``), all derived from the control plane's secret.
"""

from __future__ import annotations

from dataclasses import replace

from probes.keys import derive, key_id, own_key
from probes.wire import ProbePlan


def with_keys(plan: ProbePlan, secret: bytes) -> ProbePlan:
    """The plan as its node gets it."""
    identity = key_id(plan.node)

    def towards(node: str) -> str:
        return derive(own_key(secret, node), identity).hex()

    return replace(
        plan,
        own_key=own_key(secret, plan.node).hex(),
        peers=tuple(replace(peer, key_id=identity, key=towards(peer.node)) for peer in plan.peers),
        relays=tuple(replace(relay, key_id=identity, key=towards(relay.node)) for relay in plan.relays),
    )
