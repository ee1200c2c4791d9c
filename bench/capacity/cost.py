"""Cost and delay of links: the real core's split against three placements, by measured delays and list prices.

Delays and prices are read from the shared data (round trips between cloud regions of 2022, list prices per GB of the
same year). Hosters are not in it: ``hosters`` adds two of them at their list prices, where it is asked for. No machine
is in any of these figures: they are of traffic alone. ``question`` lets the hub be chosen with the link; ``pairs``
holds both ends fixed, as a call between two places does, so that nothing but the choice between links is left.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from bench.capacity import hosters
from bench.capacity.world import EARTH_KM, F64, REGIONS, Load, daily
from providers.catalog import load as catalogue
from router.core.capacity import Agreed, Question, Split, Way, judged, read_split, split_programme
from router.core.capacity.links import shortest
from router.solver import optimum

DATA = Path(os.environ.get("TENDRIL_SHARED_DATA", "../shared/data"))
PRICES, DELAYS = "egress_price_dc_pairs_2022.csv", "rtt_dc_multicloud_2022_clean.csv"
HUBS = ("tokyo", "singapore", "mumbai", "sydney", "frankfurt", "london", "ashburn", "san-jose", "sao-paulo")
NEAR_KM = 150.0  # a data center this near to a region's city is in it
PREMIUM = "gcp"  # whose traffic between its regions goes over its own backbone, sold as premium
GB_PER_SESSION_S = 16_000 / 1e9  # both directions together, 64 kbit/s each
ROOM = 1.3  # of a hub, over the most that its neighbours ask for at any hour
_Site = tuple[str, str]  # provider and its region
_Pair = tuple[_Site, _Site]


@dataclass(frozen=True)
class Placement:
    """What one way of placing costs over the day, and how long its ways are in the mean."""

    name: str
    usd: float
    rtt_ms: float


def available() -> bool:
    """Whether the data are here."""
    return (DATA / PRICES).exists() and (DATA / DELAYS).exists()


def question(agreed: Agreed, hosted: bool = False) -> tuple[Question, tuple[str, ...]]:
    """Groups are regions with a data center in the price list; also their names."""
    sites, price, rtt = _sites(), _prices(), _delays()
    more = _hosted(sites) if hosted else {}
    groups = [k for k, region in enumerate(REGIONS) if sites[region[0]]]
    hubs = [name for name in HUBS if sites[name]]
    slots = daily(Load()).reshape(24, -1, len(REGIONS)).mean(1)  # beginnings per second, by the hour
    demand = slots[:, groups] * Load().mean_s * 3600 * GB_PER_SESSION_S
    ways = [
        way
        for number, k in enumerate(groups)
        for hub, name in enumerate(hubs)
        for edge in sites[REGIONS[k][0]]
        for far in sites[name]
        if (way := _way(number, hub, edge, far, price, rtt)) is not None
    ]
    for number, k in enumerate(groups):
        for hub, name in enumerate(hubs):
            if hosted:
                ways += hosters.ways(number, hub, more[REGIONS[k][0]], more[name], price, rtt)
    return Question(demand, tuple(ways), _room(demand, ways, len(hubs)), agreed), tuple(REGIONS[k][0] for k in groups)


def pairs(agreed: Agreed, hosted: bool = False) -> Question:
    """Groups are pairs of regions that Google's backbone joins, as much between two as both their shares say."""
    sites, price, rtt = _sites(), _prices(), _delays()
    more = _hosted(sites) if hosted else {}
    slots = daily(Load()).reshape(24, -1, len(REGIONS)).mean(1) * Load().mean_s * 3600 * GB_PER_SESSION_S
    part = [region[3] / sum(one[3] for one in REGIONS) for region in REGIONS]
    demand, ways = [], list[Way]()
    for a, b in combinations(range(len(REGIONS)), 2):
        ends = [(e, f) for e in sites[REGIONS[a][0]] for f in sites[REGIONS[b][0]]]
        mine = [way for e, f in ends if (way := _way(len(demand), 0, e, f, price, rtt)) is not None]
        if any(way.insured for way in mine):
            ways += mine
            if hosted:
                ways += hosters.ways(len(demand), 0, more[REGIONS[a][0]], more[REGIONS[b][0]], price, rtt)
            demand.append(slots[:, a] * part[b] + slots[:, b] * part[a])
    columns = np.array(demand).T
    return Question(columns, tuple(ways), np.array([columns.sum()]), agreed)  # room for everybody: nothing is placed


def least_usd() -> float:
    """What ``pairs`` would cost if every GB left each city by the cheapest way out of it, wherever that leads.

    No route is cheaper, over whatever relays: something has to leave the city at that price at least.
    """
    sites, price, _ = _sites(), _prices(), _delays()
    out = {
        name: min((usd for (a, b), usd in price.items() if a in mine and b not in mine), default=0.0)
        for name, mine in sites.items()
    }
    asked = pairs(Agreed())
    ends = {way.group: tuple(way.name.split("/")) for way in asked.ways}
    city = {site: name for name, mine in sites.items() for site in mine}
    usd = [(out[city[one[0], one[1]]] + out[city[one[2], one[3]]]) / 2 for _, one in sorted(ends.items())]
    return float(asked.demand.sum(0) @ np.array(usd))


