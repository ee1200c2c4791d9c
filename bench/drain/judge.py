"""What the records say about a move of many: who moved when, what was not heard, who has another agent now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.drain.stage import Stage
from bench.drain.users import User

LATE_MS = 10  # half a packet's interval: what the voices may be late at the 99th percentile
ALIVE_US = 1_000_000  # who has not been heard for so long at the end was dropped


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of the users who were to change their edge."""

    users: int
    moved: int
    resumed: int
    last_moved_s: float
    other_agent: int
    dropped: int
    up_ms: tuple[float, float, float]  # gaps towards the agent: median, 99th percentile, longest
    down_ms: tuple[float, float, float]
    late_p99_ms: int  # of the voices themselves
    skipped_us: int

    @property
    def is_valid(self) -> bool:
        """Whether the voices were on time, so that what is missing is not their own pause."""
        return self.late_p99_ms <= LATE_MS and self.skipped_us == 0

    @property
    def gap_p99_ms(self) -> float:
        """The worse direction's."""
        return max(self.up_ms[1], self.down_ms[1])

    def told(self) -> dict[str, Any]:
        """As fields of a line."""
        names = ("p50", "p99", "max")
        gaps = {f"gap_up_{n}_ms": v for n, v in zip(names, self.up_ms, strict=True)}
        gaps |= {f"gap_down_{n}_ms": v for n, v in zip(names, self.down_ms, strict=True)}
        voices = {"voices_late_p99_ms": self.late_p99_ms, "voices_skipped_us": self.skipped_us, "valid": self.is_valid}
        return {"users": self.users, "moves": self.moved, "resumes": self.resumed, "dropped": self.dropped,
                "other_agent": self.other_agent} | gaps | voices  # fmt: skip


def judge(stage: Stage, users: Sequence[User], from_us: int) -> Verdict:
    """Judge these users from a moment until now."""
    voices, now_us = stage.voices, stage.voices.now_us()
    flows = np.array([user.flow for user in users])
    changes = [change for user in users for change in user.changes if change.at_us >= from_us]
    silent = now_us - voices.tables["heard"][flows].astype(np.int64) > ALIVE_US
    lost = np.array([bool(user.lost) for user in users])
    until_us = now_us - ALIVE_US  # what was sent just now may still be on its way
    return Verdict(
        users=len(users),
        moved=sum(change.kind == "move" for change in changes),
        resumed=sum(change.kind == "resume" for change in changes),
        last_moved_s=max((change.at_us - from_us for change in changes), default=0) / 1e6,
        other_agent=int((voices.tables["changes"][flows] > 0).sum()),
        dropped=int((silent | lost).sum()),
        up_ms=_spread(voices.gaps_ms("up", from_us, until_us)[flows]),
        down_ms=_spread(voices.gaps_ms("down", from_us, until_us)[flows]),
        late_p99_ms=voices.late_p99_ms,
        skipped_us=voices.accounts["sender_skipped_us"],
    )


def heard_again_s(stage: Stage, users: Sequence[User], cut_us: int) -> list[float]:
    """Of each user whose edge died: seconds of its agent's packets that were lost; infinite for who was dropped."""
    voices, now_us = stage.voices, stage.voices.now_us()
    gaps_ms = voices.gaps_ms("down", cut_us, now_us - ALIVE_US)
    silent = now_us - voices.tables["heard"].astype(np.int64) > ALIVE_US
    return [float("inf") if silent[user.flow] else float(gaps_ms[user.flow]) / 1_000 for user in users]


def _spread(gaps: Any) -> tuple[float, float, float]:
    return float(np.percentile(gaps, 50)), float(np.percentile(gaps, 99)), float(gaps.max())
