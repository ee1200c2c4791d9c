"""Answers about one pair of data centers, read from the View: the path in force each way, backups, reasons."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from router.core import policy as rules
from router.core.errors import InputRejected
from router.core.kernel import UNREACHABLE
from router.core.model import DataCenterId, Inventory, Micros, PolicyId, TrafficClass
from router.core.quality import mos, rating
from router.core.solve.backups import Protects, choose, providers_of
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
    """Compose the estimates of the hops: delays add, variances add, survival probabilities multiply.

    Delays are added under one set of clock offsets, and what is unknown is only how the clocks of the two ends differ:
    that shift, and the error, are those of the pair itself, the same for every path between the two.
    """
    ids = table.snapshot.data_centers
    delay, error, variance, survival, oldest = 0, 0, 0.0, 1.0, 0
    queue = 0
    transports = []
    for a, b in pairwise(hops):
        name = table.snapshot.transports[int(table.snapshot.transport[c, a, b])]
        transports.append(name)
        place = present_link(view, ids[a], ids[b], name)
        if place is None or table.stale:
            delay += int(table.snapshot.cost[c, a, b])
            oldest = max(oldest, now - table.computed_at)
            continue
        known = int(view.links.along_us[place])
        delay += known if view.links.rtt_us[place] != UNKNOWN else int(table.snapshot.cost[c, a, b])
        queue += max(0, int(view.links.jitter_us[place]))
        error += max(0, int(view.links.error_us[place]))
        variance += max(0, int(view.links.jitter_us[place])) ** 2
        survival *= 1 - max(0, int(view.links.loss_ppm[place])) / 1e6
        oldest = max(oldest, now - int(view.links.last_at[place]))
    jitter, loss = round(variance**0.5), round((1 - survival) * 1e6)
    if not table.stale:
        delay, error = _anchored(view, ids[hops[0]], ids[hops[-1]], delay, error)
    return PathAnswer(
        path=tuple(ids[h] for h in hops),
        transports=tuple(transports),
        delay_us=delay,
        error_us=error,
        jitter_us=jitter,
        loss_ppm=loss,
        mos=mos(rating(delay, jitter, loss, queue_us=queue)),
        metric_us=metric_us,
        age_us=oldest,
    )


def _anchored(view: View, start: DataCenterId, end: DataCenterId, along_us: int, error_us: int) -> tuple[int, int]:
    """A path's delay and error under the band of its ends, where any transport joins them directly."""
    i, j = view.inventory.index.get(start), view.inventory.index.get(end)
    if i is None or j is None:
        return along_us, error_us
    links = view.links
    known = [t for t in range(len(links.transports)) if links.rtt_us[t, i, j] != UNKNOWN]
    if not known:
        return along_us, error_us
    t = min(known, key=lambda t: int(links.error_us[t, i, j]))
    shift = int(links.forward_us[t, i, j]) - int(links.along_us[t, i, j])
    return max(0, along_us + shift), int(links.error_us[t, i, j])


def _direct_rtt(view: View, start: DataCenterId, end: DataCenterId) -> int | None:
    i, j = view.inventory.index[start], view.inventory.index[end]
    rtts = [int(r) for r in view.links.rtt_us[:, i, j] if r != UNKNOWN]
    return min(rtts, default=None)


def chosen_backups(table: RouteTable, c: int, u: int, v: int) -> list[tuple[tuple[int, ...], int, Protects]]:
    """Up to three backups of the path in force: vertices with ends, metric (microseconds), grade; best first."""
    if not table.reachable[c, u, v]:
        return []
    snapshot = table.snapshot
    cost, relay_us = snapshot.cost[c], int(snapshot.relay_cost_us[c])
    provider = providers_of(snapshot).tolist()

    def metric(relay: int) -> int:
        return int(cost[u, v]) if relay == DIRECT else int(cost[u, relay]) + int(cost[relay, v]) + relay_us

    found = choose(table.candidate.spares[c, u, v].tolist(), hops_of(table, c, u, v), provider, metric)
    return [((u, v) if relay == DIRECT else (u, relay, v), metric(relay), grade) for relay, grade in found]


def backups(view: View, table: RouteTable, c: int, u: int, v: int, now: Micros) -> tuple[Backup, ...]:
    """Up to three alternatives to the path in force with at most one relay; see ``solve.backups``."""
    return tuple(
        Backup(describe(view, table, c, hops, metric_us, now), grade.name.lower())
        for hops, metric_us, grade in chosen_backups(table, c, u, v)
    )


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
