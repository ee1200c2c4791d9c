"""Whether the targets of a drain may come back: well for three minutes, and not drained again and again.

It is easier to go than to come back (gdnsd asks ten bad answers to go down and twenty good ones to come up): what was
bad must have been well for ``WELL_S``, and every other drain of the same targets within a day lets it wait longer, as
Envoy multiplies the time of an ejection. ``force`` overrides; undoing a drain that has not emptied its targets yet is
no comeback and is never refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from router.core.drain.plan import Refusal
from router.core.errors import InputRejected
from router.core.model import Drain, DrainId, DrainState, Micros
from router.core.tables import View

WELL_S = 180
COOL_DOWN_S = 300  # per other drain of the same targets within ``REMEMBERED_US``
REMEMBERED_US = 24 * 3_600 * 1_000_000


def comeback(view: View, id: DrainId, now: Micros) -> tuple[Refusal, ...]:
    """The rules that undoing this drain would break now. Raises ``unknown_drain``."""
    drain = view.drains.get(id)
    if drain is None:
        raise InputRejected("unknown_drain", f"there is no drain {id}", field="id")
    return tuple(_broken(view, drain, now)) if drain.state is DrainState.DRAINED else ()


def _broken(view: View, drain: Drain, now: Micros) -> Iterator[Refusal]:
    for dc in drain.targets:
        well_s = (now - view.bad_at[dc]) // 1_000_000 if dc in view.bad_at else WELL_S
        if well_s < WELL_S:
            left = WELL_S - well_s
            text = f"{dc} has been well for {well_s} s; before it comes back it must be well for {WELL_S} s"
            yield Refusal("good_minutes", text, well_s, WELL_S, "force", left, f"wait {left} s and look at its health")
    others = recent(view, drain, now)
    since_s = (now - drain.created_at) // 1_000_000
    wait_s = COOL_DOWN_S * others
    if since_s < wait_s:
        text = f"its targets were in {others} other drains within a day: this one lasts at least {wait_s} s"
        left = wait_s - since_s
        yield Refusal("cool_down", text, since_s, wait_s, "force", left, f"wait {left} s, or find out why it flaps")


def recent(view: View, drain: Drain, now: Micros) -> int:
    """How many other drains of these targets began within a day and emptied them."""
    return sum(
        other.id != drain.id
        and other.created_at > now - REMEMBERED_US
        and other.sessions_at_start > 0
        and bool({*other.targets} & {*drain.targets} or {*other.nodes} & {*drain.nodes})
        for other in view.drains.values()
    )
