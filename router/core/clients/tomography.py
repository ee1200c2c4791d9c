"""What all client networks teach about one of which little or nothing is known.

The logarithm of a round trip (:mod:`router.core.clients.evidence`) is taken as

    y(client, edge) = geography + b(edge) + m(place, edge) + u(edge) . z(client) + e(client, edge)

*geography*: light's time times the usual detour plus the usual access line, both medians over everything measured;
*b*: an edge's own offset; *m*: what networks nearby, and of the same country, have in common at this edge (kriging
with two reaches, Cressie 1993); *z*: few factors per client, learned from how edges vary together, of which the first
is as a rule its access line, a(client); *e*: the rest. Networks are seldom measured to every edge: gaps are filled with
what the same model says about them, a few rounds (expectation and maximisation). Which reaches and how much noise is
decided by leave-one-out error, which kriging gives in closed form.

What is unusual is cut at a few deviations before it is learned from, and no more than ``PLACES`` places are:
those with the most evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from router.core.clients.evidence import KNEE_US, PREFIX, ClientTable, Network, verdict
from router.core.geography import EARTH_RADIUS_KM, FIBRE_US_PER_KM
from router.core.model import DataCenterId, Inventory, Micros
from router.core.tables import F64, I64, Bool

DETOUR = 2.0  # public paths are about twice as long as the great circle, in the median
LAST_MILE_US = 5_000  # one way: access network, Wi-Fi, home router
PLACES = 256  # learned from
FEWEST_PLACES = 8
FEWEST_READINGS = 24
CUT = 3.5  # deviations
FACTORS = 6  # more follow the noise of what fills the gaps
ROUNDS = 4
PRIOR_PLACES = 30  # how many places the assumed likeness of edges counts as
DETOURS = (1.0, 1.2, 1.5, 1.8, 2.2, 2.8)
LINES_US = (1_000, 2_000, 5_000, 10_000, 20_000, 35_000)
REACHES_KM = ((500.0, 3_000.0), (1_500.0, 8_000.0))
NOISES = (0.1, 0.4)
COUNTRY = 0.3  # what two networks of one country have in common wherever they are
NEAR, FAR = 0.5, 0.35
USUAL_SD = 0.3  # of a client's residual, before anything is learned


@dataclass(frozen=True, eq=False)
class Tomography:
    """What was learned; edges in the order of ``data_centers``."""

    number: int
    at: Micros
    data_centers: tuple[DataCenterId, ...]
    latitude: F64  # [place] degrees
    longitude: F64
    country: I64  # [place] index into ``countries``
    countries: tuple[str, ...]
    detour: float
    line_us: float
    offset: F64  # [edge]
    reaches_km: tuple[float, float]
    pull: F64  # [place, edge] kriging weights times residuals
    inverse: F64  # [place, place] of the kernel with noise
    noise: float
    scale: float  # variance of the residuals per unit of kernel
    factors: F64  # [edge, factor]
    rest: F64  # [edge] variance that no factor explains

    @property
    def places(self) -> int:
        """How many places it was learned from."""
        return len(self.latitude)


@dataclass(frozen=True, eq=False)
class Census:
    """What one fit is made of."""

    number: int
    at: Micros
    table: ClientTable
    inventory: Inventory

    def fit(self) -> Tomography:
        """Learn; the long computation."""
        return fit(self.number, self.table, self.inventory, self.at)


def untaught(inventory: Inventory) -> Tomography:
    """What is believed before anything is measured: geography, and that a client's legs vary together."""
    n = len(inventory.data_centers)
    empty = np.zeros(0)
    common = np.full((n, 1), USUAL_SD * math.sqrt(0.5))
    return Tomography(
        0, 0, tuple(inventory.data_centers), empty, empty, np.zeros(0, np.int64), (), DETOUR, 2.0 * LAST_MILE_US,
        np.zeros(n), REACHES_KM[0], np.zeros((0, n)), np.zeros((0, 0)), NOISES[0], 1.0, common,
        np.full(n, 0.5 * USUAL_SD**2),
    )  # fmt: skip


def geography_log(model: Tomography, km: F64) -> F64:
    """Logarithm of what distance alone says, ``[edge]``."""
    found: F64 = np.log(2 * FIBRE_US_PER_KM * model.detour * km + model.line_us + KNEE_US)
    return found


