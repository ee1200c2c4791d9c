"""Load as a price: what the sessions' flows put on links and data centers, and what that adds to the metric.

Flows and the routes in force give Mbit/s per configured link and per data center, both directions; with the configured
capacities that is a utilisation ``u``, and with it a price per hop in microseconds::

    x     = (u - KNEE) / (1 - KNEE)
    price = PRICE_US * x / (1 - x), 0 below the knee, at most MOST_US

the shape of the queue of M/M/1: nothing while there is room, a detour of 2 ms when four fifths are used, of 18 ms at
96 %. It is a price and not a delay that anyone measured: it rises before the queue does, so that it never has to.

A price that follows the load at once makes everybody leave at once, and come back at once. Three things prevent that:

1. *Damping*: the price that the solver sees rises by a low-pass with a rate limit, so that pairs leave one after the
   other, those first that lose least; it falls several times more slowly.
2. *Dead band*: it falls only when it would be too high even with a tenth of the capacity more in use. Coming back
   therefore needs more room than was made by leaving.
3. Paths change for load only while the undamped price says the same, and only a share of them per solve
   (``solve.load_guard``); so the lag of the damped price moves nobody who need not move.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from router.core.model import DataCenterId, Flow, Inventory, LinkId, Micros, TrafficClass
from router.core.tables import DIRECT, F64, I64, Bool, LoadPrice, RouteTable

# What one session sends each way. Voice and agent: 24 kbit/s of Opus in 50 packets/s of 80 bytes of headers, the figure
# that the metric's prices use. Video: 1.2 Mbit/s, the one whose packets per frame its quality curve counts. Bulk: what
# one loss-driven flow gets at the metric's operating point, 1460 B * 8 * sqrt(1.5) / (0.34 s * sqrt(0.005)) (Mathis).
BITRATE_KBPS: Mapping[TrafficClass, int] = {
    TrafficClass.VOICE: 64,
    TrafficClass.AGENT: 64,
    TrafficClass.VIDEO: 1_200,
    TrafficClass.BULK: 600,
}
KNEE = 0.6  # of the capacity; below it load costs nothing
PRICE_US = 2_000  # at the middle between knee and capacity: just above the margin that a change of path needs
MOST_US = 100_000  # a full relay is still better than none
LONGEST_STEP_S = 5.0  # after a pause the price goes on from where it was, not in one leap


@dataclass(frozen=True, slots=True)
class Damping:
    """How the price follows the load: time constants, the most it may change per second, and who may move by it."""

    rise_s: float = 4.0  # of the low-pass; a few solves, so that one tick's sessions are not yet a trend
    fall_s: float = 30.0
    step_us: int = 500  # per second: less than the least margin, so that near-equal pairs leave in different solves
    step_share: float = 0.1  # ... or this share of the price, so that the dear end is reached within half a minute
    band: float = 0.1  # of the capacity: how much room must be there before the price falls
    move_share: float = 0.1  # of the paths over one relay that would leave it for load: how many may per solve


UNDAMPED = Damping(rise_s=0, fall_s=0, step_us=1 << 40, band=0, move_share=1)  # for tests: it must be seen to swing


@dataclass(frozen=True, eq=False)
class Carried:
    """Mbit/s float64 per directed link ``[transport, from, to]`` as flat number -> value, and per data center ``[n]``.

    A data center carries what passes it, each direction once: what it relays, and what starts or ends there.
    """

    link: F64
    center: F64


def price_us(utilisation: F64) -> F64:
    """Price (microseconds, float64) of utilisations, in the shape given."""
    x = np.clip((utilisation - KNEE) / (1 - KNEE), 0.0, 1 - 1e-9)
    price: F64 = np.minimum(MOST_US, PRICE_US * x / (1 - x))
    return price


@dataclass(frozen=True, eq=False)
class _Limits:
    """What has a capacity at all, in the numbering of one inventory."""

    links: tuple[LinkId, ...]
    place: I64  # [link] flat number in [transport, from, to]
    link_mbps: F64
    centers: tuple[DataCenterId, ...]
    vertex: I64  # [center]
    center_mbps: F64


def _limits(inventory: Inventory) -> _Limits:
    n, transport = len(inventory.data_centers), {name: t for t, name in enumerate(inventory.transports)}
    links = [link for link in inventory.links.values() if link.capacity_mbps > 0]
    centers = [dc for dc in inventory.data_centers.values() if dc.capacity_mbps > 0]
    flat = [
        (transport[link.transport] * n + inventory.index[link.source]) * n + inventory.index[link.target]
        for link in links
    ]
    return _Limits(
        links=tuple(link.id for link in links),
        place=np.array(flat, np.int64),
        link_mbps=np.array([link.capacity_mbps for link in links], np.float64),
        centers=tuple(dc.id for dc in centers),
        vertex=np.array([inventory.index[dc.id] for dc in centers], np.int64),
        center_mbps=np.array([dc.capacity_mbps for dc in centers], np.float64),
    )


def carried(inventory: Inventory, flows: Mapping[Flow, int], table: RouteTable | None) -> Carried:
    """Add the flows up along the routes in force of their plain contexts, in the numbering of the inventory."""
    n, transports = len(inventory.data_centers), len(inventory.transports)
    links, centers = np.zeros(transports * n * n), np.zeros(n)
    if table is None or not flows:
        return Carried(links, centers)
    c, u, v, mbps = _ends(flows, table)
    present = np.array([inventory.index.get(dc, -1) for dc in table.snapshot.data_centers], np.int64)
    number = {name: t for t, name in enumerate(inventory.transports)}
    transport = np.array([number.get(name, -1) for name in table.snapshot.transports], np.int64)
    there = table.reachable[c, u, v] | (u == v)
    np.add.at(centers, present[u], np.where((present[u] >= 0) & there, mbps, 0.0))
    at = u
    slots = table.relays.shape[-1]
    for slot in range(slots + 1):
        relay = table.relays[c, u, v, slot].astype(np.int64) if slot < slots else v
        steps: Bool = there & (relay != DIRECT) & (relay != at)
        a, b, over = present[at], present[relay], transport[table.snapshot.transport[c, at, relay].astype(np.int64)]
        np.add.at(centers, b, np.where(steps & (b >= 0), mbps, 0.0))
        known = steps & (a >= 0) & (b >= 0) & (over >= 0)
        np.add.at(links, np.where(known, (over * n + a) * n + b, 0), np.where(known, mbps, 0.0))
        at = np.where(steps, relay, at)
    return Carried(links, centers)


def _ends(flows: Mapping[Flow, int], table: RouteTable) -> tuple[I64, I64, I64, F64]:
    """Context, vertices and Mbit/s of every flow, each direction one row; what the table does not know is left out."""
    index = {dc: i for i, dc in enumerate(table.snapshot.data_centers)}
    contexts = {x.traffic_class: c for c, x in enumerate(table.snapshot.contexts) if x.policy is None}
    rows = [
        (contexts[kind], index[edge], index[hub], sessions * BITRATE_KBPS[kind])
        for (edge, hub, kind), sessions in flows.items()
        if edge in index and hub in index and kind in contexts
    ]
    c, u, v, kbps = np.array(rows, np.int64).reshape(-1, 4).T
    both = np.concatenate([c, c])
    return both, np.concatenate([u, v]), np.concatenate([v, u]), np.concatenate([kbps, kbps]) / 1000


class LoadBook:
    """Prices of everything that has a capacity, and how they got there; private state of the core."""

    def __init__(self, damping: Damping | None = None) -> None:
        self._damping = damping or Damping()
        self._flows: Mapping[Flow, int] = {}
        self._inventory: Inventory | None = None
        self._limits = _limits(Inventory())
        self._smooth = np.zeros(0)  # [link..., center...] microseconds
        self._newest = np.zeros(0)
        self._at: Micros = 0

    def count(self, flows: Mapping[Flow, int]) -> None:
        """Take in how many sessions there are per flow."""
        self._flows = flows

    @property
    def flows(self) -> Mapping[Flow, int]:
        """How many sessions there are per flow."""
        return self._flows

    def update(self, inventory: Inventory, table: RouteTable | None, now: Micros) -> None:
        """Move every price towards what the routes in force deserve."""
        self._fit(inventory)
        if not len(self._smooth):
            return
        found, limits = carried(inventory, self._flows, table), self._limits
        used = np.concatenate([found.link[limits.place], found.center[limits.vertex]])
        share = used / np.concatenate([limits.link_mbps, limits.center_mbps])
        self._newest = price_us(share)
        elapsed_s = min(LONGEST_STEP_S, max(0, now - self._at) / 1e6)
        # At the first look there is no history to be damped: after a restart the prices are there at once.
        self._smooth = self._newest.copy() if not self._at else _follow(self._smooth, share, elapsed_s, self._damping)
        self._at = now

    def price(self, inventory: Inventory) -> LoadPrice | None:
        """Prices per hop in the numbering of the inventory; ``None`` if nothing is dear."""
        self._fit(inventory)
        if not self._smooth.any() and not self._newest.any():
            return None
        smooth, newest = self._spread(inventory, self._smooth), self._spread(inventory, self._newest)
        return LoadPrice(smooth, newest, self._damping.move_share)

    def _spread(self, inventory: Inventory, price: F64) -> I64:
        """A hop costs what its link does and what the data center at its end does; int64 ``[transport, from, to]``."""
        n, limits, us = len(inventory.data_centers), self._limits, np.rint(price).astype(np.int64)
        spread = np.zeros(len(inventory.transports) * n * n, np.int64)
        np.add.at(spread, limits.place, us[: len(limits.place)])
        hops = spread.reshape(-1, n, n)
        hops[:, :, limits.vertex] += us[len(limits.place) :]
        hops.setflags(write=False)
        return hops

    def _fit(self, inventory: Inventory) -> None:
        """Keep the prices of what is still there when the inventory has changed."""
        if inventory is self._inventory:
            return
        before, self._inventory = (*self._limits.links, *self._limits.centers), inventory
        place = {(k < len(self._limits.links), name): k for k, name in enumerate(before)}
        self._limits = _limits(inventory)
        names = [(True, id) for id in self._limits.links] + [(False, dc) for dc in self._limits.centers]
        old = [place.get(name, -1) for name in names]
        self._smooth = np.array([self._smooth[k] if k >= 0 else 0.0 for k in old])
        self._newest = np.array([self._newest[k] if k >= 0 else 0.0 for k in old])


def _follow(price: F64, share: F64, elapsed_s: float, damping: Damping) -> F64:
    """One step of the damped price: up to what the load deserves, down to what a band more of it would."""
    up, down = price_us(share) - price, price_us(share + damping.band) - price
    rising, falling = up > 0, down < 0
    wanted = np.where(rising, up, np.where(falling, down, 0.0))
    constant_s = np.where(rising, damping.rise_s, damping.fall_s)
    # The implicit form of the low-pass: stable for any step, and the same on every CPU, which exp() is not.
    step = wanted * elapsed_s / np.maximum(elapsed_s + constant_s, 1e-9)
    most = np.maximum(damping.step_us, damping.step_share * price) * elapsed_s
    moved: F64 = np.maximum(0.0, price + np.clip(step, -most, most))
    return np.where(moved < 0.5, 0.0, moved)  # below a microsecond nothing is left to fade
