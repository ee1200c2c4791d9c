"""Sessions: placed, durable, idempotent, resumed with fencing, moved and ended through heartbeats."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.api.conftest import Json, World


async def test_a_session_gets_an_edge_an_agent_and_both_paths_with_reasons(world: World) -> None:
    await world.agent()
    session = await world.session(
        metadata={"tenant": "x"}, client={"ip": "203.0.113.77", "latitude": 50.0, "longitude": 8.0}
    )
    assert re.fullmatch(r"s-[0-9a-f]{21}", session["id"])
    assert session["state"] == "attaching" and session["class"] == "agent" and session["epoch"] == 1
    assert session["agent"] == {"id": "ai-1", "data_center": "oracle-iad", "address": "127.0.0.1:7424"}
    edge = session["edge"]["data_center"]
    assert session["edge"] == {"data_center": edge, "node": f"{edge}-1", "url": f"udp://{edge}-1:7423"}
    assert session["edges"][0]["data_center"] == edge and session["edges"][0]["total_ms"] > 0
    assert session["forward"]["path"][0] == edge and session["forward"]["path"][-1] == "oracle-iad"
    assert session["return"]["path"][0] == "oracle-iad" and session["return"]["path"][-1] == edge
    assert session["reasons"] and session["token"] and session["grace_s"] == 60
    assert session["client"]["prefix"] == "203.0.113.0/24"
    shown = await world.get(f"/v1/sessions/{session['id']}")
    assert shown["token"] is None
    assert (shown["edge"], shown["agent"]) == (session["edge"], session["agent"])
    assert "203.0.113.77" not in str(shown) + str(session)


async def test_no_idle_agent_is_a_conflict_with_a_hint(world: World) -> None:
    await world.agent()
    await world.session()
    refused = await world.http.post("/v1/sessions", json={"client": {"latitude": 50, "longitude": 8}, "pool": "tutors"})
    assert refused.status_code == 409
    assert (refused.json()["code"], refused.json()["field"]) == ("no_idle_agent", "pool")
    assert refused.headers["Retry-After"] == "1" and refused.json()["retry_after_s"] == 1


async def test_a_placement_without_answer_names_each_rejected_data_center(world: World) -> None:
    body = {"client": {}, "to": "oracle-iad", "constraints": {"allow_providers": ["nobody"]}}
    refused = await world.call("POST", "/v1/sessions", status=409, json=body)
    assert refused["code"] == "no_edge"
    assert {r["data_center"] for r in refused["rejected"]} == {"gcp-ams", "linode-fra", "oracle-iad", "oracle-sin"}
    assert all(r["rule"] and r["detail"] for r in refused["rejected"])
    slow = {"client": {}, "to": "oracle-iad", "constraints": {"deny_regions": ["ashburn"], "max_rtt_ms": 1}}
    far = await world.call("POST", "/v1/sessions", status=409, json=slow)
    assert (far["code"], far["rule"], far["field"], far["limit"]) == ("max_rtt", "max_rtt", "constraints.max_rtt_ms", 1)


async def test_a_user_of_whom_nothing_is_known_is_told_why_and_placed_by_routes(world: World) -> None:
    await world.agent()
    for client, why in (
        ({"ip": "10.1.2.3"}, "10.1.2.0/24 is no network of the public Internet"),
        ({"ip": "::ffff:192.168.7.9"}, "192.168.7.0/24 is no network of the public Internet"),
        ({"ip": "100.64.1.1"}, "100.64.1.0/24 is no network of the public Internet"),
        ({"ip": "::1"}, "::/48 is no network of the public Internet"),
        ({"ip": "fd00::7"}, "fd00::/48 is no network of the public Internet"),
        ({"ip": "8.8.8.8"}, "no measurement and no file of locations knows this user's network"),
        ({"ip": "2a00:1450:4001::1"}, "no measurement and no file of locations knows this user's network"),
        ({}, "the request names no address, AS number, country or position of its user"),
    ):
        found = await world.post("/v1/steer", {"client": client, "pool": "tutors"})
        assert found["edges"][0]["data_center"] == "oracle-iad" and found["edges"][0]["access_provenance"] == "none"
        assert found["reasons"][0] == "chose oracle-iad: access unknown + route to oracle-iad 0.0 ms"
        assert found["reasons"][2] == f"{why}: the routes alone decided; a country or a position would help"
    for ip in ("300.1.1.1", "", "fe80::1%eth0"):
        refused = await world.call("POST", "/v1/steer", status=422, json={"client": {"ip": ip}, "pool": "tutors"})
        assert (refused["code"], refused["field"]) == ("invalid_field", "client.ip")


async def test_sessions_without_agent_have_what_they_asked_for(world: World) -> None:
    to = await world.session(pool=None, to="oracle-sin")
    assert to["agent"] is None and to["to"] == "oracle-sin"
    if to["edge"]["data_center"] != "oracle-sin":
        assert to["forward"]["path"][-1] == "oracle-sin"
    alone = await world.session(pool=None)
    assert alone["agent"] is None and alone["forward"] is None and alone["return"] is None
    assert alone["backups"] == {"forward": [], "return": []} and alone["edges"]


async def test_an_agent_in_the_edges_own_data_center_needs_no_hop(world: World) -> None:
    only = {"allow_regions": ["ashburn"]}
    session = await world.session(pool=None, to="oracle-iad", constraints=only)
    assert session["edge"]["data_center"] == "oracle-iad"
    assert session["forward"]["path"] == ["oracle-iad"] and session["forward"]["delay_ms"] == 0
    assert session["return"]["path"] == ["oracle-iad"]


async def test_the_same_idempotency_key_gives_the_same_session(world: World) -> None:
    await world.agent()
    body = {"client": {"latitude": 50.0, "longitude": 8.0}, "pool": "tutors"}
    headers = {"Idempotency-Key": "order-1"}
    first = await world.post("/v1/sessions", body, headers=headers)
    again = await world.post("/v1/sessions", body, headers=headers)  # the only agent is busy: replayed all the same
    assert (again["id"], again["agent"], again["epoch"]) == (first["id"], first["agent"], first["epoch"])
    other = await world.call("POST", "/v1/sessions", status=409, json=body | {"metadata": {"a": "b"}}, headers=headers)
    assert other["code"] == "idempotency_conflict"
    media = await world.key("media")
    mine = await world.call("POST", "/v1/sessions", status=409, json=body, headers=headers | media)
    assert mine["code"] == "no_idle_agent", "another caller's key of the same text is another key"


async def test_many_takers_never_share_an_agent(world: World) -> None:
    for i in range(5):
        await world.agent(f"ai-{i}")
    body = {"client": {"latitude": 50.0, "longitude": 8.0}, "pool": "tutors"}
    answers = await asyncio.gather(*(world.http.post("/v1/sessions", json=body) for _ in range(12)))
    taken = [a.json()["agent"]["id"] for a in answers if a.status_code == 201]
    assert sorted(taken) == [f"ai-{i}" for i in range(5)]
    assert {a.json()["code"] for a in answers if a.status_code != 201} == {"no_idle_agent"}


async def test_steer_takes_nothing(world: World) -> None:
    await world.agent()
    body = {"client": {"latitude": 1.0, "longitude": 103.0}, "pool": "tutors"}
    for _ in range(3):
        steered = await world.post("/v1/steer", body)
        assert steered["edges"][0]["data_center"] == "oracle-sin" and steered["hubs"] == ["oracle-iad"]
        assert steered["reasons"] and steered["generation"] > 0
    assert (await world.get("/v1/pools/tutors/agents"))["items"][0]["state"] == "ready"


async def test_resume_keeps_the_agent_and_fences_the_older_token(world: World) -> None:
    await world.agent()
    session = await world.session()
    path = f"/v1/sessions/{session['id']}/resume"
    moved = {"token": session["token"], "client": {"latitude": 39.0, "longitude": -77.0}}
    resumed = await world.post(path, moved)
    assert resumed["agent"] == session["agent"] and resumed["epoch"] == 2
    assert resumed["edge"]["data_center"] == "oracle-iad" != session["edge"]["data_center"]
    newest = await world.post(path, moved | {"token": resumed["token"]})
    assert newest["epoch"] == 3
    fenced = await world.call("POST", path, status=409, json=moved)
    assert (fenced["code"], fenced["limit"]) == ("fenced", 3)
    other = await world.call("POST", "/v1/sessions/s-000000000000/resume", status=403, json=moved)
    assert other["code"] == "token_invalid"
    forged = await world.call("POST", path, status=403, json=moved | {"token": resumed["token"][:-2] + "xx"})
    assert forged["code"] == "token_invalid"
    await world.call("DELETE", f"/v1/sessions/{session['id']}", status=200)
    ended = await world.call("POST", path, status=409, json=moved | {"token": newest["token"]})
    assert ended["code"] == "session_ended"


async def test_ending_frees_the_agent_and_is_idempotent(world: World) -> None:
    await world.agent()
    session = await world.session()
    for _ in range(2):
        ended = await world.call("DELETE", f"/v1/sessions/{session['id']}", status=200)
        assert (ended["state"], ended["end_reason"]) == ("ended", "caller")
    assert (await world.get("/v1/pools/tutors/agents"))["items"][0]["state"] == "ready"
    await world.call("DELETE", "/v1/sessions/s-ffffffffffff", status=404)
    kinds = [e["kind"] for e in (await world.get(f"/v1/sessions/{session['id']}/events"))["items"]]
    assert kinds == ["session.started", "session.ended"]
    await world.call("GET", "/v1/sessions/s-ffffffffffff/events", status=404)


async def test_lists_filter_and_page(world: World) -> None:
    ids = []
    for i in range(5):
        made = await world.session(
            pool=None, metadata={"n": str(i % 2)}, client={"country": "KZ", "asn": 9198, "ip": "2001:db8:1:2::3"}
        )
        ids.append(made["id"])
    await world.call("DELETE", f"/v1/sessions/{ids[0]}", status=200)

    async def listed(**params: str | int) -> list[str]:
        return [item["id"] for item in (await world.get("/v1/sessions", params=params))["items"]]

    assert await listed() == sorted(ids)
    assert await listed(state="ended") == [ids[0]]
    assert sorted(await listed(**{"metadata.n": "1"})) == sorted(ids[1::2])
    assert (
        await listed(client="KZ")
        == sorted(ids)
        == await listed(client="9198")
        == await listed(client="2001:db8:1::/48")
        == await listed(client="2001:db8:1:2::3")  # whoever complains tells an address, not a prefix
    )
    assert await listed(client="DE") == []
    page = await world.get("/v1/sessions", params={"limit": 2})
    rest = await world.get("/v1/sessions", params={"limit": 10, "after": page["next"]})
    assert [i["id"] for i in page["items"] + rest["items"]] == sorted(ids) and rest["next"] is None
    assert (await world.call("GET", "/v1/sessions?metadata.=x", status=422))["code"] == "unknown_parameter"


async def attach(world: World, session: Json) -> Json:
    """The edge's node says that the user arrived."""
    node = session["edge"]["node"]
    body = {"node": node, "epoch": 1, "changed": [{"id": session["id"], "event": "attached"}]}
    return dict(await world.post("/v1/sessions/heartbeat", body, headers=world.node_headers(node)))


