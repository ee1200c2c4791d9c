"""An outcome in one line, for people: sessions first, then routes, then room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from router.core.model import TrafficClass

if TYPE_CHECKING:
    from router.core.whatif.outcome import Outcome


def summary(outcome: Outcome) -> str:
    """What would happen, in words and numbers."""
    return "; ".join(_parts(outcome))


def _parts(outcome: Outcome) -> Iterator[str]:
    people, free = outcome.sessions, outcome.rooms.whole
    moved = people.at_removed - people.moved.homeless
    yield f"{moved} of {people.live} sessions would move"
    if people.moved.homeless:
        yield f"{people.moved.homeless} would find no place"
    if people.lose_agent:
        yield f"{people.lose_agent} would lose their agent"
    if people.cut:
        yield f"{people.cut} would lose every path to their agent"
    yield from _routes(outcome)
    if len(outcome.parts_after) > max(1, len(outcome.parts_before)):
        yield f"the network would fall into {len(outcome.parts_after)} parts"
    if free.after_pct is not None:
        now = "" if free.now_pct is None else f" (now {free.now_pct:g} %)"
        yield f"headroom {free.after_pct:g} %{now}"
        if free.after_next_loss_pct is not None:
            yield f"{free.after_next_loss_pct:g} % if {free.next_loss} failed on top"
    broken = len(outcome.refusals)
    yield f"{broken} rule{'s' if broken > 1 else ''} would be broken" if broken else "no rule would be broken"


def _routes(outcome: Outcome) -> Iterator[str]:
    """Voice speaks for all classes: the line must stay short, the answer has them all."""
    effect = next((e for e in outcome.routes if e.context.traffic_class is TrafficClass.VOICE), None)
    if effect is None:
        return
    yield f"{effect.rerouted} of {effect.pairs} voice routes would change"
    if effect.lost:
        yield f"{effect.lost} would have no path"
    if effect.growth is not None:
        yield f"{effect.slower} get slower, half of them by at least {effect.growth.p50_us / 1000:.1f} ms"
    if effect.saving is not None:
        yield f"{effect.faster} get faster, half of them by at least {effect.saving.p50_us / 1000:.1f} ms"
