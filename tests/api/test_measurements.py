"""Links, matrix, history, health, flows: what was measured comes out, unknown is null."""

from __future__ import annotations

import numpy as np
import pytest

from router.core.messages import AppendHistory
from router.core.model import DataCenterId
from tests.api.conftest import World, fleet


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
        def column(value: int) -> bytes:
            return np.full((1, 4), value, "<i8").tobytes()

        columns = {"rtt_us": column(rtt_us), "forward_us": column(forward_us), "jitter_us": column(-1)}
        columns |= {"loss_ppm": column(10_000), "samples": column(30)}
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
    assert point["rtt_ms"] == {"min": 10.0, "mean": 15.0, "max": 20.0}
    assert point["forward_ms"] == {"min": 4.0, "mean": 5.0, "max": 6.0}
    assert point["return_ms"] == {"min": 5.0, "mean": 5.0, "max": 5.0}
    assert point["jitter_ms"] is None and point["loss_pct"] == 1.0 and point["samples"] == 60


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


async def test_flows_count_sessions_per_link_and_relay(world: World) -> None:
    assert await world.get("/v1/flows") == {"links": [], "relays": []}
    await world.agent()
    only = {"allow_providers": ["linode", "oracle"], "deny_regions": ["singapore", "ashburn"]}
    session = await world.session(pool=None, to="oracle-iad", constraints=only)
    assert session["edge"]["data_center"] == "linode-fra"
    flows = await world.get("/v1/flows")
    assert {"data_center": "gcp-ams", "sessions": 2} in flows["relays"]
    links = {(link["from"], link["to"]): link["sessions"] for link in flows["links"]}
    assert links["linode-fra", "gcp-ams"] == 1 and links["gcp-ams", "linode-fra"] == 1
