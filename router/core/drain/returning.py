"""Which targets of a drain that ends earn their users again, and which have all of them back at once.

Who went on serving is known to be well: the sessions that are still there say so, and its users come back at once. Who
was empty has shown nothing since, and machines that were worked on are not the machines of before; who was taken out
because it was bad has shown the wrong thing. These begin a ramp of kind ``return`` in the commit that ends the drain.
There is no ramp where nobody else could take the rest of the users, and none when somebody insists.
"""

from __future__ import annotations

from collections.abc import Mapping

from router.core.drain.comeback import WELL_S
from router.core.drain.targets import remaining_edges
from router.core.model import DataCenterId, Drain, DrainMode, DrainOrigin, DrainState, Intent, Micros, Role
from router.core.tables import View


def returning(
    view: View, drain: Drain, intents: Mapping[DataCenterId, Intent], now: Micros
) -> tuple[DataCenterId, ...]:
    """Targets whose users come back step by step; ``drain`` as it was, ``intents`` what its end gives back."""
    if not _was_out(drain, now):
        return ()
    climbing = {ramp.data_center for ramp in view.ramps.values() if ramp.open}
    back = [dc for dc, intent in sorted(intents.items()) if intent is Intent.SERVING and dc in drain.targets]
    found = [dc for dc in back if Role.EDGE in view.inventory.data_centers[dc].roles and dc not in climbing]
    return tuple(found) if remaining_edges(view, back) else ()


def _was_out(drain: Drain, now: Micros) -> bool:
    """Whether its targets have something to show before everybody is sent there again."""
    if drain.origin is DrainOrigin.AUTOMATIC or drain.mode is DrainMode.EMERGENCY:
        return True
    emptied = drain.sessions_at_start > 0 or now - drain.created_at >= WELL_S * 1_000_000
    return drain.state is DrainState.DRAINED and emptied
