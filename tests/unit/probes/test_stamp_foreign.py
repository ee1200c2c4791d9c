"""STAMP with somebody else's codec at the other end of a real socket: scapy as sender, and as reflector."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import pytest
from scapy.contrib.stamp import (
    ErrorEstimate,
    STAMPSessionReflectorTestUnauthenticated,
    STAMPSessionSenderTestUnauthenticated,
    STAMPTestTLV,
)

from probes.clock import Clock
from probes.once import Place, measure
from probes.sockets import Reflector, open_udp


class ForeignReflector(asyncio.DatagramProtocol):
    """A stateless reflector that reads and writes with scapy; ``late`` is what it adds to T2 to get T3."""

    def __init__(self, late: float) -> None:
        self.late = late
        self.seen: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        asked = STAMPSessionSenderTestUnauthenticated(data)
        self.seen.append(asked.seq)
        t1 = float(asked.ts)
        told = STAMPSessionReflectorTestUnauthenticated(
            seq=asked.seq, ts=t1 + self.late, err_estimate=ErrorEstimate(scale=10, multiplier=1), ssid=asked.ssid,
            ts_rx=t1, seq_sender=asked.seq, err_estimate_sender=asked.err_estimate, ttl_sender=64,
        )  # fmt: skip
        # scapy keeps stamps as floats: T1 has to go back bit for bit
        reply = bytes(told)
        self.transport.sendto(reply[:28] + data[4:12] + reply[36:], addr)


@pytest.mark.parametrize("late", [0.0, -0.00003, 0.00001], ids=["T3 is T2", "T3 before T2", "T3 after T2"])
async def test_a_foreign_reflector_is_measured(late: float) -> None:
    loop = asyncio.get_running_loop()
    transport, foreign = await loop.create_datagram_endpoint(lambda: ForeignReflector(late), ("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        place = Place("foreign", "foreign", "127.0.0.1", port)
        (result,) = await measure(("127.0.0.1", 0), [(place, ())], count=3, interval_s=0.02, timeout_s=20.0)
    finally:
        transport.close()
    assert (result.sent, result.received) == (3, 3)
    assert len(set(foreign.seen)) == 3
    assert result.rtt_min_us is not None and result.rtt_min_us >= 0


def padded(packet: bytes) -> bytes:
    return packet + bytes(100)  # TWAMP Light's packet padding


def with_tlvs(packet: bytes) -> bytes:
    follow_up = bytes(STAMPTestTLV(flags="U", type=7, len=16, value=bytes(16)))
    return packet + follow_up + bytes(STAMPTestTLV(flags="U", type=77, len=2, value=b"??"))


@pytest.mark.parametrize(
    "shape", [bytes, padded, with_tlvs, lambda packet: packet[:41], lambda packet: packet[:14]],
    ids=["STAMP", "padded", "TLVs", "twampy's 41 bytes", "the shortest"],
)  # fmt: skip
async def test_a_foreign_sender_is_answered(shape: Callable[[bytes], bytes]) -> None:
    loop = asyncio.get_running_loop()
    reflector = Reflector(open_udp("127.0.0.1", 0), Clock())
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(reflector.address)
            for i in range(3):
                sent = STAMPSessionSenderTestUnauthenticated(seq=10 + i, ssid=7, err_estimate=ErrorEstimate(scale=63))
                request = shape(bytes(sent))
                await loop.sock_sendall(sock, request)
                reply = await asyncio.wait_for(loop.sock_recv(sock, 2_048), 20)
                assert len(reply) == len(request)
                read = STAMPSessionReflectorTestUnauthenticated(reply.ljust(44, b"\0"))
                assert read.seq == i  # stateful: the reflector's own counter
                if len(reply) >= 41:
                    assert (read.seq_sender, read.ssid, read.ttl_sender) == (10 + i, 7, 64)
    finally:
        reflector.close()
    if shape is with_tlvs:
        assert [(int(t.flags), t.type) for t in read.tlv_objects] == [(0, 7), (0x80, 77)]
        assert int.from_bytes(read.tlv_objects[0].value[:4], "big") == 1  # about the reply before
        assert any(read.tlv_objects[0].value[4:12])
