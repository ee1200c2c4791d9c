"""The rules that a drain must not break, each with its number, its limit, what is missing, and what would cure it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from router.core.drain.agents import too_few_warm
from router.core.drain.capacity import next_loss, room
from router.core.drain.plan import Forecast, Headroom, Refusal
from router.core.drain.receivers import Spread
from router.core.drain.roads import Busiest, busiest
from router.core.drain.targets import remaining_hubs
from router.core.model import DataCenterId, Intent, Role
from router.core.tables import Health, View

MIN_HEADROOM_PCT = 20.0  # of the remaining edges' capacity; the usual reserve of a small fleet
MAX_DRAINED_SHARE = 0.5  # of all edges, counting what is out already; a fleet of five providers can give up two
WIDE_SHARE = 0.25  # beyond this the plan says so: more than a quarter of the edges is an event of its own
MAX_GROWTH_US = 30_000  # of the 95th percentile's one-way delay; a drain that nobody ordered must not cost more
MAX_LINK_PCT = 70.0  # beyond this a link's queue shows in the delay of every packet


def refusals(
    view: View,
    targets: Sequence[DataCenterId],
    remaining: Sequence[DataCenterId],
    expected: Forecast,
    free: Headroom,
    moved: Spread,
    growth_us: int | None,
    present: View | None = None,
) -> tuple[Refusal, ...]:
    """Every rule that is broken, in the order in which they matter; ``growth_us`` where nobody is there to judge it.

    ``present``: what links carry now, where ``view`` is a world that somebody only asks about.
    """
    edges_hit = any(Role.EDGE in view.inventory.data_centers[dc].roles for dc in targets)
    hubs = remaining_hubs(view, targets)
    found = [
        *(_edges_left(view, targets, remaining) if edges_hit else ()),
        *(_headroom(view, remaining, expected, free) if edges_hit else ()),
        *_homeless(moved),
        *too_few_warm(view, targets, hubs),
        *_delay(growth_us),
        *_links(busiest(view, moved.flows, present or view)),
    ]
    return tuple(found)


def drained_share(view: View, remaining: Sequence[DataCenterId]) -> float:
    """Share of the edges that would be out of rotation."""
    edges = _edges(view)
    return 1 - len(remaining) / len(edges) if edges else 0.0


def _edges(view: View) -> list[DataCenterId]:
    places = view.inventory.data_centers.values()
    return [dc.id for dc in places if Role.EDGE in dc.roles and dc.intent is not Intent.RETIRED]


def _edges_left(view: View, targets: Sequence[DataCenterId], remaining: Sequence[DataCenterId]) -> Iterator[Refusal]:
    if not remaining:
        text = "no edge would be left to take sessions; add or undrain one first"
        yield Refusal("last_edge", text, 0, 1, "force", 1, "add an edge in another data center, or undrain one")
        return
    share = drained_share(view, remaining)
    if share > MAX_DRAINED_SHARE:
        out = [dc for dc in _edges(view) if dc not in remaining and dc not in targets]
        index = view.inventory.index
        down = sum(view.health[index[dc]].state is Health.DOWN for dc in out)
        so_far = f" ({down} down and {len(out) - down} taken out already)" if out else ""
        text = f"{share:.0%} of all edges would be out of rotation{so_far}; drain them one after the other"
        count = round((share - MAX_DRAINED_SHARE) * len(remaining) / max(1e-9, 1 - share) + 0.499)
        cure = f"bring {count} edge{'s' if count > 1 else ''} back first, or drain fewer at a time"
        yield Refusal("max_drained_share", text, round(share, 3), MAX_DRAINED_SHARE, "force", count, cure)


def _headroom(view: View, remaining: Sequence[DataCenterId], expected: Forecast, free: Headroom) -> Iterator[Refusal]:
    if free.after_pct is not None and free.after_pct < MIN_HEADROOM_PCT:
        missing = room(view, remaining, expected).missing(MIN_HEADROOM_PCT)
        text = f"the remaining edges would keep {free.after_pct} % headroom; add capacity or wait for sessions to end"
        yield Refusal("min_headroom", text, free.after_pct, MIN_HEADROOM_PCT, "force", missing, _places(missing))
    elif free.after_next_loss_pct is not None and free.after_next_loss_pct < MIN_HEADROOM_PCT:
        lost = next_loss(view, remaining)
        missing = room(view, [dc for dc in remaining if dc != lost], expected).missing(MIN_HEADROOM_PCT)
        text = f"if {lost} failed meanwhile, the edges that are left would keep {free.after_next_loss_pct} % headroom"
        yield Refusal("n_plus_1", text, free.after_next_loss_pct, MIN_HEADROOM_PCT, "force", missing, _places(missing))


def _places(missing: int) -> str:
    if missing == 1:
        return "1 session place is missing: add edge capacity, or wait until a session has ended"
    return f"{missing} session places are missing: add edge capacity, or wait until as many sessions have ended"


def _homeless(moved: Spread) -> Iterator[Refusal]:
    if moved.homeless:
        who = "1 session" if moved.homeless == 1 else f"{moved.homeless} sessions"
        text = f"{who} would find no edge with a free place and a path to the agent; {moved.why}"
        cure = f"{_places(moved.homeless)}; edges that nobody reaches an agent from do not count"
        yield Refusal("no_place", text, moved.homeless, 0, "force", moved.homeless, cure)


def _delay(growth_us: int | None) -> Iterator[Refusal]:
    if growth_us is not None and growth_us > MAX_GROWTH_US:
        value, limit = round(growth_us / 1000, 1), MAX_GROWTH_US / 1000
        text = f"one way to their agents would be {value} ms longer for the 95th percentile of the sessions concerned"
        cure = "drain the data centers of a market one after the other, or add an edge nearer to these users"
        yield Refusal("delay_growth", text, value, limit, "force", round(value - limit, 1), cure)


def _links(found: Busiest | None) -> Iterator[Refusal]:
    if found is not None and found.after_pct > MAX_LINK_PCT and found.after_pct > found.before_pct + 1:
        text = f"{found.name} would carry {found.after_pct} % of its capacity, {found.before_pct} % now"
        over = round(found.after_pct - MAX_LINK_PCT, 1)
        cure = f"raise the capacity of {found.name} by {over} points, or drain when there are fewer sessions"
        yield Refusal("link_load", text, found.after_pct, MAX_LINK_PCT, "force", over, cure)
