"""Reports on the hot path: the answers of the endpoint in FastAPI, byte for byte, and the same work done."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
