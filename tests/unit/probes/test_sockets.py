"""Reflector and sender on real loopback sockets: stamps, sequences, garbage, reflectors that answer reflectors."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from probes.clock import Clock
from probes.sockets import (
    ProbeSender,
    Reflector,
    Target,
    TokenBucket,
    batch,
    kernel,
    limits,
    monotonic_us,
    open_udp,
    read_ancillary,
)
from probes.sockets import port as port_module
from probes.sockets import reflector as reflector_module
from probes.stamp import ReflectorPacket, SenderPacket, micros_to_ntp, ntp_to_micros, pack_request, tlv
from probes.summary import DEPARTED, T1, Summary

HOST = "127.0.0.1"


async def until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    """Wait for something to become true."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


@contextmanager
def client(*, host: str = HOST) -> Iterator[socket.socket]:
    """A plain blocking-free UDP socket of a test."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.setblocking(False)
    try:
        yield sock
    finally:
        sock.close()


async def ask(sock: socket.socket, packet: bytes, address: tuple[str, int]) -> bytes:
    sock.sendto(packet, address)
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 4_096), 20)


async def test_reflector_answers_with_its_own_clock_and_counts_per_session() -> None:
    reflected: list[str] = []
    reflector = Reflector(open_udp(HOST, 0), Clock(offset_us=3_600_000_000), reflected.append)
    try:
        with client() as one, client() as two:
            sequences = []
            for sock, ssid in ((one, 1), (one, 1), (one, 2), (two, 1)):
                packet = pack_request(900, micros_to_ntp(5), 1, ssid)
                reply = ReflectorPacket.decode(await ask(sock, packet, reflector.address))
                sequences.append(reply.sequence)
                received_us, sent_us = ntp_to_micros(reply.receive_timestamp), ntp_to_micros(reply.timestamp)
                assert 0 <= sent_us - received_us < 1_000_000
                assert abs(received_us - 3_600_000_000 - time.time_ns() // 1_000) < 10_000_000
                assert (reply.sender_sequence, reply.ssid) == (900, ssid)
                assert ntp_to_micros(reply.sender_timestamp) == 5
        assert sequences == [0, 1, 0, 0]
        assert reflected == [HOST] * 4
    finally:
        reflector.close()


async def test_ttl_of_the_request_is_in_the_reply() -> None:
    reflector = Reflector(open_udp(HOST, 0), Clock())
    try:
        with client() as sock:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 61)
            reply = ReflectorPacket.decode(await ask(sock, pack_request(0, 1, 1, 1), reflector.address))
            assert reply.sender_ttl == 61
    finally:
        reflector.close()


@pytest.mark.parametrize("batched", [True, False])
async def test_the_class_of_service_that_arrived_is_reported(batched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expedited forwarding was wanted; what a router on the way made of it is what the sender learns."""
    if not batched:
        monkeypatch.setattr(port_module, "receive_batch", batch.receive_each)
    wanted = tlv.ClassOfService(46)
    for host in (HOST, "::1"):
        try:
            reflector = Reflector(open_udp(host, 0), Clock())
        except OSError:
            pytest.skip("no IPv6 on this machine")
        try:
            with client(host=host) as sock:
                for arriving in (46 << 2, 10 << 2 | 1, 0):
                    if ":" in host:
                        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, arriving)
                    else:
                        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, arriving)
                    asked = pack_request(0, 1, 1, 1) + tlv.encode([wanted])
                    reply = await ask(sock, asked, reflector.address)
                    found = tlv.read(reply[44:], None, 0, signed=False).class_of_service
                    assert found is not None
                    assert (found.dscp_wanted, found.dscp_seen, found.ecn_seen) == (46, arriving >> 2, arriving & 3)
        finally:
            reflector.close()


async def test_a_path_with_another_number_of_hops_is_noticed() -> None:
    """Either way: by the TTL that the reflector saw, and by that of its reply."""
    summary = Summary()
    reflector = Reflector(open_udp(HOST, 0), Clock())
    sock = open_udp(HOST, 0)
    sender = ProbeSender(sock, Clock(), keep_samples=True)
    target = Target(summary.row("b", "internet"), reflector.address, 1)
    sender.replace([target])
    try:
        for number, (there, back) in enumerate(((255, 255), (255, 255), (253, 255), (253, 250)), 1):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, there)
            reflector._sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, back)
            sender.send(target)
            await until(lambda number=number: len(target.samples) == number)
            assert target.hops == there << 8 | back
        assert sender.counters["hops_changed"] == 2
    finally:
        sender.close()
        reflector.close()


