"""How surprising missing answers are on a path that is still there: its own loss, bursts included. PURE.

Losses come single and in bursts. A share ``b`` of the loss events is taken for bursts that end at random with mean
``tau`` (the two-state chain of Gilbert 1960 in continuous time, everything lost in its bad state), the rest for single
losses; ``p`` is the share of all probes that is lost, either way. A run of n missing answers, sent dt apart, then has
probability

    p * [ (1 - b) * p^(n-1)  +  b * prod( c(dt) ) ],    c(dt) = p + (1 - p) * exp(-dt / tau)

So probes close together count for little against a path that loses in bursts, and fully against one that does not.
``b`` and ``tau`` are learned from the path's own runs, on a grid. A month without a false alarm can never be seen in
an hour of measurements, so no average over the grid is taken: evidence is what remains under the *least* favourable
cell that the record does not refute (log-likelihood within ``CREDIBLE_NATS`` of the best). Before there is a record,
bursts up to ``PRESUMED_US`` are presumed possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, log

TAUS_US = (5_000, 7_071, 10_000, 14_142, 20_000, 28_284, 40_000, 56_569, 80_000, 113_137, 160_000, 226_274, 320_000)
"""Half an octave apart; what lasts for seconds is an outage, whoever calls it a burst."""
SHARES = (1.0, 0.3, 0.1, 0.03, 0.01)
PRESUMED_US = 10_000  # of a path never measured: what a full queue of a fast line drops
CREDIBLE_NATS = 4.0  # twice that is the 98 % point of chi-square with the two parameters' degrees of freedom
DISTRUST_NATS = (7.0, 1.5)  # against bursts longer than presumed, and for every further doubling: one odd run is chance
MEMORY = 0.998  # per run: the last 500 count

ANSWERED_THOUGH_DOWN = 0.01  # share of probes that a path which is down lets through all the same
DOWN_NATS = 26.5
"""Evidence for *down*: the logarithm of the chances for a false alarm in a month, 870 links x 20 probes/s x 2.6e6 s =
4.6e10 (24.6 nats; a likelihood ratio of e^S is exceeded by chance with probability <= e^-S, Ville 1939), and 2 nats for
what is learned inexactly."""

LEAST_LOSS, MOST_LOSS = 0.001, 0.3  # nobody knows a path so well, and beyond there is nothing left to detect
PRIOR_PROBES = 500  # for which the loss given at the start stands
SLOW_PROBES = 20_000  # 17 minutes at 20 a second
FAST = 1 / 512  # a path that grows worse is believed at once


class LossModel:
    """The loss of one path, learned from its probes in the order in which they were sent."""

    __slots__ = ("_cells", "_fast", "_likelihood", "_lost", "_probes", "_run")

    def __init__(self, loss_ppm: int = 10_000) -> None:
        """``loss_ppm``: what is presumed before anything was measured."""
        share = loss_ppm / 1e6
        self._probes, self._lost, self._fast = float(PRIOR_PROBES), PRIOR_PROBES * share, share
        self._likelihood = list(_PRIOR)
        self._run: list[int] = []
        self._cells = _credible(self._likelihood)

    @property
    def loss(self) -> float:
        """Share of probes that are overdue while the path is there."""
        return min(MOST_LOSS, max(LEAST_LOSS, self._lost / self._probes, self._fast))

    @property
    def burst_us(self) -> int:
        """Mean length of the longest bursts that the record does not refute."""
        return max(TAUS_US[t] for _, t in self._cells)

    def observe(self, sent_us: int, missed: bool) -> None:
        """A probe of a path that is there was answered in time, or missed."""
        if missed:
            self._run.append(sent_us)
            return
        if self._run:
            self._learn(sent_us)
        self._count(1, 0)

    def forget_run(self) -> None:
        """The run was an outage: it says nothing of the path's own loss."""
        self._run.clear()

    def evidence(self, run: Sequence[int]) -> float:
        """Nats by which a run of missing answers, given by when they were sent, speaks for *down*."""
        if not run:
            return 0.0
        p, n = self.loss, len(run)
        single, bursts = (n - 1) * log(p), _bursts(run, p)
        likely = max(_mixed(SHARES[b], single, bursts[t]) for b, t in self._cells)
        return n * log(1 - ANSWERED_THOUGH_DOWN) - log(p) - likely

    def _learn(self, ended_us: int) -> None:
        p, run = self.loss, self._run
        single, bursts = (len(run) - 1) * log(p) + log(1 - p), _bursts(run, p)
        since = max(1, ended_us - run[-1])
        ends = [bursts[t] + log(1 - min(1 - 1e-9, _again(since, tau, p))) for t, tau in enumerate(TAUS_US)]
        kept = [MEMORY * (old - prior) for old, prior in zip(self._likelihood, _PRIOR, strict=True)]
        new = [k + _mixed(SHARES[b], single, ends[t]) for k, (b, t) in zip(kept, _GRID, strict=True)]
        most = max(new)
        self._likelihood = [value - most + prior for value, prior in zip(new, _PRIOR, strict=True)]
        self._cells = _credible(self._likelihood)
        self._count(len(run), len(run))
        run.clear()

    def _count(self, probes: int, lost: int) -> None:
        kept = 1 - probes / SLOW_PROBES if self._probes >= SLOW_PROBES else 1.0
        self._probes = self._probes * kept + probes
        self._lost = self._lost * kept + lost
        for _ in range(lost):
            self._fast += (1.0 - self._fast) * FAST
        if not lost:
            self._fast -= self._fast * FAST


_GRID = tuple((b, t) for b in range(len(SHARES)) for t in range(len(TAUS_US)))


def _distrust(tau_us: int) -> float:
    if tau_us <= PRESUMED_US:
        return 0.0
    first, further = DISTRUST_NATS
    return -(first + further * (log(tau_us / PRESUMED_US) / log(2) - 1))


_PRIOR = tuple(_distrust(TAUS_US[t]) for _, t in _GRID)


def _credible(likelihood: Sequence[float]) -> tuple[tuple[int, int], ...]:
    least = max(likelihood) - CREDIBLE_NATS
    return tuple(cell for cell, value in zip(_GRID, likelihood, strict=True) if value >= least)


def _again(dt_us: int, tau_us: int, p: float) -> float:
    """Probability that a probe is lost when one sent ``dt_us`` earlier was, both in the same burst or by chance."""
    return p + (1 - p) * exp(-dt_us / tau_us)


def _bursts(run: Sequence[int], p: float) -> list[float]:
    """Logarithm of the probability of what follows the run's first miss, were it a burst, per ``tau``."""
    gaps = [max(0, b - a) for a, b in pairwise(run)]
    return [sum(log(_again(gap, tau, p)) for gap in gaps) for tau in TAUS_US]


def _mixed(share: float, single: float, burst: float) -> float:
    """log((1 - share) e^single + share e^burst)."""
    if share >= 1.0:
        return burst
    a, b = log(1 - share) + single, log(share) + burst
    high, low = (a, b) if a > b else (b, a)
    return high + log(1 + exp(low - high))
