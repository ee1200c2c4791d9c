"""Stamps on real loopback sockets: they are the kernel's, they find their probes, and losing one costs little."""

from __future__ import annotations

import asyncio
import errno
import itertools
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from probes.clock import Clock
from probes.keys import derive
from probes.sockets import (
    BATCHED,
    Alarm,
    ProbeSender,
    Reflector,
    SourceLimit,
    Target,
    batch,
    kernel,
    limits,
    monotonic_us,
    open_udp,
    selftest,
)
from probes.sockets import sender as sender_module
from probes.sockets.kernel import address_of, raw_address, read_departure, stamp_transmits
from probes.stamp import Key, ReflectorPacket, pack_request
from probes.summary import DEPARTED, T1, Row, Summary

HOST = "127.0.0.1"
OWN_KEY = bytes(range(32))


async def until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


@pytest.fixture
async def sink() -> AsyncIterator[socket.socket]:
    """A socket that takes and says nothing."""
    with open_udp(HOST, 0) as sock:
        yield sock


@pytest.fixture
async def sender() -> AsyncIterator[ProbeSender]:
    made = ProbeSender(open_udp(HOST, 0), Clock(), keep_samples=True)
    if not made.stamps_departures:
        pytest.skip("this kernel does not stamp departures")
    yield made
    made.close()


def target_of(summary: Summary, sock: socket.socket, name: str = "b", ssid: int = 1) -> Target:
    return Target(summary.row(name, "internet"), sock.getsockname()[:2], ssid)


def probe_of(row: Row, sequence: int | None) -> list[int]:
    assert sequence is not None
    return row._open[sequence]


async def test_departures_are_between_before_and_after_and_not_the_time_before(
    sender: ProbeSender, sink: socket.socket
) -> None:
    target = target_of(Summary(), sink)
    later = 0
    for _ in range(50):
        probe = probe_of(target.row, sender.send(target))
        after_us = time.time_ns() // 1_000
        assert probe[T1] <= probe[DEPARTED] <= after_us
        later += probe[DEPARTED] > probe[T1]
    assert later > 25  # a stamp that is only a copy of T1 would never be later


