"""Plans and sockets of the two ends: the product's own classes, with nothing in between.

Only two things differ from an agent: the limits of the reflector, which would otherwise be what is measured, and that
round trips are also kept one by one, because the noise of single ones is asked for.
"""

from __future__ import annotations

import resource
from pathlib import Path
from random import Random

from probes.clock import Clock
from probes.keys import derive
from probes.prober import Prober
from probes.stamp import Key
from probes.wire import PlanPeer, ProbePlan

REFLECTOR_PORT = 7651
SENDER_PORT = 7650
OWN_KEY = bytes(range(32))  # of the far node
FIRST_KEY_ID = 5
UNLIMITED_PER_S = 10_000_000
TIMEOUT_US = 1_000_000


def key(identity: int) -> Key:
    """What the near end under this key id and the far one share."""
    return Key(derive(OWN_KEY, identity))


def cpu_s() -> float:
    """CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident_kb() -> int:
    """Memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1_024


def descriptors() -> int:
    """Open files of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def prober(host: str, seed: int, *, alone: bool = True) -> Prober:
    """The whole data path of an agent that does not relay; not ``alone`` at its address, it takes any ports."""
    ports = (SENDER_PORT, REFLECTOR_PORT, None) if alone else (0, 0, None)
    return Prober(host, ports, Clock(), Random(seed), frozenset())


def plan(host: str, peers: int, interval_us: int) -> ProbePlan:
    """So many peers, all of them at one address."""
    found = tuple(
        PlanPeer(f"peer-{i}", f"dc-{i}", "internet", host, REFLECTOR_PORT, 0, interval_us) for i in range(peers)
    )
    return ProbePlan("bench", "dc-bench", 1, 0, 0, 1_000_000, TIMEOUT_US, found)
