"""What ``tendril agent once`` finds out about what is blocked, against real sockets on loopback."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from probes.cli import _json, _table, main
from probes.clock import Clock
from probes.netcheck import Check, Control, Reach, check_control, check_nodes, ping, reach
from probes.once import OnceError, Place, Result, Surroundings, look_around, measure
from probes.relay import Relay
from probes.sockets import Reflector, Stamping, open_udp
from probes.vantage.echo import EchoUnavailableError


@contextmanager
def silent_udp() -> Iterator[int]:
    """A UDP port that takes everything and says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextmanager
def reflecting(host: str = "127.0.0.1") -> Iterator[int]:
    reflector = Reflector(open_udp(host, 0), Clock())
    try:
        yield reflector.address[1]
    finally:
        reflector.close()


def closed_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_a_port_answers_is_closed_or_says_nothing() -> None:
    with reflecting() as open_port, silent_udp() as silent:
        assert await reach(("127.0.0.1", open_port), timeout_s=20) is Reach.ANSWERS
        assert await reach(("127.0.0.1", closed_port()), "127.0.0.1", timeout_s=20) is Reach.CLOSED
        assert await reach(("127.0.0.1", silent), timeout_s=0.05) is Reach.SILENT
        assert await reach(("127.0.0.1", open_port), "203.0.113.9", timeout_s=0.05) is Reach.SILENT


@pytest.mark.slow
async def test_nodes_are_told_apart_by_what_they_let_through() -> None:
    with reflecting() as answers, silent_udp() as silent, silent_udp() as relay:
        nodes = [("127.0.0.1", answers), ("127.0.0.2", silent), ("127.0.0.1", silent), ("127.0.0.1", closed_port())]
        found = await check_nodes(dict.fromkeys(nodes, False), dict.fromkeys(nodes, (relay, False)))
    assert [found[node].udp for node in nodes] == [Reach.ANSWERS, Reach.CLOSED, Reach.SILENT, Reach.CLOSED]
    assert found[nodes[0]].relay is Reach.SILENT
    if found[nodes[2]].pinged:  # where we may
        assert re.fullmatch(r"UDP blocked, ping \d+\.\d\d ms", str(found[nodes[2]]))


async def test_what_has_answered_is_not_asked_again() -> None:
    nobody = ("192.0.2.1", 7421)
    assert await check_nodes({nobody: True}, {nobody: (7422, True)}) == {nobody: Check(Reach.ANSWERS, Reach.ANSWERS)}
    assert await check_nodes({nobody: True}, {nobody: (0, False)}) == {nobody: Check(Reach.ANSWERS, Reach.UNKNOWN)}


async def test_without_the_right_to_ping_nothing_is_concluded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise EchoUnavailableError

    monkeypatch.setattr("probes.netcheck.EchoSocket", refuse)
    assert await ping(["127.0.0.1", "127.0.0.2"]) == {}


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (Check(Reach.ANSWERS, Reach.UNKNOWN), "ok"),
        (Check(Reach.ANSWERS, Reach.ANSWERS), "ok"),
        (Check(Reach.ANSWERS, Reach.CLOSED), "ok, relay closed"),
        (Check(Reach.ANSWERS, Reach.SILENT), "ok, relay silent"),
        (Check(Reach.CLOSED, Reach.CLOSED), "no reflector listens"),
        (Check(Reach.SILENT, Reach.SILENT, 12_345, pinged=True), "UDP blocked, ping 12.35 ms"),
        (Check(Reach.SILENT, Reach.SILENT, None, pinged=True), "no sign of life"),
        (Check(Reach.SILENT, Reach.SILENT), "UDP silent"),
    ],
)
def test_a_check_in_words(check: Check, said: str) -> None:
    assert str(check) == said


