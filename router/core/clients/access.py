"""What is believed about the access legs of one client, and which edges it should be asked to measure next.

A belief is normal in logarithms: the mean and covariance that :mod:`router.core.clients.tomography` gives for the
client's place, conditioned on what was measured of its AS number, its AS number in the metro and its prefix, in this
order. With noise ``s`` in a level's evidence and ``t`` in the belief before it, a value measured ``n`` times gets the
weight ``n / (n + s / t)``: the usual shrinkage, with the other edges following as far as they vary together.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from router.core.clients.evidence import (
    ASN,
    ASN_METRO,
    COUNTRY,
    FORGOTTEN_US,
    GEO,
    HALF_LIFE_US,
    KNEE_US,
    NONE,
    PREFIX,
    PROVENANCES,
    ClientTable,
    Key,
    Network,
    Verdict,
    keys_of,
    verdict,
)
from router.core.clients.tomography import Tomography, geography_log, likeness, untaught
from router.core.geography import FIBRE_US_PER_KM, distances_km
from router.core.model import Client, DataCenterId, Intent, Inventory, Micros, Role
from router.core.tables import F64, I64, U8, UNKNOWN, Bool, View

Z = 1.645  # half-width of a 90 % interval in deviations
VOTE_SD = 0.05  # of one measurement, as a statement about its own network now
AGED_SD = 0.2  # what six hours add
LEAST_SD = 0.15  # of one edge, however alike all others were: a network's own measurements must be able to say no
APART = {COUNTRY: 0.4, ASN: 0.25, ASN_METRO: 0.1, PREFIX: 0.0}  # how much networks differ from what they are part of
MOST_CONDITIONED = 24  # edges per level; of a client that measured more, the nearest ones decide
ASKED = 3  # edges to measure next
CAUTION = 1.0  # variances that a leg counts as longer for, halved: 1 makes it the expectation
WORTH_US = 1_000.0  # an expected gain below this is not worth a measurement
UPPER_FRESH_US = 5_000_000  # a belief about a network follows its own measurements at once, those of its AS so late
KEPT = 4_096  # beliefs
USUAL_FACTOR = 0.2  # of an edge nobody has learned about, with the strongest factor
NOTHING = ClientTable()


@dataclass(frozen=True, eq=False)
class Access:
    """Access legs of one client, arrays ``[vertex]``: one-way delay in microseconds, ``UNKNOWN`` where not known."""

    one_way_us: I64
    error_us: I64  # half-width of the 90 % interval
    provenance: U8  # index into ``PROVENANCES``

    def provenance_of(self, vertex: int) -> str:
        """Where the estimate of one vertex comes from."""
        return PROVENANCES[self.provenance[vertex]]


@dataclass(frozen=True, eq=False)
class Belief:
    """One client's legs as logarithms of round trips, arrays ``[vertex]``; NaN in ``mean`` where nothing is known."""

    access: Access
    mean: F64
    variance: F64
    factors: F64  # [vertex, factor] of what is left to learn
    rest: F64  # [vertex] variance that no factor explains
    measured: Bool  # by the prefix itself, or the narrowest network that the client is known by
    age_us: F64  # of the newest evidence of any level, infinite where there is none


@dataclass(frozen=True, eq=False)
class _Stamp:
    """What a belief was made from."""

    inventory: Inventory
    base: object  # of the table; what came since is seen at the next turn
    model: Tomography | None
    own: Network | None
    turn: int

    def same(self, other: _Stamp) -> bool:
        return (
            self.inventory is other.inventory
            and self.base is other.base
            and self.model is other.model
            and self.own is other.own
            and self.turn == other.turn
        )


_beliefs: dict[Client, tuple[_Stamp, Belief]] = {}


def access_legs(view: View, client: Client) -> Access:
    """Estimate the access leg from a client to every data center."""
    return belief(view, client).access


