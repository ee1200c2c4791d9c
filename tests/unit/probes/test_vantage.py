"""Vantage targets: real echo requests and TCP handshakes on loopback, limits per address, opt-out, rows and beacons."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.vantage import VantageProber, VantageRow, beacons, read_opt_out
from probes.vantage.echo import MAX_TEXT, EchoSocket, EchoUnavailableError, checksum, read, request
from probes.vantage.handshake import shake
from probes.wire import PlanVantage


class AtOnce(Random):
    """No phase, no jitter."""

    def random(self) -> float:
        return 0.0


def target(name: str, host: str, port: int = 0, interval_us: int = 10_000_000) -> PlanVantage:
    return PlanVantage(name, "tcp" if port else "icmp", host, port, 64_500, "SG", interval_us)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(prober: VantageProber) -> AsyncIterator[None]:
    task = asyncio.create_task(prober.run())
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@asynccontextmanager
async def listening(host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A TCP listener that accepts; its port."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), host, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def closed_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def echo_or_skip(family: int = socket.AF_INET, bind_host: str = "") -> EchoSocket:
    try:
        return EchoSocket(family, b"tokentok", bind_host)
    except EchoUnavailableError as error:
        pytest.skip(str(error))


# --- ICMP -----------------------------------------------------------------------------------------------------------


def test_checksum_of_a_known_packet() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D  # RFC 1071, section 3
    assert checksum(b"\x01") == checksum(b"\x01\x00")


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=99))
def test_a_request_sums_up_to_zero(identifier: int, sequence: int, payload: bytes) -> None:
    assert checksum(request(socket.AF_INET, identifier, sequence, payload)) == 0


def test_replies_are_told_from_everything_else() -> None:
    reply = b"\x00" + request(socket.AF_INET, 1, 7, b"hello")[1:]
    assert read(socket.AF_INET, reply, raw=False) == (7, b"hello")
    assert read(socket.AF_INET, b"\x45" + bytes(19) + reply, raw=True) == (7, b"hello")
    assert read(socket.AF_INET6, b"\x81" + reply[1:], raw=True) == (7, b"hello")
    assert read(socket.AF_INET, request(socket.AF_INET, 1, 7, b""), raw=False) is None


@given(st.binary(max_size=64), st.booleans(), st.sampled_from([socket.AF_INET, socket.AF_INET6]))
def test_reading_any_bytes_raises_nothing(packet: bytes, raw: bool, family: int) -> None:
    read(family, packet, raw=raw)


async def test_loopback_answers_an_echo_request() -> None:
    sock = echo_or_skip()
    try:
        rtts = [await sock.ask("127.0.0.1", b"x" * 1_000, 20.0) for _ in range(5)]
        both = await asyncio.gather(sock.ask("127.0.0.1", b"", 20.0), sock.ask("127.0.0.2", b"", 20.0))
    finally:
        sock.close()
    assert all(rtt is not None and rtt >= 0 for rtt in [*rtts, *both])


async def test_loopback_answers_over_ipv6_too() -> None:
    try:
        sock = echo_or_skip(socket.AF_INET6, "::1")
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error.strerror}")
    try:
        assert await sock.ask("::1", b"x", 20.0) is not None
    finally:
        sock.close()


async def test_nobody_answers_is_none() -> None:
    sock = echo_or_skip(bind_host="127.0.0.1")
    try:
        assert await sock.ask("192.0.2.1", b"", 0.05) is None  # from loopback it goes nowhere
    finally:
        sock.close()


async def test_a_reply_with_anothers_token_is_not_taken() -> None:
    ours, theirs = echo_or_skip(), echo_or_skip()
    try:
        ours._token = b"another!"
        waiting = asyncio.create_task(ours.ask("127.0.0.1", b"", 20.0))
        assert await theirs.ask("127.0.0.1", b"", 20.0) is not None
        assert await waiting is not None
    finally:
        ours.close()
        theirs.close()


async def test_without_the_right_to_ask_the_reason_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise PermissionError(1, "not permitted")

    prober = VantageProber(phase=AtOnce())
    monkeypatch.setattr("probes.vantage.echo.socket.socket", refuse)
    with pytest.raises(EchoUnavailableError, match="CAP_NET_RAW"):
        EchoSocket(socket.AF_INET, b"tokentok")
    await prober._ask(target("a", "127.0.0.1"))
    assert prober.counters["echo_unavailable"] == 1 and prober.take_rows() == []


# --- TCP ------------------------------------------------------------------------------------------------------------


async def test_an_acceptance_and_a_refusal_are_answers() -> None:
    async with listening() as port:
        accepted = await shake("127.0.0.1", port, 0.9)
    refused = await shake("127.0.0.1", closed_port(), 0.9)
    assert accepted is not None and accepted.accepted and accepted.rtt_us >= 0
    assert refused is not None and not refused.accepted and refused.rtt_us >= 0


async def test_an_unreachable_address_is_none() -> None:
    assert await shake("192.0.2.1", 80, 0.05, "127.0.0.1") is None
    assert await shake("127.0.0.1", 80, 0.05, "203.0.113.9") is None  # not an address of this machine


async def test_a_listener_that_takes_nobody_in_times_out() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        held = [socket.socket() for _ in range(4)]
        try:
            for sock in held:
                sock.setblocking(False)
                sock.connect_ex(address)
            assert await shake(address[0], address[1], 0.05) is None
        finally:
            for sock in held:
                sock.close()


# --- the prober -----------------------------------------------------------------------------------------------------


async def test_rows_of_all_kinds() -> None:
    prober = VantageProber(phase=AtOnce())
    async with listening("127.0.0.3") as port:
        prober.follow([target("accepts", "127.0.0.3", port), target("refuses", "127.0.0.4", closed_port("127.0.0.4")),
                       target("unknown", "no-such-host.invalid", 80)])  # fmt: skip
        async with running(prober):
            await until(lambda: sum(tally.sent for tally in prober._tallies.values()) == 2)
            await until(lambda: prober.counters["unresolved"] == 1)
    rows = prober.take_rows()
    assert [(row.target, row.kind, row.sent, row.received) for row in rows] == [
        ("accepts", "tcp", 1, 1),
        ("refuses", "tcp", 1, 1),
    ]
    assert all(row.rtt_min_us is not None and row.rtt_min_us == row.rtt_median_us for row in rows)
    assert prober.take_rows() == []


async def test_an_echo_request_carries_the_contact(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[bytes] = []

    async def ask(_: EchoSocket, host: str, text: bytes, timeout_s: float) -> int | None:
        texts.append(text)
        return 1_234

    echo_or_skip().close()
    monkeypatch.setattr(EchoSocket, "ask", ask)
    prober = VantageProber(phase=AtOnce())
    prober.follow([target("a", "127.0.0.1")], "noc@example.net")
    async with running(prober):
        await until(lambda: bool(prober._tallies))
    assert texts == [b"tendril vantage probe; contact: noc@example.net"]
    assert [row.rtt_min_us for row in prober.take_rows()] == [1_234]
    prober.follow([], "x" * 1_000)
    assert len(prober._text) == MAX_TEXT


async def test_an_address_is_asked_once_in_ten_seconds_whatever_the_plan_says(monkeypatch: pytest.MonkeyPatch) -> None:
    now_us = 50_000_000
    monkeypatch.setattr("probes.vantage.monotonic_us", lambda: now_us)
    prober = VantageProber(phase=AtOnce())
    greedy = [target(f"t{i}", "127.0.0.5", closed_port("127.0.0.5"), interval_us=1) for i in range(5)]
    asked = 0
    for second in range(61):
        now_us = 50_000_000 + second * 1_000_000
        prober.follow(greedy[: 1 + second % 5], f"plan {second}")  # a new plan every second changes nothing
        prober._ask_due(now_us)
        await asyncio.gather(*prober._tasks)
        asked += sum(row.sent for row in prober.take_rows())
    assert asked == 7
    assert prober.counters["too_soon"] > 0
    await prober._close()


async def test_nobody_who_opted_out_is_asked() -> None:
    prober = VantageProber(phase=AtOnce(), opt_out=read_opt_out("127.0.0.6/31  # asked us to stop\n\n2001:db8::/32\n"))
    prober.follow([target("a", "127.0.0.6", 9), target("b", "127.0.0.7"), target("c", "::ffff:127.0.0.7", 9),
                   target("d", "224.0.0.1"), target("e", "255.255.255.255")])  # fmt: skip
    async with running(prober):
        await until(lambda: prober.counters["opted_out"] == 3 and prober.counters["unusable"] == 2)
    assert prober.take_rows() == []


async def test_targets_come_and_go_with_the_plan() -> None:
    prober = VantageProber(phase=AtOnce())
    prober.follow([target("a", "127.0.0.8", closed_port("127.0.0.8"))])
    async with running(prober):
        await until(lambda: "a" in prober._tallies)
        prober.follow([target("b", "127.0.0.9", closed_port("127.0.0.9"))])
        await until(lambda: "b" in prober._tallies)
    assert [row.target for row in prober.take_rows()] == ["b"]
    prober.follow([target(f"t{i}", "127.0.0.1") for i in range(1_200)])
    assert (len(prober._due), prober.counters["targets_beyond_limit"]) == (1_000, 200)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "ok\n", "10.0.0.0/8\nnonsense"])
def test_an_opt_out_list_with_a_mistake_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"line \d of the opt-out list"):
        read_opt_out(text)


def test_beacons_have_the_contracts_shape() -> None:
    rows = [
        VantageRow("a", 64_500, "SG", "icmp", 6, 5, 9_800, 10_250),
        VantageRow("b", 0, "DE", "tcp", 3, 3, 1_000, 1_000),
        VantageRow("silent", 64_500, "SG", "icmp", 6, 0, None, None),
        VantageRow("nameless", 0, "", "icmp", 1, 1, 5, 5),
    ]
    assert beacons(rows, "gcp-sin") == [
        {"client": {"asn": 64_500, "country": "SG"}, "data_center": "gcp-sin", "rtt_ms": 10.25, "loss_pct": 16.667,
         "source": "vantage"},
        {"client": {"country": "DE"}, "data_center": "gcp-sin", "rtt_ms": 1.0, "loss_pct": 0.0, "source": "vantage"},
    ]  # fmt: skip
