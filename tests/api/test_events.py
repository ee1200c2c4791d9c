"""The audit trail: who did what, when, why; filtered and paged, newest first."""

from __future__ import annotations

from tests.api.conftest import World


async def test_what_operators_do_is_in_the_trail(bare: World) -> None:
    await bare.put("/v1/providers/gcp", {"name": "a"})
    await bare.put("/v1/providers/gcp", {"name": "b"})
    await bare.call("DELETE", "/v1/providers/gcp", status=204)
    events = (await bare.get("/v1/events", params={"subject": "gcp"}))["items"]
    assert [e["kind"] for e in events] == ["provider.deleted", "provider.updated", "provider.created"]
    assert all(e["actor"].startswith("key:") and e["at"].endswith("Z") for e in events)
    only = (await bare.get("/v1/events", params={"kind": "provider.updated"}))["items"]
    assert [e["subject"] for e in only] == ["gcp"]


async def test_the_trail_is_paged_backwards(bare: World) -> None:
    for i in range(5):
        await bare.put(f"/v1/providers/p{i}", {})
    found, after = [], None
    while True:
        query = {"kind": "provider", "limit": 2} | ({"after": after} if after else {})
        page = await bare.get("/v1/events", params=query)
        found += [e["subject"] for e in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert found == ["p4", "p3", "p2", "p1", "p0"]


async def test_a_span_that_is_empty_is_refused(bare: World) -> None:
    span = {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}
    refused = await bare.call("GET", "/v1/events", status=422, params=span)
    assert (refused["code"], refused["field"]) == ("range_empty", "since")
    await bare.put("/v1/providers/gcp", {})
    past = {"since": "0001-01-01T00:00:00+23:59", "until": "2001-01-01T00:00:00Z"}
    assert (await bare.get("/v1/events", params=past))["items"] == []
