"""What a user can prove about its call from its own packets alone: round trip, loss, gaps, and who answered.

PURE: times are arguments (microseconds of the user's own clock). A *gap* is the time between two consecutive answers:
with 20 packets a second it is 50 ms when all is well. The last minute is kept in full, the extremes since the start.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median_low

from router.demo.packets import Audio

WINDOW_US = 60_000_000
LATE_US = 2_000_000  # an answer that has not come after this is counted as lost
MAX_KEPT = 4_096  # answers in a minute at 20/s are 1,200


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer as it arrived."""

    at_us: int
    rtt_us: int
    gap_us: int  # since the answer before
    sequence: int


class Conversation:
    """Statistics of one user and session; a new session starts with :meth:`begin`."""

    def __init__(self) -> None:
        self.session = ""
        self.agent = ""
        self.memory = 0
        self.heard = 0  # the agent's own count in its last answer
        self.sent = 0
        self.answers = 0
        self.strays = 0  # late, or a second time
        self.agent_changes = 0
        self.memory_breaks = 0
        self.longest_gap_us = 0
        self.last_answer_us: int | None = None
        self._recent: deque[Heard] = deque(maxlen=MAX_KEPT)
        self._unanswered: dict[int, int] = {}
        self._lost: deque[int] = deque(maxlen=MAX_KEPT)
        self.lost = 0

    def begin(self, session: str, agent: str) -> None:
        """Start a new session: continuity of agent and memory is judged within one session only."""
        self.session, self.agent = session, agent
        self.memory = self.heard = 0
        self.last_answer_us = None
        self._unanswered.clear()

    def on_sent(self, sequence: int, now_us: int) -> None:
        """Note a packet that has left."""
        self.sent += 1
        self._unanswered[sequence] = now_us
        while self._unanswered:
            oldest = next(iter(self._unanswered))
            if now_us - self._unanswered[oldest] < LATE_US:
                return
            del self._unanswered[oldest]
            self.lost += 1
            self._lost.append(now_us)

    def on_answer(self, answer: Audio, now_us: int) -> bool:
        """Note an answer; false when it is of another session, late or a duplicate, and therefore ignored."""
        if answer.session != self.session:
            return False
        if self._unanswered.pop(answer.sequence, None) is None:
            self.strays += 1
            return False
        self.answers += 1
        gap_us = 0 if self.last_answer_us is None else now_us - self.last_answer_us
        self.last_answer_us = now_us
        self.longest_gap_us = max(self.longest_gap_us, gap_us)
        self._recent.append(Heard(now_us, now_us - answer.sent_us, gap_us, answer.sequence))
        self._judge_continuity(answer)
        return True

    def _judge_continuity(self, answer: Audio) -> None:
        if answer.agent != self.agent:
            self.agent_changes += 1
            self.agent = answer.agent
        if self.memory and answer.memory != self.memory:
            self.memory_breaks += 1
            self.heard = 0
        self.memory = answer.memory
        self.heard = max(self.heard, answer.heard)  # answers may overtake each other on a new path

    def silent_us(self, now_us: int, since_us: int) -> int:
        """How long nothing has been heard, counted from ``since_us`` when nothing has been heard at all."""
        return now_us - max(self.last_answer_us or 0, since_us)

    def gap_since(self, since_us: int, now_us: int) -> int:
        """The longest gap that ended after ``since_us``, one that is still open included."""
        closed = max((h.gap_us for h in self._recent if h.at_us >= since_us), default=0)
        still_open = 0 if self.last_answer_us is None else now_us - self.last_answer_us
        return max(closed, still_open)

    def summary(self, now_us: int) -> dict[str, object]:
        """JSON-ready statistics; delays in milliseconds, loss in percent, both over the last minute."""
        since = now_us - WINDOW_US
        recent = [h for h in self._recent if h.at_us >= since]
        lost = sum(1 for at in self._lost if at >= since)
        closed = len(recent) + lost
        return {
            "session": self.session or None,
            "agent": self.agent or None,
            "agent_memory": self.memory or None,
            "agent_heard": self.heard,
            "agent_changes": self.agent_changes,
            "memory_breaks": self.memory_breaks,
            "rtt_ms": _ms(median_low([h.rtt_us for h in recent])) if recent else None,
            "loss_pct": round(100 * lost / closed, 2) if closed else None,
            "longest_gap_ms": {
                "last_minute": _ms(self.gap_since(since, now_us)),
                "since_start": _ms(max(self.longest_gap_us, self.gap_since(since, now_us))),
            },
            "last_answer_ms_ago": None if self.last_answer_us is None else _ms(now_us - self.last_answer_us),
            "sent": self.sent,
            "answers": self.answers,
            "lost": self.lost,
            "strays": self.strays,
        }


def _ms(value_us: int) -> float:
    return round(value_us / 1000, 1)
