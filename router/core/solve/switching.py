"""Changing one's mind: the route in force follows the solver's candidate by one rule.

A pair moves at once when it must: its path lost a hop, a relay may no longer relay, or it had no path. Otherwise the
candidate has to pass these questions in this order, and the first that it fails is kept as the reason (``HeldBack``):

1. *absolute*: is it better by ``MARGIN_US``? 2. *relative*: and by ``MARGIN_SHARE`` of the path in force? Either alone
flaps: at 8 ms everything is more than 2 %, at 300 ms everything is more than 1 ms (Tailscale's netcheck asks both).
3. *windows*: does the newest bucket agree with the average (Babel, RFC 9616, asks the same of two metrics)?
4. *risk*: how likely is it worse than the direct path in the next bucket (``risk``)? The more there is to gain, the
more of it is accepted (``risk_accepted``).
5. *regret*: has staying cost as much as a move (``core.change``)? Noise is large for a moment, a change lasts.
6. *dwell*: has the pair been left in peace long enough? The wait starts at nothing and doubles with every change.
7. *herd*: do not too many pairs move onto the same relay, or off a loaded one (``load_guard``), at once? The best gains
   go first, the others next time.

A relayed path is given up, without waiting, when it is expected to be no better than direct or its own risk is more
than what is left to gain is worth: the direct path is what nobody can blame us for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.core.change import regret
from router.core.kernel import UNREACHABLE, path_cost
from router.core.model import MAX_RELAYS, DataCenterId, Micros
from router.core.solve.load_guard import held_for_load, priced_by_load
from router.core.solve.risk import Paths, Record, gain_share, worse_than_direct
from router.core.tables import (
    DIRECT,
    F64,
    FALLEN,
    I16,
    I32,
    I64,
    NO_COST,
    U8,
    Bool,
    Candidate,
    GraphSnapshot,
    HeldBack,
    RouteTable,
)

MARGIN_US = 750  # three times the noise of one measurement window
MARGIN_SHARE = 0.02
ACCEPTED = 0.34  # chance of being worse, times the square root of the gain's share of the direct delay
REGRET = 16_000 * 1_000_000  # price of a move, us x us: 16 ms of delay for a second
REGRET_MOST_US = 25_000  # gain that counts at most: however large, it has to last 0.64 s, as bursts on links rarely do
REGRET_STEP_US = 2_000_000  # what is seen once stands for no longer time
DWELL_US = 2_000_000  # after a first change; doubles from there
MAX_DWELL_US = 10_000_000
FLAP_HALF_US = 60_000_000  # a quiet minute forgives half of the changes
HERD_SHARE, HERD_LEAST = 0.05, 16  # of all pairs, onto one relay, per solve


def margin_us(cost: I64) -> I64:
    """Gain (microseconds) that a candidate needs over a path in force of this cost."""
    return np.maximum(MARGIN_US, np.rint(np.maximum(0, cost) * MARGIN_SHARE).astype(np.int64))


def risk_accepted(gain_share: F64, most: float = ACCEPTED) -> F64:
    """Chance of being worse than direct at which a gain, as a share of direct, is still worth it: 5 % for the least
    gain that may move a pair at all, 11 % for a tenth, 25 % for half. On one measured series (PlanetLab, 120 nodes) the
    order by gain over risk keeps as much of the clairvoyant's gain as boosted trees fitted in hindsight do."""
    chance: F64 = most * np.sqrt(np.maximum(gain_share, 0.0))
    return chance


@dataclass(frozen=True, slots=True)
class Caution:
    """How much chance of being worse than direct is accepted, and how much restlessness; the frontier of the rule."""

    accepted: float = ACCEPTED
    max_dwell_us: int = MAX_DWELL_US


def dwell_us(flaps: F64, most_us: int = MAX_DWELL_US) -> F64:
    """How long (microseconds) a pair with so many recent changes keeps its path: nothing, 2 s, 6 s, 14 s, ..."""
    wait: F64 = np.minimum(most_us, DWELL_US * (np.exp2(np.minimum(flaps, 10.0)) - 1))
    return wait


@dataclass(frozen=True, slots=True)
class _Held:
    """The previous paths in the numbering of the new snapshot; arrays ``[context, from, to]``."""

    relays: I16
    had: Bool
    since: I64
    challenger_since: I64
    flaps: F64


@dataclass(frozen=True, slots=True)
class _Decision:
    """One context's outcome; arrays ``[from, to]``."""

    relays: I16
    cost: I64
    reachable: Bool
    forced: Bool
    leads: Bool  # better by the margins and yet held back
    reason: U8
    risk_ppm: I32
    regret: I64


