"""Ground truth of a simulated Internet: one-way delays, jitter, loss and node clocks, and what faults add to them.

What is true by nature (``delay_us``, ``jitter_us``, ``loss``, ``clocks``) stays apart from what faults do to it
(``extra_us`` and the four after it, keyed by directed link), so that a fault that heals leaves no trace. Delays follow
``slices`` if there are any: slice ``k`` is true from ``k * slice_us`` after the start on, the last one for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random

import numpy as np

from probes.clock import Clock
from router.core.model import DataCenterId, Inventory, Micros, Node, NodeId, TrafficClass
from router.core.quality import loss_term_us
from router.core.tables import I64, NO_COST

INTRA_US = 60  # between two machines of one data center
LEAST_US = 50  # no fault makes a link between data centers faster than this

Pair = tuple[DataCenterId, DataCenterId]


@dataclass(slots=True)
class World:
    """Truth about every link; ``delay_us[a, b]`` is directed and without queueing; no key, no link."""

    inventory: Inventory
    delay_us: Mapping[Pair, int]
    clocks: dict[NodeId, Clock]
    jitter_us: int = 200  # mean of an exponential queueing delay
    loss: float = 0.0005
    slices: tuple[Mapping[Pair, int], ...] = ()
    slice_us: int = 0
    extra_us: dict[Pair, int] = field(default_factory=dict)
    extra_jitter_us: dict[Pair, int] = field(default_factory=dict)
    cut: dict[Pair, bool] = field(default_factory=dict)
    lossy: dict[Pair, float] = field(default_factory=dict)  # share of packets lost, in place of ``loss``
    gray: dict[Pair, float] = field(default_factory=dict)  # share of flows (pairs of nodes) that lose every packet

    def transit(self, a: Node, b: Node, rng: Random) -> int | None:
        """Delay of one packet in microseconds, ``None`` if it is lost."""
        if a.data_center == b.data_center:
            return INTRA_US
        pair = (a.data_center, b.data_center)
        base = self.delay_us.get(pair)
        if base is None or self.cut.get(pair) or rng.random() < self.lossy.get(pair, self.loss):
            return None
        if self.gray and _draw(f"{a.id}>{b.id}") < self.gray.get(pair, 0.0):
            return None
        mean = self.jitter_us + self.extra_jitter_us.get(pair, 0)
        queue = int(rng.expovariate(1 / mean)) if mean else 0
        return max(LEAST_US, base + self.extra_us.get(pair, 0)) + queue

    def blackhole(self, data_center: DataCenterId, on: bool) -> None:
        """Cut or restore everything to and from a data center."""
        for pair in self.delay_us:
            if data_center in pair:
                self.cut[pair] = on

    def set_clock(self, node: NodeId, now: Micros, step_us: int = 0, skew_ppm: int | None = None) -> None:
        """Make a node's clock jump by ``step_us`` at ``now``, or run at another speed from now on."""
        held = self.clocks[node]
        offset = held.read(now) - now + step_us
        self.clocks[node] = Clock(offset, held.skew_ppm if skew_ppm is None else skew_ppm, now)

    def turn(self, number: int) -> None:
        """Let slice ``number`` of the series become true."""
        self.delay_us = self.slices[min(number, len(self.slices) - 1)]

    # --- the truth as arrays, in vertex order of the inventory --------------------------------------------------------

    def true_delay_us(self) -> I64:
        """One-way delay without queueing int64 ``[from, to]`` (microseconds) as it is now; NO_COST without a link."""
        index = self.inventory.index
        delay = np.full((len(index), len(index)), NO_COST, np.int64)
        for pair, base in self.delay_us.items():
            if not self.cut.get(pair) and pair[0] in index and pair[1] in index:
                delay[index[pair[0]], index[pair[1]]] = max(LEAST_US, base + self.extra_us.get(pair, 0))
        return delay

    def true_cost_us(self, traffic_class: TrafficClass) -> I64:
        """The metric that the truth has for a class, int64 ``[from, to]``: delay plus the price of what faults lose.

        The loss that all links have by nature is left out: too rare to be measured, and the same everywhere.
        """
        index = self.inventory.index
        loss_ppm = np.zeros((len(index), len(index)), np.int64)
        for pair, share in self.lossy.items():
            if pair[0] not in index or pair[1] not in index:
                continue  # deleted from the inventory
            loss_ppm[index[pair[0]], index[pair[1]]] = round((share - self.loss) * 1e6)
        for pair, share in self.gray.items():
            if pair[0] not in index or pair[1] not in index:
                continue
            loss_ppm[index[pair[0]], index[pair[1]]] += round(share * 1e6)
        delay = self.true_delay_us()
        return np.where(delay < NO_COST, delay + loss_term_us(traffic_class, loss_ppm), NO_COST)


def _draw(name: str) -> float:
    """Uniform number in [0, 1) that depends on the name alone: a flow keeps its fate as long as a fault lasts."""
    return int.from_bytes(blake2b(name.encode(), digest_size=6).digest()) / (1 << 48)
