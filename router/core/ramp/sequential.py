"""Tests that may be looked at after every session without losing their promise: betting against "it is not worse".

``Capital`` is a test martingale (Ville 1939; Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
betting", JRSS-B 2024): one unit of money is bet, session after session, on the next observation in [0, 1] being above
its null mean. If its mean, given the past, is never above that, the capital is a non-negative supermartingale, and the
probability that it *ever* reaches 1/alpha is at most alpha (Ville's inequality), however often it is looked at,
whenever one stops, and whatever the observations' distribution. The bets are a fixed grid, each with an equal share of
the money: a mixture of such capitals is one too, and nothing has to be tuned to the effect.

Several tests are combined by a weighted mean of their capitals: a mean of e-values is an e-value under any dependence
(Vovk and Wang, "E-values: calibration, combination and applications", Annals of Statistics 2021), which a product is
not. Each rung of a climb has a share of the whole error, so that the climb as a whole keeps it (a union bound).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

FRACTIONS = (0.01, 0.025, 0.06, 0.15, 0.35, 0.65, 0.95)  # of what may be lost in one bet: rare failures want small ones
AT_ONCE, LATER = 0.5, 1_000
LARGEST = 1e12  # capital is not counted beyond: one lucky run must not outweigh hours


@dataclass(slots=True)
class Capital:
    """Money made by betting that observations in [0, 1] are above their null mean.

    Half of it is bet from the first observation on, the rest is laid out bit by bit over the next ``LATER``: a mixture
    over starting times is an e-process as well (Shin, Ramdas, Rinaldo, "E-detectors", 2023), and what goes wrong after
    hundreds of good sessions is found although the first bets are lost by then.
    """

    pots: list[float] = field(default_factory=lambda: [0.0] * len(FRACTIONS))
    bets: int = 0
    reserve: float = 1.0  # not bet yet

    @property
    def worth(self) -> float:
        """The e-value: 1 at the start, at most 1 in expectation ever after if nothing is wrong."""
        return sum(self.pots) + self.reserve

    def bet(self, seen: float, null: float) -> None:
        """Take one observation; ``null`` must be known before it is seen."""
        stake = min(self.reserve, AT_ONCE if not self.bets else (1.0 - AT_ONCE) / LATER)
        self.reserve -= stake
        each = stake / len(FRACTIONS)
        for i, fraction in enumerate(FRACTIONS):
            self.pots[i] = min(LARGEST, (self.pots[i] + each) * (1.0 + fraction * (seen - null) / null))
        self.bets += 1


def rank_among(value: float, others: Sequence[float]) -> float:
    """Share of ``others``, sorted, that lie below a value, ties counted half: 1/2 on average for one of their kind."""
    return (bisect_left(others, value) + bisect_right(others, value)) / (2 * len(others))


def upper_share(failed: int, tried: int, z: float = 2.0) -> float:
    """Upper end of Wilson's interval for a share (Wilson, JASA 1927); 0 where nothing was tried."""
    if not tried:
        return 0.0
    share, spread = failed / tried, z * z / tried
    middle = share + spread / 2
    return float((middle + (share * (1 - share) * spread + spread * spread / 4) ** 0.5) / (1 + spread))
