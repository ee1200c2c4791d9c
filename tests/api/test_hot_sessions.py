"""The hot path of sessions answers what the framework's endpoint answers, field for field."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from router.api.hot_sessions import _Text
from tests.api.conftest import World

SOMEBODY = {"client": {"latitude": 50.0, "longitude": 8.0}, "pool": "tutors", "metadata": {"tenant": "ä"}}


async def by_framework(world: World, method: str, path: str, **options: Any) -> httpx.Response:
    """The same request in a form that only the framework takes: a media type with a parameter, a lower-case scheme."""
    headers = {**world.http.headers, **options.pop("headers", {})}
    headers["authorization"] = headers["authorization"].replace("Bearer", "bearer")
    return await world.http.request(method, path, headers=headers, **options)


async def test_both_ways_start_and_end_sessions_with_the_same_answer(world: World) -> None:
    await world.furnish()
    await world.measured()
    await world.agent("ai-1")
    answers = []
    for call in (world.http.request, lambda *a, **o: by_framework(world, *a, **o)):
        started = await call("POST", "/v1/sessions", json=SOMEBODY)
        assert started.status_code == 201, started.text
        ended = await call("DELETE", f"/v1/sessions/{started.json()['id']}")
        assert ended.status_code == 200 and ended.json()["state"] == "ended"
        assert ended.json()["agent"]["address"] == started.json()["agent"]["address"] == "127.0.0.1:7424"
        answers.append((started, ended))
    (hot, hot_end), (plain, plain_end) = answers
    assert list(hot.json()) == list(plain.json()) and hot.json()["forward"]["path"] == plain.json()["forward"]["path"]
    assert shape(hot.json()) == shape(plain.json())
    assert shape(hot_end.json()) == shape(plain_end.json())
    assert {k: v for k, v in hot.headers.items() if k != "content-length"} == {
        k: v for k, v in plain.headers.items() if k != "content-length"
    }


def shape(value: Any) -> Any:
    """Names and kinds of everything in a document."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value).__name__


async def test_ages_on_the_hot_path_are_those_of_the_moment(world: World) -> None:
    await world.furnish()
    await world.measured()
    await world.agent("ai-1")
    ages, at = [], []
    for _ in range(3):
        at.append(world.app.runtime.now())
        session = await world.session()
        ages.append(session["forward"]["age_ms"])
        await world.call("DELETE", f"/v1/sessions/{session['id']}")
        await asyncio.sleep(0.02)
    assert ages == sorted(ages) and ages[0] < ages[2], "the text is kept, its ages go on"


def test_evidence_that_is_younger_than_the_request_is_of_no_age() -> None:
    """A request that waited for the disk may answer with routes that were measured after it came."""
    assert json.loads(_Text(('{"age_ms":0,', "}"), (2_000,)).at(1_000)) == {"age_ms": 0.0}


async def test_both_ways_show_and_resume_sessions_with_the_same_answer(world: World) -> None:
    await world.furnish()
    await world.measured()
    await world.agent("ai-1")
    session = await world.session()
    path, shapes = f"/v1/sessions/{session['id']}", []
    for call in (world.http.request, lambda *a, **o: by_framework(world, *a, **o)):
        body = {"token": session["token"], "client": SOMEBODY["client"]}
        resumed = await call("POST", f"{path}/resume", json=body)
        shown = await call("GET", path)
        assert (resumed.status_code, shown.status_code) == (200, 200), resumed.text
        assert resumed.json()["epoch"] == shown.json()["epoch"] == session["epoch"] + 1
        session = resumed.json()
        assert session["agent"] == shown.json()["agent"]
        shapes.append((shape(session), shape(shown.json()), list(session)))
    assert shapes[0] == shapes[1]


async def test_many_who_resume_at_once_share_transactions_and_each_has_its_own_answer(world: World) -> None:
    await world.furnish()
    await world.measured()
    sessions = []
    for number in range(12):
        await world.agent(f"ai-{number}")
        sessions.append(await world.session())
    trips, known = world.app.runtime.rebindings.trips, {session["id"]: session["agent"]["id"] for session in sessions}
    stale = sessions[0]
    await world.call("POST", f"/v1/sessions/{stale['id']}/resume", json=_resume(stale))
    await world.call("POST", f"/v1/sessions/{stale['id']}/resume", json=_resume(stale) | {"unreachable": ["nobody"]})
    answers = await asyncio.gather(
        *(world.http.request("POST", f"/v1/sessions/{s['id']}/resume", json=_resume(s)) for s in sessions[1:]),
        world.http.request("POST", "/v1/sessions/s-0/resume", json=_resume(sessions[1])),
    )
    assert [answer.status_code for answer in answers] == [200] * 11 + [403]
    assert {answer.json()["id"]: answer.json()["agent"]["id"] for answer in answers[:-1]}.items() <= known.items()
    assert world.app.runtime.rebindings.trips - trips < 1 + len(answers)


