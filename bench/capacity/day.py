"""One virtual day in steps of a second: sessions take the nearest warm agent, the real core decides what to launch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.capacity.world import DAY_S, F64, I64, REGIONS, SLOT_S, Load, one_day, rtt_ms, spiked
from router.core.capacity import ArrivalBook, BufferRule, Quiet, Stock

N = len(REGIONS)
DECIDE_S = 5
COLD_S = 90
REACH_MS = 100.0  # round trip to an agent of another region that still makes a conversation
DOWN_S = 60  # how often surplus is let go

Policy = Callable[[Stock, I64, int], tuple[I64, I64]]  # (stock, began since the last call, second) -> (up, down)


@dataclass(frozen=True)
class Day:
    """What became of a day."""

    sessions: int
    warm: int
    away: int  # of the warm ones, in another region
    spike_sessions: int
    spike_warm: int
    over: float  # agents paid for but not busy, over busy ones, both as means of the day
    seconds: float

    @property
    def share(self) -> float:
        """Share of sessions that began with a warm agent."""
        return self.warm / self.sessions

    @property
    def spike_share(self) -> float:
        """The same of sessions that began within a quarter of an hour of the spike's begin."""
        return self.spike_warm / max(1, self.spike_sessions)


class Ours:
    """The real core's forecast, buffer and quiet rule."""

    def __init__(self, load: Load, rng: np.random.Generator, rule: BufferRule | None = None) -> None:
        self.rule = rule or BufferRule(cold_start_s=COLD_S + DECIDE_S)
        self.book, self.quiet = ArrivalBook(N), Quiet(N)
        self.reach = rtt_ms() <= REACH_MS
        for _ in range(load.days):
            self.book.teach(rng.poisson(one_day(load, rng) * SLOT_S).astype(np.float64))

    def __call__(self, stock: Stock, began: I64, t: int) -> tuple[I64, I64]:
        now = t * 1_000_000
        self.book.observe(began, now)
        forecast = self.book.forecast(self.rule.cold_start_s, now)
        want = self.quiet.wanted(self.rule, stock, forecast.pooled(self.rule.quantile, self.reach), now, self.reach)
        return want.up, want.down if t % DOWN_S == 0 else np.zeros(N, np.int64)


class Share:
    """The peer: a buffer that is a fixed share of busy agents, looked at every 30 s, as Agones' autoscaler does."""

    def __init__(self, share: float, absolute: int = 2) -> None:
        self.share, self.absolute = share, absolute

    def __call__(self, stock: Stock, began: I64, t: int) -> tuple[I64, I64]:
        none = np.zeros(N, np.int64)
        if t % 30:
            return none, none
        desired = (
            stock.busy + stock.queued + np.maximum(self.absolute, np.ceil(stock.busy * self.share)).astype(np.int64)
        )
        return np.maximum(0, desired - stock.all), np.minimum(stock.idle, np.maximum(0, stock.all - desired))


def run(load: Load, seed: int, policy: Callable[[np.random.Generator], Policy], seconds: int = DAY_S) -> Day:
    """A day under a policy; two policies with one seed meet the same beginnings and the same lengths."""
    world, history = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    decide = policy(history)
    rates = one_day(load, world)
    begin = int(world.integers(seconds // 4, seconds * 3 // 4))
    hit = np.ones(N) if load.where == "world" else np.eye(N)[world.integers(N)]
    return _Run(load, world, decide, rates, begin, hit, seconds).go()


class _Run:
    def __init__(
        self, load: Load, rng: np.random.Generator, decide: Policy, rates: F64, begin: int, hit: F64, seconds: int
    ) -> None:
        self.load, self.rng, self.decide, self.rates = load, rng, decide, rates
        self.begin, self.hit, self.seconds = begin, hit, seconds
        self.near = np.argsort(rtt_ms(), axis=1, kind="stable")
        self.within = (rtt_ms() <= REACH_MS).sum(1)
        self.ends = np.zeros((seconds, N), np.int64)
        self.arrive = np.zeros((seconds + COLD_S + 1, N), np.int64)
        # It begins full of those who began before, as a day does that is not the first.
        start = np.round(rates[0] * load.mean_s).astype(np.int64)
        self.busy, self.idle = start.copy(), np.ceil(start * 0.2).astype(np.int64) + 3
        self._fill(start)
        self.coming, self.queued = np.zeros(N, np.int64), np.zeros(N, np.int64)
        self.total = self.warm = self.away = self.in_spike = self.warm_in_spike = 0
        self.idle_s = self.busy_s = 0

    def _fill(self, start: I64) -> None:
        """Ends of the sessions that live at midnight: lengths by size, each at a moment drawn from it."""
        many = int(start.sum())
        lengths = np.exp(self.rng.normal(np.log(self.load.median_s) + self.load.sigma**2, self.load.sigma, many))
        self._book(np.repeat(np.arange(N), start), 0, lengths * self.rng.random(many))

    def _book(self, regions: I64, t: int, lengths: F64) -> None:
        end = t + np.maximum(1, lengths.astype(np.int64))
        kept = end < self.seconds
        np.add.at(self.ends, (end[kept], regions[kept]), 1)

    def go(self) -> Day:
        began = np.zeros(N, np.int64)
        for t in range(self.seconds):
            began += self._second(t)
            if t % DECIDE_S == 0:
                up, down = self.decide(Stock(self.busy, self.idle, self.coming, self.queued), began, t)
                assert (down <= self.idle).all(), "a busy agent would be let go"
                self.idle = self.idle - down
                self.arrive[t + COLD_S] += up
                self.coming = self.coming + up
                began = np.zeros(N, np.int64)
            self.idle_s += int(self.idle.sum() + self.coming.sum())
            self.busy_s += int(self.busy.sum())
        return Day(
            self.total, self.warm, self.away, self.in_spike, self.warm_in_spike, self.idle_s / self.busy_s, self.seconds
        )

    def _second(self, t: int) -> I64:
        self.busy = self.busy - self.ends[t]
        self.coming = self.coming - self.arrive[t]
        self.idle = self.idle + self.ends[t] + self.arrive[t]
        self._serve_queue(t)
        began = self.rng.poisson(self.rates[t // SLOT_S] * spiked(self.load, t, self.begin, self.hit))
        free = self.idle.copy()
        home = np.minimum(began, free)
        free -= home
        taken_at = home.copy()
        for region in np.flatnonzero(began > home):
            left = int(began[region] - home[region])
            for other in self.near[region][1 : self.within[region]]:
                taken = min(left, int(free[other]))
                free[other] -= taken
                taken_at[other] += taken
                self.away += taken
                left -= taken
                if not left:
                    break
            self.queued[region] += left
        self._take(taken_at, t)
        self.total += int(began.sum())
        self.warm += int(taken_at.sum())
        if 0 <= t - self.begin < 900:
            self.in_spike += int(began.sum())
            self.warm_in_spike += int(taken_at.sum())
        return began

    def _serve_queue(self, t: int) -> None:
        if self.queued.any():
            now = np.minimum(self.queued, self.idle)
            self.queued = self.queued - now
            self._take(now, t)

    def _take(self, count: I64, t: int) -> None:
        self.idle = self.idle - count
        self.busy = self.busy + count
        many = int(count.sum())
        lengths = np.exp(self.rng.normal(np.log(self.load.median_s), self.load.sigma, many))
        self._book(np.repeat(np.arange(N), count), t, lengths)
