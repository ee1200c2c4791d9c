"""What a router does to a packet, and by what a flow is known."""

from __future__ import annotations

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from router.demo.tun import flow_ends, hop

BYTES = st.integers(0, 255)


def packet(ttl: int, protocol: int = 17, ports: tuple[int, int] = (7420, 7421), host: int = 2, ident: int = 0) -> bytes:
    ends = socket.inet_aton("198.18.0.1") + socket.inet_aton(f"198.18.0.{host}")
    head = struct.pack(">BBHHHBBH", 0x45, 0, 32, ident, 0, ttl, protocol, 0) + ends
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + struct.pack(">HHHH", *ports, 12, 0) + b"data"


def checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@given(st.integers(2, 255), BYTES, st.integers(0, 65_535))
def test_the_ttl_falls_and_the_checksum_stays_right(ttl: int, host: int, ident: int) -> None:
    before = packet(ttl, host=host, ident=ident)
    after = hop(before)
    assert after is not None
    assert after[8] == ttl - 1
    assert checksum(after[:20]) == 0
    assert after[:8] == before[:8] and after[9] == before[9] and after[12:] == before[12:]


def test_a_packet_at_the_end_of_its_life_or_too_short_goes_nowhere() -> None:
    assert hop(packet(1)) is None
    assert hop(packet(9)[:19]) is None
    assert hop(b"") is None


def test_a_flow_is_known_by_protocol_addresses_and_ports() -> None:
    one = flow_ends(packet(64))
    assert one == flow_ends(packet(9, ident=7))
    others = [packet(64, 6), packet(64, ports=(7420, 7)), packet(64, ports=(7, 7421)), packet(64, host=3)]
    assert len({one, *map(flow_ends, others)}) == 5
    assert flow_ends(packet(64, 1)) == flow_ends(packet(64, 1, ports=(1, 2)))  # an echo request has no ports