async def test_a_heartbeat_attaches_renews_and_carries_moves_and_ends(world: World) -> None:
    await world.agent()
    session = await world.session()
    answer = await attach(world, session)
    assert answer["moves"] == [] and answer["ends"] == []
    assert answer["lease_expires_at"] > session["lease_expires_at"]
    shown = await world.get(f"/v1/sessions/{session['id']}")
    assert shown["state"] == "active"
    await world.call("DELETE", f"/v1/sessions/{session['id']}", status=200)
    node = session["edge"]["node"]
    body = {"node": node, "epoch": 1, "totals": {"sessions": 0, "good": 3, "bad": 1, "setup_failures": 2}}
    told = await world.post("/v1/sessions/heartbeat", body, headers=world.node_headers(node))
    assert told["ends"] == [{"id": session["id"], "reason": "caller"}]
    metrics = (await world.http.get("/metrics")).text
    assert f'tendril_sessions_setup_failures_total{{data_center="{session["edge"]["data_center"]}"}} 2.0' in metrics


async def test_a_node_speaks_only_for_itself(world: World) -> None:
    body = {"node": "gcp-ams-1", "epoch": 1}
    refused = await world.call(
        "POST", "/v1/sessions/heartbeat", status=403, json=body, headers=world.node_headers("oracle-iad-1")
    )
    assert refused["code"] == "not_your_node"
    await world.post("/v1/sessions/heartbeat", body, headers=await world.key("media"))
    unknown = await world.call("POST", "/v1/sessions/heartbeat", status=404, json=body | {"node": "nobody"})
    assert unknown["code"] == "unknown_node"