async def test_the_control_planes_port() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        found = await check_control(f"http://127.0.0.1:{port}/", "127.0.0.1")
        assert (found.host, found.port, found.tcp) == ("127.0.0.1", port, Reach.ANSWERS)
        assert "answers in" in str(found)
    refused = await check_control(f"http://127.0.0.1:{closed_port(socket.SOCK_STREAM)}")
    assert refused.tcp is Reach.CLOSED and "is refused in" in str(refused)
    unknown = await check_control("https://no-such-host.invalid/x")
    assert (unknown.port, unknown.tcp) == (443, Reach.UNKNOWN)
    assert str(Control("h", 443, Reach.SILENT, None)) == "TCP to h port 443 is silent"


def test_a_control_plane_out_of_reach_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    port = closed_port(socket.SOCK_STREAM)
    assert main(["once", "--url", f"http://127.0.0.1:{port}"]) == 1
    assert f"TCP to 127.0.0.1 port {port} is refused" in capsys.readouterr().err


@pytest.mark.slow
async def test_a_whole_look_around() -> None:
    relay = Relay(open_udp("127.0.0.1", 0), ())
    with reflecting() as port:
        places = [
            Place("a-1", "dc-a", "127.0.0.1", port, relay.address[1]),
            Place("b-1", "dc-b", "127.0.0.2", closed_port()),
        ]
        try:
            results = await measure(("127.0.0.1", 0), [(place, ()) for place in places], count=2, interval_s=0.01,
                                    timeout_s=0.2)  # fmt: skip
            found = await look_around(("127.0.0.1", 0), places, results, "")
        finally:
            relay.close()
    assert (found.checks["a-1"].udp, found.checks["b-1"].udp) == (Reach.ANSWERS, Reach.CLOSED)
    assert found.checks["b-1"].relay is Reach.UNKNOWN
    assert found.control is None and found.bind == ("127.0.0.1", 0)


async def test_a_path_may_end_at_its_own_relay() -> None:
    place = Place("a-1", "dc-a", "127.0.0.1", 7421, 0)
    with pytest.raises(OnceError, match="does not relay"):
        await measure(("127.0.0.1", 0), [(place, (place,))], count=1, interval_s=0.01, timeout_s=0.01)


def test_table_and_json_say_what_was_found() -> None:
    places = [Place("a-1", "dc-a", "192.0.2.1", 7421, 7422), Place("b-1", "dc-b", "192.0.2.2", 7421)]
    results = [
        Result(places[0], (), 10, 10, 20_000, 19_000, 100),
        Result(places[0], ("b-1",), 10, 10, 19_000, 18_000, 100),
        Result(places[1], (), 10, 0, None, None, None),
    ]
    checks = {"a-1": Check(Reach.ANSWERS, Reach.SILENT), "b-1": Check(Reach.SILENT, Reach.UNKNOWN, 31_000, pinged=True)}
    control = Control("control.example", 443, Reach.ANSWERS, 2_500)
    found = Surroundings(("192.0.2.9", 7426), "2026-11-22 21:00:00Z", Stamping(True, False, 4_200), checks, control)
    lines = _table(results, found).splitlines()
    assert lines[0].endswith("CHECK") and lines[1].endswith("ok, relay silent") and lines[2].endswith("+1.00")
    assert lines[3].endswith("UDP blocked, ping 31.00 ms")
    assert lines[4:] == [
        "",
        "measured 2026-11-22 21:00:00Z from 192.0.2.9 port 7426",
        "control plane: TCP to control.example port 443 answers in 2.50 ms",
        "stamps: the kernel stamps arrivals; noise 4.2 us",
    ]
    told = json.loads(_json(results, found))
    assert told["control"] == {"host": "control.example", "port": 443, "tcp": "answers", "rtt_ms": 2.5}
    assert told["stamps"] == {"arrivals": True, "departures": False, "noise_us": 4.2}
    assert (told["results"][2]["udp"], told["results"][2]["ping_ms"]) == ("silent", 31.0)
    assert "udp" not in told["results"][1]
