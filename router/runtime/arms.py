"""Which sessions belong to a ramp's canary or control arm, and what they show: the evidence that ramps are judged by.

Ramps are of data centers, whose arms steering tells, of bought machines, whose arms the session's agent tells, and of
versions of agents, whose arms are told by the user's place and the agent's version (:mod:`router.core.ramp.lanes`).

Kept in memory only. After a restart the sessions of before are nobody's, and the rung begins with none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from router.core.capacity import LaunchId
from router.core.messages import Climbed, Sample
from router.core.model import AgentId, DataCenterId, Micros, Session, SessionId
from router.core.ramp.machines import arms_of

if TYPE_CHECKING:
    from router.runtime.shell import Runtime

MOST = 50_000  # sessions followed at once; the oldest are let go
HEARD_WITHIN_US = 60_000_000  # who is set up and says nothing of its way by then has shown all it will
FOLLOWED_US = 4 * 3_600_000_000
LATE_US = 5_000_000  # beyond the lease of one on the way: heartbeats come late
_Arm = tuple[LaunchId | None, DataCenterId, bool, str]  # machine, data center, whether canary, ``pool@version``


@dataclass(frozen=True, slots=True)
class Told:
    """What a node said of one session."""

    id: str
    event: str | None = None
    rtt_us: int | None = None
    loss_ppm: int | None = None


@dataclass(slots=True)
class _Followed:
    arms: tuple[_Arm, ...]
    group: str
    begun_at: Micros
    set_up_at: Micros | None = None
    settled: bool = False

    def samples(self, **shown: object) -> list[Sample]:
        return [
            Sample(dc, canary, self.group, machine=id, version=version, **shown)  # type: ignore[arg-type]
            for id, dc, canary, version in self.arms
        ]


class Arms:
    """Follows the sessions that a ramp is judged by from their start to what they showed."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._followed: dict[SessionId, _Followed] = {}
        self.on_canaries: Mapping[AgentId, LaunchId] = {}  # agents on bought machines that are canaries

    def __len__(self) -> int:
        return len(self._followed)

    def begun(
        self,
        session: Session,
        arms: tuple[tuple[DataCenterId, bool], ...],
        now: Micros,
        versions: tuple[tuple[str, bool], ...] = (),
    ) -> None:
        """A session was placed while some data center, or version of agents, takes a share of users only."""
        mine: tuple[_Arm, ...] = tuple((None, dc, canary, "") for dc, canary in arms)
        mine += tuple((None, DataCenterId(""), canary, version) for version, canary in versions)
        if self.on_canaries:
            mine += tuple((*arm, "") for arm in arms_of(self._runtime.view.launches, self.on_canaries, session))
        if not mine:
            return
        client = session.client
        group = f"as{client.asn}/{client.country}" if client.asn is not None or client.country is not None else ""
        found = self._followed[session.id] = _Followed(mine, group, now)
        if len(self._followed) > MOST:
            del self._followed[next(iter(self._followed))]
        self._post(found.samples(begun=True))

    def heard(self, told: Iterable[Told], now: Micros) -> None:
        """A node speaks of its sessions."""
        if not self._followed:
            return
        shown: list[Sample] = []
        for one in told:
            found = self._followed.get(SessionId(one.id))
            if found is not None:
                shown += self._hear(SessionId(one.id), found, one, now)
        self._post(shown)

    def _hear(self, id: SessionId, found: _Followed, told: Told, now: Micros) -> list[Sample]:
        shown: list[Sample] = []
        if found.set_up_at is None:  # whatever a node says of it, it is there
            found.set_up_at = now
            shown += found.samples(set_up=True, setup_us=now - found.begun_at)
        if told.rtt_us and not found.settled:
            found.settled = True
            shown += found.samples(settled=True, rtt_us=told.rtt_us, loss_ppm=told.loss_ppm)
        if told.event in ("ended", "detached"):
            shown += found.samples(settled=not found.settled, dropped=told.event == "detached")
            del self._followed[id]
        return shown

    def ended(self, id: SessionId) -> None:
        """Its caller ended it, and nothing is known of how it went."""
        found = self._followed.pop(id, None)
        if found is not None:
            self._post(found.samples(settled=not found.settled, dropped=False if found.set_up_at else None))

    def orphaned(self, id: SessionId) -> None:
        """Its agent was lost under it: what a version of agents is to blame for, and no data center's edge."""
        found = self._followed.get(id)
        lost = () if found is None else tuple(arm for arm in found.arms if arm[3])
        if found is None or not lost:
            return
        self._post(replace(found, arms=lost).samples(settled=not found.settled, dropped=True))
        found.arms = tuple(arm for arm in found.arms if not arm[3])
        if not found.arms:
            del self._followed[id]

    def sweep(self, now: Micros) -> None:
        """Judge those of whom nothing was heard in time."""
        shown: list[Sample] = []
        attach_us = self._runtime.options.attach_lease_us + LATE_US
        for id, found in list(self._followed.items()):
            if found.set_up_at is None and now - found.begun_at > attach_us:
                shown += found.samples(settled=not found.settled, set_up=False)
                del self._followed[id]
            elif found.set_up_at is not None and not found.settled and now - found.set_up_at > HEARD_WITHIN_US:
                found.settled = True
                shown += found.samples(settled=True)
            elif now - found.begun_at > FOLLOWED_US:
                del self._followed[id]
        self._post(shown)

    def _post(self, samples: list[Sample]) -> None:
        if samples:
            self._runtime.post(Climbed(tuple(samples)))