async def test_a_hard_drain_moves_a_live_session_with_the_same_agent(world: World) -> None:
    await world.agent()
    session = await world.session()
    await attach(world, session)
    edge, node = session["edge"]["data_center"], session["edge"]["node"]
    drain = await world.post("/v1/drains", {"selector": f"data_center={edge}", "mode": "hard", "reason": "test"})
    moves: list[Json] = []
    deadline = asyncio.get_running_loop().time() + 20
    while not moves and asyncio.get_running_loop().time() < deadline:
        told = await world.post("/v1/sessions/heartbeat", {"node": node, "epoch": 1}, headers=world.node_headers(node))
        moves = told["moves"]
        await world.report_all()
        await asyncio.sleep(0.1)
    (move,) = moves
    assert (move["id"], move["from"]) == (session["id"], edge) and move["to"] != edge
    assert move["url"] and move["token"] and 1 <= move["deadline_s"] <= 30
    shown = await world.get(f"/v1/sessions/{session['id']}")
    assert (shown["state"], shown["moved_from"], shown["epoch"]) == ("moving", edge, 2)
    assert shown["agent"] == session["agent"]
    arrived = await attach(world, shown)
    assert arrived["ends"] == []
    shown = await world.get(f"/v1/sessions/{session['id']}")
    assert (shown["state"], shown["edge"]["data_center"], shown["moved_from"]) == ("active", move["to"], None)
    while (await world.get(f"/v1/drains/{drain['id']}"))["state"] != "drained":
        assert asyncio.get_running_loop().time() < deadline, "the drain did not finish"
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"client": {"ip": "300.1.1.1"}}, "client.ip"),
        ({"client": {"ip": "203.0.113.0/24"}}, "client.ip"),
        ({"client": {"ip": "fe80::1%eth0"}}, "client.ip"),
        ({"client": {"country": "Kazakhstan"}}, "client.country"),
        ({"client": {"asn": 0}}, "client.asn"),
        ({"client": {"asn": "9198"}}, "client.asn"),
        ({"client": {"latitude": 1}}, "client"),
        ({"class": "fax"}, "class"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"constraints": {"max_rtt_ms": -1}}, "constraints.max_rtt_ms"),
        ({"pool": "Tutors"}, "pool"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_a_wrong_session_names_its_field_and_does_not_echo(world: World, change: Json, field: str) -> None:
    refused = await world.call("POST", "/v1/sessions", status=422, json={"client": {}} | change)
    assert refused["field"] == field
    assert "300.1.1.1" not in str(refused)


async def test_unknown_names_are_404(world: World) -> None:
    assert (await world.call("POST", "/v1/sessions", status=404, json={"client": {}, "pool": "none"}))[
        "code"
    ] == "unknown_pool"
    refused = await world.call("POST", "/v1/steer", status=404, json={"client": {}, "to": "nowhere"})
    assert (refused["code"], refused["field"]) == ("unknown_data_center", "to")
