"""Changing one's mind: the route in force follows the solver's candidate by one rule.

A pair moves at once when it must: its path lost a hop, a relay may no longer relay, or it had no path. Otherwise the
candidate has to be better by an absolute *and* a relative margin, without interruption, for a dwell. Two numbers and a
dwell, because either margin alone flaps: at 8 ms everything is more than 2 %, at 300 ms everything is more than 1 ms
(Tailscale netcheck uses the same pair of conditions).
"""

from __future__ import annotations

import numpy as np

from router.core.kernel import UNREACHABLE, path_cost
from router.core.model import DataCenterId, Micros
from router.core.tables import DIRECT, I16, I64, Bool, Candidate, GraphSnapshot, RouteTable

MARGIN_US = 750  # three times the noise of one measurement window
MARGIN_SHARE = 0.02
DWELL_US = 4_000_000
BIG_SHARE, BIG_DWELL_US = 0.25, 1_500_000  # a quarter faster need not wait long


def margin_us(cost: I64) -> I64:
    """Gain (microseconds) that a candidate needs over a path in force of this cost."""
    return np.maximum(MARGIN_US, np.rint(np.maximum(0, cost) * MARGIN_SHARE).astype(np.int64))


def adopt(
    previous: RouteTable | None, snapshot: GraphSnapshot, candidate: Candidate, now: Micros
) -> tuple[RouteTable, int]:
    """The next table in force and how many (context, pair) routes changed; the first table takes every candidate."""
    reachable = candidate.cost < UNREACHABLE
    held = None if previous is None else _carry_over(previous, snapshot)
    if held is None:
        zeros = np.zeros(reachable.shape, np.int64)
        table = _table(snapshot, candidate, candidate.relays, reachable, candidate.cost, zeros + now, zeros, now)
        return table, int(reachable.sum())
    relays, had = held[:2]
    since, challenger_since = (np.minimum(times, now) for times in held[2:])  # a clock may be back after a restart
    cost = np.stack(
        [path_cost(snapshot.cost[c], relays[c], int(snapshot.relay_cost_us[c])) for c in range(len(snapshot.contexts))]
    )
    lost = ~had | (cost >= UNREACHABLE) | ~_permitted(relays, snapshot)
    same = (relays == candidate.relays).all(axis=-1)
    gain = cost - candidate.cost
    leads = reachable & ~lost & ~same & (gain >= margin_us(cost))
    started = np.where(leads, np.where(challenger_since > 0, challenger_since, now), 0)
    big = leads & (gain >= np.maximum(0, cost) * BIG_SHARE)
    ripe = leads & (now - started >= np.where(big, BIG_DWELL_US, DWELL_US))
    switch = (lost & reachable) | ripe
    relays = np.where(switch[..., None], candidate.relays, relays).astype(np.int16)
    gone = lost & ~reachable
    changed = switch & ~(same & had) | (gone & had)
    table = _table(
        snapshot,
        candidate,
        relays,
        reachable,
        np.where(switch | gone, candidate.cost, cost),
        np.where(switch & ~(same & had), now, since),
        np.where(ripe, 0, started),
        now,
    )
    return table, int(changed.sum())


def _permitted(relays: I16, snapshot: GraphSnapshot) -> Bool:
    """Bool ``[context, from, to]``: every relay of the path may still relay."""
    fine = np.ones(relays.shape[:-1], np.bool_)
    for c in range(relays.shape[0]):
        for slot in range(relays.shape[-1]):
            relay = relays[c, :, :, slot]
            fine[c] &= (relay == DIRECT) | snapshot.may_relay[c][np.maximum(relay, 0)]
        fine[c] &= (relays[c] != DIRECT).sum(axis=-1) <= snapshot.max_relays[c]
    return fine


def _carry_over(previous: RouteTable, snapshot: GraphSnapshot) -> tuple[I16, Bool, I64, I64] | None:
    """The previous paths in the vertex and context numbering of the new snapshot; ``None`` if nothing carries over."""
    old = previous.snapshot
    if old.data_centers == snapshot.data_centers and old.contexts == snapshot.contexts:
        return previous.relays, previous.reachable, previous.since, previous.challenger_since
    index: dict[DataCenterId, int] = {dc: i for i, dc in enumerate(snapshot.data_centers)}
    here = [index[dc] for dc in old.data_centers if dc in index]
    there = [i for i, dc in enumerate(old.data_centers) if dc in index]
    if not here:
        return None
    renumber = np.full(len(old.data_centers) + 1, DIRECT, np.int16)
    renumber[there] = here
    n, contexts = len(snapshot.data_centers), {c: i for i, c in enumerate(old.contexts)}
    relays = np.full((len(snapshot.contexts), n, n, previous.relays.shape[-1]), DIRECT, np.int16)
    had = np.zeros(relays.shape[:-1], np.bool_)
    since = np.zeros(relays.shape[:-1], np.int64)
    leading = np.zeros(relays.shape[:-1], np.int64)
    block, source = np.ix_(here, here), np.ix_(there, there)
    for c, context in enumerate(snapshot.contexts):
        k = contexts.get(context)
        if k is None:
            continue
        before = previous.relays[k][source]
        relays[c][block] = renumber[before]
        whole = ((before == DIRECT) | (renumber[before] != DIRECT)).all(axis=-1)
        had[c][block] = previous.reachable[k][source] & whole
        since[c][block] = previous.since[k][source]
        leading[c][block] = previous.challenger_since[k][source]
    return relays, had, since, leading


def _table(
    snapshot: GraphSnapshot,
    candidate: Candidate,
    relays: I16,
    reachable: Bool,
    cost: I64,
    since: I64,
    challenger_since: I64,
    now: Micros,
) -> RouteTable:
    for array in (relays, reachable, cost, since, challenger_since, candidate.cost, candidate.relays):
        array.setflags(write=False)
    return RouteTable(
        generation=snapshot.generation,
        computed_at=now,
        snapshot=snapshot,
        candidate=candidate,
        relays=relays,
        reachable=reachable,
        cost=cost,
        since=since,
        challenger_since=challenger_since,
    )
