"""The stages of a soft drain: which share of new sessions its targets still take, and for how long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from router.core.drain.plan import STAGE_S, DrainRequest
from router.core.model import DataCenterId, Drain, DrainMode, DrainOrigin, DrainState
from router.core.tables import Dial

SHARES_PPM = (750_000, 500_000, 250_000)  # then none
STAGED_FROM = 20  # live sessions; with fewer the receivers could not tell one stage from the next


def stage_s(request: DrainRequest, sessions: int) -> int:
    """How long each share is kept; 0: no stages."""
    if request.mode is not DrainMode.SOFT or request.origin is DrainOrigin.AUTOMATIC:
        return 0
    if request.stage_s is not None:
        return request.stage_s
    return STAGE_S if sessions >= STAGED_FROM else 0


def next_share(share_ppm: int) -> int:
    """The share after this one."""
    return max((share for share in SHARES_PPM if share < share_ppm), default=0)


def dials(drains: Iterable[Drain]) -> Iterator[tuple[DataCenterId, Dial]]:
    """The dials that drains turn: the share of new users that their targets still take. At 0 their intent says it."""
    for drain in drains:
        if drain.share_ppm and drain.state in (DrainState.SHIFTING, DrainState.PAUSED):
            for dc in drain.targets:
                yield dc, Dial(drain.share_ppm, f"drain {drain.id}")
