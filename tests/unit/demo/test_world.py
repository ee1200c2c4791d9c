"""World files: addresses, clocks, saving, loading, refusing; and the choice of hubs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.core.errors import InputRejected
from router.demo.hubs import choose_hubs
from router.demo.world import MAX_CLOCK_OFFSET_US, Site, World, assemble, load, loopback_host


def small(nodes: int = 1, seed: int = 1, octets: tuple[int, int, int, int] = (1, 2, 3, 4)) -> World:
    sites = [Site(f"own-{name}", "own", name, 1.0, 2.0) for name in "abc"]
    delay_us = [[None, 10_000, None], [20_000, None, 5_000], [7_000, 5_000, None]]
    return assemble("small", sites, delay_us, hubs=(1,), nodes_per_data_center=nodes, seed=seed, octets=octets)


def test_addresses_follow_the_index() -> None:
    world = small(nodes=2, octets=(11, 12, 13, 14))
    assert [node.index for node in world.nodes] == list(range(6))
    third = world.data_centers[1].nodes[0]
    assert (third.id, third.real_host, third.standin_host) == ("own-b-n1", "127.11.0.3", "127.12.0.3")
    assert loopback_host(1, 249) == "127.1.0.250"
    assert loopback_host(1, 250) == "127.1.1.1"


def test_truth() -> None:
    world = small()
    assert world.one_way_us("own-a", "own-b") == 10_000
    assert world.rtt_us("own-a", "own-b") == 30_000
    assert world.rtt_us("own-a", "own-c") is None
    assert world.links == 5
    assert world.hubs == ("own-b",)
    assert world.data_centers[0].roles == ("edge",)


def test_clocks_are_wrong_seeded_and_bounded() -> None:
    clocks = {node.id: (node.clock_offset_us, node.clock_skew_ppm) for node in small(nodes=16).nodes}
    again = {node.id: (node.clock_offset_us, node.clock_skew_ppm) for node in small(nodes=16).nodes}
    other = {node.id: (node.clock_offset_us, node.clock_skew_ppm) for node in small(nodes=16, seed=2).nodes}
    offsets = [offset for offset, _ in clocks.values()]
    assert clocks == again
    assert clocks != other
    assert all(abs(offset) <= MAX_CLOCK_OFFSET_US for offset in offsets)
    assert max(offsets) - min(offsets) > MAX_CLOCK_OFFSET_US / 2


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "world.json"
    world = small(nodes=3)
    world.save(path)
    assert load(path) == world
    assert list(tmp_path.iterdir()) == [path]


def change(*keys: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(record: dict[str, Any]) -> None:
        inner: Any = record
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = to

    return apply


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (change("format", to="other"), "format"),
        (change("extra", to=1), "extra"),
        (change("data_centers", to=[]), "data_centers"),
        (change("data_centers", 0, "colour", to="red"), "file"),
        (change("data_centers", 0, "nodes", to=3), "file"),
        (change("data_centers", 0, "id", to="Not An Id"), "id"),
        (change("data_centers", 0, "id", to="own-b"), "id"),
        (change("data_centers", 0, "nodes", 0, "index", to=5), "index"),
        (change("octets", to=[1, 2, 3, 3]), "octets"),
        (change("octets", to=[0, 2, 3, 4]), "octets"),
        (change("delay_us", 0, 1, to=-1), "delay_us[0][1]"),
        (change("delay_us", 0, 1, to=60_000_001), "delay_us[0][1]"),
        (change("delay_us", 0, 1, to=1.5), "delay_us[0][1]"),
        (change("delay_us", 0, to=[1, 2]), "delay_us"),
        (change("jitter_us", 0, 1, to=None), "jitter_us[0][1]"),
        (change("loss_ppm", 0, 1, to=1_000_001), "loss_ppm[0][1]"),
    ],
)
def test_broken_files_name_the_field(tmp_path: Path, spoil: Callable[[dict[str, Any]], None], field: str) -> None:
    path = tmp_path / "world.json"
    small().save(path)
    record = json.loads(path.read_text())
    spoil(record)
    path.write_text(json.dumps(record))
    with pytest.raises(InputRejected) as caught:
        load(path)
    assert (caught.value.code, caught.value.field) == ("bad_world", field)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"{}"])
def test_not_a_world(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "world.json"
    path.write_bytes(content)
    with pytest.raises(InputRejected, match="world: "):
        load(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="cannot be read"):
        load(tmp_path / "none.json")


@pytest.mark.parametrize("nodes", [0, 17])
def test_nodes_per_data_center_are_bounded(nodes: int) -> None:
    with pytest.raises(InputRejected) as caught:
        small(nodes=nodes)
    assert (caught.value.field, caught.value.limit) == ("nodes_per_data_center", 16)


def test_few_data_centers_are_all_hubs() -> None:
    assert choose_hubs([[None, 1], [1, None]]) == (0, 1)


def test_hubs_stand_in_different_clusters() -> None:
    """Three clusters of four, 1 ms inside and 100 ms between: three hubs, one in each, whatever the order."""
    rows = [[None if a == b else 1_000 if a // 4 == b // 4 else 100_000 for b in range(12)] for a in range(12)]
    assert choose_hubs(rows, 3) == (0, 4, 8)


def test_a_cut_off_data_center_gets_a_hub_of_its_own() -> None:
    rows = [[None if a == b or 9 in (a, b) else 10_000 for b in range(10)] for a in range(10)]
    assert 9 in choose_hubs(rows, 2)


def test_each_data_center_may_have_its_own_number_of_nodes_and_clocks_may_drift_faster() -> None:
    sites = [Site(name, "p", "r") for name in "abc"]
    delays = [[None] * 3 for _ in sites]
    world = assemble("t", sites, delays, nodes_per_data_center=[2, 1, 3], max_skew_ppm=50)
    assert [node.id for node in world.nodes] == ["a-n1", "a-n2", "b-n1", "c-n1", "c-n2", "c-n3"]
    assert [node.index for node in world.nodes] == list(range(6))
    assert any(abs(node.clock_skew_ppm) > 5 for node in world.nodes)
    for wrong in ([2, 1], [2, 1, 0], [2, 1, 17]):
        with pytest.raises(InputRejected, match="nodes_per_data_center"):
            assemble("t", sites, delays, nodes_per_data_center=wrong)
