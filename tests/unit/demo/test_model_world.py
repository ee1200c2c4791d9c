"""The model world against physics, its own formula and the catalogue."""

from __future__ import annotations

from itertools import pairwise

import pytest

from providers import catalog
from router.core.errors import InputRejected
from router.demo.geography import fibre_us, great_circle_km
from router.demo.model_world import MARKETS, OWN_SITES, model_world
from router.demo.world import World

REGIONS = catalog.load()


@pytest.fixture(scope="module")
def world() -> World:
    return model_world(REGIONS)


def test_default_is_24_over_five_providers_and_own(world: World) -> None:
    providers = [dc.provider for dc in world.data_centers]
    assert len(providers) == 24
    assert set(providers) == {"oracle", "gcp", "azure", "linode", "vultr", "own"}
    assert all(providers.count(p) >= 4 for p in set(providers) - {"own"})
    assert providers.count("own") == len(OWN_SITES)
    assert len(world.hubs) == 8
    assert all(dc.city and dc.country and dc.latitude is not None for dc in world.data_centers)


def test_big_markets_have_several_providers(world: World) -> None:
    regions = [dc.region for dc in world.data_centers]
    assert set(MARKETS) <= set(regions)
    assert max(regions.count(region) for region in regions) == 2


def test_markets_are_in_the_catalogue() -> None:
    assert set(MARKETS) <= {entry.area for entry in REGIONS}


def test_no_link_beats_light_and_none_is_absurd(world: World) -> None:
    for i, a in enumerate(world.data_centers):
        for j, b in enumerate(world.data_centers):
            delay_us = world.delay_us[i][j]
            if i == j:
                assert delay_us is None
                continue
            assert delay_us is not None
            assert a.latitude is not None and a.longitude is not None
            assert b.latitude is not None and b.longitude is not None
            floor_us = fibre_us(great_circle_km(a.latitude, a.longitude, b.latitude, b.longitude))
            assert floor_us < delay_us < 3 * floor_us + 65_000
            assert 0 < world.jitter_us[i][j] < 10_000
            assert 0 <= world.loss_ppm[i][j] < 20_000


def test_directions_differ_but_not_wildly(world: World) -> None:
    size = len(world.data_centers)
    both = [(world.delay_us[i][j], world.delay_us[j][i]) for i in range(size) for j in range(i)]
    different = [abs((there or 0) - (back or 0)) / max(there or 0, back or 0) for there, back in both if there != back]
    assert len(different) > 0.95 * len(both)
    assert sorted(different)[len(different) // 2] < 0.05  # the congested ones are few


def test_relays_win_about_as_often_as_in_measured_grids(world: World) -> None:
    size = range(len(world.data_centers))
    delay_us = [[delay or 0 for delay in row] for row in world.delay_us]
    wins = sum(
        min(delay_us[a][k] + delay_us[k][b] for k in size if k not in (a, b)) < 0.95 * delay_us[a][b]
        for a in size
        for b in size
        if a != b
    )
    assert 0.1 < wins / world.links < 0.4


def test_same_seed_same_world_other_seed_other_world(world: World) -> None:
    assert model_world(REGIONS) == world
    assert model_world(tuple(reversed(REGIONS))) == world
    assert model_world(REGIONS, seed=2).delay_us != world.delay_us


def test_one_data_center_more_leaves_the_others_links_alone(world: World) -> None:
    larger = model_world(REGIONS, data_centers=25)
    ids = [dc.id for dc in world.data_centers]
    assert set(ids) < {dc.id for dc in larger.data_centers}
    for a, b in pairwise(ids):
        assert larger.one_way_us(a, b) == world.one_way_us(a, b)


def test_every_region_can_be_had_and_no_more() -> None:
    most = len([entry for entry in REGIONS if entry.provider != "aws"]) + len(OWN_SITES)
    with pytest.raises(InputRejected) as caught:
        model_world(REGIONS, data_centers=most + 1)
    assert (caught.value.code, caught.value.field, caught.value.limit) == ("bad_world", "data_centers", most)
    with pytest.raises(InputRejected):
        model_world(REGIONS, data_centers=1)
    assert len({dc.id for dc in model_world(REGIONS, data_centers=60).data_centers}) == 60


def test_great_circle() -> None:
    assert great_circle_km(0, 0, 0, 180) == pytest.approx(20_015, abs=1)
    assert great_circle_km(51.5, -0.1, 40.7, -74.0) == pytest.approx(5_570, rel=0.01)  # London - New York
    assert great_circle_km(10, 20, 10, 20) == 0