def likeness(model: Tomography, km: F64, same_country: Bool) -> F64:
    """Kernel between places by their distance."""
    near, far = model.reaches_km
    found: F64 = NEAR * np.exp(-km / near) + FAR * np.exp(-km / far) + COUNTRY * same_country
    return found


@dataclass(frozen=True, eq=False)
class _Readings:
    latitude: F64
    longitude: F64
    country: I64
    countries: tuple[str, ...]
    log: F64  # [place, edge], NaN where not measured


def _readings(table: ClientTable, inventory: Inventory, now: Micros) -> _Readings | None:
    """The places with the most evidence; networks in one place and of one AS are one."""
    edges = inventory.index
    merged: dict[tuple[float, float, str], list[Network]] = {}
    for _, network in table.networks(PREFIX).items():
        client = network.client
        if client.latitude is not None and client.longitude is not None:
            place = (round(client.latitude, 1), round(client.longitude, 1), client.country or "")
            merged.setdefault(place, []).append(network)
    most = sorted(merged, key=lambda place: (-sum(len(n.seats) for n in merged[place]), place))[:PLACES]
    log = np.full((len(most), len(edges)), np.nan)
    for i, place in enumerate(sorted(most)):
        for edge, value in _together(merged[place], now).items():
            if edge in edges:
                log[i, edges[edge]] = value
    places = sorted(most)
    if len(places) < FEWEST_PLACES or np.isfinite(log).sum() < FEWEST_READINGS:
        return None
    countries = tuple(sorted({place[2] for place in places}))
    return _Readings(
        np.array([place[0] for place in places]),
        np.array([place[1] for place in places]),
        np.array([countries.index(place[2]) if place[2] else -1 for place in places], np.int64),
        countries,
        log,
    )


def _together(networks: list[Network], now: Micros) -> Mapping[DataCenterId, float]:
    """Median over the networks of a place, per edge."""
    values: dict[DataCenterId, list[float]] = {}
    for network in networks:
        for edge, seats in network.seats.items():
            said = verdict(seats, None, now)
            if said is not None:
                values.setdefault(edge, []).append(said.log)
    return {edge: float(np.median(found)) for edge, found in values.items()}


def fit(number: int, table: ClientTable, inventory: Inventory, now: Micros) -> Tomography:
    """Learn from everything measured; geography alone while that is too little."""
    readings = _readings(table, inventory, now)
    if readings is None:
        return replace(untaught(inventory), number=number, at=now)
    edge_at = _positions(inventory)
    floor = _km(np.column_stack([readings.latitude, readings.longitude]), edge_at) * 2 * FIBRE_US_PER_KM
    seen = np.isfinite(readings.log) & np.isfinite(floor)
    detour, line = _geography(readings.log, floor, seen)
    base = np.log(detour * np.nan_to_num(floor) + line + KNEE_US)
    residual = np.where(seen, readings.log - base, 0.0)
    offset = _offsets(residual, seen)
    spread = float(np.std((residual - offset)[seen])) + 1e-6
    cut = np.where(seen, np.clip(residual - offset, -CUT * spread, CUT * spread), 0.0)
    draft = replace(
        untaught(inventory), number=number, at=now, latitude=readings.latitude, longitude=readings.longitude,
        country=readings.country, countries=readings.countries, detour=detour, line_us=line, offset=offset,
    )  # fmt: skip
    alike = _assumed(edge_at)
    tries = [
        _krige(replace(draft, reaches_km=reaches, noise=noise), cut, seen, alike, spread)
        for reaches, noise in product(REACHES_KM, NOISES)
    ]
    return min(tries, key=lambda found: found[0])[1]


def _geography(log: F64, floor: F64, seen: Bool) -> tuple[float, float]:
    """Detour and access line that miss by least in the median."""
    value, light = log[seen], floor[seen]
    best = (math.inf, DETOUR, 2.0 * LAST_MILE_US)
    for detour, line in product(DETOURS, LINES_US):
        missed = float(np.median(np.abs(value - np.log(detour * light + line + KNEE_US))))
        best = min(best, (round(missed, 9), detour, float(line)))
    return best[1], best[2]


