"""Agents behind the targets: how many hold sessions, how many will be cut, and whether enough warm ones remain.

A session moves to another edge and keeps its agent; an agent cannot move. So agents finish what they hold until the
drain cuts them off. How many will be left then follows from the mean length of a session, as if lengths were
exponential: the age of a session then says nothing about how long it still lasts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

from router.core.drain.plan import AgentsBehind, Refusal
from router.core.model import DataCenterId, NodeId, PoolId
from router.core.tables import View

WARM_BUFFER_PCT = 10  # free places a pool keeps, of those in use: what begins while a machine comes up


def agents_behind(
    view: View, targets: Sequence[DataCenterId], nodes: Sequence[NodeId], within_s: int
) -> Mapping[DataCenterId | NodeId, AgentsBehind]:
    """Per target with agents: held and free places, and sessions that will still be held when they are cut off."""
    counters = view.counters
    counted: list[tuple[DataCenterId | NodeId, int, int]] = [
        (dc, *(sum(n for (_, at), n in of.items() if at == dc) for of in (counters.busy, counters.idle)))  # type: ignore[misc]
        for dc in targets
    ]
    counted += [(node, counters.held_on.get(node, 0), counters.idle_on.get(node, 0)) for node in nodes]
    life_s = view.demand.life_s
    return {at: AgentsBehind(held, idle, _left(held, life_s, within_s)) for at, held, idle in counted if held or idle}


def _left(held: int, life_s: int | None, within_s: int) -> int:
    """Sessions left of ``held`` after a while; all of them where nothing is known of their length."""
    return held if life_s is None else math.ceil(held * math.exp(-within_s / max(1, life_s)) - 0.05)


def too_few_warm(view: View, targets: Sequence[DataCenterId], hubs: Sequence[DataCenterId]) -> Iterator[Refusal]:
    """Pools that the targets' agents belong to and that would keep fewer free places elsewhere than their buffer."""
    for pool in _pools_of(view, targets):
        free = sum(view.counters.idle.get((pool, dc), 0) for dc in hubs)
        held = sum(n for (of, _), n in view.counters.busy.items() if of == pool)
        needed = max(1, -(-held * WARM_BUFFER_PCT // 100))
        if free < needed:
            place = max(hubs, key=lambda dc: (view.counters.busy.get((pool, dc), 0), dc), default=None)
            missing, where = needed - free, f"in {place}" if place else "in a hub beside the targets"
            yield Refusal(
                "warm_agents",
                f"pool {pool} would keep {free} free places beside the targets, its buffer is {needed}",
                free,
                needed,
                "force",
                missing,
                f"start {missing} agent{'s' if missing > 1 else ''} of {pool} {where}",
            )


def _pools_of(view: View, targets: Collection[DataCenterId]) -> list[PoolId]:
    counted = (*view.counters.busy.items(), *view.counters.idle.items())
    return sorted({pool for (pool, dc), n in counted if dc in targets and n > 0})
