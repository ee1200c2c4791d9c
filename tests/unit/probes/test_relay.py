"""Open packets (version 1): header, way back, who may, how often, garbage. Sealed ones: ``test_relay_sealed.py``."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.relay import MAX_HOPS, MAX_PAYLOAD, Relay, RelayError, RelayHeader, unwrap
from probes.relay import forward as module
from probes.sockets import Address, open_udp

HOSTS = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
HOP = st.tuples(st.ip_addresses(v=4).map(str), st.integers(0, 65_535))


@st.composite
def headers(draw: st.DrawFn) -> RelayHeader:
    hops = tuple(draw(st.lists(HOP, min_size=1, max_size=MAX_HOPS)))
    answer = draw(st.booleans())
    port = 0 if answer else draw(st.integers(1, 65_535))
    return RelayHeader(hops, draw(st.integers(0, len(hops) - 1)), draw(st.integers(0, 255)), port, answer)


async def until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    """Wait for something to become true."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


@contextmanager
def socket_on(host: str) -> Iterator[socket.socket]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.setblocking(False)
    try:
        yield sock
    finally:
        sock.close()


async def receive(sock: socket.socket) -> tuple[bytes, Address]:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recvfrom(sock, 4_096), 20)


@asynccontextmanager
async def relays(deliver_port: int, *, packets_per_s: int = 10_000) -> AsyncIterator[list[Relay]]:
    """Three relays that know each other and the sender's host."""
    made = [Relay(open_udp(host, 0), {deliver_port}, packets_per_s=packets_per_s, open=True) for host in HOSTS]
    known = [relay.address for relay in made]
    for relay in made:
        relay.allow([*known, ("127.0.0.1", 0)])
    try:
        yield made
    finally:
        for relay in made:
            relay.close()


def test_golden_bytes() -> None:
    packet = RelayHeader.wrap([("192.0.2.1", 7422), ("198.51.100.2", 7422)], 7421, b"probe")
    assert packet == bytes.fromhex("5452 01 00 02 00 08 00 1cfd c0000201 1cfe c6336402 1cfe") + b"probe"


@given(headers(), st.binary(max_size=MAX_PAYLOAD))
def test_headers_survive_the_round_trip(header: RelayHeader, payload: bytes) -> None:
    assert RelayHeader.decode(header.encode() + payload) == (header, payload)


@given(st.binary(max_size=60))
def test_any_bytes_decode_or_are_refused(packet: bytes) -> None:
    for data in (packet, b"TR\x01" + packet):
        try:
            header, payload = RelayHeader.decode(data)
        except RelayError:
            continue
        assert header.encode() + payload == data


@pytest.mark.parametrize(
    ("hops", "port", "payload", "message"),
    [
        ([], 1, b"", "1 to 4 hops"),
        ([("192.0.2.1", 1)] * 5, 1, b"", "1 to 4 hops"),
        ([("2001:db8::1", 1)], 1, b"", "IPv4"),
        ([("192.0.2.1", 65_536)], 1, b"", "numeric address and a port"),
        ([("relay.example", 1)], 1, b"", "numeric address and a port"),
        ([("192.0.2.1", 1)], 0, b"", "destination port"),
        ([("192.0.2.1", 1)], 1, b"x" * 1_401, "1400 bytes"),
    ],
)
def test_what_does_not_fit_is_refused(hops: list[Address], port: int, payload: bytes, message: str) -> None:
    with pytest.raises(RelayError, match=message):
        RelayHeader.wrap(hops, port, payload)


async def test_there_and_back_through_two_relays() -> None:
    with socket_on("127.0.0.1") as sender, socket_on(HOSTS[2]) as service:
        port = service.getsockname()[1]
        async with relays(port) as (a, b, target):
            packet = RelayHeader.wrap([a.address, b.address, target.address], port, b"ping")
            for number in range(3):
                sender.sendto(packet + bytes([number]), a.address)
                payload, flow = await receive(service)
                assert payload == b"ping" + bytes([number])
                assert flow[0] == HOSTS[2]
                service.sendto(b"pong", flow)
                answer, came_from = await receive(sender)
                assert unwrap(answer) == b"pong"
                assert came_from == a.address
            assert (a.counters["forwarded"], b.counters["forwarded"], target.counters["delivered"]) == (6, 6, 3)
            assert (a.flows, b.flows, target.flows) == (0, 0, 1)


async def test_a_receiver_can_answer_by_a_path_of_its_own() -> None:
    """Forward over A, back over B: what media does when the best paths differ."""
    with socket_on(HOSTS[0]) as user_edge, socket_on(HOSTS[2]) as agent:
        async with relays(0) as (at_edge, between, at_agent):
            for relay in (at_edge, at_agent):
                relay._deliver_ports = frozenset({user_edge.getsockname()[1], agent.getsockname()[1]})
            there = [at_agent.address]
            user_edge.sendto(RelayHeader.wrap(there, agent.getsockname()[1], b"voice"), at_agent.address)
            assert (await receive(agent))[0] == b"voice"
            back = [between.address, at_edge.address]
            agent.sendto(RelayHeader.wrap(back, user_edge.getsockname()[1], b"reply"), between.address)
            assert (await receive(user_edge))[0] == b"reply"


