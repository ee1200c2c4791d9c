"""Why this route: every candidate of a pair with its metric terms, the age of its evidence, and why it lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from router.core import policy as rules
from router.core.kernel import UNREACHABLE
from router.core.model import DataCenterId, Micros, PolicyId, TrafficClass
from router.core.quality import jitter_term_us, loss_term_us
from router.core.solve.answer import hops_of, present_link, resolve
from router.core.solve.risk import Paths, gain_share
from router.core.solve.switching import (
    ACCEPTED,
    MARGIN_SHARE,
    MARGIN_US,
    MAX_DWELL_US,
    REGRET,
    REGRET_MOST_US,
    dwell_us,
    margin_us,
    risk_accepted,
)
from router.core.tables import DIRECT, Context, HeldBack, LinkState, RouteTable, View

RULE = (
    f"the candidate displaces the path in force when it is better by {MARGIN_US / 1000:g} ms and by "
    f"{MARGIN_SHARE * 100:g} %, the newest measurements agree, the chance that it is worse than the direct path is at "
    f"most {ACCEPTED * 100:g} % times the square root of what it gains as a share of direct, staying has cost as much "
    f"as a move ({REGRET / 1e9:g} ms for a second, {REGRET_MOST_US / 1000:g} ms count at most), the pair has not "
    f"changed lately (the wait doubles with every change, up to {MAX_DWELL_US / 1e6:g} s), and not too many pairs move "
    f"onto its relay at once; at once when the path in force is lost; a relayed path is given up when direct is as "
    f"good, or when its own chance of being worse is more than what is left to gain is worth"
)


@dataclass(frozen=True, slots=True)
class ExplainedHop:
    """One hop's estimate and price; -1 where unknown."""

    source: DataCenterId
    target: DataCenterId
    transport: str
    delay_us: int
    error_us: int
    jitter_us: int
    loss_ppm: int
    age_us: int
    state: str
    metric_us: int | None


@dataclass(frozen=True, slots=True)
class ExplainedCandidate:
    """One path with the terms of its metric; ``metric_us`` is None where it cannot be used."""

    path: tuple[DataCenterId, ...]
    transports: tuple[str, ...]
    hops: tuple[ExplainedHop, ...]
    terms: Mapping[str, int]
    metric_us: int | None
    verdict: str  # in force, candidate, lost, not allowed, unusable
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """All candidates of both directions, best first."""

    source: DataCenterId
    target: DataCenterId
    context: Context
    generation: int
    rule: str
    forward: tuple[ExplainedCandidate, ...]
    back: tuple[ExplainedCandidate, ...]


def explain(
    view: View,
    source: str,
    target: str,
    traffic_class: TrafficClass,
    policy: PolicyId | None,
    now: Micros,
    limit: int = 50,
) -> Explanation:
    """Explain the route of a pair from the very snapshot that decided it. Raises as ``answer.resolve`` does."""
    start, end, context = resolve(view.inventory, source, target, traffic_class, policy)
    table = view.routes
    ids = () if table is None else table.snapshot.data_centers
    if table is None or start not in ids or end not in ids or context not in table.snapshot.contexts:
        return Explanation(start, end, context, view.generation, RULE, (), ())
    c, u, v = table.snapshot.contexts.index(context), ids.index(start), ids.index(end)
    return Explanation(
        start,
        end,
        context,
        table.generation,
        RULE,
        _direction(view, table, c, u, v, now, limit),
        _direction(view, table, c, v, u, now, limit),
    )


def _direction(
    view: View, table: RouteTable, c: int, u: int, v: int, now: Micros, limit: int
) -> tuple[ExplainedCandidate, ...]:
    n = len(table.snapshot.data_centers)
    inforce = hops_of(table, c, u, v) if table.reachable[c, u, v] else None
    best = table.candidate.relays[c, u, v]
    candidate = (u, *(int(k) for k in best if k != DIRECT), v) if table.candidate.cost[c, u, v] < UNREACHABLE else None
    paths = [(u, v), *((u, k, v) for k in range(n) if k not in (u, v))]
    paths += [p for p in (inforce, candidate) if p is not None and p not in paths]
    paths = list(dict.fromkeys(paths))
    explained = [_candidate(view, table, c, path, inforce, candidate, now) for path in paths]
    explained.sort(key=lambda e: (e.metric_us is None, e.metric_us or 0, len(e.path), e.path))
    keep = explained[:limit]
    return tuple(keep + [e for e in explained[limit:] if e.verdict in ("in force", "candidate")])