async def test_arrival_lies_after_departure_by_less_than_the_reading_of_it(
    sender: ProbeSender, sink: socket.socket
) -> None:
    if not stamp_transmits(sink):
        pytest.skip("this kernel does not stamp")
    target = target_of(Summary(), sink)
    ways = []
    for _ in range(20):
        probe = probe_of(target.row, sender.send(target))
        time.sleep(0.002)  # reading late must not show
        ((packet, arrived_ns, ttl, source),) = batch.receive_batch(sink)
        assert packet is not None
        assert (len(packet), ttl, address_of(source)) == (44, 255, sender.address)
        ways.append(arrived_ns // 1_000 - probe[DEPARTED])
    assert sorted(ways)[10] < 1_000


async def test_each_probe_of_a_batch_has_its_own_departure(sender: ProbeSender, sink: socket.socket) -> None:
    summary = Summary()
    targets = [target_of(summary, sink, f"p{i}", i + 1) for i in range(200)]
    sequences = sender.send_all(targets)
    departed = [probe_of(one.row, sequence)[DEPARTED] for one, sequence in zip(targets, sequences, strict=True)]
    assert departed == sorted(departed)
    assert len(set(departed)) > 20


async def test_numbers_of_departures_wrap_around(sender: ProbeSender, sink: socket.socket) -> None:
    target = target_of(Summary(), sink)
    (port,) = sender._ports
    port._number = 0xFFFFFFFE
    probes = [target.row.launch(1_000, 0) for _ in range(4)]
    told = [((0xFFFFFFFE + i) & 0xFFFFFFFF, (1_005 + i) * 1_000) for i in range(4)]
    for probe in probes:
        port._ring[port._number & (sender_module.RING - 1)] = probe
        port._number = (port._number + 1) & 0xFFFFFFFF
    port._fill(told)
    assert [probe[DEPARTED] for probe in probes] == [1_005, 1_006, 1_007, 1_008]
    assert port._number == 2


async def test_lost_late_and_impossible_departures_leave_the_time_before_sending(
    sender: ProbeSender, sink: socket.socket
) -> None:
    target = target_of(Summary(), sink)
    (port,) = sender._ports
    lost, early, stepped, good = (target.row.launch(10_000_000, 0) for _ in range(4))
    port._ring[0:4] = [lost, early, stepped, good]
    port._fill([(3, 10_000_004_000), (1, 9_999_999_000), (2, 99_000_000_000), (3, 10_000_009_000), (7, 5), (-1, 0)])
    assert [one[DEPARTED] - 10_000_000 for one in (lost, early, stepped, good)] == [0, 0, 0, 4]
    assert sender.counters == Counter(departures_refused=2, network_errors=1)


async def test_a_refused_datagram_does_not_shift_the_departures_of_others(
    sender: ProbeSender, sink: socket.socket
) -> None:
    summary = Summary()
    good = target_of(summary, sink)
    refused = Target(summary.row("c", "internet"), ("255.255.255.255", 7), 2)  # EACCES without SO_BROADCAST
    for _ in range(3):
        sequences = sender.send_all([good, refused, good, good])
        after_us = time.time_ns() // 1_000
        assert None not in sequences  # a refused probe is a lost one
        for one, sequence in zip((good, refused, good, good), sequences, strict=True):
            probe = probe_of(one.row, sequence)
            assert probe[T1] <= probe[DEPARTED] <= after_us
    again = probe_of(good.row, sender.send(good))
    assert again[DEPARTED] >= again[T1]
    assert [probe[DEPARTED] for probe in good.row._open.values() if probe is not again][-1] <= after_us
    assert sender.counters["send_errors"] == 3


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS])
async def test_without_buffer_space_nothing_was_sent(
    sender: ProbeSender, sink: socket.socket, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    summary = Summary(timeout_us=1)
    targets = [target_of(summary, sink, name) for name in "abc"]
    real = sender_module.send_batch
    refused = iter([False, True, False, False])

    def full(sock: socket.socket, datagrams: Sequence[tuple[bytes, bytes]]) -> tuple[int, int]:
        return (0, number) if next(refused) else real(sock, datagrams[:1])

    monkeypatch.setattr(sender_module, "send_batch", full)
    assert [sequence is not None for sequence in sender.send_all(targets)] == [True, False, True]
    rows = summary.close(monotonic_us() + 10)
    assert (rows.peer, rows.sent) == (("a", "c"), (1, 1))


async def test_icmp_errors_in_the_queue_stop_nobody(sender: ProbeSender) -> None:
    summary = Summary()
    with open_udp(HOST, 0) as gone:
        dead = target_of(summary, gone, "dead")
    (port,) = sender._ports
    port.sock.setsockopt(socket.IPPROTO_IP, kernel.IP_RECVERR, 1)
    reflector = Reflector(open_udp(HOST, 0), Clock())
    alive = Target(summary.row("alive", "internet"), reflector.address, 2)
    sender.replace([dead, alive])
    try:
        sender.send(dead)
        await until(lambda: sum(sender.counters.values()) > 0)
        for _ in range(5):
            sender.send(alive)
        await until(lambda: alive.row.open == 0)
        assert len(alive.samples) >= 4  # the pending error may have cost one
        assert sender.counters["network_errors"] + sender.counters["receive_errors"] > 0
    finally:
        reflector.close()


async def test_two_thousand_peers_on_several_ports() -> None:
    summary = Summary(timeout_us=20_000_000)
    reflector = Reflector(open_udp(HOST, 0), Clock(), per_s=1_000_000, per_source_s=1_000_000)
    sender = ProbeSender([open_udp(HOST, 0) for _ in range(4)], Clock(), keep_samples=True)
    targets = [Target(summary.row(f"p{i}", "internet"), reflector.address, i + 1) for i in range(2_000)]
    sender.replace(targets)
    try:
        for start in range(0, 2_000, 100):
            sequences = sender.send_all(targets[start : start + 100], start // 100)
            assert None not in sequences
            await asyncio.sleep(0)
        await until(lambda: not summary.open)
        assert all(len(one.samples) == 1 for one in targets)
        assert {one.last_port for one in targets} == {0, 1, 2, 3}
        assert len(set(sender.ports)) == 4
        assert len(summary.close(monotonic_us())) == 2_000
    finally:
        sender.close()
        reflector.close()


async def test_confirm_probes_leave_by_another_port(sink: socket.socket) -> None:
    sender = ProbeSender([open_udp(HOST, 0) for _ in range(3)], Clock())
    target = target_of(Summary(), sink)
    try:
        for _ in range(20):
            sender.send(target)
            before = target.last_port
            sender.confirm(target)
            assert target.last_port != before
        sources = {address_of(source)[1] for _, _, _, source in batch.receive_batch(sink)}
        assert sources == set(sender.ports)
    finally:
        sender.close()


async def test_authenticated_probes_are_answered_and_nothing_else_counts() -> None:
    summary = Summary()
    reflector = Reflector(open_udp(HOST, 0), Clock())
    reflector.trust(OWN_KEY)
    sender = ProbeSender(open_udp(HOST, 0), Clock(), keep_samples=True)
    right = Target(summary.row("a", "internet"), reflector.address, 5 << 4, key=Key(derive(OWN_KEY, 5)))
    wrong = Target(summary.row("b", "internet"), reflector.address, 6 << 4, key=Key(bytes(32)))
    sender.replace([right, wrong])
    try:
        for _ in range(10):
            sender.send_all([right, wrong])
        await until(lambda: len(right.samples) == 10 and reflector.counters["wrong_key"] == 10)
        assert not wrong.samples
        forged = ReflectorPacket(0, 1, 1, 5 << 4, 1, 0, 1, 1, 255).encode()
        sender._take([(forged, 1, 64, right.raw)])
        signed = ReflectorPacket(0, 1, 1, 5 << 4, 1, 0, 1, 1, 255).sign(Key(bytes(32)))
        sender._take([(signed, 1, 64, right.raw)])
        assert (sender.counters["stray"], sender.counters["wrong_key"]) == (1, 1)
    finally:
        sender.close()
        reflector.close()


async def test_a_single_source_is_limited_while_others_are_answered() -> None:
    reflector = Reflector(open_udp(HOST, 0), Clock(), per_source_s=10)
    loop = asyncio.get_running_loop()
    try:
        with open_udp(HOST, 0) as loud, open_udp("127.0.0.9", 0) as quiet:
            for _ in range(50):
                loud.sendto(pack_request(1, 1, 1, 1), reflector.address)
            await until(lambda: sum(reflector.counters.values()) == 50)
            assert reflector.counters["rate_limited"] > 25
            quiet.sendto(pack_request(1, 1, 1, 1), reflector.address)
            assert len(await asyncio.wait_for(loop.sock_recv(quiet, 100), 20)) == 44
    finally:
        reflector.close()


def test_the_memory_for_sources_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SOURCES", 10)
    limit = SourceLimit(10)
    assert all(limit.take(bytes([i]), 0) for i in range(100))
    assert len(limit._buckets) == 10


@pytest.mark.slow
async def test_no_reply_is_longer_than_its_request() -> None:
    rng = random.Random(5)
    reflector = Reflector(open_udp(HOST, 0), Clock(), per_s=100_000, per_source_s=100_000)
    reflector.trust(OWN_KEY)
    try:
        with open_udp(HOST, 0) as sock:
            for round_ in range(400):
                size = rng.choice((14, 20, 44, 44, 64, 80, 112, 112, 140, rng.randrange(2_048)))
                packet = bytearray(pack_request(round_, 1, 1, 7).ljust(size, b"\0")[:size])
                for _ in range(rng.randrange(6)):
                    if packet:
                        packet[rng.randrange(len(packet))] = rng.randrange(256)
                before = sum(reflector.counters.values())
                sock.sendto(bytes(packet), reflector.address)
                await until(lambda before=before: sum(reflector.counters.values()) > before)  # type: ignore[misc]
                for reply, _, _, _ in batch.receive_batch(sock):
                    assert reply is not None
                    assert len(reply) == size
            assert reflector.counters["reflected"] > 50
    finally:
        reflector.close()


async def test_follow_up_telemetry_tells_when_the_reply_before_really_left() -> None:
    reflector = Reflector(open_udp(HOST, 0), Clock())
    if not reflector.stamps_departures:
        pytest.skip("this kernel does not stamp departures")
    follow_up = b"\x80\x07\x00\x10" + bytes(16)
    replies = []
    try:
        with open_udp(HOST, 0) as sock:
            for sequence in range(3):
                sock.sendto(pack_request(sequence, 1, 1, 7) + follow_up, reflector.address)
                reply = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 200), 20)
                replies.append(ReflectorPacket.decode(reply))
    finally:
        reflector.close()
    for earlier, later in itertools.pairwise(replies):
        assert later.tlvs[4:8] == earlier.sequence.to_bytes(4, "big")
        left = int.from_bytes(later.tlvs[8:16], "big")
        assert left > earlier.timestamp  # the kernel's, not the T3 that was in the packet
    assert reflector.counters == Counter(reflected=3)