class Switcher:
    """The rule with its memory of how well candidates kept their promises; private state of the core."""

    def __init__(self, caution: Caution | None = None) -> None:
        self._caution = caution or Caution()
        self._record = Record()
        self._regret = np.zeros((0, 0, 0), np.int64)
        self._ids: tuple[DataCenterId, ...] = ()  # what the record's numbers mean

    def adopt(
        self, previous: RouteTable | None, snapshot: GraphSnapshot, candidate: Candidate, now: Micros
    ) -> tuple[RouteTable, int]:
        """The next table in force and how many (context, pair) routes changed."""
        if self._ids != snapshot.data_centers:  # numbers name other data centers now
            self._record.renumber()
            self._ids = snapshot.data_centers
            self._regret = np.zeros((0, 0, 0), np.int64)
        held = _carry_over(previous, snapshot, now)
        if self._regret.shape != held.had.shape:
            self._regret = np.zeros(held.had.shape, np.int64)
        start = previous is None or not held.had.any()
        elapsed = 0 if previous is None else min(REGRET_STEP_US, max(0, now - previous.computed_at))
        parts = [self._decide(snapshot, candidate, held, c, now, start, elapsed) for c in range(len(snapshot.contexts))]
        self._regret = np.stack([part.regret for part in parts]) if parts else self._regret
        table = _table(snapshot, candidate, held, parts, now)
        reachable, had = table.reachable, held.had
        moved = (table.relays != held.relays).any(axis=-1)
        return table, int(((reachable & had & moved) | (reachable != had)).sum())

    def _decide(
        self, snapshot: GraphSnapshot, candidate: Candidate, held: _Held, c: int, now: Micros, start: bool, elapsed: int
    ) -> _Decision:
        cost, relay_us = snapshot.cost[c], int(snapshot.relay_cost_us[c])
        reach, direct = candidate.cost[c] < UNREACHABLE, cost
        relays = held.relays[c]
        held_cost = path_cost(cost, relays, relay_us)
        lost = ~held.had[c] | (held_cost >= UNREACHABLE) | ~_permitted(relays, snapshot, c)
        onto_direct = lost & (
            direct < UNREACHABLE
        )  # a path that must be left is first of all replaced by the direct one
        base_cost = np.where(onto_direct, direct, held_cost)
        base = np.where(onto_direct[..., None], DIRECT, relays)
        relayed = (base != DIRECT).any(axis=-1) & ~(lost & ~onto_direct)
        gain = np.where(reach & ~lost, base_cost - candidate.cost[c], 0)
        regretted = regret(self._regret[c], gain, elapsed, _counted_us(snapshot, c, base, candidate.relays[c]))
        give_up = self._give_up(snapshot, c, base, base_cost, relayed)
        base_cost = np.where(give_up, direct, base_cost)
        base = np.where(give_up[..., None], DIRECT, base)
        stranded = lost & ~onto_direct  # nothing to compare with: any path is better than none
        differs = (candidate.relays[c] != base).any(axis=-1)
        asked = reach & ~stranded & differs & (candidate.cost[c] < base_cost)
        reason, risk = self._ask(snapshot, candidate, c, base, base_cost, asked)
        if not start:
            if snapshot.evidence is not None:
                soon = asked & ~lost & ~give_up & (regretted < REGRET)  # who is leaving anyway has paid
                # A price that answers to what we do must be followed at once, or it swings; it has a guard of its own.
                soon &= ~priced_by_load(snapshot, c, base, candidate.relays[c])
                reason = np.where((reason == HeldBack.NOT) & soon, HeldBack.REGRET, reason)
            resting = now - held.since[c] < dwell_us(held.flaps[c], self._caution.max_dwell_us)
            reason = np.where((reason == HeldBack.NOT) & asked & resting & ~lost, HeldBack.DWELL, reason)
            passes = asked & (reason == HeldBack.NOT)
            gain, needed = base_cost - candidate.cost[c], margin_us(base_cost)
            crowded = held_for_load(snapshot, c, base, candidate.relays[c], gain, needed, passes & ~lost)
            crowded |= _crowded(candidate.relays[c], gain, passes & ~lost & ~crowded)
            reason = np.where(crowded, HeldBack.HERD, reason)
        take = (asked & (reason == HeldBack.NOT)) | (stranded & reach)
        return _Decision(
            relays=np.where(take[..., None], candidate.relays[c], base).astype(np.int16),
            cost=np.where(take, candidate.cost[c], np.where(stranded & ~reach, NO_COST, base_cost)),
            reachable=reach,
            forced=lost,
            leads=asked & (reason > HeldBack.RELATIVE),
            reason=reason.astype(np.uint8),
            risk_ppm=risk,
            regret=np.where(take | give_up | lost, 0, regretted),
        )

    def _give_up(self, snapshot: GraphSnapshot, c: int, base: I16, base_cost: I64, relayed: Bool) -> Bool:
        """Bool ``[from, to]``: relayed paths that are left for the direct one without waiting."""
        direct = snapshot.cost[c]
        relayed = relayed & (direct < UNREACHABLE)
        worse = relayed & (base_cost >= direct)
        risky = self._too_risky(snapshot, c, base, base_cost, relayed & ~worse)
        nothing = np.zeros(base_cost.shape, np.int64)
        onto = np.full_like(base, DIRECT)
        left: Bool = risky | (worse & ~held_for_load(snapshot, c, base, onto, base_cost - direct, nothing, worse))
        return left

    def _too_risky(self, snapshot: GraphSnapshot, c: int, base: I16, base_cost: I64, stay: Bool) -> Bool:
        found = np.zeros(stay.shape, np.bool_)
        if snapshot.evidence is not None and stay.any():
            paths = _paths(c, stay, base)
            share = gain_share(snapshot, paths, base_cost[stay])
            risk = self._record.correct(worse_than_direct(snapshot, paths))
            found[stay] = risk > risk_accepted(share, self._caution.accepted)
        return found

    def _ask(
        self, snapshot: GraphSnapshot, candidate: Candidate, c: int, base: I16, base_cost: I64, asked: Bool
    ) -> tuple[U8, I32]:
        """The first question each asked candidate fails, and its risk in ppm where that was the question."""
        gain = base_cost - candidate.cost[c]
        reason = np.zeros(asked.shape, np.uint8)
        reason[asked & (gain < np.rint(np.maximum(0, base_cost) * MARGIN_SHARE))] = HeldBack.RELATIVE
        reason[asked & (gain < MARGIN_US)] = HeldBack.ABSOLUTE
        risk_ppm = np.full(asked.shape, -1, np.int32)
        if snapshot.evidence is None or not asked.any():
            return reason, risk_ppm
        open_ = asked & (reason == HeldBack.NOT)
        reason[open_ & ~_newest_agrees(snapshot, candidate, c, base)] = HeldBack.WINDOWS
        wanted = (candidate.relays[c] != DIRECT).any(axis=-1) & (snapshot.cost[c] < UNREACHABLE)
        wanted &= asked & (reason == HeldBack.NOT)
        paths = _paths(c, wanted, candidate.relays[c])
        said = worse_than_direct(snapshot, paths)
        risk = self._record.correct(said)
        if c == 0:
            self._record.follow_up(snapshot, paths, said)
        risk_ppm[wanted] = np.rint(risk * 1e6).astype(np.int32)
        share = gain_share(snapshot, paths, candidate.cost[c][wanted])
        reason[wanted] = np.where(risk > risk_accepted(share, self._caution.accepted), HeldBack.RISK, HeldBack.NOT)
        return reason, risk_ppm