def _candidate(
    view: View,
    table: RouteTable,
    c: int,
    path: tuple[int, ...],
    inforce: tuple[int, ...] | None,
    candidate: tuple[int, ...] | None,
    now: Micros,
) -> ExplainedCandidate:
    ids = table.snapshot.data_centers
    hops = tuple(_hop(view, table, c, a, b, now) for a, b in pairwise(path))
    relay_us = int(table.snapshot.relay_cost_us[c]) * (len(path) - 2)
    refusal = _refusal(view, table, c, path)
    usable = refusal is None and all(h.metric_us is not None for h in hops)
    metric = sum(h.metric_us or 0 for h in hops) + relay_us if usable else None
    verdict, why = _verdict(table, c, path, metric, refusal, inforce, candidate, hops, now)
    return ExplainedCandidate(
        path=tuple(ids[h] for h in path),
        transports=tuple(h.transport for h in hops),
        hops=hops,
        terms=_terms(view, table, c, path, hops, relay_us),
        metric_us=metric,
        verdict=verdict,
        why=why,
    )


def _hop(view: View, table: RouteTable, c: int, a: int, b: int, now: Micros) -> ExplainedHop:
    ids, links = table.snapshot.data_centers, view.links
    name = table.snapshot.transports[int(table.snapshot.transport[c, a, b])]
    place = present_link(view, ids[a], ids[b], name)
    cost = int(table.snapshot.cost[c, a, b])
    metric = cost if cost < UNREACHABLE else None
    if place is None:
        return ExplainedHop(ids[a], ids[b], name, -1, -1, -1, -1, -1, "unknown", metric)
    at = int(links.last_at[place])
    return ExplainedHop(
        source=ids[a],
        target=ids[b],
        transport=name,
        delay_us=int(links.forward_us[place]),
        error_us=int(links.error_us[place]),
        jitter_us=int(links.jitter_us[place]),
        loss_ppm=int(links.loss_ppm[place]),
        age_us=now - at if at else -1,
        state=LinkState(int(links.state[place])).name.lower(),
        metric_us=metric,
    )


def _terms(
    view: View, table: RouteTable, c: int, path: tuple[int, ...], hops: tuple[ExplainedHop, ...], relay_us: int
) -> Mapping[str, int]:
    """Terms that add up to the metric of the snapshot; ``delay_us`` as expected of the next bucket."""
    links, index = view.links, view.inventory.index
    traffic_class, extra = table.snapshot.contexts[c].traffic_class, table.snapshot.extra_us
    known = [h for h in hops if h.age_us >= 0]
    where = [(links.transports.index(h.transport), index[h.source], index[h.target]) for h in known]
    certain_loss = np.array([links.certain_loss_ppm[place] for place in where], np.int64)
    jitter = np.array([h.jitter_us for h in known], np.int64)
    terms = {
        "jitter_us": int(jitter_term_us(traffic_class, jitter).sum()),
        "loss_us": int(loss_term_us(traffic_class, certain_loss).sum()),
        "load_us": _load(table, c, path),
    }
    beside = 0 if extra is None else sum(int(extra[c, a, b]) for a, b in pairwise(path))
    whole = sum(h.metric_us or 0 for h in hops)
    rest = beside - sum(terms.values()) if extra is not None else 0
    delay = whole - (beside if extra is not None else sum(terms.values()))
    return {"delay_us": delay, **terms, "price_and_age_us": rest, "relay_us": relay_us}


