"""The life of a data center that has to earn its users: the table, and what each step commits.

``registered -> connected -> shadow -> synthetic -> canary (1, 5, 10, 25, 50, 100 % of its users) -> serving``. From
wherever it is, bad evidence leads to ``rolled_back``, where it takes nobody. The next attempt begins when a person says
so, or by itself after 1, 2, 4, ... hours: who was bad twice is looked at less often. A data center that comes back from
a drain was known to be good: it skips what only a stranger must show, and starts at ``RETURN_SHARE_PPM``. A version of
agents begins with its first users. Where each kind begins is a row of ``kinds.KINDS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from router.core.errors import InputRejected
from router.core.model import DataCenter, DataCenterId, Intent, Micros, PoolId, Ramp, RampId, RampKind, RampState
from router.core.ramp.kinds import KINDS, RUNGS_PPM
from router.core.tables import View

FIRST_RETRY_US = 3_600_000_000
RETRIES = 5  # by itself, up to 16 hours apart; after that only a person begins another attempt
_BEFORE_USERS = (RampState.REGISTERED, RampState.CONNECTED, RampState.SHADOW, RampState.SYNTHETIC)
_RUNNING = (*_BEFORE_USERS, RampState.CANARY)

TRANSITIONS: dict[tuple[RampState, str], RampState] = {
    (RampState.REGISTERED, "connected"): RampState.CONNECTED,
    (RampState.CONNECTED, "clock_known"): RampState.SHADOW,
    (RampState.SHADOW, "measured"): RampState.SYNTHETIC,
    (RampState.SYNTHETIC, "robots_passed"): RampState.CANARY,
    (RampState.CANARY, "rung_passed"): RampState.CANARY,
    (RampState.CANARY, "all_passed"): RampState.SERVING,
    **{(state, "lost"): RampState.REGISTERED for state in _BEFORE_USERS if state is not RampState.REGISTERED},
    **{(state, "bad"): RampState.ROLLED_BACK for state in (*_RUNNING, RampState.PAUSED)},
    **{(RampState.ROLLED_BACK, f"retry_{kind.value}"): KINDS[kind].start for kind in RampKind},
    **{(state, "pause"): RampState.PAUSED for state in _RUNNING},
    **{(RampState.PAUSED, f"resume_{state.value}"): state for state in _RUNNING},
    **{(state, "withdraw"): RampState.WITHDRAWN for state in (*_RUNNING, RampState.PAUSED, RampState.ROLLED_BACK)},
}
ADVANCES: Mapping[RampState, str] = {
    RampState.SHADOW: "measured",
    RampState.SYNTHETIC: "robots_passed",
    RampState.CANARY: "rung_passed",
}
"""What a person may vouch for in each state; nobody can vouch for a node that does not speak."""


def begin(kind: RampKind, data_center: DataCenterId, id: RampId, reason: str, actor: str, now: Micros) -> Ramp:
    """A new ramp."""
    return Ramp(id, kind, data_center, KINDS[kind].start, KINDS[kind].share_ppm, reason, now, actor, now)


def begin_version(pool: PoolId, version: str, id: RampId, reason: str, actor: str, now: Micros) -> Ramp:
    """A new ramp of a version of a pool's agents."""
    return replace(begin(RampKind.VERSION, DataCenterId(""), id, reason, actor, now), pool=pool, version=version)


def step(
    view: View, id: RampId, event: str, reason: str, now: Micros, exposed: int | None = None
) -> tuple[Ramp, Mapping[DataCenterId, Intent]]:
    """What a step of ``TRANSITIONS``, ``resume``, ``retry`` or ``advance`` commits.

    Raises ``unknown_ramp``, ``bad_transition``.
    """
    ramp = view.ramps.get(id)
    if ramp is None:
        raise InputRejected("unknown_ramp", f"there is no ramp {id}", field="id")
    name = named(ramp, event)
    state = TRANSITIONS.get((ramp.state, name))
    if state is None:
        raise InputRejected("bad_transition", f"a ramp that is {ramp.state.value} cannot {event}", field="state")
    after = replace(
        ramp,
        state=state,
        share_ppm=_share(ramp, name, state),
        reason=reason,
        since=now,
        attempt=ramp.attempt + (1 if name.startswith("retry") else 0),
        exposed=ramp.exposed if exposed is None else exposed,
        paused_from=ramp.state if state is RampState.PAUSED else None,
        retry_at=_retry_at(ramp, now) if state is RampState.ROLLED_BACK else None,
        finished_at=now if state in (RampState.SERVING, RampState.WITHDRAWN) else None,
    )
    return after, _intents(view, after)


def named(ramp: Ramp, event: str) -> str:
    """The event of the table behind what is called the same whatever the state."""
    if event == "resume" and ramp.paused_from is not None:
        return f"resume_{ramp.paused_from.value}"
    if event == "retry":
        return f"retry_{ramp.kind.value}"
    wanted = ADVANCES.get(ramp.state, event) if event == "advance" else event
    return "all_passed" if wanted == "rung_passed" and ramp.share_ppm >= RUNGS_PPM[-1] else wanted


def _share(ramp: Ramp, event: str, state: RampState) -> int:
    if state in (RampState.SERVING, RampState.WITHDRAWN):
        return RUNGS_PPM[-1]
    if event in ("robots_passed", "rung_passed"):
        return next((rung for rung in RUNGS_PPM if rung > ramp.share_ppm), RUNGS_PPM[-1])
    if event.startswith("retry_"):
        return KINDS[ramp.kind].share_ppm
    return 0 if state in (RampState.ROLLED_BACK, RampState.REGISTERED) else ramp.share_ppm


def _retry_at(ramp: Ramp, now: Micros) -> Micros | None:
    return now + (FIRST_RETRY_US << (ramp.attempt - 1)) if ramp.attempt <= RETRIES else None


def _intents(view: View, ramp: Ramp) -> Mapping[DataCenterId, Intent]:
    """A new data center that has passed serves like any other from then on."""
    found: DataCenter | None = view.inventory.data_centers.get(ramp.data_center)
    passed = ramp.state is RampState.SERVING and found is not None and found.intent is Intent.CANARY
    return {ramp.data_center: Intent.SERVING} if passed else {}


def rung_of(ramp: Ramp) -> int:
    """Which rung of the ladder a ramp is on, from 0."""
    return next((i for i, rung in enumerate(RUNGS_PPM) if ramp.share_ppm <= rung), len(RUNGS_PPM) - 1)