async def arrivals_are_stamped(sock: socket.socket) -> None:
    """Wait until they are: for the first socket that wants stamps the kernel turns them on a little later."""
    stamp = 0
    with open_udp(HOST, 0) as other:
        while not stamp:
            other.sendto(b"on", sock.getsockname())
            await asyncio.sleep(0)
            stamp = max((stamp for _, stamp, _, _ in batch.receive_each(sock)), default=0)
        batch.receive_each(sock)


@pytest.mark.parametrize("batched", [True, False])
async def test_one_by_one_and_batched_do_the_same(batched: bool) -> None:
    if batched and not BATCHED:
        pytest.skip("no recvmmsg here")
    send_batch, receive_batch, departures = (
        (batch.send_batch, batch.receive_batch, batch.departures)
        if batched
        else (batch.send_each, batch.receive_each, batch.departures_each)
    )
    with open_udp(HOST, 0) as one, open_udp(HOST, 0) as two:
        stamped = stamp_transmits(one) and stamp_transmits(two)
        await arrivals_are_stamped(two)
        packets = [bytes([i]) * (i + 1) for i in range(50)] + [b"x" * 2_048, b"y" * 2_049, b"z" * 60_000, b""]
        to = raw_address(two.getsockname())
        assert send_batch(one, [(packet, to) for packet in packets]) == (len(packets), 0)
        told = departures(one)
        found = receive_batch(two)
        assert [packet for packet, _, _, _ in found] == [*packets[:51], None, None, b""]
        assert {source for _, _, _, source in found} == {raw_address(one.getsockname())}
        if stamped:
            assert [number for number, _ in told] == list(range(len(packets)))
            backwards = sum(left > arrived for (_, left), (_, arrived, _, _) in zip(told, found, strict=True))
            assert backwards <= 1  # the machine's clock may be set back once, between one's two stamps
        assert receive_batch(two) == departures(one) == []
        broadcast = raw_address(("255.255.255.255", 9))
        assert send_batch(one, [(b"a", to), (b"b", broadcast)]) in ((1, 0), (1, errno.EACCES))
        assert send_batch(one, [(b"b", broadcast)]) == (0, errno.EACCES)