async def test_strangers_and_unknown_next_hops_are_refused() -> None:
    with socket_on("127.0.0.1") as sender, socket_on("127.0.0.99") as stranger, socket_on(HOSTS[0]) as service:
        async with relays(9) as (a, b, _):
            closed_port = service.getsockname()[1]
            stranger.sendto(RelayHeader.wrap([a.address, b.address], 9, b"x"), a.address)
            sender.sendto(RelayHeader.wrap([a.address, stranger.getsockname()], 9, b"x"), a.address)
            sender.sendto(RelayHeader.wrap([a.address, (HOSTS[1], 53)], 9, b"x"), a.address)  # host, but no relay port
            sender.sendto(RelayHeader.wrap([a.address], closed_port, b"x"), a.address)  # a port it does not deliver to
            answer = RelayHeader((a.address,), 0, 8, 0, answer=True)
            sender.sendto(answer.encode() + b"x", a.address)  # an answer never ends at a relay
            await until(lambda: a.counters["not_allowed"] == 5)
            assert sum(b.counters.values()) == 0


async def test_ttl_ends_a_journey() -> None:
    with socket_on("127.0.0.1") as sender:
        async with relays(9) as (a, b, _):
            sender.sendto(RelayHeader((a.address, b.address), 0, 0, 9).encode(), a.address)
            await until(lambda: a.counters["ttl_exceeded"] == 1)
            sender.sendto(RelayHeader((a.address, b.address), 0, 1, 9).encode(), a.address)
            await until(lambda: b.counters["ttl_exceeded"] == 1)


async def test_rate_is_limited() -> None:
    with socket_on("127.0.0.1") as sender:
        async with relays(9, packets_per_s=10) as (a, b, _):
            for _ in range(60):
                sender.sendto(RelayHeader.wrap([a.address, b.address], 9, b"x"), a.address)
            await until(lambda: a.counters["rate_limited"] + a.counters["forwarded"] == 60)
            assert a.counters["rate_limited"] > 30
            assert a.counters["forwarded"] >= 1


async def test_flows_are_bounded_and_idle_ones_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FLOWS", 3)
    with socket_on(HOSTS[0]) as service:
        port = service.getsockname()[1]
        async with relays(port) as (a, _, _):
            for expected in (1, 2, 3, 3):
                with socket_on("127.0.0.1") as sender:
                    sender.sendto(RelayHeader.wrap([a.address], port, b"x"), a.address)
                    await receive(service)
                    assert a.flows == expected
            monkeypatch.setattr(module, "FLOW_IDLE_US", -1)
            with socket_on("127.0.0.1") as sender:
                sender.sendto(RelayHeader.wrap([a.address], port, b"x"), a.address)
                await receive(service)
                assert a.flows == 1


async def test_only_the_service_itself_can_answer_on_a_flow() -> None:
    with socket_on("127.0.0.1") as sender, socket_on(HOSTS[0]) as service, socket_on(HOSTS[0]) as other:
        async with relays(service.getsockname()[1]) as (a, _, _):
            sender.sendto(RelayHeader.wrap([a.address], service.getsockname()[1], b"x"), a.address)
            _, flow = await receive(service)
            other.sendto(b"forged", flow)
            service.sendto(b"true", flow)
            assert unwrap((await receive(sender))[0]) == b"true"


async def test_too_long_an_answer_is_counted() -> None:
    with socket_on("127.0.0.1") as sender, socket_on(HOSTS[0]) as service:
        async with relays(service.getsockname()[1]) as (a, _, _):
            sender.sendto(RelayHeader.wrap([a.address], service.getsockname()[1], b"x"), a.address)
            _, flow = await receive(service)
            service.sendto(b"x" * (MAX_PAYLOAD + 1), flow)
            await until(lambda: a.counters["too_long"] == 1)


async def test_garbage_is_counted_and_the_relay_lives_on() -> None:
    rng = random.Random(13)
    broken: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: broken.append(context))
    with socket_on("127.0.0.1") as sender, socket_on(HOSTS[0]) as service:
        port = service.getsockname()[1]
        async with relays(port) as (a, b, _):
            good = RelayHeader.wrap([a.address, b.address], port, b"x" * 20)
            for number in range(400):
                packet = bytearray(good if number % 2 else rng.randbytes(rng.randrange(80)))
                for _ in range(rng.randrange(1, 4)):
                    if packet:
                        packet[rng.randrange(len(packet))] = rng.randrange(256)
                sender.sendto(packet, a.address)
                await asyncio.sleep(0)
            sender.sendto(b"x" * 3_000, a.address)
            await until(lambda: sum(a.counters.values()) >= 401)
            assert a.counters["malformed"] > 150
            assert a.counters["too_long"] == 1
            sender.sendto(RelayHeader.wrap([a.address], port, b"alive"), a.address)
            while (await receive(service))[0] != b"alive":
                pass
    assert not broken


def test_only_an_answer_that_has_arrived_is_unwrapped() -> None:
    hops = (("192.0.2.1", 1), ("192.0.2.2", 2))
    assert unwrap(RelayHeader(hops, 1, 8, 0, answer=True).encode() + b"x") == b"x"
    for header in (RelayHeader(hops, 0, 8, 0, answer=True), RelayHeader(hops, 1, 8, 5)):
        with pytest.raises(RelayError, match="not an answer"):
            unwrap(header.encode())


async def test_a_relay_takes_no_open_packets_unless_it_is_told_to() -> None:
    with socket_on("127.0.0.1") as sender:
        relay = Relay(open_udp(HOSTS[0], 0), {9})
        relay.allow([("127.0.0.1", 0)])
        try:
            sender.sendto(RelayHeader.wrap([relay.address], 9, b"x"), relay.address)
            await until(lambda: relay.counters["unauthenticated"] == 1)
            assert set(relay.counters) == {"unauthenticated"}
        finally:
            relay.close()
