"""How many agents there should be, and which may go: up at once, down only after quiet.

``buffer = max(absolute, share of busy, arrivals that a cold start must outlast, what the loss of a place asks)``. An
agent that is busy, reserved, wrapping up or doubted is never let go; of the idle ones those on the emptiest host go
first, so that whole machines come free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.core.model import Agent, AgentId, AgentState, Micros
from router.core.tables import I64, Bool

QUIET_S = 600  # what is wanted must have been less for so long; shorter sells what the next quarter of an hour needs
MINUTES = QUIET_S // 60 + 1
NEVER_QUIET = 1 << 40  # wanted of a place before it was known: nothing of it goes for ten minutes
RULES = ("absolute", "share of busy", "arrivals during a cold start", "loss of a place")


@dataclass(frozen=True, slots=True)
class BufferRule:
    """What a pool asks for; shares in ppm."""

    absolute: int = 2  # agents: one to take, one while it is replaced
    busy_ppm: int = 50_000
    quantile: float = 0.999  # of the beginnings during a cold start
    cold_start_s: float = 90.0
    survive_ppm: int = 0  # of the sessions of the largest place in reach, that the others must take; 0: not asked
    most: int = 100_000  # agents per place, busy ones included


@dataclass(frozen=True, eq=False)
class Stock:
    """Agents as counted, arrays ``[place]``; ``queued`` sessions wait for one."""

    busy: I64  # reserved, doubted and wrapping ones count as busy: nobody can take them
    idle: I64
    coming: I64  # launched or loading
    queued: I64

    @property
    def all(self) -> I64:
        """Every agent that is paid for."""
        return self.busy + self.idle + self.coming


@dataclass(frozen=True, eq=False)
class Want:
    """What there should be, arrays ``[place]``; ``rule`` indexes ``RULES`` and names who set the buffer."""

    buffer: I64
    desired: I64
    up: I64  # to launch now
    down: I64  # idle ones that may go now
    rule: I64
    parts: I64  # [rule, place] what each rule asked for


def buffers(rule: BufferRule, busy: I64, arrivals: I64, reach: Bool | None = None) -> I64:
    """What each rule asks for, ``[rule, place]``; ``reach[a, b]``: sessions of ``a`` may go to ``b``."""
    absolute = np.full(len(busy), rule.absolute, np.int64)
    share = -(-busy * rule.busy_ppm // 1_000_000)
    return np.stack((absolute, share, arrivals, survivors(rule.survive_ppm, busy, reach)))


def survivors(share_ppm: int, busy: I64, reach: Bool | None) -> I64:
    """Idle agents each place must have so that any one other place may be lost; by the size of those in reach."""
    if not share_ppm or reach is None:
        return np.zeros(len(busy), np.int64)
    helpers = reach & ~np.eye(len(busy), dtype=bool)
    weight = np.where(helpers, busy[None, :] + 1.0, 0.0)
    part = weight / np.maximum(weight.sum(1, keepdims=True), 1.0)
    asked = np.ceil(part * busy[:, None] * (share_ppm / 1e6))
    return np.asarray(asked.max(0), np.int64) if len(busy) else np.zeros(0, np.int64)


class Quiet:
    """The most that was wanted per minute over the last ten; private state of the core."""

    def __init__(self, places: int) -> None:
        self._most = np.zeros((MINUTES, places), np.int64)
        self._minute = -1
        self._since: Micros | None = None

    def moved(self, sources: Sequence[int | None]) -> Quiet:
        """The same memory with other columns; a place that is new has been quiet never."""
        twin = Quiet(len(sources))
        for i, place in enumerate(sources):
            twin._most[:, i] = NEVER_QUIET if place is None else self._most[:, place]
        twin._minute, twin._since = self._minute, self._since
        return twin

    def wanted(self, rule: BufferRule, stock: Stock, arrivals: I64, now: Micros, reach: Bool | None = None) -> Want:
        """What to launch and what may go."""
        parts = buffers(rule, stock.busy, arrivals, reach)
        buffer = np.asarray(parts.max(0), np.int64)
        desired = np.minimum(stock.busy + stock.queued + buffer, np.maximum(rule.most, stock.busy))
        self._remember(desired, now)
        assert self._since is not None
        quiet = now - self._since >= QUIET_S * 1_000_000
        spare = np.minimum(stock.all - self._most.max(0), stock.idle - np.minimum(buffer, stock.idle))
        down = np.maximum(0, spare) if quiet else np.zeros(len(desired), np.int64)
        up = np.maximum(0, desired - stock.all)
        return Want(buffer, desired, up, np.asarray(down, np.int64), np.asarray(parts.argmax(0), np.int64), parts)

    def _remember(self, desired: I64, now: Micros) -> None:
        minute = now // 60_000_000
        self._since = now if self._since is None else self._since
        for passed in range(max(self._minute + 1, minute - MINUTES + 1), minute + 1):
            self._most[passed % MINUTES] = 0
        self._minute = minute
        row = minute % MINUTES
        self._most[row] = np.maximum(self._most[row], desired)


def to_release(agents: Sequence[Agent], count: int) -> tuple[AgentId, ...]:
    """Which idle agents may go: those on the host with the fewest sessions first, then by host and id."""
    held: dict[str, int] = {}
    for agent in agents:
        held[_host(agent)] = held.get(_host(agent), 0) + max(agent.held, int(agent.state not in _LEAVES))
    free = [agent for agent in agents if agent.state in _LEAVES and not agent.held and not agent.cordoned]
    free.sort(key=lambda agent: (held[_host(agent)], _host(agent), agent.id))
    return tuple(agent.id for agent in free[: max(0, count)])


def _host(agent: Agent) -> str:
    return agent.id if agent.node is None else agent.node


_LEAVES = (AgentState.READY,)  # an announced or warming one is bought already and is wanted within the minute
