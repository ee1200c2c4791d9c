"""Which stamps really work here: tried at start-up on loopback, with the sockets and options that probes will use.

A kernel may accept an option and never stamp (a sandbox), so options are not believed: a stamp counts if it lies
between the moments before sending and after receiving. Noise is told as the 90th percentile of how much longer than
the shortest a way from stamp to stamp took: departure to arrival with both stamps, otherwise with the time of the
process in the place of the missing one.

The error estimate that packets carry is about the clock, not the stamps: the kernel's own bound if something
disciplines it (``adjtimex``), and a second, which promises nothing, if not or if the node's clock is an injected one.
"""

from __future__ import annotations

import ctypes
import logging
import select
import socket
import struct
import sys
from dataclasses import dataclass
from functools import cache

from probes.clock import Clock
from probes.sockets.batch import departures, receive_batch, send_batch
from probes.sockets.kernel import open_udp, raw_address, stamp_transmits, wall_ns
from probes.stamp import ErrorEstimate

log = logging.getLogger("probes.sockets")

ROUNDS = 32
_PATIENCE_MS = 50  # for all rounds together
UNKNOWN_ERROR_US = 1_000_000
_TIMEX_SIZE = 256  # struct timex has 208 bytes
_TIMEX = struct.Struct("@I4xqqqqi")  # modes, offset, frequency, greatest and estimated error, status
_UNSYNCHRONIZED = 0x40
_CLOCK_IN_ERROR = 5


@dataclass(frozen=True, slots=True)
class Stamping:
    """Whether the kernel stamps arrivals and departures, and the noise that is left."""

    arrivals: bool
    departures: bool
    noise_ns: int

    def __str__(self) -> str:
        if self.arrivals and self.departures:
            kinds = "arrivals and departures"
        else:
            kinds = "arrivals" if self.arrivals else "departures" if self.departures else "nothing"
        return f"the kernel stamps {kinds}; noise {self.noise_ns / 1_000:.1f} us"


@cache
def stamping(family: int = socket.AF_INET) -> Stamping:
    """The self-test, done once per process and address family; the other answers are the same."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    try:
        found = _test(host)
    except OSError as error:
        log.warning("stamping self-test failed: %s", error.strerror)
        return Stamping(False, False, 0)
    log.info("stamping self-test: %s", found)
    return found


def _test(host: str) -> Stamping:
    with open_udp(host, 0) as sender, open_udp(host, 0) as receiver:
        asked = stamp_transmits(sender)
        stamp_transmits(receiver)
        to = raw_address(receiver.getsockname()[:2])
        rounds = [_round(sender, receiver, to, asked=asked) for _ in range(ROUNDS)]
    found = [one for one in rounds if one is not None]
    arrivals = sum(arrived > 0 for _, _, arrived, _ in found) * 2 > ROUNDS
    departed = sum(left > 0 for _, left, _, _ in found) * 2 > ROUNDS
    ways = sorted((arrived if arrivals and arrived else after) - (left if departed and left else before)
                  for before, left, arrived, after in found)  # fmt: skip
    return Stamping(arrivals, departed, ways[len(ways) * 9 // 10] - ways[0] if ways else 0)


def _round(
    sender: socket.socket, receiver: socket.socket, to: bytes, *, asked: bool
) -> tuple[int, int, int, int] | None:
    """Time before sending, departure, arrival, time after receiving; a stamp that cannot be true is 0."""
    before = wall_ns()
    if send_batch(sender, [(b"stamp", to)])[0] != 1:
        return None
    told = departures(sender) if asked else []
    if not select.select([receiver], [], [], _PATIENCE_MS / 1_000 / ROUNDS)[0]:
        return None
    arrived = receive_batch(receiver)[-1][1]
    after = wall_ns()
    left = told[-1][1] if told else 0
    return before, left if before <= left <= after else 0, arrived if before <= arrived <= after else 0, after


def error_estimate(clock: Clock) -> int:
    """The error estimate of this node's stamps as it goes on the wire."""
    error_us = UNKNOWN_ERROR_US if clock != Clock() else _clock_error_us()
    return ErrorEstimate.of_micros(error_us, synchronized=error_us < UNKNOWN_ERROR_US).encode()


def _clock_error_us() -> int:
    """The kernel's bound on the error of the wall clock; :data:`UNKNOWN_ERROR_US` if it gives none."""
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_long) != 8:
        return UNKNOWN_ERROR_US
    told = ctypes.create_string_buffer(_TIMEX_SIZE)
    state = ctypes.CDLL(None).adjtimex(told)  # modes 0: only asks
    _, _, _, greatest_us, _, status = _TIMEX.unpack_from(told)
    if state < 0 or state == _CLOCK_IN_ERROR or status & _UNSYNCHRONIZED:
        return UNKNOWN_ERROR_US
    return int(min(max(1, greatest_us), UNKNOWN_ERROR_US))