def _load(table: RouteTable, c: int, path: tuple[int, ...]) -> int:
    load, transport = table.snapshot.load, table.snapshot.transport[c]
    return 0 if load is None else sum(int(load.smooth_us[transport[a, b], a, b]) for a, b in pairwise(path))


def _refusal(view: View, table: RouteTable, c: int, path: tuple[int, ...]) -> str | None:
    ids, context = table.snapshot.data_centers, table.snapshot.contexts[c]
    policy = view.inventory.policies.get(context.policy) if context.policy is not None else None
    if len(path) - 2 > table.snapshot.max_relays[c]:
        return f"policy {context.policy} allows at most {table.snapshot.max_relays[c]} relays"
    for h in path[1:-1]:
        dc = view.inventory.data_centers.get(ids[h])
        if dc is None:
            return f"{ids[h]} is no longer in the inventory"
        if not dc.intent.relays:
            return f"{dc.id} is {dc.intent.value}"
        refused = rules.forbids(policy, dc)
        if refused is not None:
            return refused
        if not table.snapshot.may_relay[c, h]:
            return f"{dc.id} may not relay"
    return None


def _verdict(
    table: RouteTable,
    c: int,
    path: tuple[int, ...],
    metric: int | None,
    refusal: str | None,
    inforce: tuple[int, ...] | None,
    candidate: tuple[int, ...] | None,
    hops: tuple[ExplainedHop, ...],
    now: Micros,
) -> tuple[str, str]:
    u, v = path[0], path[-1]
    if refusal is not None:
        return "not allowed", refusal
    if metric is None:
        bad = next(h for h in hops if h.metric_us is None)
        state = bad.state if bad.state not in ("up", "degraded") else "taken out, or one of its ends is down"
        return "unusable", f"link {bad.source} -> {bad.target} is {state}"
    held = int(table.cost[c, u, v])
    if path == inforce:
        lead = (metric - int(table.candidate.cost[c, u, v])) / 1000
        behind = "" if path == candidate else f"; the candidate leads by {lead:.2f} ms"
        return "in force", f"held for {(now - int(table.since[c, u, v])) / 1e6:.0f} s{behind}"
    if path == candidate:
        return "candidate", _held_back(table, c, u, v, held - metric, now)
    return "lost", f"{(metric - held) / 1000:.2f} ms worse than the path in force"


def _held_back(table: RouteTable, c: int, u: int, v: int, gain: int, now: Micros) -> str:
    """Which question of the switching rule the candidate failed, with both numbers."""
    better, needed = f"better by {gain / 1000:.2f} ms", int(margin_us(table.cost[c, u : u + 1, v])[0])
    match HeldBack(int(table.held_back[c, u, v])):
        case HeldBack.ABSOLUTE | HeldBack.RELATIVE:
            return f"{better}; displacing the path in force needs {needed / 1000:.2f} ms"
        case HeldBack.WINDOWS:
            return f"{better} on average; the newest measurements do not agree"
        case HeldBack.RISK:
            risk = int(table.risk_ppm[c, u, v]) / 10_000
            path = Paths(c, np.array([u]), np.array([v]), table.candidate.relays[c, u, v][None])
            allowed = 100 * risk_accepted(gain_share(table.snapshot, path, table.candidate.cost[c, u, v][None]))[0]
            return (
                f"{better}; worse than direct with a probability of {risk:.1f} %, at most {allowed:.1f} % is allowed "
                f"for that gain"
            )
        case HeldBack.REGRET:
            cost = 0 if table.regret is None else int(table.regret[c, u, v])
            return f"{better}; staying has cost {cost / 1e9:.1f} ms for a second, a move costs {REGRET / 1e9:.1f}"
        case HeldBack.DWELL:
            wait = int(dwell_us(table.flaps[c, u : u + 1, v])[0]) + int(table.since[c, u, v]) - now
            return f"{better}; the pair changed lately and waits {max(0, wait) / 1e6:.1f} s more"
        case HeldBack.HERD:
            return f"{better}; too many pairs change for the same relay at once, or others have relieved it"
    return f"{better}; not asked yet" if gain > 0 else "as good as the path in force, which stays"
