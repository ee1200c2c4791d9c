"""Faults: strict requests, whom they hit, and what several of them make of a leg."""

from __future__ import annotations

from itertools import pairwise, permutations
from random import Random
from typing import Any

import pytest

from router.core.errors import InputRejected
from router.demo.access_leg import FAR_US, LAST_MILE_US, access_us
from router.demo.faults import PPM, Direction, FaultKind, FaultRequest, LinkParameters, compose, parse_fault
from router.demo.legs import INSIDE_US, LOST, SWALLOWED, TRANSIT_US, Leg, LegTable
from router.demo.world import Site, assemble


def request(kind: FaultKind, value: float = 0.0) -> FaultRequest:
    return FaultRequest(kind=kind, direction=Direction.BOTH, target={"data_center": "x"}, value=value)


def test_composition() -> None:
    faults = [
        request(FaultKind.DELAY, 10),
        request(FaultKind.DELAY, 2.5),
        request(FaultKind.JITTER, 1),
        request(FaultKind.JITTER, 2),
        request(FaultKind.LOSS, 50),
        request(FaultKind.LOSS, 20),
    ]
    base = LinkParameters(delay_us=1_000, jitter_us=5, loss_ppm=100_000)
    expected = LinkParameters(delay_us=13_500, jitter_us=3_005, loss_ppm=640_000)  # 1 - 0.9 x 0.5 x 0.8
    assert all(compose(base, order) == expected for order in permutations(faults, 6))
    assert compose(base, []) == base
    assert compose(base, [request(FaultKind.BLACKHOLE), *faults]).blackhole
    assert compose(base, [request(FaultKind.LOSS, 100)]).loss_ppm == 1_000_000


def test_a_full_request() -> None:
    fault = parse_fault({"target": "provider=oracle, region=singapore", "kind": "delay", "value": 20, "for_s": 1.5})
    assert fault == FaultRequest(
        kind=FaultKind.DELAY,
        direction=Direction.BOTH,
        target={"provider": "oracle", "region": "singapore"},
        value=20.0,
        for_s=1.5,
    )


def test_a_link_is_directed_unless_told_otherwise() -> None:
    assert parse_fault({"link": ["a", "b"], "kind": "blackhole"}).direction is Direction.OUT
    assert parse_fault({"link": ["a", "b"], "kind": "blackhole", "direction": "both"}).direction is Direction.BOTH


BAD_REQUESTS: list[tuple[Any, str]] = [
    ([], "body"),
    ({}, "target"),
    ({"target": "provider=a", "link": ["a", "b"], "kind": "blackhole"}, "target"),
    ({"target": "provider=a", "kind": "blackhole", "colour": 1}, "colour"),
    ({"target": "provider=a"}, "kind"),
    ({"target": "provider=a", "kind": "fire"}, "kind"),
    ({"target": "provider=a", "kind": ["loss"]}, "kind"),
    ({"target": "provider=a", "kind": "blackhole", "direction": "up"}, "direction"),
    ({"target": "provider=a", "kind": "blackhole", "value": 5}, "value"),
    ({"target": "provider=a", "kind": "loss"}, "value"),
    ({"target": "provider=a", "kind": "loss", "value": 0}, "value"),
    ({"target": "provider=a", "kind": "loss", "value": 100.1}, "value"),
    ({"target": "provider=a", "kind": "loss", "value": True}, "value"),
    ({"target": "provider=a", "kind": "loss", "value": "5"}, "value"),
    ({"target": "provider=a", "kind": "delay", "value": float("nan")}, "value"),
    ({"target": "provider=a", "kind": "delay", "value": 30_001}, "value"),
    ({"target": "provider=a", "kind": "jitter", "value": 5_001}, "value"),
    ({"target": "provider=a", "kind": "blackhole", "for_s": 0}, "for_s"),
    ({"target": "provider=a", "kind": "blackhole", "for_s": 86_401}, "for_s"),
    ({"target": "provider", "kind": "blackhole"}, "target"),
    ({"target": "colour=red", "kind": "blackhole"}, "target"),
    ({"target": "provider=A", "kind": "blackhole"}, "target"),
    ({"target": "provider=a,provider=b", "kind": "blackhole"}, "target"),
    ({"target": "", "kind": "blackhole"}, "target"),
    ({"target": 5, "kind": "blackhole"}, "target"),
    ({"link": ["a"], "kind": "blackhole"}, "link"),
    ({"link": "a:b", "kind": "blackhole"}, "link"),
    ({"link": ["a", "a"], "kind": "blackhole"}, "link"),
    ({"link": ["a", 7], "kind": "blackhole"}, "link[1]"),
]


