"""What machines say of themselves stands beside a verdict, last, and changes nothing of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.freshness.world import World
from router.core.blame.selves import SILENT_US, selves
from router.core.doubts import DOWN, SUSPECT
from router.core.model import NodeId
from router.core.tables import NodeStatus, View
from router.core.verdicts import Component, ComponentKind
from tests.unit.core.test_ramp import world

NOW = 100_000_000
INVENTORY = World(6).inventory
NODES = tuple(INVENTORY.nodes)
FIRST = INVENTORY.nodes[NODES[0]].data_center


def seen(**doubts: int) -> View:
    status = {node: NodeStatus(NOW, doubts={(NodeId(p), "internet"): s for p, s in doubts.items()}) for node in NODES}
    return replace(world(), inventory=INVENTORY, now=NOW, nodes=status)


@pytest.mark.parametrize(
    ("kind", "id"),
    [(ComponentKind.NODE, NODES[0]), (ComponentKind.EDGE_REGION, FIRST), (ComponentKind.TARGET, FIRST)],
)
def test_a_gray_node_says_that_it_is_well_and_that_is_shown(kind: ComponentKind, id: str) -> None:
    own = selves(seen(), Component(kind, id))
    assert not own.agrees and own.text.endswith("machines report and say that all is well")
    worse = selves(seen(x=DOWN, y=DOWN, z=SUSPECT), Component(kind, id))
    assert worse.agrees and worse.links_down == 2 * worse.machines and "links down" in worse.text


def test_who_is_silent_says_nothing() -> None:
    late = replace(seen(x=DOWN), now=NOW + SILENT_US + 1)
    own = selves(late, Component(ComponentKind.NODE, NODES[0]))
    assert (own.text, own.agrees) == ("1 of 1 machines are silent", False)


def test_a_provider_is_all_of_its_machines_and_a_way_is_none() -> None:
    provider = INVENTORY.data_centers[FIRST].provider
    theirs = [n for n in INVENTORY.nodes.values() if INVENTORY.data_centers[n.data_center].provider == provider]
    assert selves(seen(), Component(ComponentKind.PROVIDER, provider)).machines == len(theirs)
    region = f"{provider}/{INVENTORY.data_centers[FIRST].region}"
    assert selves(seen(), Component(ComponentKind.PROVIDER_REGION, region)).machines >= 1
    assert selves(seen(), Component(ComponentKind.TRANSIT, "a>b")).text == ""
    assert selves(seen(), Component(ComponentKind.CLIENT_ISP, "as1")).text == ""
