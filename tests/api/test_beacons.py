"""Client networks over HTTP: beacons in, beliefs out; liars and bad rows."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from router.core.messages import Tick
from router.runtime.recorder import replay, segments
from tests.api.conftest import World, running

# 203.0.113.0/24 and 198.51.100.0/24
ASN = "start_ip_u32,end_ip_u32,asn\n3405803776,3405804031,64500\n3325256704,3325256959,64501\n"
PLACES = (
    "203.0.113.0,203.0.113.255,KZ,43.2,76.9\n198.51.100.0,198.51.100.255,DE\n2001:db8::,2001:db8:ffff::,FR,48.8,2.3\n"
)


@pytest.fixture
async def known(tmp_path: Path) -> AsyncIterator[World]:
    """The test world, with files that say whose addresses are."""
    asn, places = tmp_path / "asn.csv.gz", tmp_path / "places.csv"
    asn.write_bytes(gzip.compress(ASN.encode()))
    places.write_text(PLACES)
    async with running(tmp_path / "state", asn_file=asn, location_file=places) as world:
        await world.furnish()
        yield world


def row(**more: Any) -> dict[str, Any]:
    return {"client": {"ip": "203.0.113.77"}, "data_center": "linode-fra", "rtt_ms": 88.0, "source": "beacon"} | more


async def test_a_beacon_is_kept_at_every_level_and_its_address_is_not(known: World) -> None:
    answer = await known.post("/v1/beacons", [row(loss_pct=0.5, jitter_ms=2.0), row(data_center="gcp-ams", rtt_ms=95)])
    assert answer == {"accepted": 2, "left_out": {}}
    told = await known.get("/v1/clients/203.0.113.200")
    assert told["client"] == {
        "prefix": "203.0.113.0/24", "asn": 64500, "country": "KZ", "latitude": 43.2, "longitude": 76.9,
    }  # fmt: skip
    first, second = told["edges"][:2]
    assert (first["data_center"], first["provenance"]) == ("linode-fra", "prefix")
    assert first["rtt_ms"] == pytest.approx(88.0, rel=0.1) and first["loss_pct"] == 0.5 and first["jitter_ms"] == 2.0
    assert second["data_center"] == "gcp-ams" and second["confidence"] > 0.5 and second["age_ms"] < 60_000
    assert told["edges"][-1]["provenance"] == "geo" and told["edges"][-1]["age_ms"] is None
    assert "linode-fra" not in {c["data_center"] for c in told["candidates"]} and len(told["candidates"]) >= 1
    other = await known.get("/v1/clients/as64500")
    assert (other["client"]["asn"], other["client"]["prefix"]) == (64500, None)
    assert (other["edges"][0]["data_center"], other["edges"][0]["provenance"]) == ("linode-fra", "asn")
    country = await known.get("/v1/clients/KZ")
    assert (country["client"]["country"], country["edges"][0]["provenance"]) == ("KZ", "country")
    for by, id in (("asn", "64500"), ("country", "KZ"), ("prefix", "203.0.113.0/24")):
        (group,) = (await known.get("/v1/clients", params={"group_by": by}))["items"]
        assert group["id"] == id and group["edges"][0]["rtt_ms"] == pytest.approx(88.0, abs=0.01)
        assert "203.0.113.77" not in str(group)


async def test_placement_follows_what_was_measured(known: World) -> None:
    await known.measured()
    body = {"client": {"ip": "198.51.100.9"}, "class": "voice"}
    before = (await known.post("/v1/steer", body))["edges"][0]
    assert before["data_center"] == "linode-fra" and before["access_provenance"] == "geo"
    rows = [
        row(client={"ip": "198.51.100.1"}, data_center="linode-fra", rtt_ms=140.0),
        row(client={"ip": "198.51.100.1"}, data_center="gcp-ams", rtt_ms=21.0),
    ]
    await known.post("/v1/beacons", rows)
    after = (await known.post("/v1/steer", body))["edges"][0]
    assert (after["data_center"], after["access_provenance"]) == ("gcp-ams", "prefix")
    assert after["access_ms"] == pytest.approx(10.5, rel=0.15)


@pytest.mark.parametrize(
    ("bad", "code", "field"),
    [
        ({"rtt_ms": 0}, "invalid_field", "1.rtt_ms"),
        ({"rtt_ms": 1e9}, "invalid_field", "1.rtt_ms"),
        ({"rtt_ms": "9"}, "invalid_field", "1.rtt_ms"),
        ({"source": "gossip"}, "invalid_field", "1.source"),
        ({"client": {"ip": "203.0.113.300"}}, "invalid_field", "1.client.ip"),
        ({"client": {"ip": "192.168.1.7"}}, "invalid_field", "1.client"),
        ({"client": {"ip": "::ffff:10.1.2.3"}}, "invalid_field", "1.client"),
        ({"client": {}}, "invalid_field", "1.client"),
        ({"client": {"latitude": 1.0, "longitude": 2.0}}, "invalid_field", "1.client"),
        ({"data_center": "nowhere"}, "unknown_data_center", "1.data_center"),
        ({"who": 1}, "unknown_field", "1.who"),
    ],
)
async def test_one_bad_row_refuses_all_and_says_which(known: World, bad: Any, code: str, field: str) -> None:
    response = await known.http.post("/v1/beacons", json=[row(), row(**bad)])
    refused = response.json()
    assert 400 <= response.status_code < 500
    assert (refused["code"], refused["field"]) == (code, field), refused
    assert (await known.get("/v1/clients", params={"group_by": "prefix"}))["items"] == []
    assert "192.168.1.7" not in response.text and "203.0.113.300" not in response.text


async def test_limits_scopes_and_forms(known: World) -> None:
    assert (await known.post("/v1/beacons", [])) == {"accepted": 0, "left_out": {}}
    assert (await known.post("/v1/beacons", [row()] * 1000))["accepted"] == 1000
    await known.call("POST", "/v1/beacons", 422, json=[row()] * 1001)
    await known.call("POST", "/v1/beacons", 422, json={"rows": []})
    await known.call("POST", "/v1/beacons", 403, json=[row()], headers=await known.key("viewer"))
    await known.call("POST", "/v1/beacons", 200, json=[row()], headers=await known.key("media"))
    own = known.node_headers("linode-fra-1")
    vantage = row(client={"asn": 64500, "country": "KZ"}, source="vantage")
    assert (await known.call("POST", "/v1/beacons", 200, json=[vantage], headers=own))["accepted"] == 1
    other = await known.call("POST", "/v1/beacons", 403, json=[row(data_center="gcp-ams")], headers=own)
    assert (other["code"], other["field"], other["limit"]) == ("not_your_node", "0.data_center", "linode-fra")
    for nothing in ("none", "as0", "as4294967296", "203.0.113"):
        await known.call("GET", f"/v1/clients/{nothing}", 422)
    await known.call("GET", "/v1/clients", 422, params={"group_by": "city"})


async def test_an_ipv6_client_is_a_48_and_a_mapped_one_is_ipv4(known: World) -> None:
    rows = [row(client={"ip": "2001:db8:7:9::5"}), row(client={"ip": "::ffff:203.0.113.9"})]
    await known.post("/v1/beacons", rows)
    items = (await known.get("/v1/clients", params={"group_by": "prefix"}))["items"]
    assert [item["id"] for item in items] == ["2001:db8:7::/48", "203.0.113.0/24"]
    assert items[0]["country"] == "FR"


async def test_what_outran_light_is_left_out_and_counted(known: World) -> None:
    answer = await known.post("/v1/beacons", [row(data_center="oracle-iad", rtt_ms=3.0), row()])
    assert answer == {"accepted": 1, "left_out": {"beacon_outran_light": 1}}
    metrics = (await known.http.get("/metrics")).text
    assert 'tendril_evidence_refused_total{reason="beacon_outran_light"} 1.0' in metrics


async def test_pages(known: World) -> None:
    await known.post("/v1/beacons", [row(client={"asn": asn}) for asn in range(1, 8)])
    first = await known.get("/v1/clients", params={"group_by": "asn", "limit": 4})
    rest = await known.get("/v1/clients", params={"group_by": "asn", "limit": 4, "after": first["next"]})
    assert [i["asn"] for i in first["items"] + rest["items"]] == [1, 2, 3, 4, 5, 6, 7] and rest["next"] is None


async def test_a_fit_runs_beside_the_loop_and_is_adopted(known: World) -> None:
    await known.post("/v1/beacons", [row()])
    runtime = known.app.runtime
    runtime.post(Tick("clients"))
    for _ in range(1000):
        table = runtime.view.clients
        assert table is not None
        if table.model is not None:
            break
        await asyncio.sleep(0.01)
    assert table is not None and table.model is not None and table.model.places == 0  # one network teaches nothing yet


async def test_what_sessions_see_counts_for_their_network(known: World) -> None:
    await known.measured()
    body = {"client": {"ip": "203.0.113.5"}, "class": "voice", "to": "oracle-sin"}
    session = await known.post("/v1/sessions", body)
    edge, node = session["edge"]["data_center"], session["edge"]["node"]
    changed = [{"id": session["id"], "event": "attached", "rtt_ms": 151.5}]
    beat = {"node": node, "epoch": 1, "changed": changed}
    await known.call("POST", "/v1/sessions/heartbeat", 200, json=beat, headers=known.node_headers(node))
    for _ in range(1000):
        items = (await known.get("/v1/clients", params={"group_by": "prefix"}))["items"]
        if items:
            break
        await asyncio.sleep(0.01)
    assert [(i["id"], i["edges"][0]["data_center"], i["edges"][0]["rtt_ms"]) for i in items] == [
        ("203.0.113.0/24", edge, 151.5)
    ]


async def test_the_snippet_is_public_and_needs_no_unsafe_policy(bare: World) -> None:
    answer = await bare.http.get("/v1/beacon.js", headers={"Authorization": ""})
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/javascript")
    assert "eval" not in answer.text.replace("No eval", "") and len(answer.content) < 4096


async def test_a_recorded_run_with_beacons_replays(tmp_path: Path) -> None:
    async with running(tmp_path, flight_recorder_mb=8) as world:
        await world.furnish()
        rows = [
            row(
                client={"ip": f"203.0.{i}.1", "country": "DE", "latitude": 45.0 + i, "longitude": 2.0 * i},
                rtt_ms=150 + i,
            )
            for i in range(30)
        ]
        await world.post("/v1/beacons", rows)
        runtime = world.app.runtime
        runtime.post(Tick("clients"))
        for _ in range(1000):
            table = runtime.view.clients
            if table is not None and table.model is not None:
                break
            await asyncio.sleep(0.01)
        assert table is not None and table.model is not None and table.model.places == 30
        await world.post("/v1/beacons", rows[:3])
    (segment,) = segments(tmp_path / "flight")
    done = replay(segment)
    assert done.diverged_at is None and done.inputs > 5
