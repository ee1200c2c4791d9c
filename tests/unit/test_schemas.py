"""Mapping at the edge: units there and back, addresses truncated, bodies to core and back, answers as documented."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from probes.wire import bucket_of, bucket_value
from router.core.model import (
    KINDS,
    Client,
    DataCenter,
    DataCenterId,
    Drain,
    DrainId,
    DrainMode,
    DrainState,
    Intent,
    Inventory,
    Selector,
    TrafficClass,
)
from router.core.solve import PathAnswer, RouteAnswer
from router.core.tables import Context, Health
from router.schemas import units
from router.schemas.clients import (
    ClientAnswer,
    ClientBody,
    ConstraintsAnswer,
    ConstraintsBody,
    client_json,
    constraints_json,
    truncated,
)
from router.schemas.drains import DrainAnswer, drain_json, parse_selector, selector_text
from router.schemas.fields import Body
from router.schemas.flows import flows_json
from router.schemas.health import headroom_pct
from router.schemas.history import Bucket, history_points
from router.schemas.resources import BODIES, resource_json, singular
from router.schemas.routes import Route, route_json

MAX_US = 4_102_444_800_000_000  # the year 2100


@given(st.integers(0, MAX_US))
def test_times_survive_the_round_trip(at: int) -> None:
    text = units.rfc3339(at)
    assert text.endswith("Z") and units.micros(text) == at


@given(st.integers(0, 60_000_000), st.integers(0, 1_000_000), st.integers(0, 10**9))
def test_integers_survive_the_round_trip(value_us: int, loss_ppm: int, price: int) -> None:
    assert units.us(units.ms(value_us)) == value_us
    assert units.ppm(units.pct(loss_ppm)) == loss_ppm
    assert units.microusd(units.usd(price)) == price


@pytest.mark.parametrize("text", ["2026-01-01", "2026-01-01T00:00:00", "now", ""])
def test_times_without_zone_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        units.micros(text)


def test_unknown_is_null_and_never_a_number() -> None:
    assert units.known_ms(-1) is None and units.known_ms(None) is None and units.known_ms(0) == 0
    assert units.known_pct(-1) is None and units.known_pct(0) == 0
    assert units.known_rfc3339(0) is None and units.known_rfc3339(None) is None


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("255.255.255.255", "255.255.255.0/24"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("::ffff:cb00:714d", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("::1", "::/48"),
    ],
)
def test_addresses_are_truncated(address: str, prefix: str) -> None:
    assert truncated(address) == prefix
    body = ClientBody.model_validate({"ip": address})
    assert body.core() == Client(prefix=prefix)
    assert address not in repr(body) + body.model_dump_json()


@given(st.ip_addresses())
def test_a_truncated_address_holds_the_address_and_is_no_finer_than_promised(address: Any) -> None:
    import ipaddress

    network = ipaddress.ip_network(truncated(str(address)))
    mapped = getattr(address, "ipv4_mapped", None)
    assert (mapped or address) in network
    assert network.prefixlen == (24 if network.version == 4 else 48)


@pytest.mark.parametrize(
    "text", ["", "1.2.3", "1.2.3.4/24", "fe80::1%eth0", "01.2.3.4", "1.2.3.4 ", "localhost", "::g"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ClientBody.model_validate({"ip": text})


def test_a_position_is_whole_and_finite() -> None:
    for broken in ({"latitude": 1.0}, {"latitude": math.nan, "longitude": 0.0}, {"latitude": 0, "longitude": math.inf}):
        with pytest.raises(ValidationError):
            ClientBody.model_validate(broken)


FULL: dict[str, dict[str, Any]] = {
    "providers": {"name": "x", "labels": {"b": "1", "a": "2"}},
    "regions": {"name": "x", "country": "KZ", "latitude": 1.5, "longitude": -2.5, "labels": {}},
    "data-centers": {
        "provider": "p", "region": "r", "roles": ["edge", "hub"], "latitude": 1.0, "longitude": 2.0,
        "capacity": {"sessions": 5, "mbps": 6}, "egress_usd_per_gb": 0.0875, "media_url": "wss://x", "intent": "canary",
        "labels": {"a": "b"},
    },
    "nodes": {
        "data_center": "d", "addresses": {"fibre": "10.0.0.1", "internet": "2001:db8::1"}, "reflector_port": 1,
        "relay_port": 0, "media_url": "", "labels": {}, "intent": "draining",
    },
    "links": {
        "from": "a", "to": "b", "transport": "fibre", "capacity_mbps": 10, "price_usd_per_gb": 0.000001,
        "intent": "cordoned", "labels": {},
    },
    "policies": {
        "priority": -5, "match": {"class": "voice", "pool": "p", "labels": {"t": "x"}}, "allow_providers": ["b", "a"],
        "deny_providers": [], "allow_regions": [], "deny_regions": ["r"], "allow_transports": ["fibre"],
        "max_relays": 0, "max_price_usd_per_gb": 0.5, "pin": ["z", "y"],
    },
    "pools": {
        "class": "bulk", "max_rtt_ms": 12.345, "labels": {}, "queue_s": 30, "agent_grace_s": 7, "wrap_s": 20,
        "reset": True, "max_sessions": 100, "ramp_versions": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_bodies_become_core_and_come_back(kind: str) -> None:
    body = BODIES[kind].model_validate(FULL[kind])
    core = body.core("thing", Inventory())
    assert isinstance(core, KINDS[kind])
    out = resource_json(core)
    assert out == FULL[kind] | {"id": "thing", "revision": 0}
    assert BODIES[kind].model_validate(json.loads(json.dumps(out))).core("thing", Inventory()) == core


@pytest.mark.parametrize("kind", KINDS)
def test_the_least_body_comes_back_whole(kind: str) -> None:
    required = {
        name: FULL[kind][name] for name in ("provider", "region", "data_center", "from", "to") if name in FULL[kind]
    }
    if kind == "regions":
        required = {}
    out = resource_json(BODIES[kind].model_validate(required).core("thing", Inventory()))
    assert set(out) == set(FULL[kind]) | {"id", "revision"}


def test_an_intent_that_is_not_named_is_the_one_in_force() -> None:
    drained = DataCenter(DataCenterId("d"), "p", "r", intent=Intent.DRAINED)  # type: ignore[arg-type]
    present = Inventory(data_centers={DataCenterId("d"): drained})
    body = BODIES["data-centers"].model_validate({"provider": "p", "region": "r"})
    assert body.core("d", present).intent is Intent.DRAINED  # type: ignore[union-attr]
    assert body.core("new", present).intent is Intent.SERVING  # type: ignore[union-attr]


def test_singular_names() -> None:
    assert [singular(kind) for kind in KINDS] == ["provider", "region", "data_center", "node", "link", "policy", "pool"]


def test_constraints_and_clients_are_shown_as_documented() -> None:
    body = ConstraintsBody.model_validate({"allow_providers": [], "deny_regions": ["r"], "max_rtt_ms": 10.5})
    shown = constraints_json(body.core())
    assert ConstraintsAnswer.model_validate(shown).max_rtt_ms == 10.5 and shown["allow_providers"] == []
    assert ClientAnswer.model_validate(client_json(Client(country="KZ"))).country == "KZ"


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("provider=oracle", Selector(provider="oracle")),  # type: ignore[arg-type]
        ("region=a, node=b", Selector(region="a", node="b")),  # type: ignore[arg-type]
        ("node=b,data_center=c", Selector(data_center="c", node="b")),  # type: ignore[arg-type]
    ],
)
def test_selectors_are_read_and_written(text: str, selector: Selector) -> None:
    assert parse_selector(text).core() == selector
    assert parse_selector(selector_text(selector)).core() == selector


@pytest.mark.parametrize(
    "text", ["", ",", "provider", "provider=", "provider=A", "x=y", "provider=a,provider=b", "provider=a,"]
)
def test_selectors_that_select_nothing_clear_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|twice"):
        parse_selector(text)


def path(*hops: str) -> PathAnswer:
    ids = tuple(DataCenterId(hop) for hop in hops)
    return PathAnswer(ids, ("internet",) * (len(hops) - 1), 1_500, 20, -1, -1, 4.3712, 1_600, 7_000)


def test_a_route_is_dumped_as_documented() -> None:
    answer = RouteAnswer(
        DataCenterId("a"), DataCenterId("b"), Context(TrafficClass.VOICE), 7, 1_000_000, 2_500, False,
        path("a", "x", "b"), None, None, 9_000, (), (), 2_000_000, ("why",),
    )  # fmt: skip
    shown = json.loads(json.dumps(route_json(answer), allow_nan=False))
    Route.model_validate(shown)
    assert shown["forward"]["delay_ms"] == 1.5 and shown["forward"]["jitter_ms"] is None
    assert shown["forward"]["mos"] == 4.37 and shown["return"] is None and shown["rtt_ms"] is None
    assert shown["age_ms"] == 2.5 and shown["computed_at"] == "1970-01-01T00:00:01.000000Z"


def test_flows_add_up() -> None:
    voice, video = TrafficClass.VOICE, TrafficClass.VIDEO
    flows = flows_json([(path("a", "x", "b"), 2, voice), (path("a", "x", "c"), 3, video)])
    shared = {"from": "a", "to": "x", "transport": "internet", "sessions": 5, "mbps": 3.728}
    assert shared in flows["links"]  # type: ignore[operator]
    assert flows["relays"] == [{"data_center": "x", "sessions": 5, "mbps": 3.728}]


def test_headroom() -> None:
    assert headroom_pct(5, 0) is None and headroom_pct(0, 10) == 100 and headroom_pct(12, 10) == 0
    assert Health.UP.value == "up"


def test_history_steps_are_aligned_and_merge_what_was_counted() -> None:
    fast, slow = bucket_of(20_000), bucket_of(80_000)
    out = [
        Bucket(59_000_000, rtt_min_us=10, sent=30, rtt_sketch=(bucket_of(10), 30)),
        Bucket(60_000_000, sent=10, lost=10),
        Bucket(90_000_000, rtt_min_us=20_000, sent=60, rtt_sketch=(fast, 60)),
    ]
    home = [Bucket(90_000_000, forward_us=9_000, rtt_min_us=20_100, sent=50, lost=2, rtt_sketch=(fast, 38, slow, 10))]
    first, second = history_points(out, home, 60)
    assert first["at"] == "1970-01-01T00:00:00.000000Z" and second["at"] == "1970-01-01T00:01:00.000000Z"
    rtt = second["rtt_ms"]
    assert isinstance(rtt, dict) and rtt["min"] == 20.0 and list(rtt) == ["min", "p50", "p95", "max"]
    # 98 fast ones and 10 slow ones; the mean of the two ends' 95th percentiles would be 50 ms
    assert [rtt["p50"], rtt["p95"], rtt["max"]] == pytest.approx([20.0, 80.0, 80.0], rel=0.01)
    assert (second["samples"], second["lost"], second["loss_pct"]) == (108, 12, 5.0)
    assert second["forward_ms"] is None and second["return_ms"] == {"min": 9.0, "mean": 9.0, "max": 9.0}


def test_history_says_nothing_of_steps_without_probes_and_never_contradicts_itself() -> None:
    (silent,) = history_points([Bucket(0, forward_us=5_000)], [], 60)
    assert (silent["rtt_ms"], silent["loss_pct"], silent["samples"]) == (None, None, 0)
    (lost,) = history_points([Bucket(0, sent=4, lost=4)], [], 60)
    assert (lost["rtt_ms"], lost["loss_pct"], lost["samples"]) == (None, 50.0, 0)
    value = 40_399  # in the upper half of its bucket, whose middle lies below it
    assert bucket_value(bucket_of(value)) < value
    (point,) = history_points([Bucket(0, rtt_min_us=value, sent=1, rtt_sketch=(bucket_of(value), 1))], [], 60)
    assert point["rtt_ms"] == dict.fromkeys(("min", "p50", "p95", "max"), value / 1000)


def test_a_drain_is_shown_as_documented() -> None:
    drain = Drain(
        DrainId("d-1"), Selector(provider="p"), DrainMode.HARD, DrainState.MOVING, (DataCenterId("x"),),  # type: ignore[arg-type]
        {DataCenterId("x"): Intent.SERVING}, "why", 1, "me", deadline_at=2,
    )  # fmt: skip
    shown = DrainAnswer.model_validate(drain_json(drain, 3))
    assert (shown.selector, shown.sessions_left, shown.previous) == ("provider=p", 3, {"x": "serving"})
    assert shown.expires_at is None and shown.deadline_at is not None


def test_bodies_cannot_be_changed_afterwards() -> None:
    body: Body = ClientBody.model_validate({"country": "KZ"})
    with pytest.raises(ValidationError):
        body.country = "DE"  # type: ignore[attr-defined]
