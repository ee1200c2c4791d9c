"""Worlds: truthful to their files, physically possible, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from router.core.errors import InputRejected
from router.core.geography import light_floor_us
from router.core.model import DataCenterId
from router.sim.engine import START
from router.sim.series import Series
from router.sim.worlds import Clocks, asymmetric_world, make_world, matrix_world, series_world

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def real(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not beside this checkout")
    return path


@pytest.mark.parametrize("make", [make_world, asymmetric_world])
def test_no_link_is_faster_than_light_in_fibre_and_seeds_decide(make: object) -> None:
    world = make(10, 2, 3)  # type: ignore[operator]
    centers = world.inventory.data_centers
    assert len(world.delay_us) == 90
    assert all(us > light_floor_us(centers[a], centers[b]) for (a, b), us in world.delay_us.items())
    again, other = make(10, 2, 3), make(10, 2, 4)  # type: ignore[operator]
    assert (again.delay_us, again.clocks) == (world.delay_us, world.clocks)
    assert other.delay_us != world.delay_us


def test_clocks_are_off_by_what_was_asked_at_the_start() -> None:
    world = make_world(6, 3, 1, Clocks(offset_us=500_000, drift_ppm=50))
    off = [clock.read(START) - START for clock in world.clocks.values()]
    assert max(map(abs, off)) <= 500_000 and max(off) - min(off) > 500_000
    assert len({clock.skew_ppm for clock in world.clocks.values()}) > 10
    drifted = [abs(c.read(START + 1_000_000) - 1_000_000 - c.read(START)) for c in world.clocks.values()]
    assert max(drifted) <= 51


def test_the_asymmetric_world_has_no_more_places_than_the_catalogue() -> None:
    with pytest.raises(InputRejected, match=r"world\.data_centers: must be at most"):
        asymmetric_world(5_000, 1, 1)


def test_a_directed_file_and_its_missing_links(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("src_region,dst_region,p50_rtt_ms\na,b,10\nb,a,12\na,c,\nc,a,20\nb,c,30\n", encoding="utf-8")
    world = matrix_world(path, 1, 1)
    a, b, c = (DataCenterId(x) for x in "abc")
    assert world.delay_us == {(a, b): 5_000, (b, a): 6_000, (b, c): 15_000, (c, a): 10_000}
    assert (a, c) not in world.delay_us


def test_asymmetry_moves_delay_and_keeps_round_trips_and_floors(tmp_path: Path) -> None:
    path = real("rtt_dc_multicloud_2022_clean.csv")
    even, lean = matrix_world(path, 1, 1, limit=12), matrix_world(path, 1, 1, limit=12, asymmetry=0.5)
    assert len(even.inventory.data_centers) == 12
    assert even.delay_us != lean.delay_us
    centers = even.inventory.data_centers
    for (a, b), us in lean.delay_us.items():
        assert abs(us + lean.delay_us[b, a] - even.delay_us[a, b] - even.delay_us[b, a]) <= 2
        floor = light_floor_us(centers[a], centers[b])
        assert us >= floor - 1 or even.delay_us[a, b] < floor


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [("rtt_planetlab490_median.csv.gz", 90), ("rtt_azure_p50_2025.csv", 51), ("rtt_dc_multicloud_2022_clean.csv", 69)],
)
def test_measured_files_become_worlds(name: str, size: int) -> None:
    world = matrix_world(real(name), 1, 1, limit=90)
    assert len(world.inventory.data_centers) == size
    assert len(world.delay_us) > 0.9 * size * (size - 1)


def test_a_series_turns_slice_by_slice() -> None:
    rtt = np.full((2, 3, 3), 20.0)
    rtt[1, 0, 1] = 50.0
    rtt[1, 2, 0] = np.nan
    world = series_world(Series(("x", "y", "z"), (0, 1), rtt), 30, 1, 1)
    x, y, z = (DataCenterId(n) for n in "xyz")
    assert (world.slice_us, world.delay_us[x, y], world.delay_us[z, x]) == (30_000_000, 10_000, 10_000)
    world.turn(1)
    assert world.delay_us[x, y] == 25_000 and (z, x) not in world.delay_us
    world.turn(9)  # the last one stays
    assert world.delay_us[x, y] == 25_000


def test_the_truth_knows_faults_but_not_queues() -> None:
    world = make_world(3, 1, 1)
    index = world.inventory.index
    (a, b), base = next(iter(world.delay_us.items()))
    world.extra_us[a, b] = 5_000
    assert world.true_delay_us()[index[a], index[b]] == base + 5_000
    world.cut[a, b] = True
    assert world.true_delay_us()[index[a], index[b]] > 1 << 39
