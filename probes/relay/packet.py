"""The relay's packets: version 1 (open) and version 2 (sealed). PURE. Byte by byte: ``docs/reference/relay.md``.

Both carry the list of relays that a packet visits, and its index says whose turn it is. A sealed packet names who sent
it over *this* hop, numbers it, and ends in a tag over everything before, which each relay makes anew for the next.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

Address = tuple[str, int]

MAGIC = 0x5452  # "TR"
OPEN, SEALED = 1, 2  # versions
MAX_HOPS = 4
FIRST_TTL = 8
MAX_PAYLOAD = 1_400
MAX_PACKET = {False: 1_472, True: 1_452}  # with IPv4's or IPv6's and UDP's headers it fits 1500 bytes
ANSWER, IPV6 = 0x01, 0x02  # flags
TAG_SIZE = 8
OPEN_FIXED = struct.Struct(">HBBBBBxH")  # magic, version, flags, hop count, hop index, TTL, zero, destination port
SEALED_FIXED = struct.Struct(">HBBBBBxHIIIIQ")  # …, origin, flow, number, sender, sequence
_SHAPE = struct.Struct(">HBBBBBBH").unpack_from  # what both begin with, the zero included


class RelayError(ValueError):
    """Bytes that are not a relay packet, or a path that does not fit in one or may not be taken."""


@lru_cache(maxsize=4_096)
def pack_hop(host: str, port: int) -> bytes:
    """Address and port of a hop: 6 bytes, with IPv6 18. Raises :class:`RelayError`."""
    try:
        return ip_address(host.partition("%")[0]).packed + port.to_bytes(2, "big")
    except (ValueError, OverflowError) as error:
        raise RelayError(f"a hop is a numeric address and a port: {error}") from error


def unpack_hop(data: bytes) -> Address:
    """Address and port of a hop's bytes."""
    return str(ip_address(bytes(data[:-2]))), int.from_bytes(data[-2:], "big")


def _joined(hops: Sequence[Address]) -> bytes:
    if not 1 <= len(hops) <= MAX_HOPS:
        raise RelayError(f"a path has 1 to {MAX_HOPS} hops, this has {len(hops)}")
    packed = [pack_hop(*hop) for hop in hops]
    if len({len(hop) for hop in packed}) != 1:
        raise RelayError("the hops of a path are all IPv4 or all IPv6")
    return b"".join(packed)


def _split(packet: bytes, start: int, end: int, size: int) -> tuple[Address, ...]:
    return tuple(unpack_hop(packet[at : at + size]) for at in range(start, end, size))


def check_request(destination_port: int, payload: bytes) -> None:
    """Refuse what no request can carry. Raises :class:`RelayError`."""
    if len(payload) > MAX_PAYLOAD:
        raise RelayError(f"a payload has at most {MAX_PAYLOAD} bytes, this has {len(payload)}")
    if not 1 <= destination_port <= 65_535:
        raise RelayError(f"destination port must be between 1 and 65535, not {destination_port}")


@dataclass(frozen=True, slots=True)
class RelayHeader:
    """The open envelope: ``hops[index]`` is who the packet is addressed to, ``hops[:index]`` where it came from."""

    hops: tuple[Address, ...]
    index: int
    ttl: int
    destination_port: int  # on the last hop's machine; 0 in an answer
    answer: bool = False

    @staticmethod
    def wrap(hops: Sequence[Address], destination_port: int, payload: bytes) -> bytes:
        """A packet to send to ``hops[0]``; ``hops[-1]`` delivers the payload. Raises :class:`RelayError`."""
        check_request(destination_port, payload)
        return RelayHeader(tuple(hops), 0, FIRST_TTL, destination_port).encode() + payload

    def encode(self) -> bytes:
        """Return the header's bytes. Raises :class:`RelayError` if it would not decode."""
        hops = _joined(self.hops)
        if len(hops) != 6 * len(self.hops):
            raise RelayError("a hop of an open packet is an IPv4 address and a port")
        flags = ANSWER if self.answer else 0
        return OPEN_FIXED.pack(MAGIC, OPEN, flags, len(self.hops), self.index, self.ttl, self.destination_port) + hops

    @staticmethod
    def decode(packet: bytes) -> tuple[RelayHeader, bytes]:
        """Header and payload of a packet. Raises :class:`RelayError`."""
        end = open_end(packet)
        if not end:
            raise RelayError("not an open relay packet")
        _, _, flags, _, index, ttl, port = OPEN_FIXED.unpack_from(packet)
        return RelayHeader(_split(packet, OPEN_FIXED.size, end, 6), index, ttl, port, bool(flags)), packet[end:]


