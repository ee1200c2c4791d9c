"""In process: a report into the core, until its View gives another estimate and another cost of a reported link."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from bench.freshness.world import World
from router.core.messages import Booted, MakeSurvey, Reported, Solve, Solved, Surveyed, Tick
from router.core.model import Counters
from router.core.plane import ControlPlane
from router.core.tables import I64
from router.schemas.links import Estimates, LinkKey

START_US = 1_700_000_000_000_000
WARM_SECONDS = 3  # reports of everything: clocks are known, a bucket of the history is closed


class Unchanged(Exception):
    """A report after which the answer was still the old one."""


@dataclass
class Inside:
    """A core with the periodic jobs at their rates, on a clock of its own."""

    world: World
    plane: ControlPlane = field(default_factory=ControlPlane)
    now: int = START_US

    def warm_up(self) -> None:
        """Boot and measure every pair for some seconds."""
        self.plane.handle(Booted(1, self.world.inventory, Counters(), (), None), self.now)
        for _ in range(WARM_SECONDS):
            for source in range(self.world.n):
                report = self.world.report(source, self.world.peers(source, self.world.n - 1), 0)
                self._pass(1_000_000 // self.world.n)
                self.plane.handle(Reported(report), self.now)
            self._tick("routes")

    def measure(self, rows: int, seconds: int) -> tuple[np.ndarray, np.ndarray]:
        """Seconds of each report by the wall and of the processor, ``seconds`` worth of every node's reports.

        Between them the jobs run, untimed.
        """
        took: list[tuple[float, float]] = []
        for _ in range(seconds):
            for source in range(self.world.n):
                self._pass(1_000_000 // self.world.n)
                if source % (self.world.n // 4) == 0:
                    self._tick("health")
                took.append(self._one(source, self.world.peers(source, rows)))
            self._tick("routes")
        wall, cpu = np.array(took).T
        return wall, cpu

    def _one(self, source: int, peers: I64) -> tuple[float, float]:
        ids = list(self.world.inventory.data_centers)
        key: LinkKey = (ids[source], ids[int(peers[len(peers) // 2])], "internet")
        before = Estimates(self.plane.view).measured(key, self.now)
        event = Reported(self.world.report(source, peers))
        start, cpu = time.perf_counter(), time.thread_time()
        self.plane.handle(event, self.now)
        after = Estimates(self.plane.view).measured(key, self.now)
        took = time.perf_counter() - start, time.thread_time() - cpu
        if after["expected_ms"] == before["expected_ms"] or after["metric_us"] == before["metric_us"]:
            raise Unchanged(f"{key}: {before} -> {after}")
        return took

    def _pass(self, us: int) -> None:
        self.now += us

    def _tick(self, job: str) -> None:
        effects = self.plane.handle(Tick(job), self.now)
        for effect in effects:  # carrying one out may append more
            if isinstance(effect, MakeSurvey):
                effects += self.plane.handle(Surveyed(effect.window.survey()), self.now)
            elif isinstance(effect, Solve):
                effects += self.plane.handle(Solved(effect.question.answer()), self.now)
