"""Which links deserve probes: hot, warm or cold, and how much one probe more is worth, from the routes in force.

- *hot*: sessions go over the link now, in either direction (one probe measures both);
- *warm*: it lies on a backup of a pair that has sessions, or on some pair's route in force;
- *cold*: no route takes it. It is probed all the same: that may change.

The weight counts what a wrong belief would touch: a session weighs as much as ``SESSION_PAIRS`` pairs without one. It
is rounded to powers of two, and plans are made anew only when that matters (:func:`differs`), at most every
``REVISED_US`` (:func:`is_due`): every revision is a plan that each node fetches.

What reading a link would save by :mod:`router.core.explore` is not part of this: that takes several solves, and belongs
to whoever cannot probe every link. Here every pair of data centers is probed, and these are shares of what is beyond
the floor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probes.wire import MAX_WEIGHT
from router.core.load import BITRATE_KBPS, carried
from router.core.model import DataCenterId, Flow, Inventory, Micros, TrafficClass
from router.core.tables import DIRECT, F64, I64, U8, RouteTable

REVISED_US = 30_000_000  # seldom enough that fetching plans costs nothing, soon enough for where sessions go
SUSPECTED_US = 5_000_000  # while a new pair is suspected: what its probes would tell is needed within seconds
HOT, WARM, COLD = 0, 1, 2
TIERS = ("hot", "warm", "cold")
SESSION_PAIRS = 100
MATERIAL = 0.05  # of the links with another tier or weight; a link that becomes hot always matters
COUNTED_CONTEXTS = 2  # the first ones: classes without a policy, whose routes are much alike

Pairs = Sequence[tuple[DataCenterId, DataCenterId]]


@dataclass(frozen=True, eq=False)
class Attention:
    """Tier uint8 and weight int64 per link ``[transport, from, to]``, symmetric."""

    at: Micros
    data_centers: tuple[DataCenterId, ...]
    transports: tuple[str, ...]
    tier: U8
    weight: I64

    def of(self, source: DataCenterId, target: DataCenterId, transport: str) -> tuple[str, int]:
        """Tier and weight of a link; the lowest of one that it does not know."""
        if source not in self.data_centers or target not in self.data_centers or transport not in self.transports:
            return TIERS[COLD], 0
        place = self.transports.index(transport), self.data_centers.index(source), self.data_centers.index(target)
        return TIERS[int(self.tier[place])], int(self.weight[place])


def attention(
    inventory: Inventory,
    flows: Mapping[Flow, int],
    table: RouteTable,
    now: Micros,
    suspected: Pairs = (),
) -> Attention:
    """What the routes in force and the sessions on them ask for.

    ``suspected``: pairs whose probes would tell whose fault it is; hot until that is known.
    """
    n, transports = len(inventory.data_centers), len(inventory.transports)
    sessions = carried(inventory, flows, table).link.reshape(transports, n, n) * 1_000
    sessions = _both(sessions) / BITRATE_KBPS[TrafficClass.VOICE]
    pairs, spare = np.zeros_like(sessions), np.zeros_like(sessions)
    if (
        table.snapshot.data_centers == tuple(inventory.data_centers)
        and table.snapshot.transports == inventory.transports
    ):
        pairs, spare = _both(_in_force(table, transports)), _both(_backups(table, flows, transports))
    tier = np.where(sessions > 0, HOT, np.where((pairs > 0) | (spare > 0), WARM, COLD)).astype(np.uint8)
    for pair in suspected:
        i, j = (inventory.index.get(dc) for dc in pair)
        if i is not None and j is not None:
            tier[:, i, j] = tier[:, j, i] = HOT
            pairs[:, i, j] = pairs[:, j, i] = np.maximum(pairs[:, i, j], SESSION_PAIRS)
    value = SESSION_PAIRS * sessions + pairs + spare
    weight = np.minimum(MAX_WEIGHT, np.where(value > 0, np.exp2(np.rint(np.log2(np.maximum(value, 1.0)))), 0.0))
    return Attention(now, tuple(inventory.data_centers), inventory.transports, tier, weight.astype(np.int64))


def is_due(passed_us: int, asked: Pairs, wanted: Pairs) -> bool:
    """Whether plans may be made anew: ``asked`` pairs were suspected when that was last done, ``wanted`` are now."""
    return passed_us >= (SUSPECTED_US if set(wanted) - set(asked) else REVISED_US)


def differs(before: Attention | None, after: Attention) -> bool:
    """Whether plans made from one are worth fetching when those made from the other are known."""
    if before is None or (before.data_centers, before.transports) != (after.data_centers, after.transports):
        return True
    if bool(((after.tier == HOT) & (before.tier != HOT)).any()):
        return True
    other = (before.tier != after.tier) | (before.weight != after.weight)
    return bool(other.sum() > MATERIAL * max(1, other.size))


def _both(links: F64) -> F64:
    """Both directions added up."""
    both: F64 = links + links.transpose(0, 2, 1)
    return both


def _in_force(table: RouteTable, transports: int) -> F64:
    """How many pairs' routes in force take each link."""
    n = len(table.snapshot.data_centers)
    found = np.zeros(transports * n * n)
    for c in range(min(COUNTED_CONTEXTS, len(table.snapshot.contexts))):
        here, target = np.indices((n, n))
        there = table.reachable[c] & (here != target)
        transport = table.snapshot.transport[c].astype(np.int64)
        for slot in range(table.relays.shape[-1] + 1):
            last = slot == table.relays.shape[-1]
            onto = target if last else table.relays[c, :, :, slot].astype(np.int64)
            moves = there & (onto != DIRECT) & (onto != here)
            a, b = here[moves], onto[moves]
            found += np.bincount((transport[a, b] * n + a) * n + b, minlength=len(found))
            here = np.where(moves, onto, here)
    return found.reshape(transports, n, n)


def _backups(table: RouteTable, flows: Mapping[Flow, int], transports: int) -> F64:
    """How many pairs with sessions could fall back on each link: the paths from which backups are chosen."""
    n = len(table.snapshot.data_centers)
    found = np.zeros((transports, n, n))
    index = {dc: i for i, dc in enumerate(table.snapshot.data_centers)}
    contexts = {x.traffic_class: c for c, x in enumerate(table.snapshot.contexts) if x.policy is None}
    for edge, hub, kind in sorted(flows):
        if edge not in index or hub not in index or kind not in contexts:
            continue
        c = contexts[kind]
        for u, v in ((index[edge], index[hub]), (index[hub], index[edge])):
            for relay in table.candidate.spares[c, u, v].tolist():
                if relay < DIRECT:
                    continue  # there are no more
                for a, b in ((u, v),) if relay in (DIRECT, u, v) else ((u, relay), (relay, v)):
                    found[int(table.snapshot.transport[c, a, b]), a, b] += 1
    return found