async def test_packets_of_mixed_lengths_and_kinds_keep_their_stamps() -> None:
    with open_udp(HOST, 0) as one, open_udp(HOST, 0) as two:
        stamp_transmits(two)
        for size in (44, 44, 64, 44, 112):
            one.sendto(bytes(size), two.getsockname())
        one.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 9)
        one.sendto(bytes(44), two.getsockname())
        found = batch.receive_batch(two)
        assert [len(packet or b"") for packet, _, _, _ in found] == [44, 44, 64, 44, 112, 44]
        assert [ttl for _, _, ttl, _ in found] == [255] * 5 + [9]
        assert all(0 <= time.time_ns() - stamp < 60_000_000_000 for _, stamp, _, _ in found)


def test_addresses_survive_the_round_trip() -> None:
    for address in (("192.0.2.1", 7_420), ("2001:db8::1", 65_535), ("::1", 1)):
        assert address_of(raw_address(address)) == address
    assert raw_address(("fe80::1%1", 1))[24:] == (1).to_bytes(4, "little" if socket.htons(1) != 1 else "big")


def test_odd_news_in_the_error_queue_is_no_departure() -> None:
    stamp = (socket.SOL_SOCKET, kernel.SO_TIMESTAMPING, kernel.TIMESPEC.pack(5, 7) + bytes(32))
    error = (kernel.SOL_IP, kernel.IP_RECVERR, kernel.EXTENDED_ERROR.pack(42, 4, 0, 0, 0, 0, 99) + bytes(16))
    icmp = (kernel.SOL_IP, kernel.IP_RECVERR, kernel.EXTENDED_ERROR.pack(111, 2, 3, 3, 0, 0, 0) + bytes(16))
    assert read_departure([stamp, error]) == (99, 5_000_000_007)
    for odd in ([], [stamp], [error], [icmp], [stamp, icmp], [(1, 37, b"short"), error]):
        assert read_departure(odd)[0] == -1