@pytest.mark.parametrize(("body", "field"), BAD_REQUESTS)
def test_bad_requests_name_the_field(body: Any, field: str) -> None:
    with pytest.raises(InputRejected) as caught:
        parse_fault(body)
    assert (caught.value.code, caught.value.field) == ("bad_fault", field)
    assert caught.value.rule


def test_the_limit_is_told() -> None:
    with pytest.raises(InputRejected) as caught:
        parse_fault({"target": "provider=a", "kind": "loss", "value": 101})
    assert caught.value.limit == 100


@pytest.fixture
def table() -> LegTable:
    """Two data centers of oracle (two nodes each: endpoints 0-1 and 2-3), one of gcp (4-5), two user slots (6-7)."""
    sites = [
        Site("oracle-a", "oracle", "east", 0.0, 0.0),
        Site("oracle-b", "oracle", "west", 0.0, 90.0),
        Site("gcp-c", "gcp", "east"),
    ]
    delay_us = [[None, 1_000, 2_000], [3_000, None, 4_000], [None, 6_000, None]]
    return LegTable(assemble("t", sites, delay_us, nodes_per_data_center=2), 2, Random(1))


def swallowed(table: LegTable) -> set[tuple[int, int]]:
    size = range(len(table.endpoints))
    return {(s, t) for s in size for t in size if (leg := table.parameters(s, t)) and leg.blackhole}


def test_legs_without_faults(table: LegTable) -> None:
    assert table.parameters(0, 2) == LinkParameters(1_000)
    assert table.parameters(0, 1) == table.parameters(0, 0) == LinkParameters(INSIDE_US)
    assert table.parameters(4, 0) is None
    assert table.rows[0][2] == pytest.approx((1_000 - TRANSIT_US) / 1e6)
    assert table.rows[4][0] is None
    assert table.rows[6] == [None] * 8


def hit(table: LegTable, **body: Any) -> set[tuple[int, int]]:
    table.add_fault("f", parse_fault({"kind": "blackhole"} | body))
    legs = swallowed(table)
    table.remove_fault("f")
    assert swallowed(table) == set()
    return legs


A, B, C = (0, 1), (2, 3), (4, 5)


def legs(*pairs: tuple[tuple[int, int], tuple[int, int]]) -> set[tuple[int, int]]:
    return {(s, t) for sources, targets in pairs for s in sources for t in targets}


def test_whom_faults_hit(table: LegTable) -> None:
    assert hit(table, target="data_center=oracle-a", direction="out") == legs((A, B), (A, C))
    assert hit(table, target="data_center=oracle-a", direction="in") == legs((B, A))  # there is no link from C
    assert hit(table, target="data_center=oracle-a") == legs((A, B), (A, C), (B, A))
    assert hit(table, target="provider=oracle") == legs((A, B), (B, A), (A, C), (B, C), (C, B))
    assert hit(table, target="provider=oracle,region=west") == legs((A, B), (B, A), (B, C), (C, B))
    assert hit(table, link=["oracle-a", "oracle-b"]) == legs((A, B))
    assert hit(table, link=["oracle-a", "oracle-b"], direction="in") == legs((B, A))
    assert hit(table, link=["oracle-a", "oracle-b"], direction="both") == legs((A, B), (B, A))
    node = hit(table, target="node=oracle-a-n1")
    assert node == {(0, t) for t in range(6)} | {(s, 0) for s in (1, 2, 3)}  # also inside its data center


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"target": "provider=aws"}, "target"),
        ({"target": "provider=gcp,region=west"}, "target"),
        ({"target": "node=nina"}, "target"),
        ({"link": ["oracle-a", "gcp-d"]}, "link[1]"),
    ],
)
def test_a_selector_must_match_something(table: LegTable, body: dict[str, Any], field: str) -> None:
    table.add_user(6, "nina", 0.0, 0.0)  # users are not targets
    with pytest.raises(InputRejected) as caught:
        table.add_fault("f", parse_fault({"kind": "blackhole"} | body))
    assert (caught.value.code, caught.value.field) == ("selector_matches_nothing", field)
    assert table.faults == {}