@dataclass(frozen=True, slots=True)
class SealedHeader:
    """The sealed envelope without its tag; ``sender`` and ``sequence`` belong to the hop, the rest to the journey."""

    hops: tuple[Address, ...]
    index: int
    ttl: int
    destination_port: int  # on the last hop's machine; 0 in an answer
    answer: bool = False
    origin: int = 0  # who numbers: drawn at each start of an ingress
    flow: int = 0  # 0: not numbered, and no copy of it is dropped
    number: int = 0  # within the flow
    sender: int = 0  # who sent it over this hop; the upper 12 of the 32 bits are its key id
    sequence: int = 0  # within the sender, rising

    def encode(self) -> bytes:
        """Return the header's bytes. Raises :class:`RelayError` if it would not decode."""
        hops = _joined(self.hops)
        flags = (ANSWER if self.answer else 0) | (IPV6 if len(hops) == 18 * len(self.hops) else 0)
        head = (MAGIC, SEALED, flags, len(self.hops), self.index, self.ttl, self.destination_port)
        return SEALED_FIXED.pack(*head, self.origin, self.flow, self.number, self.sender, self.sequence) + hops

    @staticmethod
    def decode(packet: bytes) -> tuple[SealedHeader, bytes]:
        """Header and payload of a packet, whose tag is not looked at. Raises :class:`RelayError`."""
        end = sealed_end(packet)
        if not end:
            raise RelayError("not a sealed relay packet")
        _, _, flags, count, index, ttl, port, *rest = SEALED_FIXED.unpack_from(packet)
        hops = _split(packet, SEALED_FIXED.size, end, (end - SEALED_FIXED.size) // count)
        return SealedHeader(hops, index, ttl, port, bool(flags & ANSWER), *rest), packet[end:-TAG_SIZE]


def open_end(packet: bytes | memoryview) -> int:
    """Where the payload of a well-formed open packet starts; 0 if it is not one."""
    size = len(packet)
    if size < 16:
        return 0
    magic, version, flags, count, index, _, zero, port = _SHAPE(packet)
    end = 10 + 6 * count
    if magic != MAGIC or version != OPEN or flags > ANSWER or zero or (flags != 0) == (port != 0):
        return 0
    return end if index < count <= MAX_HOPS and end <= size <= end + MAX_PAYLOAD else 0


def sealed_end(packet: bytes | memoryview) -> int:
    """Where the payload of a well-formed sealed packet starts; 0 if it is not one. The tag is not looked at."""
    size = len(packet)
    if size < 48:
        return 0
    magic, version, flags, count, index, _, zero, port = _SHAPE(packet)
    if magic != MAGIC or version != SEALED or flags > 3 or zero or (flags & ANSWER != 0) == (port != 0):
        return 0
    end = 34 + (18 if flags >= IPV6 else 6) * count
    if index >= count or count > MAX_HOPS or size > MAX_PACKET[flags >= IPV6]:
        return 0
    return end if end <= size - TAG_SIZE <= end + MAX_PAYLOAD else 0


def unwrap(packet: bytes) -> bytes:
    """Payload of an open answer that has arrived at the sender. Raises :class:`RelayError`."""
    header, payload = RelayHeader.decode(packet)
    if not header.answer or header.index != len(header.hops) - 1:
        raise RelayError("not an answer that has arrived")
    return payload