def belief(view: View, client: Client) -> Belief:
    """Everything believed about a client; kept while nothing it was made from changed."""
    table = view.clients or NOTHING
    own = None if client.prefix is None else table.get((PREFIX, client.prefix))
    stamp = _Stamp(view.inventory, table.base, table.model, own, view.now // UPPER_FRESH_US)
    held = _beliefs.get(client)
    if held is not None and held[0].same(stamp):
        return held[1]
    found = _believed(view, table.known(client))
    if len(_beliefs) >= KEPT:
        _beliefs.pop(next(iter(_beliefs)))  # the one made longest ago
    _beliefs.pop(client, None)
    _beliefs[client] = (stamp, found)
    return found


def candidates(
    view: View, client: Client, count: int = ASKED, skip: Collection[DataCenterId] = ()
) -> list[DataCenterId]:
    """Up to ``count`` edges whose measurement promises most: expected improvement on the best leg known.

    Expected improvement: Mockus 1975; several at once as in "kriging believer" (Ginsbourger et al. 2010). Edges that
    the client measured lately, that take no new sessions, that are to be skipped (the client could not reach them) or
    of which nothing is known are not asked for.
    """
    held = belief(view, client)
    mean, factors, rest = held.mean, held.factors.copy(), held.rest
    may = np.isfinite(mean) & _takes(view.inventory)
    asked: list[int] = []
    ids = tuple(view.inventory.data_centers)
    may[[view.inventory.index[id] for id in skip if id in view.inventory.index]] = False
    done = held.measured & (held.age_us < HALF_LIFE_US)
    while len(asked) < count:
        choice = _most_promising(mean, factors, rest, may, done, asked)
        if choice is None:
            break
        asked.append(choice)
        variance = float(factors[choice] @ factors[choice] + rest[choice])
        if variance > 0:  # measured, it would leave less to learn about those like it
            along = factors[choice] / np.sqrt(variance)
            shrink = 1.0 - np.sqrt(max(0.0, 1.0 - float(along @ along)))
            norm = float(along @ along) or 1.0
            factors = factors - np.outer(factors @ along, along) * (shrink / norm)
    return [ids[i] for i in asked]


def _most_promising(mean: F64, factors: F64, rest: F64, may: Bool, done: Bool, asked: list[int]) -> int | None:
    open_ = may & ~done
    open_[asked] = False
    if not open_.any():
        return None
    known = may & done
    known[asked] = True
    if not known.any():
        return int(np.argmin(np.where(open_, mean, np.inf)))
    best = float(mean[known].min())
    sd = np.sqrt(np.maximum((factors**2).sum(axis=1) + rest, 1e-12))
    gain = np.where(open_, sd * _improvement((best - mean) / sd), -np.inf)
    choice = int(np.argmax(gain))
    return choice if gain[choice] * np.exp(best) >= WORTH_US or not asked else None


def _improvement(z: F64) -> F64:
    """E[max(z - N(0, 1), 0)]."""
    normal = NormalDist()
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    found: F64 = density + z * np.array([normal.cdf(float(x)) for x in z])
    return found


def _takes(inventory: Inventory) -> Bool:
    return np.array(
        [Role.EDGE in dc.roles and dc.intent is Intent.SERVING for dc in inventory.data_centers.values()], np.bool_
    )


# --- making a belief -------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Draft:
    """A belief in the making."""

    mean: F64
    factors: F64
    rest: F64
    provenance: U8
    age_us: F64

    def condition(self, at: I64, value: F64, noise: F64) -> None:
        """Take evidence at some vertices: the rule for conditioning a normal distribution."""
        cross = self.factors @ self.factors[at].T  # [vertex, evidence]
        cross[at, np.arange(len(at))] += self.rest[at]
        inner = cross[at] + np.diag(noise)
        gain = np.linalg.solve(inner, cross.T).T
        self.mean = self.mean + gain @ (value - self.mean[at])
        # What is left stays a few factors and a rest: the factors told of each other, the rest of itself alone.
        told = self.factors[at] / (self.rest[at] + noise)[:, None]
        precision = np.eye(self.factors.shape[1]) + self.factors[at].T @ told
        self.factors = self.factors @ np.linalg.cholesky(np.linalg.inv(precision))
        rest = self.rest.copy()
        rest[at] = self.rest[at] * noise / (self.rest[at] + noise)
        self.rest = rest


def _believed(view: View, client: Client) -> Belief:
    inventory = view.inventory
    table = view.clients or NOTHING
    model = _aligned(table.model, inventory)
    n = len(inventory.data_centers)
    floor = np.zeros(n)
    if client.latitude is None or client.longitude is None:
        draft = _unplaced(n)
    else:
        km = _distances(inventory, client)
        floor = np.nan_to_num(km) * 2 * FIBRE_US_PER_KM
        draft = _placed(model, client, km)
    measured = np.zeros(n, np.bool_)
    for key in keys_of(client):
        network = table.get(key)
        if network is None:
            continue
        if key[0] == COUNTRY and model.places and client.latitude is not None:
            _mark(draft, inventory, key, network, view.now)  # the model has learned from it already
            continue
        measured = _take(draft, inventory, key, network, view.now)
    taught = bool(model.places) or bool(np.isfinite(draft.age_us).any())
    return _published(draft, floor, measured, CAUTION if taught else 0.0)


def _placed(model: Tomography, client: Client, km: F64) -> _Draft:
    """What the client's place says."""
    placed = np.isfinite(km)
    mean = geography_log(model, np.nan_to_num(km)) + model.offset
    variance = 1.0
    if model.places:
        there = distances_km(client.latitude or 0.0, client.longitude or 0.0, model.latitude, model.longitude)
        code = model.countries.index(client.country) if client.country in model.countries else -2
        alike = likeness(model, there, model.country == code)
        mean = mean + alike @ model.pull
        own = float(likeness(model, np.zeros(1), np.ones(1, np.bool_))[0])
        variance = max(own + model.noise - float(alike @ model.inverse @ alike), 1e-3) * model.scale
    provenance = np.where(placed, GEO, NONE).astype(np.uint8)
    rest = np.maximum(model.rest * variance, LEAST_SD**2)
    nobody = np.full(len(km), np.inf)
    return _Draft(np.where(placed, mean, np.nan), model.factors * np.sqrt(variance), rest, provenance, nobody)


def _unplaced(n: int) -> _Draft:
    return _Draft(np.full(n, np.nan), np.zeros((n, 1)), np.ones(n), np.zeros(n, np.uint8), np.full(n, np.inf))


def _mark(draft: _Draft, inventory: Inventory, key: Key, network: Network, now: Micros) -> None:
    """Say where the client's country was measured: the model has learned from it."""
    at, heard = _marks(inventory, key, network)
    age = np.maximum(0, now - heard).astype(np.float64)
    fresh = (age < FORGOTTEN_US) & np.isfinite(draft.mean[at])
    draft.provenance[at[fresh]] = key[0]
    draft.age_us[at[fresh]] = age[fresh]


_marked: dict[Key, tuple[Network, Inventory, I64, I64]] = {}


def _marks(inventory: Inventory, key: Key, network: Network) -> tuple[I64, I64]:
    """Vertices that a network measured, and when last."""
    held = _marked.get(key)
    if held is not None and held[0] is network and held[1] is inventory:
        return held[2], held[3]
    index = inventory.index
    pairs = [(index[edge], seats[-1].at) for edge, seats in network.seats.items() if edge in index]
    at = np.array([i for i, _ in pairs], np.int64)
    heard = np.array([when for _, when in pairs], np.int64)
    if len(_marked) >= KEPT:
        _marked.pop(next(iter(_marked)))
    _marked[key] = (network, inventory, at, heard)
    return at, heard


def _take(draft: _Draft, inventory: Inventory, key: Key, network: Network, now: Micros) -> Bool:
    """Condition on one network's evidence; at which vertices there was some."""
    measured = np.zeros(len(draft.mean), np.bool_)
    found: list[tuple[int, Verdict]] = []
    if key[0] == PREFIX:
        for edge, seats in network.seats.items():
            i = inventory.index.get(edge)
            if i is not None:
                prior = float(draft.mean[i]) if np.isfinite(draft.mean[i]) else None
                said = verdict(seats, prior, now)
                if said is not None:
                    found.append((i, said))
    else:
        found = [(inventory.index[edge], said) for edge, said in _said(key, network, now) if edge in inventory.index]
    if not found:
        return measured
    found = sorted(found, key=lambda pair: (pair[1].log, pair[0]))[:MOST_CONDITIONED]
    at = np.array([i for i, _ in found], np.int64)
    value = np.array([said.log for _, said in found])
    age = np.array([float(max(0, now - said.at)) for _, said in found])
    noise = np.array([(VOTE_SD**2 + said.spread**2) / max(said.weight, 0.1) for _, said in found])
    noise = noise + AGED_SD**2 * age / HALF_LIFE_US + APART[key[0]] ** 2
    fresh = ~np.isfinite(draft.mean[at])  # nothing to shrink to
    draft.mean[at[fresh]] = value[fresh]
    draft.condition(at, value, noise)
    draft.provenance[at] = key[0]
    draft.age_us[at] = np.minimum(draft.age_us[at], age)
    measured[at] = True
    return measured


_verdicts: dict[Key, tuple[Network, int, list[tuple[DataCenterId, Verdict]]]] = {}


def _said(key: Key, network: Network, now: Micros) -> list[tuple[DataCenterId, Verdict]]:
    """What the witnesses of a network that many clients are of say; kept for a turn."""
    turn = now // UPPER_FRESH_US
    held = _verdicts.get(key)
    if held is not None and held[0] is network and held[1] == turn:
        return held[2]
    said = [(edge, verdict(seats, None, now)) for edge, seats in network.seats.items()]
    found = [(edge, one) for edge, one in said if one is not None]
    if len(_verdicts) >= KEPT:
        _verdicts.pop(next(iter(_verdicts)))
    _verdicts[key] = (network, turn, found)
    return found


def _published(draft: _Draft, floor: F64, measured: Bool, caution: float) -> Belief:
    """Integers for decisions; nothing but a measurement may say that light was outrun."""
    known = np.isfinite(draft.mean)
    mean = np.where(known, draft.mean, 0.0)
    least = np.where(measured, 0.0, floor)
    mean = np.maximum(mean, np.log(least + KNEE_US))
    variance = (draft.factors**2).sum(axis=1) + draft.rest
    half = Z * np.sqrt(variance)
    middle = np.exp(mean + caution * np.minimum(variance, 1.0) / 2)
    legs = np.maximum(np.rint((middle - KNEE_US) / 2), 0)
    error = np.rint(np.minimum(middle * np.sinh(half) / 2, 1e9))
    access = Access(
        np.where(known, legs, UNKNOWN).astype(np.int64),
        np.where(known, error, UNKNOWN).astype(np.int64),
        draft.provenance,
    )
    for array in (access.one_way_us, access.error_us, access.provenance):
        array.setflags(write=False)
    shown = np.where(known, mean, np.nan)
    return Belief(access, shown, variance, draft.factors, draft.rest, measured, draft.age_us)


_last: tuple[Inventory, F64, F64] | None = None


def _distances(inventory: Inventory, client: Client) -> F64:
    """Kilometres to every data center ``[vertex]``, NaN where it has no position."""
    global _last
    last = _last
    if last is None or last[0] is not inventory:
        places = inventory.data_centers.values()
        last = _last = (
            inventory,
            np.array([np.nan if dc.latitude is None else dc.latitude for dc in places], np.float64),
            np.array([np.nan if dc.longitude is None else dc.longitude for dc in places], np.float64),
        )
    return distances_km(client.latitude or 0.0, client.longitude or 0.0, last[1], last[2])


_fitting: tuple[Tomography | None, Inventory, Tomography] | None = None


def _aligned(model: Tomography | None, inventory: Inventory) -> Tomography:
    """The model in the order of the inventory; data centers it does not know are judged by geography."""
    global _fitting
    last = _fitting
    if last is not None and last[0] is model and last[1] is inventory:
        return last[2]
    _fitting = (model, inventory, _reordered(model, inventory))
    return _fitting[2]


def _reordered(model: Tomography | None, inventory: Inventory) -> Tomography:
    blank = untaught(inventory)
    if model is None:
        return blank
    ids = tuple(inventory.data_centers)
    if model.data_centers == ids:
        return model
    index = {id: i for i, id in enumerate(model.data_centers)}
    held = [(i, index[id]) for i, id in enumerate(ids) if id in index]
    to, source = np.array([a for a, _ in held], np.int64), np.array([b for _, b in held], np.int64)
    n = len(ids)
    usual = float(np.median(model.offset)) if len(model.offset) else 0.0
    offset, pull = np.full(n, usual), np.zeros((model.places, n))
    factors = np.zeros((n, model.factors.shape[1]))
    factors[:, -1] = USUAL_FACTOR
    rest = blank.rest.copy()
    offset[to], pull[:, to] = model.offset[source], model.pull[:, source]
    factors[to], rest[to] = model.factors[source], model.rest[source]
    return replace(model, data_centers=ids, offset=offset, pull=pull, factors=factors, rest=rest)