async def test_reflection_works_without_kernel_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_options", lambda family: ())
    monkeypatch.setattr(reflector_module, "stamp_transmits", lambda sock, *, each: False)
    reflector = Reflector(open_udp(HOST, 0), Clock())
    try:
        with client() as sock:
            reply = ReflectorPacket.decode(await ask(sock, pack_request(0, 1, 1, 1), reflector.address))
            assert abs(ntp_to_micros(reply.receive_timestamp) - time.time_ns() // 1_000) < 10_000_000
            assert reply.sender_ttl == 255
    finally:
        reflector.close()


async def test_kernel_stamps_are_there_on_linux() -> None:
    sock = open_udp(HOST, 0)
    try:
        with client() as other:
            other.sendto(b"x", sock.getsockname())
            await until(lambda: _readable(sock))
            _, ancillary, _, _ = sock.recvmsg(10, 200)
            stamp_ns, ttl = read_ancillary(ancillary)
            assert 0 < time.time_ns() - stamp_ns < 20_000_000_000
            assert 0 < ttl < 256
    finally:
        sock.close()


def _readable(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(10, socket.MSG_PEEK))
    except BlockingIOError:
        return False


async def test_short_and_long_requests_get_replies_of_their_length() -> None:
    reflector = Reflector(open_udp(HOST, 0), Clock())
    try:
        with client() as sock:
            for size in (14, 15, 16, 43, 44, 45, 172, 1_400):
                request = pack_request(1, 1, 1, 1).ljust(size, b"\x55")[:size]
                reply = await ask(sock, request, reflector.address)
                assert len(reply) == size
                if size == 45:  # no room for a TLV: marked as malformed where it could be marked at all
                    assert reply[44:] == request[44:]
    finally:
        reflector.close()


async def test_garbage_is_counted_and_the_reflector_lives_on() -> None:
    rng = random.Random(11)
    reflector = Reflector(open_udp(HOST, 0), Clock())
    broken: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: broken.append(context))
    try:
        with client() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            lengths = [0, 1, 13, 13, 2_049, 9_000] + [rng.randrange(3_000) for _ in range(300)]
            for length in lengths:
                sock.sendto(rng.randbytes(length), reflector.address)
                await asyncio.sleep(0)
            counters = reflector.counters
            await until(lambda: sum(counters.values()) >= len(lengths))
            assert counters["malformed"] >= 4
            assert counters["too_long"] >= 2
        with client() as sock:
            assert len(await ask(sock, pack_request(1, 1, 1, 1), reflector.address)) == 44
    finally:
        reflector.close()
    assert not broken


async def test_reflectors_do_not_answer_reflectors() -> None:
    one = Reflector(open_udp(HOST, 0), Clock())
    two = Reflector(open_udp("127.0.0.2", one.address[1]), Clock())  # same port: recognised by it
    with client() as third:
        one.refuse([third.getsockname()])
        third.sendto(pack_request(1, 1, 1, 1), one.address)
        two._sock.sendto(pack_request(1, 1, 1, 1), one.address)
        try:
            await until(lambda: one.counters["from_reflector"] == 2)
            assert one.counters["reflected"] == 0
        finally:
            one.close()
            two.close()


async def test_reflector_is_rate_limited() -> None:
    reflector = Reflector(open_udp(HOST, 0), Clock(), per_s=10)
    try:
        with client() as sock:
            for _ in range(50):
                sock.sendto(pack_request(1, 1, 1, 1), reflector.address)
            await until(lambda: sum(reflector.counters.values()) == 50)
            assert 1 <= reflector.counters["reflected"] < 25
            assert reflector.counters["rate_limited"] > 25
    finally:
        reflector.close()


async def test_sender_measures_and_takes_answers_from_nobody_else() -> None:
    reflector = Reflector(open_udp(HOST, 0), Clock(offset_us=-500_000))
    summary = Summary()
    sender = ProbeSender(open_udp(HOST, 0), Clock(offset_us=500_000), keep_samples=True)
    target = Target(summary.row("b", "internet"), reflector.address, 77)
    sender.replace([target])
    try:
        for _ in range(20):
            sender.send(target)
        await until(lambda: not summary.open)
        rows = summary.close(monotonic_us())
        assert rows.received == (20,)
        assert len(target.samples) == 20
        assert 0 <= rows.rtt_min_us[0] < 100_000
        assert rows.forward_min_us[0] == pytest.approx(-1_000_000, abs=100_000)
        assert rows.backward_min_us[0] == pytest.approx(1_000_000, abs=100_000)
        with client() as stranger:
            forged = ReflectorPacket(0, 1, 1, 77, 1, 0, 1, 1, 255).encode()
            stranger.sendto(forged, sender.address)
            await until(lambda: sender.counters["stray"] == 1)
        assert len(summary.close(monotonic_us())) == 0
    finally:
        reflector.close()
        sender.close()