def _paths(c: int, which: Bool, relays: I16) -> Paths:
    source, target = np.nonzero(which)
    return Paths(c, source.astype(np.int64), target.astype(np.int64), relays[which])


def _newest_agrees(snapshot: GraphSnapshot, candidate: Candidate, c: int, base: I16) -> Bool:
    """Bool ``[from, to]``: by the newest bucket alone the candidate is better too."""
    evidence = snapshot.evidence
    assert evidence is not None
    n = len(snapshot.data_centers)
    latest = evidence.latest[(snapshot.transport[c].astype(np.int64), *np.indices((n, n)))]
    extra = 0 if snapshot.extra_us is None else snapshot.extra_us[c]
    newest = np.where((latest != FALLEN) & (snapshot.cost[c] < UNREACHABLE), latest + extra, NO_COST)
    relay_us = int(snapshot.relay_cost_us[c])
    agrees: Bool = path_cost(newest, candidate.relays[c], relay_us) < path_cost(newest, base, relay_us)
    return agrees


def _counted_us(snapshot: GraphSnapshot, c: int, base: I16, relays: I16) -> I64:
    """Gain (microseconds) that counts at most, ``[from, to]``; a proven loss is no burst and counts in full."""
    most = np.full(base.shape[:2], REGRET_MOST_US, np.int64)
    if snapshot.extra_us is None:
        return most
    extra = snapshot.extra_us[c]
    counted: I64 = most + np.maximum(0, path_cost(extra, base, 0) - path_cost(extra, relays, 0))
    return counted


