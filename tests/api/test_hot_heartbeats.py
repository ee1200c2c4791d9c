"""Heartbeats are heard the same on the hot path and by the framework: leases, counts, pulses, measurements."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.conftest import World
from tests.api.test_hot_sessions import shape

BEATS = (True, False)


async def beat(world: World, hot: bool, body: dict[str, Any], key: dict[str, str] | None = None) -> httpx.Response:
    """One heartbeat; the framework takes a lower-case scheme, the hot path does not."""
    authorization = (key or dict(world.http.headers))["Authorization" if key else "authorization"]
    if not hot:
        authorization = authorization.replace("Bearer", "bearer")
    headers = {"Authorization": authorization}
    return await world.http.post("/v1/sessions/heartbeat", json=body, headers=headers)


async def test_both_ways_answer_the_same(world: World) -> None:
    await world.agent()
    answers = []
    for hot in BEATS:
        session = await world.session()
        node = session["edge"]["node"]
        line = {"id": session["id"], "event": "attached"}
        told = await beat(world, hot, {"node": node, "epoch": 1, "changed": [line]})
        assert told.status_code == 200, told.text
        assert (await world.get(f"/v1/sessions/{session['id']}"))["state"] == "active"
        await world.call("DELETE", f"/v1/sessions/{session['id']}")
        answer = await beat(world, hot, {"node": node, "epoch": 1})
        assert [end["id"] for end in answer.json()["ends"]] == [session["id"]]
        await beat(world, hot, {"node": node, "epoch": 1, "changed": [{"id": session["id"], "event": "ended"}]})
        answers.append(answer)
    first, second = answers
    assert shape(first.json()) == shape(second.json())
    assert dict(first.headers).keys() == dict(second.headers).keys()


@pytest.mark.parametrize("hot", BEATS)
async def test_what_sessions_saw_of_their_networks_is_learnt_either_way(world: World, hot: bool) -> None:
    await world.agent()
    session = await world.session(client={"asn": 64500, "country": "DE", "latitude": 50.0, "longitude": 8.0})
    node = session["edge"]["node"]
    line = {"id": session["id"], "event": "attached", "rtt_ms": 17.0}
    assert (await beat(world, hot, {"node": node, "epoch": 1, "changed": [line]})).status_code == 200
    for _ in range(400):
        networks = (await world.get("/v1/clients", params={"group_by": "asn"}))["items"]
        if networks:
            break
        await world.app.runtime.read(lambda store: store.session(session["id"]))  # behind what was asked before
    assert [one["asn"] for one in networks] == [64500]


@pytest.mark.parametrize("hot", BEATS)
async def test_totals_are_counted_once_either_way(world: World, hot: bool) -> None:
    totals = {"sessions": 3, "good": 5, "bad": 2, "setup_failures": 1}
    await beat(world, hot, {"node": "gcp-ams-1", "epoch": 1, "totals": totals})
    metrics = (await world.http.get("/metrics")).text
    assert 'tendril_sessions_good_total{data_center="gcp-ams"} 5.0' in metrics
    assert 'tendril_sessions_bad_total{data_center="gcp-ams"} 2.0' in metrics
    assert world.app.http.state.pulses.silent_us("gcp-ams-1", world.app.runtime.now() + 60_000_000) is not None


@pytest.mark.parametrize("hot", BEATS)
async def test_refusals_are_the_framework_s(world: World, hot: bool) -> None:
    own = world.node_headers("gcp-ams-1")
    assert (await beat(world, hot, {"node": "gcp-ams-1", "epoch": 1}, own)).status_code == 200
    cases = (
        ({"node": "linode-fra-1", "epoch": 1}, own, 403, "not_your_node"),
        ({"node": "gcp-ams-1", "epoch": 0, "changed": [{"id": "s-1", "event": "danced"}]}, own, 422, None),
        ({"node": "gcp-ams-1"}, own, 422, "missing_field"),
        ({"node": "nobody", "epoch": 1}, None, 404, "unknown_node"),
        ({"node": "gcp-ams-1", "epoch": 1}, {"Authorization": "Bearer tk_nonsense"}, 401, "key_invalid"),
    )
    for body, key, status, code in cases:
        found = await beat(world, hot, body, key)
        assert found.status_code == status, found.text
        assert code is None or found.json()["code"] == code
