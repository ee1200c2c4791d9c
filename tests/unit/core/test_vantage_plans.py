"""Who asks which vantage target."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from worlds import inventory

from probes.wire import decode_plan, encode
from router.core.messages import Booted
from router.core.model import Counters, DataCenterId, Inventory, NodeId
from router.core.plane import ControlPlane
from router.core.vantage import ASKED_EVERY_S, FURTHER, NEAREST, Vantages, VantageTarget, assign

PLACES = {"fra": (50.1, 8.7), "ams": (52.4, 4.9), "lon": (51.5, -0.1), "nyc": (40.7, -74.0), "sin": (1.3, 103.8)}


def world(nodes: int = 1) -> Inventory:
    made = inventory(" ".join(f"gcp-{name}" for name in PLACES), nodes)
    placed = {
        id: replace(dc, latitude=PLACES[id[4:]][0], longitude=PLACES[id[4:]][1]) for id, dc in made.data_centers.items()
    }
    return replace(made, data_centers=placed)


def target(name: str, place: tuple[float, float] | None) -> VantageTarget:
    latitude, longitude = place or (None, None)
    return VantageTarget(name, "tcp", f"{name}.example", 443, 64_500, "DE", latitude, longitude)


def by_target(made: Inventory, targets: list[VantageTarget]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {one.name: [] for one in targets}
    for node, plans in assign(made, targets).items():
        for plan in plans:
            found[plan.target].append(made.nodes[node].data_center)
    return found


def test_the_nearest_edges_ask_and_one_further() -> None:
    asked = by_target(world(), [target(f"t{i}", (50.0, 8.0)) for i in range(40)])
    further: Counter[str] = Counter()
    for edges in asked.values():
        assert len(edges) == NEAREST + FURTHER and {"gcp-fra", "gcp-ams", "gcp-lon"} <= set(edges)
        further.update(set(edges) - {"gcp-fra", "gcp-ams", "gcp-lon"})
    assert set(further) == {"gcp-nyc", "gcp-sin"}  # not always the same one


@given(st.integers(1, 3), st.integers(0, 30), st.booleans())
def test_one_node_per_data_center_asks_and_no_address_too_often(nodes: int, targets: int, known: bool) -> None:
    made = world(nodes)
    wanted = [target(f"t{i}", (50.0, 8.0) if known else None) for i in range(targets)]
    rate: dict[str, float] = {}
    for plans in assign(made, wanted).values():
        for plan in plans:
            rate[plan.host] = rate.get(plan.host, 0.0) + 60_000_000 / plan.interval_us
    assert len(rate) == targets and all(per_min <= 60 / ASKED_EVERY_S + 1e-9 for per_min in rate.values())
    for edges in by_target(made, wanted).values():
        assert len(edges) == len(set(edges)) == NEAREST + FURTHER


def test_a_world_without_edges_asks_nobody() -> None:
    assert assign(Inventory(), [target("t", (0.0, 0.0))]) == {}


def test_plans_name_their_targets_and_whom_to_ask() -> None:
    plane = ControlPlane(vantages=Vantages((target("t", (1.0, 103.0)),), "noc@example.net"))
    plane.handle(Booted(epoch=1, inventory=world(), counters=Counters()), 1)
    plan = decode_plan(encode(plane.plan(NodeId("gcp-sin-0"), 2)))
    assert [(one.target, one.asn, one.country) for one in plan.vantage] == [("t", 64_500, "DE")]
    assert plan.contact == "noc@example.net"
    quiet = [dc for dc in plane.view.inventory.data_centers if not plane.plan(NodeId(f"{dc}-0"), 2).vantage]
    assert len(quiet) == 1 and plane.plan(NodeId(f"{quiet[0]}-0"), 2).contact == ""
    assert DataCenterId("gcp-sin") not in quiet
