"""The emulator's table of legs: for every ordered pair of endpoints, what happens to a packet right now.

Endpoints are numbered: the world's nodes by index, then one number per user slot. ``rows[source][target]`` is read once
per packet and holds the cheapest thing that answers it: ``None`` (no link), a ``float`` (seconds to wait: nothing else
happens on this leg) or a :class:`Leg` (jitter, loss, gray failure or blackhole). Faults are folded in when they change,
never per packet; a change touches only the legs it hits.

Waiting times are shortened by ``TRANSIT_US`` (namespaces have their own figure), what waking up and sending cost a
packet at the median, so that what probes measure is the world file's figure.

Gray failure. Flows (addresses and ports of both ends) whose hash falls into the share are swallowed, always the same
ones, as when one of several parallel lines behind a hash is dead: a link that is fine for most and dead for some.

Jitter. A packet's extra delay is exponential with mean J, in order (a packet never overtakes the one before it on its
leg). The difference of two independent exponentials is Laplace with mean absolute value J, so that RFC 3550's
interarrival jitter settles at J where packets are sparse enough not to queue behind each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from random import Random

from router.demo.access_leg import access_us
from router.demo.faults import PPM, Endpoint, FaultKind, FaultRequest, LinkParameters, Scope, compose, scope_of
from router.demo.world import World

INSIDE_US = 50  # node to node in one data center: a switch or two
TRANSIT_US = 45
LOST = -1.0
SWALLOWED = -2.0
_HASHES = 1 << 32


class Leg:
    """A leg that needs more than waiting."""

    __slots__ = ("_blackhole", "_delay_s", "_gray", "_jitter_s", "_last_due", "_loss", "_random")

    def __init__(self, parameters: LinkParameters, random: Random, transit_us: int = TRANSIT_US) -> None:
        self._delay_s = _wait_s(parameters.delay_us, transit_us)
        self._gray = parameters.gray_ppm * _HASHES // PPM
        self._jitter_s = parameters.jitter_us / 1e6
        self._loss = parameters.loss_ppm / PPM
        self._blackhole = parameters.blackhole
        self._last_due = 0.0
        self._random = random

    def due(self, now: float, sender: object = None, receiver: object = None) -> float:
        """When a packet that came at ``now`` leaves, or ``LOST`` or ``SWALLOWED``; the ends are those of its flow."""
        if self._blackhole or (self._gray and flow_hash(sender, receiver) < self._gray):
            return SWALLOWED
        if self._loss and self._random.random() < self._loss:
            return LOST
        due = now + self._delay_s
        if self._jitter_s:
            due = max(due + self._random.expovariate(1.0 / self._jitter_s), self._last_due)
            self._last_due = due
        return due


def flow_hash(sender: object, receiver: object) -> int:
    """The number from 0 to 2^32 - 1 by which a gray failure chooses; the same whenever these two ends talk."""
    return int.from_bytes(blake2b(repr((sender, receiver)).encode(), digest_size=4).digest(), "big")


Entry = float | Leg | None


class LegTable:
    """All legs with the faults in force folded in; see the module docstring. Used by the loop thread alone."""

    def __init__(self, world: World, user_slots: int, random: Random, transit_us: int = TRANSIT_US) -> None:
        self._world = world
        self._random = random
        self._transit_us = transit_us
        self._swallow = Leg(LinkParameters(0, blackhole=True), random, transit_us)  # they are all the same
        self._home = tuple(i for i, dc in enumerate(world.data_centers) for _ in dc.nodes)
        self._nodes = len(self._home)
        self._positions: dict[int, tuple[float, float]] = {}  # users, by endpoint number
        self._faults: dict[str, tuple[FaultRequest, Scope]] = {}
        self.endpoints: list[Endpoint | None] = [
            Endpoint(node.id, dc.id, dc.provider, dc.region) for dc in world.data_centers for node in dc.nodes
        ]
        self.endpoints += [None] * user_slots
        size = len(self.endpoints)
        self.rows: list[list[Entry]] = [[None] * size for _ in range(size)]
        self._refresh((s, t) for s in range(self._nodes) for t in range(self._nodes))

    @property
    def faults(self) -> Mapping[str, FaultRequest]:
        """Faults in force, by id."""
        return {name: request for name, (request, _) in self._faults.items()}

    def add_fault(self, name: str, request: FaultRequest) -> int:
        """Put a fault in force; returns how many legs it hits. Raises InputRejected if it names nobody here."""
        scope = scope_of(request, self.endpoints)
        self._faults[name] = (request, scope)
        return self._refresh(self._hit_by(scope))

    def remove_fault(self, name: str) -> None:
        """Heal one fault."""
        _, scope = self._faults.pop(name)
        self._refresh(self._hit_by(scope))

    def add_user(self, endpoint: int, name: str, latitude: float, longitude: float) -> None:
        """Put a user at a position, or move one there."""
        self.endpoints[endpoint] = Endpoint(name)
        self._positions[endpoint] = (latitude, longitude)
        self._refresh(self._legs_of(endpoint))

    def remove_user(self, endpoint: int) -> None:
        """Take a user off the network."""
        self.endpoints[endpoint] = None
        del self._positions[endpoint]
        self._refresh(self._legs_of(endpoint))

    def parameters(self, source: int, target: int) -> LinkParameters | None:
        """Parameters of a leg under the faults in force, ``None`` where there is none."""
        base = self._base(source, target)
        return None if base is None else compose(base, self._hitting(source, target))

    def _hitting(self, source: int, target: int) -> list[FaultRequest]:
        if not self._faults:
            return []
        inside = self._inside(source, target)
        return [
            request
            for request, scope in self._faults.values()
            if (scope.inside or not inside) and scope.hits(source, target)
        ]

    def _refresh(self, legs: Iterable[tuple[int, int]]) -> int:
        """Work out some legs anew; returns how many of them exist. No packet moves meanwhile, so it is kept short."""
        count = 0
        for source, target in legs:
            base = self._base(source, target)
            count += base is not None
            self.rows[source][target] = None if base is None else self._entry(base, self._hitting(source, target))
        return count

    def _entry(self, base: LinkParameters, hitting: list[FaultRequest]) -> Entry:
        if any(request.kind is FaultKind.BLACKHOLE for request in hitting):
            return self._swallow
        parameters = compose(base, hitting) if hitting else base
        if parameters.jitter_us or parameters.loss_ppm or parameters.gray_ppm:
            return Leg(parameters, self._random, self._transit_us)
        return _wait_s(parameters.delay_us, self._transit_us)

    def _hit_by(self, scope: Scope) -> list[tuple[int, int]]:
        everybody = [i for i, end in enumerate(self.endpoints) if end is not None]
        legs = {
            (source, target)
            for sources, targets in scope.pairs
            for source in (everybody if sources is None else sources)
            for target in (everybody if targets is None else targets)
            if scope.inside or not self._inside(source, target)
        }
        return sorted(legs)

    def _legs_of(self, user: int) -> list[tuple[int, int]]:
        return [leg for node in range(self._nodes) for leg in ((user, node), (node, user))]

    def _inside(self, source: int, target: int) -> bool:
        return source < self._nodes and target < self._nodes and self._home[source] == self._home[target]

    def _base(self, source: int, target: int) -> LinkParameters | None:
        if source >= self._nodes or target >= self._nodes:
            return self._access(source, target)
        a, b = self._home[source], self._home[target]
        if a == b:
            return LinkParameters(INSIDE_US)
        delay_us = self._world.delay_us[a][b]
        if delay_us is None:
            return None
        return LinkParameters(delay_us, self._world.jitter_us[a][b], self._world.loss_ppm[a][b])

    def _access(self, source: int, target: int) -> LinkParameters | None:
        user, node = max(source, target), min(source, target)
        position = self._positions.get(user)
        if position is None or node >= self._nodes:  # no such user, or both are users
            return None
        data_center = self._world.data_centers[self._home[node]]
        return LinkParameters(access_us(*position, data_center.latitude, data_center.longitude))


def _wait_s(delay_us: int, transit_us: int) -> float:
    return max(delay_us - transit_us, 0) / 1e6
