"""Answers about one pair of data centers, read from the View: the path in force each way, backups, reasons."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from router.core import policy as rules
from router.core.errors import InputRejected
from router.core.kernel import UNREACHABLE
from router.core.model import DataCenterId, Inventory, Micros, PolicyId, TrafficClass
from router.core.quality import mos, rating
from router.core.tables import DIRECT, UNKNOWN, Context, Health, RouteTable, View

VALID_US = 10_000_000  # soft life of an answer: ask again after it, keep using it as long as there is nothing newer
STALE_TABLE_US = 15_000_000  # a table that was not renewed for so long is served, and called stale


@dataclass(frozen=True, slots=True)
class PathAnswer:
    """One path with what to expect on it, one way; ``UNKNOWN`` (-1) where a hop has no value."""

    path: tuple[DataCenterId, ...]
    transports: tuple[str, ...]
    delay_us: int
    error_us: int
    jitter_us: int
    loss_ppm: int
    mos: float
    metric_us: int
    age_us: int


@dataclass(frozen=True, slots=True)
class Backup:
    """An alternative and what it survives: ``provider``, ``data_center`` or ``link`` of the path in force."""

    path: PathAnswer
    protects: str


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """The route now, in both directions, with its reasons."""

    source: DataCenterId
    target: DataCenterId
    context: Context
    generation: int
    computed_at: Micros
    age_us: int
    stale: bool
    forward: PathAnswer | None
    back: PathAnswer | None
    rtt_us: int | None
    direct_rtt_us: int | None
    backups_forward: tuple[Backup, ...]
    backups_return: tuple[Backup, ...]
    valid_until: Micros
    reasons: tuple[str, ...]


def resolve(
    inventory: Inventory, source: str, target: str, traffic_class: TrafficClass, policy: PolicyId | None
) -> tuple[DataCenterId, DataCenterId, Context]:
    """Check names.

    Raises ``unknown_data_center``, ``unknown_policy``, ``policy_not_for_class``, ``same_data_center``.
    """
    for name, field in ((source, "from"), (target, "to")):
        if DataCenterId(name) not in inventory.data_centers:
            raise InputRejected("unknown_data_center", f"there is no data center {name}", field=field)
    if source == target:
        raise InputRejected("same_data_center", "from and to are the same data center", field="to", rule="must differ")
    context = Context(traffic_class, policy)
    if policy is not None and policy not in inventory.policies:
        raise InputRejected("unknown_policy", f"there is no policy {policy}", field="policy")
    if context not in rules.contexts(inventory):
        raise InputRejected(
            "policy_not_for_class", f"policy {policy} does not match class {traffic_class.value}", field="policy"
        )
    return DataCenterId(source), DataCenterId(target), context


def route(
    view: View, source: str, target: str, traffic_class: TrafficClass, policy: PolicyId | None, now: Micros
) -> RouteAnswer:
    """The best route now. Raises as :func:`resolve` does; no path is an answer with ``forward`` or ``back`` None."""
    start, end, context = resolve(view.inventory, source, target, traffic_class, policy)
    table = view.routes
    place = None if table is None else _place(table, start, end, context)
    if table is None or place is None:
        reason = "no route table has been computed yet" if table is None else "the pair is newer than the route table"
        return _empty(start, end, context, now, table, (reason,))
    c, u, v = place
    forward, back = path_in_force(view, table, c, u, v, now), path_in_force(view, table, c, v, u, now)
    rtt = None if forward is None or back is None else forward.delay_us + back.delay_us
    return RouteAnswer(
        source=start,
        target=end,
        context=context,
        generation=table.generation,
        computed_at=table.computed_at,
        age_us=max(0, now - table.computed_at),
        stale=is_stale(table, now),
        forward=forward,
        back=back,
        rtt_us=rtt,
        direct_rtt_us=_direct_rtt(view, start, end),
        backups_forward=backups(view, table, c, u, v, now),
        backups_return=backups(view, table, c, v, u, now),
        valid_until=max(now, table.computed_at) + VALID_US,
        reasons=(
            *_reasons(view, table, c, u, v, now, "forward"),
            *_reasons(view, table, c, v, u, now, "return"),
        ),
    )


def is_stale(table: RouteTable, now: Micros) -> bool:
    """Whether a table is from before a restart or has not been renewed for too long."""
    return table.stale or now - table.computed_at > STALE_TABLE_US


def _place(table: RouteTable, start: DataCenterId, end: DataCenterId, context: Context) -> tuple[int, int, int] | None:
    ids = table.snapshot.data_centers
    if start not in ids or end not in ids or context not in table.snapshot.contexts:
        return None
    return table.snapshot.contexts.index(context), ids.index(start), ids.index(end)


def _empty(
    start: DataCenterId,
    end: DataCenterId,
    context: Context,
    now: Micros,
    table: RouteTable | None,
    why: tuple[str, ...],
) -> RouteAnswer:
    at = now if table is None else table.computed_at
    generation = 0 if table is None else table.generation
    stale = table is None or is_stale(table, now)
    return RouteAnswer(
        start,
        end,
        context,
        generation,
        at,
        max(0, now - at),
        stale,
        None,
        None,
        None,
        None,
        (),
        (),
        now + 1_000_000,
        why,
    )


def hops_of(table: RouteTable, c: int, u: int, v: int) -> tuple[int, ...]:
    """Vertices of the path in force, ends included."""
    return (u, *(int(k) for k in table.relays[c, u, v] if k != DIRECT), v)


def path_in_force(view: View, table: RouteTable, c: int, u: int, v: int, now: Micros) -> PathAnswer | None:
    """The path in force of a context and ordered pair of vertices of the table."""
    if not table.reachable[c, u, v]:
        return None
    return describe(view, table, c, hops_of(table, c, u, v), int(table.cost[c, u, v]), now)


def present_link(view: View, source: DataCenterId, target: DataCenterId, transport: str) -> tuple[int, int, int] | None:
    """Where the estimates have a link now; the numbers of a table in force may be of an older inventory."""
    i, j = view.inventory.index.get(source), view.inventory.index.get(target)
    if i is None or j is None or transport not in view.links.transports:
        return None
    return view.links.transports.index(transport), i, j


def describe(view: View, table: RouteTable, c: int, hops: tuple[int, ...], metric_us: int, now: Micros) -> PathAnswer:
    """Compose the estimates of the hops: delays and errors add, variances add, survival probabilities multiply."""
    ids = table.snapshot.data_centers
    delay, error, variance, survival, oldest = 0, 0, 0.0, 1.0, 0
    transports = []
    for a, b in pairwise(hops):
        name = table.snapshot.transports[int(table.snapshot.transport[c, a, b])]
        transports.append(name)
        place = present_link(view, ids[a], ids[b], name)
        if place is None or table.stale:
            delay += int(table.snapshot.cost[c, a, b])
            oldest = max(oldest, now - table.computed_at)
            continue
        known = int(view.links.forward_us[place])
        delay += known if view.links.rtt_us[place] != UNKNOWN else int(table.snapshot.cost[c, a, b])
        error += max(0, int(view.links.error_us[place]))
        variance += max(0, int(view.links.jitter_us[place])) ** 2
        survival *= 1 - max(0, int(view.links.loss_ppm[place])) / 1e6
        oldest = max(oldest, now - int(view.links.last_at[place]))
    jitter, loss = round(variance**0.5), round((1 - survival) * 1e6)
    return PathAnswer(
        path=tuple(ids[h] for h in hops),
        transports=tuple(transports),
        delay_us=delay,
        error_us=error,
        jitter_us=jitter,
        loss_ppm=loss,
        mos=mos(rating(delay, jitter, loss)),
        metric_us=metric_us,
        age_us=oldest,
    )


def _direct_rtt(view: View, start: DataCenterId, end: DataCenterId) -> int | None:
    i, j = view.inventory.index[start], view.inventory.index[end]
    rtts = [int(r) for r in view.links.rtt_us[:, i, j] if r != UNKNOWN]
    return min(rtts, default=None)


def backups(view: View, table: RouteTable, c: int, u: int, v: int, now: Micros) -> tuple[Backup, ...]:
    """Up to three alternatives with at most one relay, cheapest per grade, the strongest grade first.

    ``provider``: no relay of a provider that the path in force uses; ``data_center``: none of its relays; ``link``: not
    its first hop. Every alternative leaves the path in force's first link, so it helps against that link in any case.
    """
    if not table.reachable[c, u, v]:
        return ()
    snapshot = table.snapshot
    inforce = hops_of(table, c, u, v)
    totals = snapshot.cost[c, u, :] + snapshot.cost[c, :, v] + snapshot.relay_cost_us[c]
    totals = np.where(snapshot.may_relay[c], totals, UNREACHABLE)
    totals[[u, v]] = UNREACHABLE
    if snapshot.max_relays[c] < 1:
        totals[:] = UNREACHABLE
    centers = [view.inventory.data_centers.get(dc) for dc in snapshot.data_centers]
    providers = np.array(["" if dc is None else dc.provider for dc in centers])
    used = list(inforce[1:-1])
    other_dc = ~np.isin(np.arange(len(centers)), used)
    other_provider = ~np.isin(providers, [providers[h] for h in used]) if used else other_dc
    found: list[Backup] = []
    taken = {inforce}
    for grade, mask in (("provider", other_provider), ("data_center", other_dc)):
        choices = np.where(mask, totals, UNREACHABLE)
        for k in np.argsort(choices, kind="stable")[:3]:
            hops = (u, int(k), v)
            if choices[k] < UNREACHABLE and hops not in taken:
                taken.add(hops)
                found.append(Backup(describe(view, table, c, hops, int(choices[k]), now), grade))
                break
    direct = (u, v)
    if direct not in taken and snapshot.cost[c, u, v] < UNREACHABLE:
        found.append(Backup(describe(view, table, c, direct, int(snapshot.cost[c, u, v]), now), "data_center"))
    return tuple(found[:3])


def _reasons(view: View, table: RouteTable, c: int, u: int, v: int, now: Micros, which: str) -> tuple[str, ...]:
    ids = table.snapshot.data_centers
    if not table.reachable[c, u, v]:
        return (f"{which}: no path: {_why_unreachable(view, table, c, u, v)}",)
    direct, held = int(table.snapshot.cost[c, u, v]), (now - int(table.since[c, u, v])) / 1e6
    hops = hops_of(table, c, u, v)
    cost = int(table.cost[c, u, v])
    if len(hops) == 2:
        return (f"{which}: direct is best, held for {held:.0f} s",)
    names = " and ".join(str(ids[h]) for h in hops[1:-1])
    if direct >= UNREACHABLE:
        return (f"{which}: via {names}; the direct link is not usable, held for {held:.0f} s",)
    saved = (direct - cost) / 1000
    share = 100 * (direct - cost) / direct if direct > 0 else 0.0
    return (f"{which}: relay {names} saves {saved:.1f} ms ({share:.1f} %), held for {held:.0f} s",)


def _why_unreachable(view: View, table: RouteTable, c: int, u: int, v: int) -> str:
    ids = table.snapshot.data_centers
    context = table.snapshot.contexts[c]
    for h in (u, v):
        i = view.inventory.index.get(ids[h])
        if i is None:
            return f"{ids[h]} is no longer in the inventory"
        if view.health[i].state is Health.DOWN:
            return f"{ids[h]} is down: {view.health[i].reason}"
        policy = view.inventory.policies.get(context.policy) if context.policy is not None else None
        refusal = rules.forbids(policy, view.inventory.data_centers[ids[h]])
        if refusal is not None:
            return f"{ids[h]}: {refusal}"
    if context.policy is not None:
        return f"under policy {context.policy} no allowed path is left"
    return "no usable link leads there; see explain for each candidate"
