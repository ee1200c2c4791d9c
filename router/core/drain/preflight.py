"""Preflight: what a drain would do, and which rules it would break. A pure function of the View."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from router.core.drain.agents import agents_behind
from router.core.drain.capacity import forecast, headroom
from router.core.drain.pace import moves_per_s
from router.core.drain.plan import AGENTS_S, DrainPlan, DrainRequest, Stage
from router.core.drain.receivers import spread
from router.core.drain.roads import relayed_growth, routes_through
from router.core.drain.rules import MAX_GROWTH_US, WIDE_SHARE, drained_share, refusals
from router.core.drain.stages import SHARES_PPM, stage_s
from router.core.drain.targets import Targets, emptied, expand, remaining_edges
from router.core.model import DataCenterId, DrainMode, DrainOrigin, Micros
from router.core.tables import View


def preflight(view: View, request: DrainRequest, now: Micros) -> DrainPlan:
    """Judge a drain on the View. Raises ``selector_…``; broken constraints are values in the plan."""
    targets = expand(view.inventory, request.selector)
    out = emptied(view.inventory, targets)
    remaining = remaining_edges(view, out)
    expected = forecast(view)
    free = headroom(view, remaining, expected)
    moved = spread(view, out)
    growth = _worst(moved.growth_p95_us, relayed_growth(view, out))
    agents = agents_behind(view, targets.data_centers, targets.nodes, request.deadline_s or AGENTS_S)
    by_people = request.origin is DrainOrigin.OPERATOR  # they judge what a market far from all others costs
    return DrainPlan(
        targets=targets.data_centers,
        sessions={dc: view.counters.sessions.get(dc, 0) for dc in targets.data_centers},
        shifts=moved.shifts,
        agents_behind={dc: found.held for dc, found in agents.items() if found.held},
        routes_through=routes_through(view, out),
        headroom_after_pct=free.after_pct,
        refusals=refusals(view, out, remaining, expected, free, moved, None if by_people else growth),
        nodes=targets.nodes,
        headroom=free,
        agents=agents,
        forecast=expected,
        growth_p95_us=growth,
        timeline=tuple(_timeline(view, request, targets, sum(a.held for a in agents.values()), remaining)),
        notes=tuple(_notes(view, remaining, growth)),
    )


def _worst(moved_us: int | None, relayed: list[tuple[int, int]]) -> int | None:
    """The longer of two growths: of sessions that move, and of sessions whose relay goes."""
    longest = max((value for value, _ in relayed), default=None)
    found = [value for value in (moved_us, longest) if value is not None]
    return max(found, default=None)


def _timeline(
    view: View, request: DrainRequest, targets: Targets, held: int, remaining: Sequence[DataCenterId]
) -> Iterator[Stage]:
    count = sum(view.counters.sessions.get(dc, 0) for dc in targets.data_centers)
    step = stage_s(request, count)
    if step:
        for k, share in enumerate(SHARES_PPM):
            yield Stage(k * step, f"targets take {share // 10_000} % of the new sessions they would get")
    begin = step * len(SHARES_PPM)
    yield Stage(begin, "targets take no new session, no new agent is taken there, and no new route relays over them")
    pace = moves_per_s(view, remaining)
    if request.mode is DrainMode.EMERGENCY:
        yield Stage(begin, f"nothing is moved: the users of {count} sessions resume on other edges by themselves")
    elif request.mode is DrainMode.HARD:
        yield Stage(begin, f"{count} sessions move at up to {pace} per second, and keep their agents")
        yield Stage(begin + -(-count // pace), "all sessions have moved, if every user follows at once")
    elif request.deadline_s is None:
        yield Stage(begin, "live sessions end by themselves; nothing is moved without a deadline")
    else:
        late = max(begin, request.deadline_s - -(-count // pace))
        yield Stage(late, f"at the latest: what is left moves at up to {pace} per second, and keeps its agents")
    if held:
        cut_s = max(request.deadline_s or AGENTS_S, begin)
        yield Stage(cut_s, "sessions whose agent is still in a target lose it and get another one")


def _notes(view: View, remaining: Sequence[DataCenterId], growth_us: int | None) -> Iterator[str]:
    share = drained_share(view, remaining)
    if share > WIDE_SHARE:
        yield f"{share:.0%} of all edges would be out of rotation"
    if growth_us is not None and growth_us > MAX_GROWTH_US:
        yield f"one way would be {growth_us / 1000:.1f} ms longer for some: nobody near remains to take them"
    if len(remaining) == 1:
        yield f"only {remaining[0]} would be left: its loss would leave no edge"