def _crowded(relays: I16, gain: I64, moving: Bool) -> Bool:
    """Bool ``[from, to]``: of those that move onto one relay (their first), all but the best gains."""
    crowded = np.zeros(moving.shape, np.bool_)
    limit = max(HERD_LEAST, int(HERD_SHARE * moving.size))
    first = np.where(moving, relays[..., 0], DIRECT)
    number = np.bincount(first[first != DIRECT].astype(np.int64), minlength=1)
    for relay in np.flatnonzero(number > limit).tolist():
        u, v = np.nonzero(first == relay)
        late = np.argsort(-gain[u, v], kind="stable")[limit:]
        crowded[u[late], v[late]] = True
    return crowded


def _permitted(relays: I16, snapshot: GraphSnapshot, c: int) -> Bool:
    """Bool ``[from, to]``: every relay of the path may still relay, and there are not too many."""
    is_relay = relays != DIRECT
    may = snapshot.may_relay[c][np.maximum(relays, 0)] if len(snapshot.may_relay[c]) else is_relay
    fine: Bool = (~is_relay | may).all(axis=-1) & (is_relay.sum(axis=-1) <= snapshot.max_relays[c])
    return fine


def _carry_over(previous: RouteTable | None, snapshot: GraphSnapshot, now: Micros) -> _Held:
    """The previous paths in the vertex and context numbering of the new snapshot."""
    n = len(snapshot.data_centers)
    shape = (len(snapshot.contexts), n, n)
    held = _Held(
        relays=np.full((*shape, MAX_RELAYS), DIRECT, np.int16),
        had=np.zeros(shape, np.bool_),
        since=np.zeros(shape, np.int64),
        challenger_since=np.zeros(shape, np.int64),
        flaps=np.zeros(shape),
    )
    if previous is None:
        return held
    old = previous.snapshot
    quiet = max(0, now - previous.computed_at)
    flaps = previous.flaps * 0.5 ** (quiet / FLAP_HALF_US)
    # A clock may be back after a restart: nothing began in the future.
    since, leading = np.minimum(previous.since, now), np.minimum(previous.challenger_since, now)
    if old.data_centers == snapshot.data_centers and old.contexts == snapshot.contexts:
        return _Held(previous.relays, previous.reachable, since, leading, flaps)
    index: dict[DataCenterId, int] = {dc: i for i, dc in enumerate(snapshot.data_centers)}
    here = [index[dc] for dc in old.data_centers if dc in index]
    there = [i for i, dc in enumerate(old.data_centers) if dc in index]
    if not here:
        return held
    renumber = np.full(len(old.data_centers) + 1, DIRECT, np.int16)
    renumber[there] = here
    block, source = np.ix_(here, here), np.ix_(there, there)
    contexts = {context: i for i, context in enumerate(old.contexts)}
    for c, context in enumerate(snapshot.contexts):
        k = contexts.get(context)
        if k is None:
            continue
        before = previous.relays[k][source]
        held.relays[c][block] = renumber[before]
        whole = ((before == DIRECT) | (renumber[before] != DIRECT)).all(axis=-1)
        held.had[c][block] = previous.reachable[k][source] & whole
        held.since[c][block] = since[k][source]
        held.challenger_since[c][block] = leading[k][source]
        held.flaps[c][block] = flaps[k][source]
    return held


def _table(
    snapshot: GraphSnapshot, candidate: Candidate, held: _Held, parts: list[_Decision], now: Micros
) -> RouteTable:
    def stack(name: str, dtype: type) -> np.ndarray:
        n = len(snapshot.data_centers)
        return np.stack([getattr(p, name) for p in parts]) if parts else np.zeros((0, n, n), dtype)

    relays, cost, reachable = stack("relays", np.int16), stack("cost", np.int64), stack("reachable", np.bool_)
    moved = (relays != held.relays).any(axis=-1) | ~held.had
    leads = stack("leads", np.bool_)
    since = np.where(moved, now, held.since)
    leading = np.where(leads, np.where(held.challenger_since > 0, held.challenger_since, now), 0)
    flaps = held.flaps + (moved & held.had & ~stack("forced", np.bool_))
    reason, risk = stack("reason", np.uint8), stack("risk_ppm", np.int32)
    regretted = stack("regret", np.int64)
    arrays = (relays, reachable, cost, since, leading, flaps, reason, risk, regretted, candidate.cost, candidate.relays)
    for array in arrays:
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
        challenger_since=leading,
        held_back=reason,
        flaps=flaps,
        risk_ppm=risk,
        regret=regretted,
    )
