"""Reports on the hot path: the answers of the endpoint in FastAPI, byte for byte, and the same work done."""

from __future__ import annotations

import json
from typing import Any

import pytest

from router.api import heads as module
from router.api.heads import Head, Heads
from router.core.messages import Reported
from router.core.model import NodeId
from router.runtime import Runtime
from tests.api.conftest import World, listening, report_of
from tests.api.test_connection import undated
from tests.api.test_hot import both
from tests.api.test_repeats import wired

NODE = "gcp-ams-1"


def plain(world: World) -> dict[str, Any]:
    world.sequence += 1
    return report_of("gcp-ams", world.sequence, world.app.runtime.now())


def raw(world: World, body: bytes, more: str = "") -> bytes:
    key = world.node_headers(NODE)["Authorization"]
    head = f"POST /v1/reports HTTP/1.1\r\nHost: t\r\nAuthorization: {key}\r\n{more}"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def test_a_plain_report_is_taken_without_the_framework(world: World) -> None:
    before = world.app.http.state.tallies.reports_accepted  # type: ignore[attr-defined]
    answer, hot = await both(world, "POST", "/v1/reports", json=plain(world), headers=world.node_headers(NODE))
    assert hot and answer.json() == {"plan_version": world.app.runtime.view.plan_version}
    assert world.app.http.state.tallies.reports_accepted == before + 2  # type: ignore[attr-defined]
    assert world.app.runtime.view.nodes[NodeId(NODE)].sequence == world.sequence


async def test_whatever_is_unusual_is_answered_by_the_framework(world: World) -> None:
    own, admin = world.node_headers(NODE), {"Authorization": world.http.headers["authorization"]}
    report = plain(world)
    rows = report["rows"]
    odd: tuple[tuple[dict[str, str], Any, int], ...] = (
        (admin, report, 403),
        ({"Authorization": ""}, report, 401),
        ({"Authorization": "Bearer tk_000000000000_" + "a" * 43}, report, 401),
        (own, report | {"node": "oracle-iad-1"}, 403),
        (own, report | {"node": 7}, 422),
        (own, report | {"more": 7}, 422),
        (own, report | {"version": 2}, 422),
        (own, report | {"sequence": 1.5}, 422),
        (own, report | {"rows": rows | {"sent": rows["sent"][:-1]}}, 422),
        (own, report | {"rows": rows | {"peer": [rows["peer"][0]] * len(rows["peer"])}}, 422),
        (own, report | {"rows": rows | {"jitter_us": [True] * len(rows["peer"])}}, 422),
        (own, [report], 422),
    )
    for headers, body, status in odd:
        answer, hot = await both(world, "POST", "/v1/reports", json=body, headers=headers)
        assert (answer.status_code, hot) == (status, False), (answer.text, body)
    typed = own | {"content-type": "application/json"}
    for text, status in ((b"{", 400), (b"\xff", 400), (b"[" * 9_000, 400), (b"", 400), (b'{"node":NaN}', 422)):
        answer, hot = await both(world, "POST", "/v1/reports", content=text, headers=typed)
        assert (answer.status_code, hot) == (status, False), (answer.text, text[:20])
    answer, hot = await both(world, "POST", "/v1/reports?x=1", json=report, headers=own)
    assert (answer.status_code, hot) == (422, False)
    assert world.app.runtime.view.nodes[NodeId(NODE)].sequence < world.sequence


async def test_the_bytes_are_those_of_the_parser(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    post = Runtime.post

    def noting(self: Runtime, event: Any) -> None:
        if isinstance(event, Reported):
            taken.append(event.report.sequence)
        post(self, event)

    monkeypatch.setattr(Runtime, "post", noting)
    async with listening(world.app) as url, wired(url) as wire:
        seen = []
        for more in ("", "Connection: keep-alive\r\n"):  # a header about framing: for the parser
            for change in ({}, {"node": "nobody"}, {"interval_us": -1}):
                body = json.dumps(plain(world) | change).encode()
                seen.append(undated(await wire.ask(raw(world, body, more))))
        assert seen[:3] == seen[3:] and seen[0][0].startswith(b"HTTP/1.1 200 OK"), seen
        assert taken == [world.sequence - 5, world.sequence - 2]


async def test_a_defect_of_a_plain_path_is_told_as_of_any_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runtime, "post", lambda self, event: 1 / 0)
    body = json.dumps(plain(world)).encode()
    async with listening(world.app) as url, wired(url) as wire:
        answer = await wire.ask(raw(world, body))
        assert answer[0].startswith(b"HTTP/1.1 500") and json.loads(answer[1])["code"] == "internal_error", answer


async def test_a_head_that_came_before_is_not_read_again_and_its_key_still_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[bool] = []
    find = Heads.find

    def noting(self: Heads, data: bytes) -> Any:
        found = find(self, data)
        heads.append(found is not None)
        return found

    monkeypatch.setattr(Heads, "find", noting)
    async with listening(world.app) as url, wired(url) as wire:
        bodies = [json.dumps(plain(world)).encode().ljust(3_000) for _ in range(6)]
        answers = [undated(await wire.ask(raw(world, body))) for body in bodies[:3]]
        assert heads == [False, True, True] and answers[0] == answers[1] == answers[2]
        broken = undated(await wire.ask(raw(world, b"{".ljust(3_000))))  # the head is known, the body is no report
        assert broken == undated(await wire.ask(raw(world, b"{".ljust(3_000), "Connection: keep-alive\r\n")))
        assert broken[0].startswith(b"HTTP/1.1 400")
        wire.writer.write(raw(world, bodies[3]) + raw(world, bodies[4]))  # two in one piece: for the parser
        assert undated(await wire.answer()) == undated(await wire.answer()) == answers[0]
        assert world.app.runtime.view.nodes[NodeId(NODE)].sequence == world.sequence - 1
        (key,) = [key for key in world.app.runtime.keys._keys.values() if key.scope == f"agent:{NODE}"]
        await world.call("DELETE", f"/v1/keys/{key.id}")
        refused = await wire.ask(raw(world, bodies[5]))
        assert refused[0].startswith(b"HTTP/1.1 401") and heads[-1]


def test_heads_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HEADS", 2)
    heads = Heads()
    for i in range(3):
        heads.learn(b"%d\r\n\r\nbody" % i, Head(None, None, 4))  # type: ignore[arg-type]
    assert heads.find(b"0\r\n\r\nbody") is None
    found = heads.find(b"2\r\n\r\nbody")
    assert found is not None and found[1] == b"body"
    for odd in (b"2\r\n\r\nbod", b"2\r\n\r\nbody ", b"", b"2"):
        assert heads.find(odd) is None
