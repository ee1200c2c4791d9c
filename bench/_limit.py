"""The add+min limit of this machine, measured now: how many min-plus steps a second its registers can do.

``_limit.c`` is compiled at run time. For each instruction set three loops run (add and min together, adds only, mins
only), and a chain of dependent adds gives the clock. A processor that issues ``a`` adds or ``m`` mins a cycle alone,
the mins on some of the ports of the adds, can do at most ``min(a, m, max(a, m) / 2)`` steps a cycle. Times lanes, times
clock: that is what the loop should reach, so the limit is checked against something and not only believed.

All figures are the best of many bursts of about ten milliseconds: what else runs on the machine only ever takes away.
"""

from __future__ import annotations

import ctypes
import math
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from router.core.errors import Unavailable

SOURCE = Path(__file__).with_name("_limit.c")
INSTRUCTIONS = 24  # in one round of every loop
LANES = {"AVX2": 8, "AVX-512": 16}  # int32
FIRST_LOOP = {"AVX2": 1, "AVX-512": 4}  # in LOOPS of the C source: both, adds, mins
CLOCK_LOOP = 0
BURST_S = 0.01
BURSTS = 15
SETTLE_S = 5.0
PORT_ERROR = 0.1  # instructions a cycle


def _compiled() -> ctypes.CDLL:
    """The loops, compiled by the system's C compiler into a folder that goes away at once."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "limit.so"
        command = ["cc", "-O2", "-shared", "-fPIC", "-pthread", "-o", str(library), str(SOURCE)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise Unavailable("no_compiler", "the limit of the machine needs a C compiler called cc") from error
        except subprocess.CalledProcessError as error:
            raise Unavailable("no_limit", f"the limit needs an x86-64 machine: {error.stderr.strip()}") from error
        loaded = ctypes.CDLL(str(library))
    loaded.limit_run.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_int]
    return loaded


@dataclass
class Limit:
    """Measured rates of this machine; every further measurement can only raise them."""

    _rounds: dict[int, int] = field(default_factory=dict)
    _best: dict[tuple[int, int], float] = field(default_factory=dict)  # (loop, threads) -> instructions/s of a thread

    @cached_property
    def _library(self) -> ctypes.CDLL:
        return _compiled()

    @cached_property
    def isas(self) -> tuple[str, ...]:
        """Instruction sets this processor has, of those that are tried."""
        found = tuple(LANES)[: self._library.limit_isa()]
        if not found:
            raise Unavailable("no_limit", "the limit of the machine needs a processor with AVX2")
        return found

    def _burst_s(self, loop: int, rounds: int, threads: int) -> float:
        start = time.perf_counter()
        if self._library.limit_run(loop, rounds, threads):
            raise Unavailable("no_threads", f"cannot start {threads} threads")
        return time.perf_counter() - start

    def measure(self, loop: int, threads: int, bursts: int = BURSTS) -> float:
        """Instructions (or steps) a second of each thread: the best of these bursts and all that came before."""
        if loop not in self._rounds:
            trial = min(self._burst_s(loop, 50_000, 1) for _ in range(3))
            self._rounds[loop] = max(1, round(50_000 * BURST_S / trial))
        rounds = self._rounds[loop]
        shortest = min(self._burst_s(loop, rounds, threads) for _ in range(bursts))
        self._best[loop, threads] = max(self._best.get((loop, threads), 0.0), INSTRUCTIONS * rounds / shortest)
        return self._best[loop, threads]

    def settle(self, isa: str, threads: int, enough_steps_per_s: float) -> float:
        """Measure until the rate is as good as expected, or for a few seconds: neighbours go away now and then."""
        start = time.perf_counter()
        found = self.steps_per_s(isa, threads)
        while found < enough_steps_per_s and time.perf_counter() - start < SETTLE_S:
            found = self.steps_per_s(isa, threads)
        return found

    def clock_hz(self) -> float:
        """Cycles a second of one core with nothing else to do."""
        return self.measure(CLOCK_LOOP, 1)

    def steps_per_s(self, isa: str, threads: int, bursts: int = BURSTS) -> float:
        """Add+min steps a second of all threads together."""
        return self.measure(FIRST_LOOP[isa], threads, bursts) * threads * LANES[isa]

    @staticmethod
    def lanes(isa: str) -> int:
        """int32 numbers in one register."""
        return LANES[isa]

    def best_steps_per_s(self, threads: int, bursts: int = BURSTS) -> float:
        """The same, of the instruction set that is best at it."""
        return max(self.steps_per_s(isa, threads, bursts) for isa in self.isas)

    def steps_per_cycle(self, isa: str) -> tuple[float, float, float]:
        """Vector steps a cycle that the ports allow, and the measured adds and mins a cycle it was derived from.

        Ports are whole: measured until both rates are near a whole number, or for a few seconds. What a busy machine
        leaves in between is rounded up, so that noise never makes the limit easier to reach.
        """
        start = time.perf_counter()
        while True:
            clock = self.clock_hz()
            adds = self.measure(FIRST_LOOP[isa] + 1, 1) / clock
            mins = self.measure(FIRST_LOOP[isa] + 2, 1) / clock
            settled = max(abs(adds - round(adds)), abs(mins - round(mins))) < PORT_ERROR
            if settled or time.perf_counter() - start > SETTLE_S:
                break
        add_ports, min_ports = (max(1, math.ceil(rate - PORT_ERROR)) for rate in (adds, mins))
        return min(add_ports, min_ports, max(add_ports, min_ports) / 2), adds, mins