async def test_the_kernels_stamp_counts_and_not_the_moment_of_reading() -> None:
    summary = Summary()
    sender = ProbeSender(open_udp(HOST, 0), Clock(offset_us=1_000_000))
    with client() as peer:
        target = Target(summary.row("b", "internet"), peer.getsockname(), 5)
        sender.replace([target])
        try:
            sequence = sender.send(target)
            sent = SenderPacket.decode(await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer, 100), 20))
            probe = target.row._open[sequence or 0]
            t1_us = ntp_to_micros(sent.timestamp)
            assert probe[T1] == t1_us
            answer = ReflectorPacket(0, micros_to_ntp(9), 1, 5, micros_to_ntp(8), 0, sent.timestamp, 1, 255).encode()
            sender._take([(answer, (probe[DEPARTED] - 1_000_000 + 3) * 1_000, 64, target.raw)])
            rows = summary.close(monotonic_us())
            assert rows.rtt_min_us == (2,)
            assert rows.backward_min_us == (probe[DEPARTED] + 3 - 9,)
        finally:
            sender.close()


async def test_garbage_never_stops_the_sender() -> None:
    rng = random.Random(12)
    broken: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: broken.append(context))
    reflector = Reflector(open_udp(HOST, 0), Clock())
    summary = Summary()
    sender = ProbeSender(open_udp(HOST, 0), Clock())
    with client() as liar:
        honest = Target(summary.row("b", "internet"), reflector.address, 1)
        lied_to = Target(summary.row("c", "internet"), liar.getsockname(), 2)
        sender.replace([honest, lied_to])
        try:
            for _ in range(300):
                packet = bytearray(rng.randbytes(rng.choice((0, 3, 43, 44, 44, 44, 60, 2_100))))
                if len(packet) >= 16:
                    packet[14:16] = (2).to_bytes(2, "big")  # the right session: as far into the code as lies can go
                liar.sendto(bytes(packet), sender.address)
                await asyncio.sleep(0)
            await until(lambda: sum(sender.counters.values()) + summary.strays >= 300)
            assert sender.counters["malformed"] > 0
            assert sender.counters["too_long"] > 0
            assert summary.strays > 0
            sender.send(honest)
            await until(lambda: not summary.open)
            assert summary.close(monotonic_us()).received == (1,)
        finally:
            sender.close()
            reflector.close()
    assert not broken


async def test_an_answer_with_a_garbled_echo_does_not_count() -> None:
    summary = Summary()
    sender = ProbeSender(open_udp(HOST, 0), Clock())
    with client() as peer:
        target = Target(summary.row("b", "internet"), peer.getsockname(), 5)
        sender.replace([target])
        try:
            sender.send(target)
            packet = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer, 100), 20)
            sent = SenderPacket.decode(packet)
            for t1 in (sent.timestamp ^ (1 << 40), sent.timestamp):
                answer = ReflectorPacket(0, t1, 1, 5, t1, sent.sequence, t1, 1, 255)
                peer.sendto(answer.encode(), sender.address)
            await until(lambda: not summary.open)
            assert summary.strays == 1
        finally:
            sender.close()


async def test_a_target_that_the_kernel_refuses_is_a_lost_probe() -> None:
    summary = Summary(timeout_us=1)
    sender = ProbeSender(open_udp(HOST, 0), Clock())
    try:
        target = Target(summary.row("b", "internet"), ("255.255.255.255", 7), 1)  # EACCES without SO_BROADCAST
        sender.send(target)
        assert sender.counters["send_errors"] == 1
        assert summary.close(monotonic_us() + 10).sent == (1,)
    finally:
        sender.close()


async def test_ipv6_works() -> None:
    try:
        reflector = Reflector(open_udp("::1", 0), Clock())
    except OSError:
        pytest.skip("no IPv6 on this machine")
    summary = Summary()
    sender = ProbeSender(open_udp("::1", 0), Clock())
    target = Target(summary.row("b", "internet"), reflector.address, 1)
    sender.replace([target])
    try:
        sender.send(target)
        await until(lambda: not summary.open)
        assert summary.close(monotonic_us()).received == (1,)
    finally:
        sender.close()
        reflector.close()


def test_a_port_that_is_taken_is_an_error_and_leaks_nothing() -> None:
    with client() as sock, pytest.raises(OSError, match="in use"):
        open_udp(*sock.getsockname())


def test_token_bucket_refills(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]
    monkeypatch.setattr(limits, "monotonic_us", lambda: now[0])
    bucket = TokenBucket(100, burst=5)
    assert [bucket.take() for _ in range(7)] == [True] * 5 + [False] * 2
    now[0] += 20_000
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    now[0] += 3_600_000_000
    assert sum(bucket.take() for _ in range(10)) == 5


def test_odd_ancillary_data_is_ignored() -> None:
    assert read_ancillary([]) == (0, 255)
    assert read_ancillary([(socket.SOL_SOCKET, 35, b"short"), (0, 2, b"\x01"), (99, 99, b"\0" * 16)]) == (0, 255)
