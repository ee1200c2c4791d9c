"""When each media node was last heard, so that a resume does not hand a user back to a node that has just died.

A verdict on a data center takes its peers a few seconds; its node's heartbeats stop at once. They are weak evidence (a
node may be cut off from us and not from its users), so they decide nothing but the order of choice of a user who is
resuming anyway. Kept in memory only: after a restart nobody has been heard, and nobody counts as silent.

A node is silent by its own measure: when it has sessions and says nothing for 1.5 s and for one and a half times the
longest of its last pauses. Nodes that heartbeat every ten seconds are as good as those that do so every second.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from router.core.model import Micros, NodeId

SILENT_US = 1_500_000
PAUSES = 4  # pauses that a node is judged by; news makes some of them short


@dataclass(slots=True)
class Pulse:
    """One node: when it spoke last, how many sessions it had then, and its last pauses while it had some."""

    at: Micros
    sessions: int
    pauses_us: deque[int] = field(default_factory=lambda: deque(maxlen=PAUSES))


class Pulses:
    """Heartbeats of all nodes, as far as this process has heard them."""

    def __init__(self) -> None:
        self._pulses: dict[NodeId, Pulse] = {}

    def heard(self, node: NodeId, sessions: int, now: Micros) -> None:
        """Note a heartbeat of a node that is in the inventory."""
        pulse = self._pulses.get(node)
        if pulse is None:
            self._pulses[node] = Pulse(now, sessions)
            return
        if pulse.sessions:
            pulse.pauses_us.append(now - pulse.at)
        pulse.at, pulse.sessions = now, sessions

    def silent_us(self, node: NodeId, now: Micros) -> int | None:
        """For how long a node that had sessions has been silent; ``None`` while nothing is wrong with that."""
        pulse = self._pulses.get(node)
        if pulse is None or not pulse.sessions:
            return None
        silent_us = now - pulse.at
        patience_us = max(SILENT_US, 3 * max(pulse.pauses_us, default=0) // 2)
        return silent_us if silent_us > patience_us else None
