"""Loss processes of a path that is there: the two-state chain of Gilbert and Elliott in continuous time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from random import Random


@dataclass(frozen=True, slots=True)
class Chain:
    """Bad periods of mean ``bad_us``; of the probes sent in one ``lost_bad`` are lost, of the others ``lost_good``."""

    name: str
    loss: float  # of all probes
    bad_us: int = 0  # 0: no bad periods, losses are independent
    lost_bad: float = 1.0
    lost_good: float = 0.0

    @property
    def bad_share(self) -> float:
        """Share of the time that is bad."""
        return (self.loss - self.lost_good) / (self.lost_bad - self.lost_good) if self.bad_us else 0.0

    def bad_after(self, bad: float, dt_us: int) -> float:
        """Probability of the bad state, ``dt_us`` after it had the probability ``bad``."""
        if not self.bad_us:
            return 0.0
        share = self.bad_share
        return share + (bad - share) * exp(-dt_us / (self.bad_us * (1 - share)))

    def lost(self, bad: float) -> float:
        """Probability of a loss."""
        return bad * self.lost_bad + (1 - bad) * (self.lost_good if self.bad_us else self.loss)


class Draw:
    """A path whose losses are drawn from a chain."""

    def __init__(self, chain: Chain, rng: Random) -> None:
        self._chain, self._rng = chain, rng
        self._bad, self._at_us = rng.random() < chain.bad_share, 0

    def __call__(self, at_us: int, _port: int) -> bool:
        self._bad = self._rng.random() < self._chain.bad_after(float(self._bad), at_us - self._at_us)
        self._at_us = at_us
        return self._rng.random() < self._chain.lost(float(self._bad))


def all_lost(chain: Chain, sent_us: Sequence[int]) -> float:
    """Probability that a path which is there loses every one of these probes (forward algorithm, exact)."""
    bad, at, total = chain.bad_share, sent_us[0], 1.0
    for sent in sent_us:
        bad = chain.bad_after(bad, sent - at)
        lost = chain.lost(bad)
        bad, at, total = bad * chain.lost_bad / lost, sent, total * lost
    return total
