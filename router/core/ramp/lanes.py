"""New versions of a pool's agents: for whom an agent of which version is taken, and whose arm that makes a session.

A version on a ramp is a lane of its own. A user in its share, by a hash of user and version, gets an agent of it if one
is free at the hub; the quarter of users next to the share is the control arm, with agents of versions that have
proved themselves. Where none of these is free anywhere, agents on a ramp are taken for anybody, unless they were
rolled back: who waits is worse off than who talks to a version that is not proven.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from router.core.dial import CONTROL_SPAN_PPM, position_ppm
from router.core.model import DataCenterId, PoolId, subject_of
from router.core.tables import Lane


@dataclass(frozen=True, slots=True)
class Turn:
    """What one session is to the versions on ramps of its pool."""

    pool: PoolId | None = None
    version: str = ""  # whose agent it is to get; empty: one that has proved itself
    beside: tuple[str, ...] = ()  # versions whose control arm it is of
    unproven: tuple[str, ...] = ()  # all versions on ramps

    def arms(self, version: str) -> tuple[tuple[str, bool], ...]:
        """The ramps whose canary or control arm a session with an agent of ``version`` is of."""
        if self.pool is None:
            return ()
        if self.version:
            return ((subject_of(self.pool, self.version), True),) if version == self.version else ()
        found = () if version in self.unproven else self.beside
        return tuple((subject_of(self.pool, one), False) for one in found)


NOBODY = Turn()


def turn(lanes: Mapping[PoolId, tuple[Lane, ...]], pool: PoolId | None, user: str) -> Turn:
    """Whose agent a user gets: of the first version in whose share the user is."""
    mine = () if pool is None else lanes.get(pool, ())
    if pool is None or not mine:
        return NOBODY
    places = [position_ppm(user, DataCenterId(subject_of(pool, lane.version))) for lane in mine]
    unproven = tuple(lane.version for lane in mine)
    for lane, place in zip(mine, places, strict=True):
        if place < lane.share_ppm:
            return Turn(pool, lane.version, (), unproven)
    return Turn(pool, "", tuple(_beside(zip(mine, places, strict=True))), unproven)


def _beside(placed: Iterable[tuple[Lane, int]]) -> Iterable[str]:
    for lane, place in placed:
        if lane.rung_ppm and lane.share_ppm <= place < lane.share_ppm + CONTROL_SPAN_PPM:
            yield lane.version