def _resume(session: dict[str, Any]) -> dict[str, Any]:
    return {"token": session["token"], "client": SOMEBODY["client"]}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"json": {**SOMEBODY, "pool": "nobody"}}, 404, "unknown_pool"),
        ({"json": {**SOMEBODY, "to": "nowhere"}}, 404, "unknown_data_center"),
        ({"json": {**SOMEBODY, "colour": "red"}}, 422, "unknown_field"),
        ({"json": {"pool": "tutors"}}, 422, "missing_field"),
        ({"json": {**SOMEBODY, "client": {"ip": "x"}}}, 422, "invalid_field"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "malformed_json"),
        ({"content": b"\xff", "headers": {"content-type": "application/json"}}, 400, None),
        ({"content": b"{}", "headers": {"content-type": "text/plain"}}, 415, "unsupported_media_type"),
        ({"json": SOMEBODY, "headers": {"authorization": "Bearer no"}}, 401, "key_invalid"),
        ({"json": SOMEBODY, "headers": {"authorization": ""}}, 401, None),
        ({"json": SOMEBODY, "headers": {"idempotency-key": "a b"}}, 422, "invalid_parameter"),
        ({"json": SOMEBODY, "params": {"x": "1"}}, 422, "unknown_parameter"),
        ({"json": SOMEBODY}, 409, "no_idle_agent"),
    ],
)
async def test_refusals_are_those_of_the_framework(
    world: World, change: dict[str, Any], status: int, code: str | None
) -> None:
    await world.furnish()
    response = await world.http.request("POST", "/v1/sessions", **change)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    if code is not None:
        assert response.json()["code"] == code


async def test_keys_and_scopes(world: World) -> None:
    await world.furnish()
    await world.agent("ai-1")
    viewer = await world.key("viewer")
    refused = await world.http.request("POST", "/v1/sessions", json=SOMEBODY, headers=viewer)
    assert refused.status_code == 403 and refused.json()["code"] == "scope_insufficient"
    gone = await world.http.request("DELETE", "/v1/sessions/s-000000000000", headers=await world.key("media"))
    assert gone.status_code == 404 and gone.json()["code"] == "unknown_session"
    assert (await world.http.request("DELETE", "/v1/sessions/A%00")).status_code in (404, 422)


async def test_one_key_gives_one_session_on_both_ways(world: World) -> None:
    await world.furnish()
    await world.measured()
    for number in (1, 2):
        await world.agent(f"ai-{number}")
    key = {"idempotency-key": "once"}
    hot = [world.http.request("POST", "/v1/sessions", json=SOMEBODY, headers=key) for _ in range(5)]
    plain = by_framework(world, "POST", "/v1/sessions", json=SOMEBODY, headers=key)
    answers = [*await asyncio.gather(*hot), await plain]
    assert {answer.status_code for answer in answers} == {201}
    assert len({(answer.json()["id"], answer.json()["agent"]["id"]) for answer in answers}) == 1
    other = await world.http.request("POST", "/v1/sessions", json={**SOMEBODY, "metadata": {}}, headers=key)
    assert other.status_code == 409 and other.json()["code"] == "idempotency_conflict"
    again = json.dumps(SOMEBODY, separators=(" ,", " : ")).encode()
    spaced = await world.http.request(
        "POST", "/v1/sessions", content=again, headers={**key, "content-type": "application/json"}
    )
    assert spaced.json()["id"] == answers[0].json()["id"], "the same request, written differently"


async def test_a_burst_shares_transactions_and_nobody_gets_anothers_agent(world: World) -> None:
    await world.furnish()
    await world.measured()
    for number in range(8):
        await world.agent(f"ai-{number}")
    answers = await asyncio.gather(*(world.http.request("POST", "/v1/sessions", json=SOMEBODY) for _ in range(12)))
    won = [answer.json() for answer in answers if answer.status_code == 201]
    lost = [answer.json() for answer in answers if answer.status_code == 409]
    assert len(won) == 8 and len({one["agent"]["id"] for one in won}) == 8
    assert {one["code"] for one in lost} == {"no_idle_agent"}
    turnstile = world.app.runtime.turnstile
    assert turnstile.batches < turnstile.requests
    ended = await asyncio.gather(*(world.http.request("DELETE", f"/v1/sessions/{one['id']}") for one in won * 2))
    assert {answer.status_code for answer in ended} == {200}, "ending again changes nothing"
    agents = await world.get("/v1/pools/tutors/agents")
    assert all(agent["state"] == "ready" for agent in agents["items"])