def _offsets(residual: F64, seen: Bool) -> F64:
    """An edge's own offset, drawn to that of all."""
    common = float(np.median(residual[seen]))
    count = seen.sum(axis=0)
    found: F64 = common + np.where(seen, residual - common, 0.0).sum(axis=0) / (count + 5.0)
    return found


def _assumed(edge_at: F64) -> F64:
    """How alike edges are before it is known: all of them for one client, and more so the near ones."""
    km = np.nan_to_num(_km(edge_at, edge_at), nan=20_000.0)
    found: F64 = 0.5 * np.exp(-km / 3_000.0) + 0.25 + 0.25 * np.eye(len(km))
    return found


def _krige(model: Tomography, value: F64, seen: Bool, alike: F64, spread: float) -> tuple[float, Tomography]:
    """Leave-one-out error of the readings, and the model."""
    places = np.column_stack([model.latitude, model.longitude])
    same = (model.country[:, None] == model.country[None]) & (model.country >= 0)[:, None]
    kernel = likeness(model, _km(places, places), same)
    n = len(value)
    inverse = np.linalg.inv(kernel + model.noise * np.eye(n)).astype(np.float64)
    alone = np.diag(inverse)
    covariance = alike * spread**2
    full = value
    for _ in range(ROUNDS):
        without = full - (inverse @ full) / alone[:, None]
        factors, rest = _factors(covariance)
        full = np.where(seen, value, without + _carried(np.where(seen, value - without, 0.0), seen, factors, rest))
        missed = full - (full - (inverse @ full) / alone[:, None])
        strength = float(np.mean(missed[seen] ** 2)) + 1e-9
        covariance = (missed.T @ missed + PRIOR_PLACES * alike * strength) / (n + PRIOR_PLACES)
        covariance += np.diag(
            rest * (~seen).sum(axis=0) / (n + PRIOR_PLACES)
        )  # of what is filled in, the rest is missing
    pull = inverse @ full
    error = float(np.mean(np.abs((pull / alone[:, None])[seen])))
    factors, rest = _factors(covariance)
    # ``missed`` was seen by a place whose neighbours explain all but 1 / alone of the kernel.
    scale = float(np.mean(alone))
    found = replace(model, pull=pull, inverse=inverse, scale=scale, factors=factors, rest=rest)
    return round(error, 9), found


def _factors(covariance: F64) -> tuple[F64, F64]:
    """The strongest factors ``[edge, factor]`` of a covariance, and what they leave of the variances."""
    spectrum, vectors = np.linalg.eigh(covariance)
    strongest = slice(max(0, len(spectrum) - FACTORS), None)
    factors: F64 = vectors[:, strongest] * np.sqrt(np.maximum(spectrum[strongest], 0.0))
    variance = np.diag(covariance)
    return factors, np.maximum(variance - (factors**2).sum(axis=1), 0.05 * variance)


def _carried(missed: F64, seen: Bool, factors: F64, rest: F64) -> F64:
    """What the readings a place has say about those it has not: expected factors, times ``factors``."""
    weighted = factors / rest[:, None]
    told = missed @ weighted  # [place, factor]
    precision = np.einsum("pe,ef,eg->pfg", seen.astype(np.float64), factors, weighted, optimize=True)
    expected = np.linalg.solve(precision + np.eye(factors.shape[1]), told[:, :, None])[:, :, 0]
    found: F64 = expected @ factors.T
    return found


def _positions(inventory: Inventory) -> F64:
    """Latitude and longitude ``[edge, 2]``, NaN where unknown."""
    nan = math.nan
    pairs = [
        (nan if dc.latitude is None else dc.latitude, nan if dc.longitude is None else dc.longitude)
        for dc in inventory.data_centers.values()
    ]
    return np.array(pairs, np.float64).reshape(-1, 2)


def _km(a: F64, b: F64) -> F64:
    """Great-circle distances ``[a, b]`` between positions in degrees."""
    p, q = np.radians(a), np.radians(b)
    apart = p[:, None] - q[None]
    h = np.sin(apart[..., 0] / 2) ** 2
    h += np.cos(p[:, 0])[:, None] * np.cos(q[:, 0])[None] * np.sin(apart[..., 1] / 2) ** 2
    found: F64 = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(1.0, h)))
    return found
