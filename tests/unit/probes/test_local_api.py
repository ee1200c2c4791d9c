"""The local API over real sockets: routes from the reaction plan, strictness, bounds, and nothing that breaks it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes import local_api
from probes.agent import AgentConfig, ProbeAgent
from probes.detect import Verdict
from probes.local_api import LocalApi, Problem, Request
from probes.sockets import monotonic_us
from probes.state import Identity, StateDir
from tests.unit.probes.test_reflex import RELAY_PORT, address, key, plan


def dead(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("every controller is dead", request=request)


@asynccontextmanager
async def agent(path: Path, *ways: tuple[str, ...]) -> AsyncIterator[ProbeAgent]:
    """An agent that has joined, with no control plane in reach, following a plan with these ways to z."""
    state = StateDir(path / "n")
    state.save_identity(Identity("n", "home", "key"))
    if ways:
        state.save_reaction_plan(plan(*ways, computed_us=1_000_000), 2_000_000)
    client = httpx.AsyncClient(transport=httpx.MockTransport(dead))
    config = AgentConfig(
        "n", "http://control", path / "n", bind_host="127.0.21.9", probe_port=0, reflector_port=0,
        local_api=("127.0.21.9", 0),
    )  # fmt: skip
    running = ProbeAgent(config, client)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()
        await client.aclose()


def local(running: ProbeAgent) -> LocalApi:
    assert running.local is not None
    return running.local


async def ask(running: ProbeAgent, method: str, path: str, **more: Any) -> tuple[int, Any]:
    host, port = local(running).address
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        answer = await client.request(method, f"http://{host}:{port}{path}", **more)
        kind = "application/json" if answer.is_success else "application/problem+json"
        assert answer.headers["content-type"] == kind
        return answer.status_code, answer.json()


async def raw(running: ProbeAgent, data: bytes, *, end: bool = True) -> bytes:
    """What comes back for some bytes, until the other side closes."""
    reader, writer = await asyncio.open_connection(*local(running).address)
    try:
        writer.write(data)
        if end:
            writer.write_eof()
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        await shut(writer)


async def shut(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


async def test_a_route_with_every_controller_dead_and_what_failed_since(tmp_path: Path) -> None:
    async with agent(tmp_path, ("b",), ("c",), ()) as running:
        status, route = await ask(running, "GET", "/v1/routes/z?class=voice")
        assert status == 200
        assert (route["from"], route["to"], route["class"], route["policy"]) == ("home", "z", "voice", None)
        assert route["generation"] == 1 and route["computed_at"] == "1970-01-01T00:00:01.000Z"
        assert route["stale"] is True and route["age_ms"] > 15_000  # it lay on disk since 1970, and says so
        assert route["forward"]["path"] == ["home", "b", "z"] and route["forward"]["state"] == "up"
        assert [hop["host"] for hop in route["forward"]["hops"]] == [address("b")[0], address("z")[0]]
        assert route["forward"]["hops"][0]["port"] == RELAY_PORT
        assert [b["path"] for b in route["backups"]["forward"]] == [["home", "c", "z"], ["home", "z"]]
        assert route["return"] is None and route["duplicate"] is None
        running.reflex.verdict(key("b", "z"), Verdict.SUSPECT, monotonic_us())
        _, route = await ask(running, "GET", "/v1/routes/z")
        assert route["duplicate"] == ["home", "c", "z"] and route["forward"]["state"] == "suspect"
        running.reflex.verdict(key("b", "z"), Verdict.DOWN, monotonic_us())
        _, route = await ask(running, "GET", "/v1/routes/z")
        assert route["forward"]["path"] == ["home", "c", "z"] and "instead of home > b > z" in route["reasons"][0]
        assert route["backups"]["forward"][0]["state"] == "down"


async def test_without_a_plan_there_is_an_answer_with_a_reason(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        status, route = await ask(running, "GET", "/v1/routes/z")
        assert status == 200 and route["forward"] is None and route["stale"] is True
        assert route["reasons"] == ["there is no reaction plan yet"] and route["from"] == "home"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/routes/nowhere", 404, "unknown_data_center"),
        ("GET", "/v1/routes/home", 422, "same_data_center"),
        ("GET", "/v1/routes/z?class=video", 422, "unknown_context"),
        ("GET", "/v1/routes/z?policy=eu", 422, "unknown_context"),
        ("GET", "/v1/routes/z?clas=voice", 422, "unknown_field"),
        ("GET", "/v1/routes/z?class=a&class=b", 400, "malformed_request"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("PUT", "/v1/status", 405, "method_not_allowed"),
        ("GET", "/v1/watch?class=video", 422, "unknown_context"),
        ("POST", "/v1/media", 400, "malformed_json"),
    ],
)
async def test_refusals_are_problems_with_a_code(
    tmp_path: Path, method: str, path: str, status: int, code: str
) -> None:
    async with agent(tmp_path, ("b",)) as running:
        got, problem = await ask(running, method, path, content=b"" if method in ("POST", "PUT") else None)
        assert (got, problem["code"], problem["status"]) == (status, code, status)


async def test_status_tells_who_and_how(tmp_path: Path) -> None:
    async with agent(tmp_path, ("b",), ("c",)) as running:
        running.way("voice", "z")
        _, status = await ask(running, "GET", "/v1/status")
        assert (status["node"], status["data_center"]) == ("n", "home")
        assert status["reaction_plan"]["source"] == "disk" and status["reaction_plan"]["stale"] is True
        assert status["probe_plan"] is None and status["doubting_itself"] is False
        assert [route["to"] for route in status["routes_in_use"]] == ["z"]
        assert set(status["stamping"]) == {"arrivals", "departures", "noise_ns", "probes_use_departures"}
        assert status["counters"]["reflex.plans_installed"] == 1


async def test_names_that_lead_here_from_elsewhere_are_refused(tmp_path: Path) -> None:
    """A page whose own host name was pointed at 127.0.0.1 still says that name."""
    async with agent(tmp_path, ("b",)) as running:
        for host in ("evil.example", "evil.example:7401", "10.0.0.1", "", "127.0.0.1.evil.example"):
            status, problem = await ask(running, "GET", "/v1/status", headers={"host": host})
            assert (status, problem["code"]) == (421, "host_refused")
        for host in ("localhost", "LOCALHOST:7401", "127.0.21.9", "[::1]:7401", "[::1]"):
            assert (await ask(running, "GET", "/v1/status", headers={"host": host}))[0] == 200
        assert statuses(await raw(running, b"GET /v1/status HTTP/1.1\r\n\r\n")) == [400]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"GET /v1/status\r\n\r\n", 400),
        (b"GET /v1/status HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"G T /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://localhost/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET //evil HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /v1/routes/%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n", 400),
        (b"GET /v1/status HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"POST /v1/media HTTP/1.1\r\nHost: localhost\r\n\r\n", 411),
        (b"POST /v1/media HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/media HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST /v1/media HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST /v1/media HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{}", 400),
        (b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9_000 + b"\r\n\r\n", 431),
        (b"GET /v1/status HTTP/1.1\r\nHost: loc", 400),
    ],
)
async def test_broken_requests_are_named_and_end_the_connection(tmp_path: Path, data: bytes, status: int) -> None:
    async with agent(tmp_path, ("b",)) as running:
        assert statuses(await raw(running, data)) in ([status], [status, 400])
        assert (await ask(running, "GET", "/v1/status"))[0] == 200


async def test_requests_may_follow_each_other_on_a_connection(tmp_path: Path) -> None:
    async with agent(tmp_path, ("b",)) as running:
        one = b"GET /v1/routes/z HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert statuses(await raw(running, one + b"GET /no HTTP/1.1\r\nHost: localhost\r\n\r\n" + one)) == [
            200,
            404,
            200,
        ]
        last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        assert statuses(await raw(running, last + one, end=False)) == [200]


async def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_api, "MAX_CONNECTIONS", 2)
    async with agent(tmp_path, ("b",)) as running:
        held = [await asyncio.open_connection(*local(running).address) for _ in range(2)]
        one = b"GET /v1/routes/z HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for reader, writer in held:
            writer.write(one)
            await reader.readuntil(b"\r\n\r\n")
        assert statuses(await raw(running, b"")) == [503]
        for _, writer in held:
            await shut(writer)
        async with asyncio.timeout(20):
            while statuses(await raw(running, one)) != [200]:
                await asyncio.sleep(0.01)


async def test_a_slow_client_does_not_hold_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_api, "IDLE_S", 0.05)
    async with agent(tmp_path, ("b",)) as running:
        assert await raw(running, b"GET /v1/status HTTP", end=False) == b""


async def test_the_unix_socket_answers_too_and_goes_away(tmp_path: Path) -> None:
    async with agent(tmp_path, ("b",)) as running:
        path = tmp_path / "n" / "local.sock"
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, verify=False) as client:
            answer = await client.get("http://localhost/v1/routes/z")
            assert answer.json()["forward"]["path"] == ["home", "b", "z"]
        assert path.stat().st_mode & 0o777 == 0o660
    assert not path.exists()
    assert running.local is not None


async def test_only_loopback_addresses_are_served() -> None:
    api = LocalApi({}, "/v1/watch", lambda request: {})
    with pytest.raises(local_api.LocalApiError, match="not a loopback address"):
        await api.listen("0.0.0.0", 0, None)


async def events(reader: asyncio.StreamReader) -> AsyncIterator[tuple[str, Any]]:
    while True:
        block = (await reader.readuntil(b"\n\n")).decode()
        if block.startswith(":"):
            yield "heartbeat", None
        elif block.startswith("event: "):
            name, data = block.split("\n", 1)
            yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def test_watchers_hear_of_changes_at_once_and_of_life_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_api, "HEARTBEAT_S", 0.05)
    async with agent(tmp_path, ("b",), ("c",)) as running, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*local(running).address)
        writer.write(b"GET /v1/watch?to=z HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"text/event-stream" in await reader.readuntil(b"\r\n\r\n")
        stream = events(reader)
        name, table = await anext(stream)
        assert name == "table" and table["routes"][0]["forward"]["path"] == ["home", "b", "z"]
        assert (await anext(stream))[0] == "heartbeat"
        running.reflex.verdict(key("b", "z"), Verdict.DOWN, monotonic_us())
        while (found := await anext(stream))[0] == "heartbeat":
            pass
        assert found[0] == "delta" and found[1]["routes"][0]["forward"]["path"] == ["home", "c", "z"]
        await shut(writer)


async def test_a_watch_of_everything_shows_every_destination(tmp_path: Path) -> None:
    async with agent(tmp_path, ("b",)) as running, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*local(running).address)
        writer.write(b"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        _, table = await anext(events(reader))
        assert [route["to"] for route in table["routes"]] == ["b", "c", "d", "z"]
        assert running.reflex.in_use(monotonic_us()) == {}  # looking is not using
        await shut(writer)


async def test_media_counters_are_evidence_and_save_probes(tmp_path: Path) -> None:
    async with agent(tmp_path, ("b",), ("c",)) as running, asyncio.timeout(30):
        running.way("voice", "z")
        while running.prober.evidence.path(key("b", "z")) is None:
            await asyncio.sleep(0.01)
        post = {"routes": [{"to": "z", "packets_sent": 50, "packets_received": 49, "responses_received": 4,
                            "total_round_trip_time_s": 0.2}],
                "peers": [{"node": "nobody", "packets_sent": 1}]}  # fmt: skip
        status, told = await ask(running, "POST", "/v1/media", json=post)
        assert (status, told) == (200, {"accepted": 1, "not_probed": 1})
        watch = running.prober.evidence.path(key("b", "z"))
        assert watch is not None and watch.answers >= 4 and 40_000 < watch.round_trip.srtt_us < 60_000
        while not running.prober.hot.counters["suppressed"]:
            await ask(running, "POST", "/v1/media", json=post)
        _, shown = await ask(running, "GET", "/v1/status")
        assert shown["media"]["packets_sent"] >= 51
        assert watch.path is not None
        packets = shown["media_packets"][watch.path[-1][0]]
        assert packets["sent"] >= 50 and 50 * packets["received"] == 49 * packets["sent"]  # for Direct Measurement


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], None),
        ({"more": 1}, "more"),
        ({"peers": {}}, "peers"),
        ({"peers": [1]}, "peers"),
        ({"peers": [{}]}, "peers[0].node"),
        ({"peers": [{"node": 1}]}, "peers[0].node"),
        ({"peers": [{"node": "b-1", "packets_sent": -1}]}, "peers[0].packets_sent"),
        ({"peers": [{"node": "b-1", "packets_sent": True}]}, "peers[0].packets_sent"),
        ({"peers": [{"node": "b-1", "x": 1}]}, "peers[0].x"),
        ({"routes": [{"to": "z", "total_round_trip_time_s": "1"}]}, "routes[0].total_round_trip_time_s"),
    ],
)
async def test_broken_media_counters_name_their_field(tmp_path: Path, body: object, field: str | None) -> None:
    async with agent(tmp_path, ("b",)) as running:
        status, problem = await ask(running, "POST", "/v1/media", json=body)
        assert (status, problem.get("field")) == (422, field)


async def test_a_call_that_fails_is_a_500_and_the_next_one_works(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: Request, rest: str) -> object:
        raise ZeroDivisionError

    api = LocalApi({("GET", "/broken"): broken, ("GET", "/fine"): lambda request, rest: {}}, "/watch", lambda _: {})
    await api.listen("127.0.21.9", 0, None)
    try:
        host, port = api.address
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            assert (await client.get(f"http://{host}:{port}/broken")).json()["code"] == "internal"
            assert (await client.get(f"http://{host}:{port}/fine")).status_code == 200
        assert "the local API failed at GET /broken" in caplog.text
    finally:
        await api.close()


LINES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([
        b"GET /v1/status HTTP/1.1", b"POST /v1/media HTTP/1.1", b"Host: localhost", b"Content-Length: 5", b"", b"{}",
        b"GET /v1/routes/z?class=voice HTTP/1.1", b"Connection: keep-alive", b"Transfer-Encoding: chunked",
    ]),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, max_size=8))
def test_no_bytes_break_the_reader(lines: list[bytes]) -> None:
    """Whatever arrives is a request, the end, or a problem with a status that has a name."""

    async def read() -> None:
        reader = asyncio.StreamReader(limit=local_api.MAX_HEAD)
        reader.feed_data(b"\r\n".join(lines))
        reader.feed_eof()
        try:
            while (found := await local_api._read(reader)) is not None:
                assert found[0].path.startswith("/")
        except Problem as problem:
            assert problem.status in local_api.STATUS

    asyncio.run(read())