def test_the_self_test_tells_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    found = selftest._test(HOST)
    assert found.arrivals
    assert "the kernel stamps arrivals" in str(found)
    monkeypatch.setattr(selftest, "stamp_transmits", lambda sock: False)
    assert not selftest._test(HOST).departures
    monkeypatch.setattr(kernel, "_options", lambda family: ())
    nothing = selftest._test(HOST)
    assert not nothing.arrivals
    assert "nothing" in str(nothing)


def test_an_injected_clock_promises_nothing() -> None:
    unknown = selftest.ErrorEstimate.of_micros(1_000_000).encode()
    assert selftest.error_estimate(Clock(offset_us=1)) == unknown
    assert selftest.ErrorEstimate.decode(selftest.error_estimate(Clock())).multiplier > 0


async def test_the_alarm_rings_once_not_before_its_time_and_not_when_cancelled() -> None:
    rung: list[int] = []
    alarm = Alarm(lambda: rung.append(monotonic_us()))
    try:
        at_us = monotonic_us() + 20_000
        alarm.set(at_us + 3_600_000_000)
        alarm.set(at_us)
        await until(lambda: rung)
        assert rung[0] >= at_us
        alarm.set(1)  # long ago: at once
        await until(lambda: len(rung) == 2)
        alarm.set(monotonic_us() + 1_000)
        alarm.cancel()
        await asyncio.sleep(0.02)
        assert len(rung) == 2
    finally:
        alarm.close()


async def test_the_alarm_works_without_timerfd(monkeypatch: pytest.MonkeyPatch) -> None:
    from probes.sockets import timer

    monkeypatch.setattr(timer, "_LIBC", None)
    rung: list[int] = []
    alarm = Alarm(lambda: rung.append(1))
    alarm.set(monotonic_us() + 3_600_000_000)
    alarm.set(monotonic_us() + 1_000)
    await until(lambda: rung)
    alarm.close()
    assert not alarm.precise
