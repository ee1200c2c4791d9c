"""What was measured between client networks and edges, kept so that one liar cannot move a network.

A measurement is a vote. At each level (prefix, AS number in a metro, AS number, country) and edge a few witnesses have
one seat each; a witness is who reported (an API key and how it measured), above the prefix together with the prefix it
reported about. A witness's value follows its own measurements in bounded steps, and what counts is the weighted median
of the seats (:func:`verdict`), in which no API key weighs more than the one in the middle, and what would be believed
without them is half a vote against ties. When seats are short, the oldest one goes of the key that holds the most: a
key that makes up prefixes crowds out its own.

Values are logarithms of ``rtt + KNEE_US``: an error of a tenth counts the same at 50 and at 200 ms, and one of 2 ms
stops to matter below the knee. They are kept as integers, so that replicas agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from router.core.geography import FIBRE_US_PER_KM, distance_km
from router.core.messages import Beacon
from router.core.model import Client, DataCenterId, Inventory, Micros

if TYPE_CHECKING:
    from router.core.clients.tomography import Tomography

PROVENANCES = ("none", "geo", "country", "asn", "asn_metro", "prefix")  # by how much they know
NONE, GEO, COUNTRY, ASN, ASN_METRO, PREFIX = range(len(PROVENANCES))
Key = tuple[int, str]  # level and name

KNEE_US = 10_000.0
FINE = 1_000_000  # parts of one, in kept logarithms
SEATS = 8  # per network and edge
EDGES_KEPT = 512  # per network: more than any fleet has edges; those heard longest ago go
NETWORKS_KEPT = 50_000  # at all levels together, about 1 kB each; those heard longest ago go
RECENT = 512  # changed networks between two tables
STEP = 300_000  # how far one measurement may pull a witness that has a record: a third, over its count
COUNTED = 4  # measurements of one witness that add to its weight
HALF_LIFE_US = 6 * 3_600_000_000  # of a vote: a day's rhythm, four times
FORGOTTEN_US = 7 * 24 * 3_600_000_000
OUTRUN = 0.5  # of light's time: locations of addresses are rough, but not by half of the way to another continent
ROUGH_KM = 1_500  # nor by this: who is known by their country alone is put in its middle, and may live at its coast
METRO_DEGREES = 1.0


class Seat(NamedTuple):
    """One witness of one network and edge."""

    key: str  # the API key behind it, and how it measured
    about: str  # the prefix it speaks for, above the level of prefixes
    log: int  # in ``FINE`` parts
    times: int  # measured
    at: Micros

    @property
    def owner(self) -> str:
        """The API key alone: however many ways of measuring it names, it is one."""
        return self.key.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Network:
    """What was measured of one client network; where it is, as far as anybody said."""

    seats: Mapping[DataCenterId, tuple[Seat, ...]]
    at: Micros
    client: Client
    loss_ppm: Mapping[DataCenterId, int] = field(default_factory=dict)  # smoothed
    jitter_us: Mapping[DataCenterId, int] = field(default_factory=dict)


class Verdict(NamedTuple):
    """What the witnesses of one network and edge say together."""

    log: float
    weight: float  # votes, faded by age
    spread: float  # between the witnesses
    at: Micros  # newest


@dataclass(frozen=True, eq=False)
class ClientTable:
    """All networks at one moment, immutable, and what was learned from them."""

    base: Mapping[Key, Network] = field(default_factory=dict)
    recent: Mapping[Key, Network] = field(default_factory=dict)
    model: Tomography | None = None

    def get(self, key: Key) -> Network | None:
        """One network, ``None`` if nothing was measured of it."""
        return self.recent.get(key) or self.base.get(key)

    def networks(self, level: int) -> dict[str, Network]:
        """All networks of a level by name."""
        found = {key[1]: network for key, network in self.base.items() if key[0] == level}
        found.update((key[1], network) for key, network in self.recent.items() if key[0] == level)
        return dict(sorted(found.items()))

    def known(self, client: Client) -> Client:
        """The client, with what an earlier measurement from its prefix said of it where it says nothing itself."""
        if client.prefix is None:
            return client
        network = self.get((PREFIX, client.prefix))
        if network is None:
            return client
        kept, positioned = network.client, client.latitude is not None
        return Client(
            client.prefix,
            kept.asn if client.asn is None else client.asn,
            kept.country if client.country is None else client.country,
            client.latitude if positioned else kept.latitude,
            client.longitude if positioned else kept.longitude,
        )


def keys_of(client: Client) -> list[Key]:
    """The networks a client is of, the widest first."""
    keys: list[Key] = []
    if client.country is not None:
        keys.append((COUNTRY, client.country))
    if client.asn is not None:
        keys.append((ASN, str(client.asn)))
        metro = metro_of(client)
        if metro is not None:
            keys.append((ASN_METRO, f"{client.asn}@{metro}"))
    if client.prefix is not None:
        keys.append((PREFIX, client.prefix))
    return keys


def metro_of(client: Client) -> str | None:
    """The cell of a grid of whole degrees that a client is in, ``None`` without a position."""
    if client.latitude is None or client.longitude is None:
        return None
    return f"{math.floor(client.latitude / METRO_DEGREES)},{math.floor(client.longitude / METRO_DEGREES)}"


def kept_log(rtt_us: float) -> int:
    """A round trip as it is kept."""
    return round(math.log(max(rtt_us, 0.0) + KNEE_US) * FINE)


def rtt_of(log: float) -> float:
    """Microseconds of a logarithm (not in ``FINE`` parts)."""
    return math.exp(log) - KNEE_US


def verdict(seats: Sequence[Seat], prior: float | None, now: Micros) -> Verdict | None:
    """The weighted median of the witnesses, with ``prior`` (a logarithm) as half a vote; ``None`` if all are old."""
    votes = []
    by_key: dict[str, float] = {}
    for seat in seats:
        age = max(0, now - seat.at)
        if age < FORGOTTEN_US:
            weight = min(seat.times, COUNTED) * 0.5 ** (age / HALF_LIFE_US)
            votes.append((seat.log / FINE, weight, seat.owner))
            by_key[seat.owner] = by_key.get(seat.owner, 0.0) + weight
    if not votes:
        return None
    most = sorted(by_key.values())[(len(by_key) - 1) // 2]  # nobody weighs more than the one in the middle
    fair = [(log, w * min(1.0, most / by_key[owner])) for log, w, owner in votes]
    weight = sum(w for _, w in fair)
    ballot = fair if prior is None else [*fair, (prior, min(0.5, 0.5 * weight))]
    middle = _median(ballot)
    spread = _median([(abs(value - middle), w) for value, w in fair]) if len(fair) > 1 else 0.0
    return Verdict(middle, weight, spread, max(seat.at for seat in seats))


def _median(votes: Sequence[tuple[float, float]]) -> float:
    """The lower weighted median."""
    ranked = sorted(votes)
    half, total = 0.5 * sum(w for _, w in ranked), 0.0
    for value, weight in ranked:
        total += weight
        if total >= half:
            return value
    return ranked[-1][0]


class ClientBook:
    """Takes measurements; gives tables. Mutable, private to the control plane."""

    def __init__(self) -> None:
        self._table = ClientTable()
        self._recent: dict[Key, Network] = {}
        self._shown: ClientTable | None = self._table
        self.refused: dict[str, int] = {}
        self.taken = self.learned = 0  # measurements, and those of them that a fit was asked for

    @property
    def table(self) -> ClientTable:
        """All networks as they are now, immutable."""
        if self._shown is None:
            self._shown = replace(self._table, recent=dict(self._recent))
        return self._shown

    def adopt(self, model: Tomography) -> None:
        """Believe what was learned from all networks."""
        self._table = replace(self._table, model=model)
        self._shown = None

    def observe(self, beacons: Sequence[Beacon], inventory: Inventory, now: Micros) -> None:
        """Take measurements; what cannot be true is left out and counted."""
        for beacon in beacons:
            reason = disbelief(beacon, inventory)
            if reason is not None:
                self.refused[reason] = self.refused.get(reason, 0) + 1
                continue
            self.taken += 1
            for key in keys_of(beacon.client):
                self._recent[key] = _with(self._find(key), key[0], beacon, now)
        self._shown = None
        if len(self._recent) > RECENT:
            self._fold()

    def _find(self, key: Key) -> Network | None:
        return self._recent.get(key) or self._table.base.get(key)

    def _fold(self) -> None:
        """The next table: those heard lately come last, the first of too many go."""
        base = {key: network for key, network in self._table.base.items() if key not in self._recent}
        base.update(self._recent)
        for key in list(base)[: max(0, len(base) - NETWORKS_KEPT)]:
            del base[key]
            self.refused["network_forgotten"] = self.refused.get("network_forgotten", 0) + 1
        self._table, self._recent = replace(self._table, base=base), {}


def disbelief(beacon: Beacon, inventory: Inventory) -> str | None:
    """Why a measurement is not taken, ``None`` if it is."""
    dc = inventory.data_centers.get(beacon.data_center)
    if dc is None:
        return "beacon_unknown_data_center"
    client = beacon.client
    if client.prefix is None and client.asn is None and client.country is None:
        return "beacon_without_network"
    if None in (client.latitude, dc.latitude, client.longitude, dc.longitude):
        return None
    km = distance_km(client.latitude, client.longitude, dc.latitude, dc.longitude)  # type: ignore[arg-type]
    sure_km = max(0.0, km - ROUGH_KM)
    return "beacon_outran_light" if beacon.rtt_us < OUTRUN * 2 * sure_km * FIBRE_US_PER_KM - 2_000 else None


def _with(network: Network | None, level: int, beacon: Beacon, now: Micros) -> Network:
    """The network after one more measurement."""
    edge = beacon.data_center
    seats = {} if network is None else dict(network.seats)
    about = "" if level == PREFIX else (beacon.client.prefix or "")
    seats[edge] = _seated(seats.pop(edge, ()), beacon.witness, about, kept_log(beacon.rtt_us), now)
    if len(seats) > EDGES_KEPT:
        del seats[next(iter(seats))]
    loss = _smoothed({} if network is None else network.loss_ppm, edge, beacon.loss_ppm)
    jitter = _smoothed({} if network is None else network.jitter_us, edge, beacon.jitter_us)
    return Network(seats, now, _described(network, level, beacon.client), loss, jitter)


def _smoothed(held: Mapping[DataCenterId, int], edge: DataCenterId, value: int | None) -> Mapping[DataCenterId, int]:
    if value is None:
        return held
    before = held.get(edge)
    return {**held, edge: value if before is None else (7 * before + value) // 8}


def _described(network: Network | None, level: int, client: Client) -> Client:
    """What is said of a network as a whole: positions of single prefixes say nothing of their country's."""
    if level == PREFIX or (level == ASN_METRO and network is None):
        return client
    if network is not None:
        return network.client
    return Client(None, client.asn if level == ASN else None, client.country)


def _seated(seats: tuple[Seat, ...], key: str, about: str, log: int, now: Micros) -> tuple[Seat, ...]:
    """The seats after one measurement, that of its witness last."""
    held = next((seat for seat in seats if seat.key == key and seat.about == about), None)
    if held is not None:
        step = log - held.log
        if held.times >= 2:  # the first two may differ as they like: nobody knows yet which of them was unlucky
            step = max(-STEP, min(STEP, step))
        value = held.log + step // min(held.times + 1, SEATS)
        rest = tuple(seat for seat in seats if seat is not held)
        return (*rest, Seat(key, about, value, min(held.times + 1, 1_000_000), now))
    if len(seats) >= SEATS:
        crowd: dict[str, int] = {}
        for seat in seats:
            crowd[seat.owner] = crowd.get(seat.owner, 0) + 1
        most = max(crowd.values())
        leaves = next(seat for seat in seats if crowd[seat.owner] == most)
        seats = tuple(seat for seat in seats if seat is not leaves)
    return (*seats, Seat(key, about, log, 1, now))
