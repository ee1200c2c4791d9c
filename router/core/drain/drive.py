"""What a running drain wants now."""

from __future__ import annotations

from collections.abc import Mapping

from router.core.messages import AdvanceDrain, Effect, FinishDrain, MoveSessions
from router.core.model import DataCenterId, Drain, DrainState, Micros

MOVE_LIMIT = 20  # sessions per data center and second; a receiver's set-up rate is the scarce thing


def drive(drain: Drain, sessions: Mapping[DataCenterId, int], now: Micros) -> list[Effect]:
    """What a running drain wants now: finish, begin to move at its deadline, move."""
    if drain.state not in (DrainState.MOVING, DrainState.BLEEDING):
        return []
    left = {dc: sessions.get(dc, 0) for dc in drain.targets}
    if not any(left.values()):
        return [FinishDrain(drain.id)]
    if drain.state is DrainState.MOVING:
        text = f"drain {drain.id}: {drain.reason}" if drain.reason else f"drain {drain.id}"
        return [MoveSessions(dc, MOVE_LIMIT, text) for dc, count in left.items() if count]
    if drain.deadline_at is not None and now >= drain.deadline_at:
        return [AdvanceDrain(drain.id, "deadline")]
    return []
