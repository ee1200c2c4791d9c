"""Worlds for the demo from measured matrices (see ``router.sim.matrix`` for the forms of the file).

The provider of a data center is ``measured`` where the file names none. Position and region come from the catalogue
(the finder is passed in): there a region is a market that several providers share. What the catalogue does not know has
no position, and its region is the slug of the region text.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from providers.catalog import CatalogRegion
from router.demo.hubs import choose_hubs, hub_count
from router.demo.world import OCTETS, Site, World, assemble
from router.sim.matrix import UNNAMED_PROVIDER, read_matrix, slug

__all__ = ["load_matrix", "slug"]

FindPosition = Callable[[str | None, str], CatalogRegion | None]


def load_matrix(
    path: Path,
    *,
    find_position: FindPosition | None = None,
    nodes_per_data_center: int = 1,
    seed: int = 1,
    octets: tuple[int, int, int, int] = OCTETS,
) -> World:
    """World of a measured matrix. Raises :class:`InputRejected` (``bad_matrix``) naming line, field, rule and limit.

    ``find_position`` is the catalogue's look-up; without it no data center has a position.
    """
    matrix = read_matrix(path)
    ids = tuple(matrix.ends)
    delay_us = [[matrix.delay_us(a, b) for b in ids] for a in ids]
    sites = [_site(name, *end, find_position) for name, end in matrix.ends.items()]
    return assemble(
        matrix.name,
        sites,
        delay_us,
        hubs=choose_hubs(delay_us, hub_count(len(sites))),
        nodes_per_data_center=nodes_per_data_center,
        seed=seed,
        octets=octets,
    )


def _site(name: str, provider: str | None, region: str, find_position: FindPosition | None) -> Site:
    place = find_position(provider, region) if find_position else None
    return Site(
        id=name,
        provider=UNNAMED_PROVIDER if provider is None else slug(provider),
        region=place.area if place else slug(region),
        latitude=place.latitude if place else None,
        longitude=place.longitude if place else None,
        city=place.city if place else "",
        country=place.country if place else "",
    )
