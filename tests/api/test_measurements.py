"""Links, matrix, history, health, flows: what was measured comes out, unknown is null."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from probes.wire import bucket_of
from router.core.blame import total
from router.core.messages import AppendHistory, Tick
from router.core.model import DataCenterId, NodeId
from tests.api.conftest import World, fleet, report_of


async def test_links_show_what_is_configured_and_what_is_measured(world: World) -> None:
    await world.put(
        "/v1/links/fast", {"from": "gcp-ams", "to": "oracle-iad", "transport": "backbone", "price_usd_per_gb": 0.02}
    )
    answer = await world.get("/v1/links", params={"from": "gcp-ams", "to": "oracle-iad"})
    backbone, internet = answer["items"]
    assert (backbone["id"], backbone["state"], backbone["rtt_ms"], backbone["age_ms"]) == (
        "fast",
        "unknown",
        None,
        None,
    )
    assert backbone["price_usd_per_gb"] == 0.02 and backbone["provenance"] == "none"
    assert internet["id"] is None and internet["state"] == "up" and internet["provenance"] == "measured"
    assert internet["rtt_ms"] == pytest.approx(72.0, abs=0.5)
    assert internet["forward_ms"] == pytest.approx(36.0, abs=0.5)
    assert internet["return_ms"] == pytest.approx(36.0, abs=0.5)
    assert internet["loss_pct"] == 0 and internet["samples"] > 0 and internet["error_ms"] >= 0


async def test_a_report_changes_estimate_cost_and_age_before_the_next_link_table(world: World) -> None:
    plane, clock = world.app.runtime, world.app.runtime.now
    there = {"from": "gcp-ams", "to": "oracle-iad"}
    await _solved_again(world)
    (before,) = (await world.get("/v1/links", params=there))["items"]
    assert before["expected_ms"] == pytest.approx(36.0, abs=0.5)
    table = plane.view.links
    assert before["metric_us"].keys() == {"voice", "agent", "video", "bulk"}

    report = report_of("gcp-ams", world.sequence + 1, clock())
    row = report["rows"]["peer"].index("oracle-iad-1")
    report["rows"]["forward_min_us"][row] -= 8_000
    report["rows"]["rtt_min_us"][row] -= 8_000
    await world.post("/v1/reports", report, headers=world.node_headers("gcp-ams-1"))
    (after,) = (await world.get("/v1/links", params=there))["items"]
    (back,) = (await world.get("/v1/links", params={"from": "oracle-iad", "to": "gcp-ams"}))["items"]
    assert plane.view.links is table and after["forward_ms"] == before["forward_ms"]
    faster_ms = before["expected_ms"] - after["expected_ms"]
    assert 3.9 <= faster_ms <= 8.0  # the newest bucket weighs half, or all while there is no other
    for name, cost in after["metric_us"].items():
        assert before["metric_us"][name] - cost == pytest.approx(faster_ms * 1000, abs=1.5), name
    assert back["expected_ms"] == pytest.approx(36.0, abs=0.5)
    (heard,) = {row.at for row in plane.view.fresh[plane.view.inventory.index[DataCenterId("gcp-ams")]][-1:]}
    assert after["age_ms"] <= (clock() - heard) / 1000 < 60_000


async def test_age_is_that_of_the_newest_report_of_either_end(world: World) -> None:
    plane = world.app.runtime
    await _solved_again(world)
    await asyncio.sleep(0.05)
    (old,) = (await world.get("/v1/links", params={"from": "gcp-ams", "to": "oracle-iad"}))["items"]
    assert old["age_ms"] >= 50
    sent = plane.now()
    report = report_of("oracle-iad", world.sequence + 1, sent)
    await world.post("/v1/reports", report, headers=world.node_headers("oracle-iad-1"))
    for ends in (("gcp-ams", "oracle-iad"), ("oracle-iad", "gcp-ams")):
        (link,) = (await world.get("/v1/links", params=dict(zip(("from", "to"), ends, strict=True))))["items"]
        assert link["age_ms"] <= (plane.now() - sent) / 1000
    (other,) = (await world.get("/v1/links", params={"from": "gcp-ams", "to": "oracle-sin"}))["items"]
    assert other["age_ms"] >= 50


async def _solved_again(world: World) -> None:
    """A link table and a route table of now, and no job that would make newer ones meanwhile."""
    runtime = world.app.runtime
    for job in runtime._scheduler.get_jobs():
        job.remove()
    before = runtime.view.generation
    for _ in range(20):  # what was under way already may come first
        generation = runtime.view.generation
        await runtime.submit(Tick("routes"))
        await runtime.next_generation(generation, 5.0)
        if runtime.view.generation > before and not runtime.view.fresh:
            return
    raise AssertionError("newer reports stayed outside of the link table")


async def test_links_are_paged(world: World) -> None:
    found, after = [], None
    while True:
        page = await world.get("/v1/links", params={"limit": 5} | ({"after": after} if after else {}))
        found += [(item["from"], item["to"]) for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert len(found) == 12 and found == sorted(set(found))
    refused = await world.call("GET", "/v1/links", status=404, params={"transport": "pigeon"})
    assert refused["code"] == "unknown_transport"


async def test_the_matrix_has_null_where_nothing_is_known(bare: World) -> None:
    await bare.furnish()
    empty = await bare.get("/v1/matrix")
    assert empty["data_centers"] == ["gcp-ams", "linode-fra", "oracle-iad", "oracle-sin"]
    assert all(cell is None for row in empty["rtt_ms"] for cell in row)
    await bare.measured()
    full = await bare.get("/v1/matrix", params={"transport": "internet"})
    for name in ("rtt_ms", "forward_ms", "return_ms", "jitter_ms", "loss_pct", "age_ms"):
        for i, row in enumerate(full[name]):
            assert [cell is None for cell in row] == [j == i for j in range(4)], name
    assert full["rtt_ms"][1][2] == pytest.approx(120.0, abs=1.0)
    assert full["generation"] > 0


async def test_history_rolls_buckets_up(world: World) -> None:
    ids = tuple(DataCenterId(id) for id in ("gcp-ams", "linode-fra", "oracle-iad", "oracle-sin"))

    def row(source: str, at_s: int, rtt_us: int, forward_us: int) -> AppendHistory:
        def column(*values: int) -> bytes:
            return np.array(values, "<i8").tobytes()

        sketch = (bucket_of(rtt_us), 30)
        columns = {"rtt_min_us": column(*[rtt_us] * 4), "forward_us": column(*[forward_us] * 4)}
        columns |= {"jitter_us": column(*[-1] * 4), "sent": column(*[31] * 4), "lost": column(*[1] * 4)}
        columns |= {"rtt_sketch": column(*[2] * 4, *sketch * 4)}
        return AppendHistory(at_s * 1_000_000, 30, DataCenterId(source), ids, ("internet",), columns)

    base = 1_700_000_040
    rows = [
        row("gcp-ams", base, 10_000, 4_000),
        row("gcp-ams", base + 30, 20_000, 6_000),
        row("linode-fra", base, 10_000, 5_000),
    ]
    await world.app.runtime.read(lambda store: store.append_history(rows))
    params = {"since": "2023-11-14T22:14:00Z", "until": "2023-11-14T22:16:00Z", "step_s": 60}
    answer = await world.get("/v1/links/gcp-ams/linode-fra/history", params=params)
    (point,) = answer["items"]
    assert point["at"] == "2023-11-14T22:14:00.000000Z"
    assert point["rtt_ms"]["min"] == 10.0
    assert [point["rtt_ms"][q] for q in ("p50", "p95", "max")] == pytest.approx([10.0, 20.0, 20.0], rel=0.01)
    assert point["forward_ms"] == {"min": 4.0, "mean": 5.0, "max": 6.0}
    assert point["return_ms"] == {"min": 5.0, "mean": 5.0, "max": 5.0}
    assert point["jitter_ms"] is None and point["loss_pct"] == pytest.approx(100 / 62, abs=1e-4)
    assert (point["samples"], point["lost"]) == (90, 3)
    assert answer["route_changes"] == []


async def test_history_is_what_the_agents_reported(world: World) -> None:
    await world.app.runtime.submit(Tick("rollup"))
    points: list[Any] = []
    while not points:  # a worker adds the bucket up, then it is written
        await asyncio.sleep(0.01)
        points = (await world.get("/v1/links/gcp-ams/oracle-iad/history", params={"step_s": 3600}))["items"]
    assert {point["rtt_ms"]["min"] for point in points} == {72.0}
    assert all(point["rtt_ms"][q] == pytest.approx(72.0, rel=0.01) for point in points for q in ("p50", "p95", "max"))
    assert sum(point["samples"] for point in points) % 5 == 0 and sum(point["samples"] for point in points) >= 10
    assert all((point["loss_pct"], point["lost"]) == (0.0, 0) for point in points)


async def test_history_shows_when_a_route_changed(world: World) -> None:
    url = "/v1/links/linode-fra/oracle-iad/history"
    relayed = ["linode-fra", "gcp-ams", "oracle-iad"]
    for _ in range(400):
        if (await world.get("/v1/routes/linode-fra/oracle-iad"))["forward"]["path"] == relayed:
            break
        await world.report_all()
        await asyncio.sleep(0.05)
    earlier = (await world.get(url))["route_changes"]  # the detour may have been found only now
    assert len(earlier) <= 1
    center = await world.get("/v1/data-centers/gcp-ams")
    await world.put("/v1/data-centers/gcp-ams", center | {"intent": "drained"})
    route = await world.get("/v1/routes/linode-fra/oracle-iad")
    found: list[Any] = []
    for _ in range(400):  # what was seen is written when nobody waits for the database
        if found := (await world.get(url))["route_changes"][len(earlier) :]:
            break
        await asyncio.sleep(0.05)
    (change,) = found
    assert (change["class"], change["from_path"], change["to_path"]) == ("voice", relayed, ["linode-fra", "oracle-iad"])
    assert route["forward"]["path"] == change["to_path"]
    assert 0 < change["generation"] <= route["generation"] and change["at"] <= route["computed_at"]


@pytest.mark.parametrize(
    ("query", "status", "code", "field"),
    [
        ("since=yesterday", 422, "invalid_parameter", "since"),
        ("since=2026-01-01T00:00:00", 422, "invalid_parameter", "since"),
        ("since=2026-13-01T00:00:00Z", 422, "invalid_parameter", "since"),
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", 422, "range_empty", "since"),
        ("since=2020-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", 422, "range_too_long", "since"),
        ("since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z&step_s=1", 422, "range_too_fine", "step_s"),
        ("step_s=0", 422, "invalid_parameter", "step_s"),
        ("transport=pigeon", 404, "unknown_transport", "transport"),
    ],
)
async def test_a_history_question_has_limits(bare: World, query: str, status: int, code: str, field: str) -> None:
    await bare.post("/v1/fleet", fleet())
    refused = await bare.call("GET", f"/v1/links/gcp-ams/linode-fra/history?{query}", status=status)
    assert (refused["code"], refused["field"]) == (code, field)


async def test_health_shows_data_centers_and_cells(world: World) -> None:
    await world.agent()
    session = await world.session()
    health = await world.get("/v1/health")
    assert health["generation"] > 0 and health["stale"] is False and health["routes_age_ms"] >= 0
    by_id = {dc["id"]: dc for dc in health["data_centers"]}
    edge = by_id[session["edge"]["data_center"]]
    assert (edge["state"], edge["sessions"], edge["capacity_sessions"], edge["headroom_pct"]) == ("up", 1, 100, 99.0)
    assert edge["nodes"][0]["age_ms"] is not None and edge["vantages_ok"] == 3
    cells = {(cell["region"], cell["provider"]): cell for cell in health["cells"]}
    assert cells["frankfurt", "linode"]["data_centers"] == ["linode-fra"]
    assert sum(cell["sessions"] for cell in health["cells"]) == 1


async def test_targets_show_three_facts_that_do_not_overwrite_each_other(world: World) -> None:
    await world.agent()
    listed = (await world.get("/v1/targets"))["items"]
    assert {"node", "data_center", "provider_region", "provider", "agent_host"} == {one["kind"] for one in listed}
    place = next(one for one in listed if (one["kind"], one["id"]) == ("data_center", "gcp-ams"))
    assert (place["intent"], place["health"]["state"], place["health"]["blame"]) == ("serving", "up", None)
    before = place["capacity"]
    shown = await world.get("/v1/data-centers/gcp-ams")
    await world.put("/v1/data-centers/gcp-ams", shown | {"intent": "cordoned"})
    (place,) = (await world.get("/v1/targets?kind=data_center&id=gcp-ams"))["items"]
    assert (place["intent"], place["health"]["state"], place["capacity"]) == ("cordoned", "up", before)


async def test_a_machine_says_who_is_on_it(world: World) -> None:
    agent = {"id": "ai-1", "data_center": "oracle-iad", "node": "oracle-iad-1", "address": "127.0.0.1:1", "capacity": 3}
    await world.post("/v1/pools/tutors/agents", agent)
    edge = (await world.session())["edge"]
    found = {one["id"]: one["capacity"] for one in (await world.get("/v1/targets?kind=node"))["items"]}
    assert set(found) == set(world.node_keys)
    assert {name: fits["sessions"] for name, fits in found.items() if fits["sessions"]} == {edge["node"]: 1}
    assert (found["oracle-iad-1"]["agents_idle"], found["oracle-iad-1"]["agents_busy"]) == (2, 1)
    assert all(fits["headroom_pct"] is None and fits["capacity_sessions"] == 0 for fits in found.values())


async def test_sessions_that_fail_on_one_edge_are_counted_and_nobody_is_blamed_without_a_baseline(world: World) -> None:
    node = next(iter(world.node_keys))
    totals = {"sessions": 5, "good": 3, "bad": 2, "setup_failures": 1}
    await world.call("POST", "/v1/sessions/heartbeat", json={"node": node, "epoch": 0, "totals": totals})
    runtime = world.app.runtime
    for _ in range(100):
        await asyncio.sleep(0.02)
        runtime.post(Tick("blame"))
        if runtime.view.outcomes:
            break
    count = total(runtime.view.outcomes, edge=runtime.view.inventory.nodes[NodeId(node)].data_center)
    assert (round(count.good), round(count.bad), round(count.setup_failed)) == (3, 2, 1)
    assert (await world.get("/v1/health"))["verdicts"] == []


async def test_flows_count_sessions_per_link_and_relay(world: World) -> None:
    assert await world.get("/v1/flows") == {"links": [], "relays": []}
    await world.agent()
    only = {"allow_providers": ["linode", "oracle"], "deny_regions": ["singapore", "ashburn"]}
    session = await world.session(pool=None, to="oracle-iad", constraints=only)
    assert session["edge"]["data_center"] == "linode-fra"
    flows = await world.get("/v1/flows")
    assert {"data_center": "gcp-ams", "sessions": 2, "mbps": 0.128} in flows["relays"]
    links = {(link["from"], link["to"]): link["sessions"] for link in flows["links"]}
    assert links["linode-fra", "gcp-ams"] == 1 and links["gcp-ams", "linode-fra"] == 1


async def test_the_matrix_of_a_class_says_what_its_routes_gain_as_the_routes_themselves_do(world: World) -> None:
    matrix = await world.get("/v1/matrix?class=voice")
    ids = matrix["data_centers"]
    for i, source in enumerate(ids):
        for j, target in enumerate(ids):
            if i == j:
                assert matrix["mos"][i][j] is None
                continue
            route = await world.get(f"/v1/routes/{source}/{target}?class=voice")
            assert matrix["mos"][i][j] == pytest.approx(route["forward"]["mos"], abs=0.02), (source, target)
            if len(route["forward"]["path"]) == 2:
                assert matrix["mos_gain"][i][j] == pytest.approx(0, abs=0.01)
    plain = await world.get("/v1/matrix")
    assert (plain["mos"], plain["mos_gain"]) == (None, None)
