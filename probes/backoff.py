"""When to try again after a failure."""

from __future__ import annotations

import random
import time

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 2.0  # a control plane that comes back hears from everybody within this time


class Backoff:
    """When to try again: after twice as long each time, up to a limit, by chance up to half of it earlier."""

    def __init__(self, rng: random.Random, first_s: float = FIRST_RETRY_S, last_s: float = LAST_RETRY_S) -> None:
        self.failures = 0
        self._rng = rng
        self._first_s = first_s
        self._last_s = last_s
        self._again_s = 0.0

    def fail(self) -> None:
        """Note a failure."""
        delay_s = min(self._last_s, self._first_s * 2.0 ** min(self.failures, 16))
        self.failures += 1
        self._again_s = time.monotonic() + delay_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Note a success."""
        self.failures = 0
        self._again_s = 0.0

    def wait_s(self) -> float:
        """Seconds until the next try."""
        return max(0.0, self._again_s - time.monotonic())

    def over(self) -> bool:
        """Whether the next try may be made."""
        return self.wait_s() == 0.0
