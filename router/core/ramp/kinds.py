"""What tells one kind of ramp from another: where it begins, who may overrule it, and what its arms can show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from router.core.model import Intent, Inventory, Ramp, RampKind, RampState

RUNGS_PPM = (10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000)
RETURN_SHARE_PPM = 100_000  # Envoy's slow start begins at a tenth as well; it has served everybody before


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of ramp."""

    start: RampState  # of a new one, and of each further attempt
    share_ppm: int  # of users at its start
    overruled: Callable[[Inventory, Ramp], str]  # why people want something else of it by now, or nothing


def _new(inventory: Inventory, ramp: Ramp) -> str:
    dc = inventory.data_centers.get(ramp.data_center)
    if dc is None:
        return "the data center is no longer in the inventory"
    return "" if dc.intent is Intent.CANARY else f"its intent is now {dc.intent.value}"


def _return(inventory: Inventory, ramp: Ramp) -> str:
    dc = inventory.data_centers.get(ramp.data_center)
    if dc is None:
        return "the data center is no longer in the inventory"
    return "" if dc.intent.takes_new_sessions else f"its intent is now {dc.intent.value}"


def _version(inventory: Inventory, ramp: Ramp) -> str:
    return "" if ramp.pool in inventory.pools else "the pool is no longer in the inventory"


KINDS: Mapping[RampKind, Kind] = {
    RampKind.NEW: Kind(RampState.REGISTERED, 0, _new),
    RampKind.RETURN: Kind(RampState.CANARY, RETURN_SHARE_PPM, _return),
    # Its agents are in places that are known, and a robot cannot tell what a version says: users show it, from 1 % on.
    RampKind.VERSION: Kind(RampState.CANARY, RUNGS_PPM[0], _version),
}
