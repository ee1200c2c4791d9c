"""The life of a bought machine as a table, and what Tendril may buy at all.

``announced -> requested -> pending -> running -> joined -> canary -> serving -> leaving -> terminating -> gone``. A
refusal, with which the provider made nothing, ends in ``failed``; an answer that was lost keeps a launch ``requested``,
because asking again with the same key is harmless and only the provider knows. The id of a launch is its idempotency
key. What a canary has to show, and when it is sent back, is said in ``router.core.ramp.machines``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NewType

from router.core.capacity.buffer import BufferRule
from router.core.capacity.offers import Offer, Terms
from router.core.errors import InputRejected
from router.core.model import DataCenterId, Micros, NodeId, PoolId, RegionId

LaunchId = NewType("LaunchId", str)


class LaunchState(StrEnum):
    """How far a launch has come; the table is ``machines.TRANSITIONS``."""

    ANNOUNCED = "announced"  # decided and written; nobody was asked yet
    REQUESTED = "requested"  # the provider is being asked, or its answer was lost
    PENDING = "pending"  # the provider accepted; the machine starts
    RUNNING = "running"  # the machine runs; its node has not joined
    JOINED = "joined"  # its node has joined; its agents are not ready
    CANARY = "canary"  # few of its agents take sessions, until these went well
    SERVING = "serving"  # its agents take sessions
    LEAVING = "leaving"  # its agents are cordoned; what they hold ends by itself
    RETURNING = "returning"  # the same, and no demand keeps it: it was bad, or an operator gives it back
    TERMINATING = "terminating"  # the provider is asked to take it back until it is gone
    GONE = "gone"  # it is gone: the end
    FAILED = "failed"  # nothing was made, or it is not ours to remove: the end


_L = LaunchState
_MADE = (_L.PENDING, _L.RUNNING, _L.JOINED, _L.CANARY, _L.SERVING, _L.LEAVING, _L.RETURNING)
_ASKED = (_L.ANNOUNCED, _L.REQUESTED)
_EMPTY = (_L.REQUESTED, _L.PENDING, _L.RUNNING, _L.JOINED)  # nobody can hold a session there

TRANSITIONS: dict[tuple[LaunchState, str], LaunchState] = {
    (_L.ANNOUNCED, "asked"): _L.REQUESTED,
    (_L.REQUESTED, "asked"): _L.REQUESTED,
    (_L.REQUESTED, "answer_lost"): _L.REQUESTED,
    (_L.REQUESTED, "accepted"): _L.PENDING,
    **{(state, "refused"): _L.FAILED for state in _ASKED},
    (_L.PENDING, "runs"): _L.RUNNING,
    **{(state, "joined"): _L.JOINED for state in (_L.REQUESTED, _L.PENDING, _L.RUNNING)},
    (_L.JOINED, "serves"): _L.SERVING,
    (_L.JOINED, "tried"): _L.CANARY,
    (_L.CANARY, "climbed"): _L.CANARY,
    (_L.CANARY, "proven"): _L.SERVING,
    (_L.CANARY, "bad"): _L.RETURNING,
    (_L.SERVING, "released"): _L.LEAVING,
    (_L.LEAVING, "wanted_again"): _L.SERVING,
    **{(state, "emptied"): _L.TERMINATING for state in (_L.LEAVING, _L.RETURNING)},
    (_L.ANNOUNCED, "withdrawn"): _L.FAILED,
    (_L.ANNOUNCED, "returned"): _L.FAILED,
    **{(state, "returned"): _L.TERMINATING for state in _EMPTY},
    **{(state, "returned"): _L.RETURNING for state in (_L.CANARY, _L.SERVING, _L.LEAVING)},
    **{(state, "overdue"): _L.TERMINATING for state in _EMPTY},
    **{(state, "surplus"): _L.TERMINATING for state in (_L.PENDING, _L.RUNNING, _L.JOINED)},
    **{(state, "broken"): _L.TERMINATING for state in _MADE},
    **{(state, "vanished"): _L.GONE for state in (*_MADE, _L.TERMINATING)},
    (_L.TERMINATING, "terminated"): _L.GONE,
    (_L.TERMINATING, "not_ours"): _L.FAILED,
}
EVENT_MEANINGS: Mapping[str, str] = {
    "asked": "the provider is asked now, again after a lost answer",
    "answer_lost": "no usable answer came; the provider is asked again with the same key",
    "accepted": "the provider accepted",
    "refused": "the provider refused, and made nothing; others are asked at once",
    "runs": "the provider says that the machine runs",
    "joined": "the machine's node has joined with its token",
    "serves": "an agent on it is ready, and nothing is to be proven",
    "tried": "an agent on it is ready: it takes its first sessions",
    "climbed": "its sessions went as well as others so far: more of its agents take sessions",
    "proven": "its sessions went as well as others, or too few came to tell",
    "bad": "its sessions or agents fared worse than others: its agents are cordoned, and it goes when it is empty",
    "returned": "an operator gives it back",
    "released": "it was not needed for ten minutes: its agents are cordoned",
    "wanted_again": "demand came back before it was empty: its agents are let in again",
    "emptied": "none of its agents holds a session",
    "withdrawn": "it may not be bought any more",
    "overdue": "it did not join, or became of no use, in the time it had",
    "surplus": "another that was asked for the same agents was accepted before",
    "broken": "the provider says that the machine stopped or failed",
    "vanished": "the provider knows no such machine",
    "terminated": "the provider has taken it back",
    "not_ours": "the provider's tags say that somebody else owns it; it is left alone",
}
OPEN = tuple(state for state in LaunchState if state not in (_L.GONE, _L.FAILED))
COMING = (*_ASKED, _L.PENDING, _L.RUNNING, _L.JOINED, _L.CANARY)
UNPROVEN = (*_EMPTY, _L.CANARY)  # agents that register on such a machine begin cordoned


@dataclass(frozen=True, slots=True)
class Launch:
    """One machine that was bought, and why; ``need`` are the users it was bought for."""

    id: LaunchId
    state: LaunchState
    pool: PoolId
    need: RegionId
    provider: str
    data_center: DataCenterId
    region: RegionId
    cloud_region: str
    size: str
    zone: str | None
    agents: int
    price_uusd_h: int
    node: NodeId  # what its node is called when it joins
    reason: str  # of the last change
    why: tuple[str, ...]  # this purchase, and what was not bought instead
    created_at: Micros
    since: Micros
    machine: str | None = None  # what the provider calls it
    refusal: str = ""  # kind of the provider's no
    tries: int = 0  # how often the provider was asked
    rung: int = 0  # as a canary: how often more of its agents were opened
    finished_at: Micros | None = None
    revision: int = 0

    @property
    def open(self) -> bool:
        """Whether it costs something, or may."""
        return self.state in OPEN

    @property
    def offer(self) -> tuple[str, DataCenterId, str]:
        """The key of the offer it was bought by."""
        return self.provider, self.data_center, self.size


@dataclass(frozen=True, slots=True)
class Buying:
    """What operators let Tendril buy. The price of an offer is negative while nobody told it."""

    offers: tuple[Offer, ...] = ()
    dry_run: bool = True
    max_machines: int = 0  # at once
    rule: BufferRule = field(default_factory=BufferRule)
    terms: Terms = field(default_factory=Terms)  # its budget is of everything that is bought at once
    join_s: int = 900  # a machine that has not joined after so long is taken back
    canary: bool = True  # whether bought machines prove themselves before all their agents take sessions


@dataclass(frozen=True, slots=True)
class NodeStock:
    """Places of agents on one bought machine."""

    ready: int = 0  # of agents that take sessions or hold some
    held: int = 0
    coming: int = 0
    shut: int = 0  # free ones of cordoned agents
    agents: int = 0  # present ones
    open: int = 0  # of these, not cordoned
    lost: int = 0  # agents that are lost or broken


@dataclass(frozen=True, slots=True)
class Proof:
    """What a machine that is a canary has shown, and what it waits for."""

    open: int  # agents that may take sessions now
    agents: int
    begun: int
    settled: int
    setup_failed: int
    dropped: int
    e_value: float
    limit: float
    waits: tuple[str, ...]


def begin(draft: Launch, id: LaunchId, node: NodeId, now: Micros) -> Launch:
    """A launch that was decided, under the name it keeps."""
    return replace(draft, id=id, node=node, created_at=now, since=now)


def step(launch: Launch, event: str, reason: str, now: Micros, **facts: str | int | None) -> Launch:
    """A launch after an event of ``TRANSITIONS``. Raises ``bad_transition``."""
    state = TRANSITIONS.get((launch.state, event))
    if state is None:
        message = f"a launch that is {launch.state.value} does not take the event {event}"
        raise InputRejected("bad_transition", message, field="state")
    rung = launch.rung + (event == "climbed")
    after = replace(launch, state=state, reason=reason, rung=rung, **facts)  # type: ignore[arg-type]
    since = launch.since if state is launch.state else now
    return replace(after, since=since, finished_at=None if state in OPEN else now)