def _hosted(sites: Mapping[str, list[_Site]]) -> dict[str, list[_Site]]:
    """Sites with those of hosters in the same cities."""
    found = {}
    for name, lat, lon, _ in REGIONS:
        near = [
            r for r in catalogue() if r.provider in hosters.LISTED and _km(lat, lon, r.latitude, r.longitude) <= NEAR_KM
        ]
        found[name] = [*sites[name], *sorted((r.provider, r.code) for r in near)] if sites[name] else []
    return found


def _way(
    group: int, hub: int, edge: _Site, far: _Site, price: Mapping[_Pair, float], rtt: Mapping[_Pair, float]
) -> Way | None:
    name = "/".join((*edge, *far))
    if edge == far:
        return Way(group, hub, far[0], name, 0, 1_000, far[0] == PREMIUM)
    if (edge, far) not in rtt or (edge, far) not in price or (far, edge) not in price:
        return None
    usd = (price[edge, far] + price[far, edge]) / 2  # as much goes there as comes back
    return Way(group, hub, far[0], name, round(usd * 1e6), round(rtt[edge, far] * 1e3), edge[0] == far[0] == PREMIUM)


def _room(demand: F64, ways: list[Way], hubs: int) -> F64:
    """Every hub has room for those to whom it is the nearest, and a third more."""
    nearest = {}
    for way in sorted(ways, key=lambda way: (way.rtt_us, way.name)):
        nearest.setdefault(way.group, way.hub)
    peak = np.zeros(hubs)
    for hub in range(hubs):
        mine = [group for group, at in nearest.items() if at == hub]
        peak[hub] = demand[:, mine].sum(1).max() if mine else 0.0
    return np.asarray(peak * ROOM)


def placements(asked: Question) -> tuple[list[Placement], Split]:
    """Three placements that ask nobody else, and ours; every one of the three may overload hubs, ours may not."""
    found = [
        _fixed(asked, "premium-only", lambda way: (not way.insured, way.rtt_us)),
        _fixed(asked, "cheap-only", lambda way: (way.uusd_gb, way.rtt_us)),
        _fixed(asked, "nearest-site", lambda way: (way.rtt_us, way.uusd_gb)),
    ]
    asked = _beside(asked, found[0].rtt_ms)
    programme = split_programme(asked)
    ours = read_split(asked, programme, optimum(programme))
    return [*found, Placement("ours", ours.usd, ours.mean_rtt_us / 1000)], ours


def _beside(asked: Question, premium_ms: float) -> Question:
    """The same, agreed on as goal U6 says it: so much longer than premium-only in the mean, not than the shortest."""
    total = asked.demand.sum(0)
    mean_us = sum(total[group] * rtt for group, rtt in shortest(asked.ways).items()) / total.sum()
    extra_us = round(premium_ms * 1000 - mean_us) + asked.agreed.mean_extra_us
    return replace(asked, agreed=replace(asked.agreed, mean_extra_us=extra_us))


def _fixed(asked: Question, name: str, order: Callable[[Way], tuple[float, float]]) -> Placement:
    share = np.zeros((len(asked.demand), len(asked.ways)))
    for group in range(asked.demand.shape[1]):
        mine = [k for k, way in enumerate(asked.ways) if way.group == group]
        share[:, min(mine, key=lambda k: (*order(asked.ways[k]), k))] = 1.0
    usd, rtt = judged(asked, share)
    return Placement(name, usd, rtt / 1000)


def _sites() -> dict[str, list[_Site]]:
    known = {(row["src_provider"], row["src_region"]) for row in _rows(PRICES)}
    found: dict[str, list[_Site]] = {}
    for name, lat, lon, _ in REGIONS:
        near = [(r.provider, r.code) for r in catalogue() if _km(lat, lon, r.latitude, r.longitude) <= NEAR_KM]
        found[name] = sorted(site for site in near if site in known)
    return found


def _km(a_lat: float, a_lon: float, b_lat: float, b_lon: float) -> float:
    a, b, c, d = map(np.radians, (a_lat, a_lon, b_lat, b_lon))
    h = np.sin((c - a) / 2) ** 2 + np.cos(a) * np.cos(c) * np.sin((d - b) / 2) ** 2
    return float(2 * EARTH_KM * np.arcsin(np.sqrt(h)))


def _prices() -> dict[_Pair, float]:
    return {
        ((r["src_provider"], r["src_region"]), (r["dst_provider"], r["dst_region"])): float(r["usd_per_gb"])
        for r in _rows(PRICES)
    }


def _delays() -> dict[_Pair, float]:
    found = {}
    for r in _rows(DELAYS):
        if r["rtt_ms"]:
            a, b = (r["provider_a"], r["region_a"]), (r["provider_b"], r["region_b"])
            found[a, b] = found[b, a] = float(r["rtt_ms"])
    return found


def _rows(name: str) -> list[dict[str, str]]:
    """Rows of a file; Google's places are zones there, and regions in the catalogue."""
    with (DATA / name).open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    for row in found:
        for provider, place in (("src_provider", "src_region"), ("dst_provider", "dst_region"),
                                ("provider_a", "region_a"), ("provider_b", "region_b")):  # fmt: skip
            if row.get(provider) == "gcp":
                row[place] = row[place].rpartition("-")[0]
    return found
