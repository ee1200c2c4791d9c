"""The model world: real places from the region catalogue, delays from a documented formula. For demos without a file.

One-way delay of the link from A to B, in ms::

    delay = ENDS + km(A, B) / 200 * stretch(A, B) * lean(A -> B) + queue(A -> B)

``km``       great-circle distance; light in fibre needs 1 ms for 200 km (``geography.py``).
``stretch``  how much longer than the great circle the way is, one number for both directions (the cable is the same):
             ``FLOOR + (REMOTE * (E(A) + E(B)) + DETOUR * E(A, B)) * inflation``: how remote each end is, how roundabout
             this pair; every E is exponentially distributed with mean 1, cut at 3.
``lean``     each direction takes its own way: between 1 and 1 + LEAN.
``queue``    CONGESTED_SHARE of the directed links carry a standing queue, with jitter and loss to go with it.

Every draw is a hash of the seed and the two ids, so that the world is the same everywhere and a data center more does
not change the others' links.

Sources. The Skyplane project (Jain et al., NSDI 2023; ``profiles/latency.csv``) measured the complete grid of 69 AWS,
Azure and GCP data centers in April 2022. Over its 2,244 pairs farther apart than 500 km, RTT divided by the fibre time
of the great circle is 1.30, 1.53, 1.82, 2.18 and 3.0 at the 5th, 25th, 50th, 75th and 95th percentile; pairs within one
provider have 0.94 to 1.0 of the median of pairs across providers, hence ``SAME_PROVIDER``. The constants give 1.62,
1.67, 1.73, 1.82 and 2.11: the same middle, on purpose less spread, because independent draws, unlike cables, ignore the
triangle inequality: with the measured spread a relay would beat three links of four by 5 %. In the grid it does so for
31 % of the links (18 % in samples of 24 data centers), here for about 25 % of 24 data centers. The grid has no Oracle,
Linode, Vultr or own sites: ``INFLATION`` of those, ``lean`` and ``queue`` are a judgement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from providers.catalog import CatalogRegion
from router.core.errors import InputRejected
from router.demo.geography import fibre_us, great_circle_km
from router.demo.hubs import choose_hubs, hub_count
from router.demo.matrix import slug
from router.demo.world import MAX_DATA_CENTERS, OCTETS, Site, World, assemble

ENDS_US = 250  # both access networks of a link: a few switches and firewalls each
FLOOR = 1.55  # landing points, rights of way, and no cable along the great circle
REMOTE = 0.03
DETOUR = 0.1
CUT = 3.0
SAME_PROVIDER = 0.9  # a provider's backbone against two providers that meet at an exchange
INFLATION = {"gcp": 0.9, "azure": 0.95, "aws": 0.95, "oracle": 1.0, "linode": 1.05, "vultr": 1.15, "own": 1.25}
UNKNOWN_INFLATION = 1.1
LEAN = 0.03
CONGESTED_SHARE = 0.05
QUEUE_US = (12_000, 60_000)
QUEUE_LOSS_PPM = (500, 12_000)
QUEUE_JITTER_SHARE = 0.08  # jitter of a standing queue, as a share of it
JITTER_US = (10, 120)  # an idle long-haul path
LOSS_PPM = (0, 60)
CLOUDS = ("oracle", "gcp", "azure", "linode", "vultr")
DEFAULT_DATA_CENTERS = 24
OWN_FROM = 8  # a smaller world has better use for its places than our own racks
MARKETS = ("frankfurt", "ashburn", "singapore", "sao-paulo", "tokyo", "mumbai", "london", "san-jose", "sydney",
           "johannesburg", "dubai", "chicago", "stockholm", "santiago")  # fmt: skip


# Racks of our own: a catalogue cannot list those, so the model brings two from where no cloud region is near.
OWN_SITES = (
    CatalogRegion("own", "almaty", "Almaty", "KZ", 43.24, 76.89, "almaty"),
    CatalogRegion("own", "accra", "Accra", "GH", 5.56, -0.2, "accra"),
)


@dataclass(frozen=True, slots=True)
class ModelledLink:
    """What the formula says about one directed link."""

    delay_us: int
    jitter_us: int
    loss_ppm: int


def model_world(
    catalog: Sequence[CatalogRegion],
    *,
    data_centers: int = DEFAULT_DATA_CENTERS,
    nodes_per_data_center: int = 1,
    seed: int = 1,
    octets: tuple[int, int, int, int] = OCTETS,
) -> World:
    """World of well spread catalogue regions. Raises :class:`InputRejected` (``bad_world``) if there are too few."""
    sites = [_site(entry) for entry in spread(catalog, data_centers)]
    sites.sort(key=lambda site: site.id)
    links = [[None if a is b else model_link(a, b, seed) for b in sites] for a in sites]
    delay_us = [[link.delay_us if link else None for link in row] for row in links]
    return assemble(
        "model",
        sites,
        delay_us,
        jitter_us=[[link.jitter_us if link else 0 for link in row] for row in links],
        loss_ppm=[[link.loss_ppm if link else 0 for link in row] for row in links],
        hubs=choose_hubs(delay_us, hub_count(len(sites))),
        nodes_per_data_center=nodes_per_data_center,
        seed=seed,
        octets=octets,
    )


def model_link(a: Site, b: Site, seed: int) -> ModelledLink:
    """The formula of the module docstring for one directed link; both sites need a position."""
    if a.latitude is None or a.longitude is None or b.latitude is None or b.longitude is None:
        raise InputRejected("bad_world", f"{a.id} and {b.id} need positions", field="latitude", rule="is required")
    first, second = sorted((a.id, b.id))
    pair, way = f"{seed}/{first}/{second}", f"{seed}/{a.id}>{b.id}"
    roundabout = REMOTE * (_exponential(f"{seed}/{a.id}") + _exponential(f"{seed}/{b.id}")) + DETOUR * _exponential(
        pair
    )
    stretch = FLOOR + roundabout * _inflation(a.provider, b.provider)
    lean = 1.0 + LEAN * _draw(f"{way}/lean")
    queue_us = jitter_us = loss_ppm = 0.0
    if _draw(f"{way}/congested") < CONGESTED_SHARE:
        queue_us = _between(QUEUE_US, f"{way}/queue")
        jitter_us = queue_us * QUEUE_JITTER_SHARE
        loss_ppm = _between(QUEUE_LOSS_PPM, f"{way}/queue-loss")
    km = great_circle_km(a.latitude, a.longitude, b.latitude, b.longitude)
    return ModelledLink(
        delay_us=round(ENDS_US + fibre_us(km) * stretch * lean + queue_us),
        jitter_us=round(jitter_us + _between(JITTER_US, f"{way}/jitter")),
        loss_ppm=round(loss_ppm + _between(LOSS_PPM, f"{way}/loss")),
    )


def spread(catalog: Sequence[CatalogRegion], count: int) -> list[CatalogRegion]:
    """Choose ``count`` regions: own sites, then the markets again and again, each time by the least used provider.

    The first pass covers the map; the further ones give big markets several providers, which is what makes drains and
    relays interesting. When the markets have no more, the region farthest from everything chosen is next. Ties go to
    the earlier provider of ``CLOUDS``, then to the smaller code.
    """
    rest = sorted((e for e in catalog if e.provider in CLOUDS), key=lambda e: (CLOUDS.index(e.provider), e.code))
    limit = min(len(rest) + len(OWN_SITES), MAX_DATA_CENTERS)
    if not 2 <= count <= limit:
        rule = f"must be between 2 and {limit}, the regions of the catalogue and the own sites"
        raise InputRejected("bad_world", f"data_centers: {rule}", field="data_centers", rule=rule, limit=limit)
    chosen: list[CatalogRegion] = [*OWN_SITES] if count >= OWN_FROM else []
    for market in MARKETS * len(CLOUDS):
        entries = [entry for entry in rest if entry.area == market]
        if entries and len(chosen) < count:
            _move(min(entries, key=lambda entry: _used(entry.provider, chosen)), rest, chosen)
    while len(chosen) < count:
        _move(max(rest, key=lambda entry: min(_km(entry, other) for other in chosen)), rest, chosen)
    return chosen


def _move(entry: CatalogRegion, rest: list[CatalogRegion], chosen: list[CatalogRegion]) -> None:
    rest.remove(entry)
    chosen.append(entry)


def _used(provider: str, chosen: Sequence[CatalogRegion]) -> int:
    return sum(entry.provider == provider for entry in chosen)


def _km(a: CatalogRegion, b: CatalogRegion) -> float:
    return great_circle_km(a.latitude, a.longitude, b.latitude, b.longitude)


def _site(entry: CatalogRegion) -> Site:
    return Site(
        id=slug(f"{entry.provider}-{entry.code}"),
        provider=entry.provider,
        region=entry.area,
        latitude=entry.latitude,
        longitude=entry.longitude,
        city=entry.city,
        country=entry.country,
    )


def _inflation(a: str, b: str) -> float:
    worse = max(INFLATION.get(a, UNKNOWN_INFLATION), INFLATION.get(b, UNKNOWN_INFLATION))
    return worse * SAME_PROVIDER if a == b else worse


def _draw(name: str) -> float:
    """Uniform number in [0, 1) that depends on the name alone."""
    return int.from_bytes(blake2b(name.encode(), digest_size=6).digest(), "big") / (1 << 48)


def _exponential(name: str) -> float:
    """Exponentially distributed number with mean 1, at most ``CUT``, that depends on the name alone."""
    return min(-math.log(1.0 - _draw(name)), CUT)


def _between(bounds: tuple[float, float], name: str) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * _draw(name)
