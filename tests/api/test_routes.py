"""Route answers: one pair, batch, table with ETag and long-poll, explain; no path and unknown ids."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.api.conftest import World


async def test_the_best_route_goes_by_a_relay_and_says_why(world: World) -> None:
    route = await world.get("/v1/routes/linode-fra/oracle-iad")
    assert route["forward"]["path"] == ["linode-fra", "gcp-ams", "oracle-iad"]
    assert route["forward"]["transports"] == ["internet", "internet"]
    assert route["return"]["path"] == ["oracle-iad", "gcp-ams", "linode-fra"]
    assert route["forward"]["delay_ms"] == pytest.approx(40.0, abs=0.5)
    assert route["rtt_ms"] == pytest.approx(80.0, abs=1.0)
    assert route["direct_rtt_ms"] == pytest.approx(120.0, abs=1.0)
    assert route["class"] == "voice" and route["stale"] is False
    assert any("gcp-ams" in reason for reason in route["reasons"])
    assert 0 <= route["age_ms"] < 60_000


async def test_a_batch_answers_in_the_order_of_its_pairs_under_one_generation(world: World) -> None:
    pairs = [{"from": "linode-fra", "to": "oracle-iad"}, {"from": "oracle-sin", "to": "gcp-ams"}]
    answer = await world.post("/v1/routes/batch", {"class": "agent", "pairs": pairs})
    assert [(r["from"], r["to"], r["class"]) for r in answer["routes"]] == [
        ("linode-fra", "oracle-iad", "agent"),
        ("oracle-sin", "gcp-ams", "agent"),
    ]
    assert {r["generation"] for r in answer["routes"]} == {answer["generation"]}
    assert 0 < answer["generation"] < 2**53


async def test_no_path_is_an_answer_with_reasons(bare: World) -> None:
    await bare.furnish()
    route = await bare.get("/v1/routes/linode-fra/oracle-iad")
    assert route["forward"] is None and route["return"] is None and route["rtt_ms"] is None
    assert route["reasons"] and all(isinstance(reason, str) and reason for reason in route["reasons"])


@pytest.mark.parametrize(
    ("path", "status", "code", "field"),
    [
        ("/v1/routes/nowhere/oracle-iad", 404, "unknown_data_center", "from"),
        ("/v1/routes/oracle-iad/nowhere", 404, "unknown_data_center", "to"),
        ("/v1/routes/oracle-iad/oracle-iad", 422, "same_data_center", "to"),
        ("/v1/routes/oracle-iad/gcp-ams?policy=none", 404, "unknown_policy", "policy"),
        ("/v1/routes/oracle-iad/gcp-ams?class=fax", 422, "invalid_parameter", "class"),
        ("/v1/routes/oracle-iad/gcp-ams?klass=voice", 422, "unknown_parameter", "klass"),
        ("/v1/routes/oracle-iad/gcp-ams?class=voice&class=voice", 422, "repeated_parameter", "class"),
        ("/v1/routes/Oracle_IAD/gcp-ams", 422, "invalid_parameter", "from"),
        ("/v1/routes?from=nowhere", 404, "unknown_data_center", "from"),
        ("/v1/routes", 422, "missing_parameter", "from"),
        ("/v1/routes?from=gcp-ams&wait_s=nan", 422, "invalid_parameter", "wait_s"),
        ("/v1/routes?from=gcp-ams&wait_s=1e9", 422, "invalid_parameter", "wait_s"),
        ("/v1/routes/watch?from=nowhere", 404, "unknown_data_center", "from"),
        ("/v1/routes/gcp-ams/nowhere/explain", 404, "unknown_data_center", "to"),
    ],
)
async def test_a_wrong_question_is_refused_by_name(world: World, path: str, status: int, code: str, field: str) -> None:
    refused = await world.call("GET", path, status=status)
    assert (refused["code"], refused["field"], refused["status"]) == (code, field, status)
    assert refused["type"] == f"urn:tendril:problem:{code}"


async def test_a_table_is_not_sent_twice_and_a_long_poll_wakes_on_the_next_generation(world: World) -> None:
    params = {"from": "linode-fra"}
    first = await world.http.get("/v1/routes", params=params)
    assert len(first.json()["routes"]) == 3
    tag = first.headers["ETag"]
    assert tag == f'"{first.json()["generation"]}"'

    async def poll(tag: str) -> httpx.Response:
        return await world.http.get("/v1/routes", params=params | {"wait_s": "20"}, headers={"If-None-Match": tag})

    waiting = asyncio.ensure_future(poll(tag))
    while not waiting.done():
        await world.report_all()
        await asyncio.sleep(0.05)
    answer = waiting.result()
    assert answer.status_code == 200
    assert answer.json()["generation"] > first.json()["generation"]
    assert answer.headers["ETag"] == f'"{answer.json()["generation"]}"'


async def test_the_same_generation_is_304(bare: World) -> None:
    await bare.furnish()
    await bare.app.runtime.routes_settled()
    for _ in range(50):  # a generation may come in between; then ask with the newer tag
        tag = (await bare.http.get("/v1/routes", params={"from": "gcp-ams"})).headers["ETag"]
        again = await bare.http.get("/v1/routes", params={"from": "gcp-ams"}, headers={"If-None-Match": tag})
        if again.status_code == 304:
            break
    assert again.status_code == 304
    assert again.content == b"" and again.headers["ETag"] == tag


async def test_explain_shows_the_winner_and_the_losers_with_terms(world: World) -> None:
    told = await world.get("/v1/routes/linode-fra/oracle-iad/explain", params={"class": "agent"})
    verdicts = {tuple(c["path"]): c["verdict"] for c in told["forward"]}
    assert verdicts["linode-fra", "gcp-ams", "oracle-iad"] == "in force"
    assert verdicts["linode-fra", "oracle-iad"] == "lost"
    winner = next(c for c in told["forward"] if c["verdict"] == "in force")
    assert winner["metric_us"] == sum(winner["terms"].values())
    assert [hop["from"] for hop in winner["hops"]] == ["linode-fra", "gcp-ams"]
    assert told["rule"] and told["return"]


async def test_a_cordon_is_in_the_routes_before_the_put_is_answered(world: World) -> None:
    relay = await world.get("/v1/data-centers/gcp-ams")
    await world.put("/v1/data-centers/gcp-ams", relay | {"intent": "cordoned"})
    route = await world.get("/v1/routes/linode-fra/oracle-iad")
    assert route["forward"]["path"] == ["linode-fra", "oracle-iad"]
    await world.put("/v1/data-centers/gcp-ams", relay | {"intent": "serving"})
    assert (await world.get("/v1/data-centers/gcp-ams"))["intent"] == "serving"


async def test_a_policy_has_its_own_table(world: World) -> None:
    await world.put("/v1/policies/no-gcp", {"match": {"class": "voice"}, "deny_providers": ["gcp"]})
    ruled = await world.get("/v1/routes/linode-fra/oracle-iad", params={"policy": "no-gcp"})
    free = await world.get("/v1/routes/linode-fra/oracle-iad")
    assert ruled["forward"]["path"] == ["linode-fra", "oracle-iad"]
    assert ruled["policy"] == "no-gcp" and free["policy"] is None
    assert free["forward"]["path"] == ["linode-fra", "gcp-ams", "oracle-iad"]