def test_overlapping_faults_heal_one_by_one(table: LegTable) -> None:
    table.add_fault("f1", parse_fault({"target": "provider=oracle", "kind": "delay", "value": 10}))
    assert table.add_fault("f2", parse_fault({"link": ["oracle-a", "oracle-b"], "kind": "delay", "value": 5})) == 4
    assert table.parameters(0, 2) == LinkParameters(16_000)  # both ends are oracle's: once, not twice
    table.remove_fault("f1")
    assert table.parameters(0, 2) == LinkParameters(6_000)
    table.remove_fault("f2")
    assert table.rows[0][2] == pytest.approx((1_000 - TRANSIT_US) / 1e6)


def test_users_have_access_legs_and_share_their_data_centers_fate(table: LegTable) -> None:
    table.add_user(6, "nina", 0.0, 0.0)
    table.add_user(7, "omar", 0.0, 0.0)
    assert table.parameters(6, 0) == table.parameters(0, 6) == LinkParameters(LAST_MILE_US)
    far = table.parameters(6, 2)
    assert far == LinkParameters(access_us(0.0, 0.0, 0.0, 90.0))
    assert far.delay_us == pytest.approx(LAST_MILE_US + 10_007 / 200 * 2_000, rel=0.01)
    assert table.parameters(6, 4) == LinkParameters(FAR_US)  # nobody knows where gcp-c is
    assert table.parameters(6, 7) is None
    table.add_fault("f", parse_fault({"target": "data_center=oracle-a", "kind": "blackhole", "direction": "in"}))
    assert isinstance(table.rows[6][0], Leg)
    assert isinstance(table.rows[0][6], float)
    table.add_user(6, "nina", 0.0, 90.0)
    assert isinstance(table.rows[6][0], Leg)  # the fault holds wherever she goes
    assert table.parameters(6, 2) == LinkParameters(LAST_MILE_US)
    table.remove_user(6)
    assert table.parameters(6, 0) is None
    assert table.rows[6][0] is None


def test_jitter_is_exponential_and_in_order() -> None:
    leg = Leg(LinkParameters(10_000, jitter_us=2_000), Random(7))
    extra = [leg.due(float(i)) - i - (10_000 - TRANSIT_US) / 1e6 for i in range(4_000)]
    steps = [abs(b - a) for a, b in pairwise(extra)]
    assert min(extra) >= 0
    assert sum(extra) / len(extra) == pytest.approx(0.002, rel=0.1)
    assert sum(steps) / len(steps) == pytest.approx(0.002, rel=0.1)  # what RFC 3550 would report
    crowded = [leg.due(5_000 + i / 1e4) for i in range(500)]
    assert crowded == sorted(crowded)


def test_loss_and_blackhole() -> None:
    leg = Leg(LinkParameters(1_000, loss_ppm=250_000), Random(7))
    lost = sum(leg.due(0.0) == LOST for _ in range(4_000))
    assert lost == pytest.approx(1_000, rel=0.1)
    assert Leg(LinkParameters(1_000, blackhole=True), Random(7)).due(0.0) == SWALLOWED


def test_a_gray_failure_takes_a_share_of_the_flows_and_always_the_same_ones() -> None:
    leg = Leg(LinkParameters(1_000, gray_ppm=300_000), Random(7))
    flows = [(("198.18.0.1", port), ("198.18.0.2", 7421)) for port in range(2_000)]
    dead = [flow for flow in flows if leg.due(0.0, *flow) == SWALLOWED]
    assert 500 < len(dead) < 700
    assert [flow for flow in flows if leg.due(5.0, *flow) == SWALLOWED] == dead
    assert all(Leg(LinkParameters(0, gray_ppm=PPM), Random(1)).due(0.0, *flow) == SWALLOWED for flow in flows)


def test_gray_failures_join_and_end_where_they_began(table: LegTable) -> None:
    table.add_fault("one", parse_fault({"link": ["oracle-a", "oracle-b"], "kind": "gray", "value": 50}))
    table.add_fault(
        "two", parse_fault({"target": "data_center=oracle-b", "kind": "gray", "value": 50, "direction": "in"})
    )
    there, back = table.parameters(0, 2), table.parameters(2, 0)
    assert there is not None and back is not None
    assert (there.gray_ppm, back.gray_ppm) == (750_000, 0)
    table.remove_fault("one")
    table.remove_fault("two")
    assert isinstance(table.rows[0][2], float)
    with pytest.raises(InputRejected, match="per cent of the flows"):
        parse_fault({"link": ["oracle-a", "oracle-b"], "kind": "gray"})
