"""Keys, sequence numbers and memories of one node: what makes a sealed packet, and what tells a good one. PURE.

A packet that arrives names its sender. The key is derived from the node's own key and the sender's id
(``probes.keys``), so a node needs no list of who may send to it. The tag is BLAKE2b, keyed, cut to 8 bytes, over the
whole packet before it: on voice packets it takes a third of the time of HMAC-SHA-256 (``bench/relay``), because its
keyed state is copied where HMAC starts anew. A forger has one chance in 2^64 per packet and is told nothing.

Rotation. A node takes the keys of three periods. A sender is remembered with the key that its packets fit, and others
are tried when they do not; its memory of sequences outlives its keys.

Replay. Sequences are microseconds of the sender's wall clock, at least one more than the last, so they rise across
restarts without being written down. Of each sender the last ``MEMORY`` are remembered; what is among them, or not above
the highest that was forgotten, is a replay. The first packet of a sender (after the relay's own start too) must be
within ``FRESH_US`` of the relay's wall clock, both ways; after that the clocks may say what they like.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final

from probes.keys import derive
from probes.relay.packet import (
    ANSWER,
    FIRST_TTL,
    IPV6,
    MAGIC,
    MAX_HOPS,
    MAX_PACKET,
    SEALED,
    SEALED_FIXED,
    TAG_SIZE,
    Address,
    RelayError,
    check_request,
    pack_hop,
    sealed_end,
)
from probes.wire import ProbePlan

MEMORY = 1_024  # sequences per sender
FRESH_US = 300_000_000  # how far two wall clocks may be apart when they first meet: Kerberos allows the same
MAX_SENDERS = 8_192  # the one first met is forgotten first
MAX_PATHS = 4_096
_STAMP: Final = struct.Struct(">IQ")  # sender and sequence
_AT: Final = SEALED_FIXED.size - _STAMP.size
_BURST_S = 10  # a tenth of a second's packets at once


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A relay that packets may be handed to: numeric address, port (0: it does not relay), and the key towards it."""

    host: str
    port: int
    key_id: int = 0
    key: str = ""  # 64 hex digits; "" takes open packets only
    name: str = ""  # what the plan calls the host, if that is not its numeric address


@dataclass(frozen=True, slots=True)
class Onward:
    """How a packet is sealed for one neighbour."""

    address: Address
    state: hashlib.blake2b  # has taken the key
    sender: int


class _Sender:
    """What is remembered of one sender."""

    __slots__ = ("due_ns", "floor", "order", "seen", "state")

    def __init__(self, state: hashlib.blake2b, floor: int) -> None:
        self.state = state
        self.floor = floor  # sequences up to this one are forgotten
        self.seen: set[int] = set()
        self.order: deque[int] = deque()  # the same, in the order of arrival
        self.due_ns = 0  # when the bucket would be full again


class Path:
    """A path that packets start on, ready to be sealed."""

    __slots__ = ("count", "end", "first", "flags", "hops")

    def __init__(self, first: Onward, hops: bytes, count: int) -> None:
        self.first = first
        self.hops = hops
        self.count = count
        self.end = hops[len(hops) - len(hops) // count : -2]  # the address of the last hop, without its port
        self.flags = IPV6 if len(hops) == 18 * count else 0


def sender_id(node: str, key_id: int) -> int:
    """The 32 bits that name a sender: its key id, and 20 bits that tell apart senders who share one."""
    return key_id << 20 | int.from_bytes(hashlib.sha256(node.encode()).digest()[2:5], "big") >> 4


def keyed(key: bytes) -> hashlib.blake2b:
    """The hash that tags start from."""
    return hashlib.blake2b(key=key, digest_size=TAG_SIZE)


def neighbours_of(plan: ProbePlan, addresses: Mapping[str, str | None]) -> list[Neighbour]:
    """Whom a plan lets a node hand packets to; ``addresses`` are the numeric ones of its hosts, where they resolve."""
    peers = [(peer.host, peer.relay_port, peer.key_id, peer.key) for peer in plan.peers if peer.node != plan.node]
    relays = [(relay.host, relay.relay_port, relay.key_id, relay.key) for relay in plan.relays]
    return [
        Neighbour(address, port, key_id, key, host)
        for host, port, key_id, key in peers + relays
        if (address := addresses.get(host)) is not None
    ]


class Keyring:
    """One node's keys and memories; its relay, its ingress and its probes along paths share it."""

    def __init__(self, *, packets_per_s: int = 20_000) -> None:
        self._gap_ns = 1_000_000_000 // packets_per_s  # of one sender
        self._burst_ns = max(1_000_000_000 // _BURST_S, self._gap_ns)
        self._own_keys: tuple[bytes, ...] = ()  # the present one first
        self._states: dict[int, list[hashlib.blake2b]] = {}  # by key id: 4,096 at most; one for each own key
        self._senders: dict[int, _Sender] = {}
        self._onward: dict[bytes, Onward] = {}  # by the bytes of a hop
        self._hosts: dict[bytes, Onward] = {}  # by the address alone
        self._addresses: dict[str, str] = {}  # of hosts that plans call by a name
        self._paths: dict[tuple[Address, ...], Path] = {}
        self._sequence = 0

    def install(self, node: str, own_key: str, neighbours: Iterable[Neighbour], also: Sequence[str] = ()) -> None:
        """Use these keys from now on (hex digits, "" for none); packets sealed under ``also`` are taken as well.

        Memories of senders last as long as any of the own keys is one of those before.
        """
        own_keys = tuple(bytes.fromhex(key) for key in (own_key, *also) if key)
        if own_keys != self._own_keys:
            if not set(own_keys) & set(self._own_keys):
                self._senders = {}
            self._own_keys, self._states = own_keys, {}
            for sender, known in self._senders.items():
                known.state = self._taken(sender >> 20)[0]
        self._onward, self._hosts, self._addresses, self._paths = {}, {}, {}, {}
        for neighbour in neighbours:
            if neighbour.name:
                self._addresses[neighbour.name] = neighbour.host
            if neighbour.key:
                state, address = keyed(bytes.fromhex(neighbour.key)), (neighbour.host, neighbour.port)
                onward = Onward(address, state, sender_id(node, neighbour.key_id))
                hop = pack_hop(*address)
                self._hosts.setdefault(hop[:-2], onward)
                if neighbour.port:
                    self._onward[hop] = onward

    # --- sending -----------------------------------------------------------------------------------------------------

    def wrap(
        self,
        hops: Sequence[Address],
        destination_port: int,
        payload: bytes,
        wall_us: int,
        flow: tuple[int, int, int] = (0, 0, 0),
    ) -> bytes:
        """A packet to send to ``hops[0]``; ``flow`` is origin, flow and number. Raises :class:`RelayError`."""
        check_request(destination_port, payload)
        return self.start(self.path(tuple(hops)), destination_port, payload, wall_us, flow)

    def path(self, hops: tuple[Address, ...]) -> Path:
        """A path whose first hop we have a key for; hosts as in a plan. Raises :class:`RelayError`."""
        known = self._paths.get(hops)
        if known is not None:
            return known
        if not 1 <= len(hops) <= MAX_HOPS or len(set(hops)) != len(hops):
            raise RelayError(f"a path has 1 to {MAX_HOPS} hops, all different; this is {hops}")
        packed = [pack_hop(self._addresses.get(host, host), port) for host, port in hops]
        if len({len(hop) for hop in packed}) != 1:
            raise RelayError("the hops of a path are all IPv4 or all IPv6")
        first = self._onward.get(packed[0])
        if first is None:
            raise RelayError(f"there is no key for the relay {hops[0][0]} port {hops[0][1]} in this node's plan")
        if len(self._paths) >= MAX_PATHS:
            self._paths.clear()
        made = self._paths[hops] = Path(first, b"".join(packed), len(packed))
        return made

    def way_back(self, hops: bytes, count: int) -> Path | None:
        """The path of an answer, from hops as packets recorded them; ``None`` if the first one is not known."""
        size = len(hops) // count
        first = self.onward(hops[:size], last_of_answer=count == 1)
        return None if first is None else Path(first, hops, count)

    def start(
        self, path: Path, destination_port: int, payload: bytes, wall_us: int, flow: tuple[int, int, int]
    ) -> bytes:
        """The bytes of a packet at the start of its path; destination port 0 makes it an answer."""
        self._sequence = sequence = max(self._sequence + 1, wall_us)
        first = path.first
        flags = path.flags if destination_port else path.flags | ANSWER
        head = SEALED_FIXED.pack(
            MAGIC, SEALED, flags, path.count, 0, FIRST_TTL, destination_port, *flow, first.sender, sequence
        )
        body = head + path.hops + payload
        if len(body) + TAG_SIZE > MAX_PACKET[path.flags == IPV6]:
            raise RelayError(f"the packet would have {len(body) + TAG_SIZE} bytes: too long for this path")
        tag = first.state.copy()
        tag.update(body)
        return body + tag.digest()

    def onward(self, hop: bytes, *, last_of_answer: bool) -> Onward | None:
        """The neighbour that a packet may be handed to; an answer may end at any port of one."""
        known = self._onward.get(hop)
        if known is None and last_of_answer and hop[-2:] != b"\0\0":
            at_host = self._hosts.get(hop[:-2])
            if at_host is not None:
                return Onward((at_host.address[0], int.from_bytes(hop[-2:], "big")), at_host.state, at_host.sender)
        return known

    def seal(self, packet: memoryview, onward: Onward, wall_us: int) -> None:
        """Make sender, sequence and tag anew, in place."""
        sequence = self._sequence + 1
        if sequence < wall_us:
            sequence = wall_us
        self._sequence = sequence
        _STAMP.pack_into(packet, _AT, onward.sender, sequence)
        tag = onward.state.copy()
        tag.update(packet[:-TAG_SIZE])
        packet[-TAG_SIZE:] = tag.digest()

    # --- receiving ---------------------------------------------------------------------------------------------------

    def refusal(self, packet: bytes | memoryview, now_ns: int, wall_us: int) -> str:
        """Why a well-formed packet is not taken; "" if it is, and then never again."""
        sender, sequence = _STAMP.unpack_from(packet, _AT)
        if not self._own_keys:
            return "no_key"
        known = self._senders.get(sender)
        state = known.state if known is not None else self._taken(sender >> 20)[0]
        tag = state.copy()
        tag.update(packet[:-TAG_SIZE])
        if not compare_digest(tag.digest(), packet[-TAG_SIZE:]):
            other = self._fitting(sender >> 20, packet)
            if other is None:
                return "forged"
            state = other
            if known is not None:
                known.state = other
        if known is None:
            if abs(sequence - wall_us) > FRESH_US:
                return "stale"
            known = self._meet(sender, state, wall_us)
        seen = known.seen
        if sequence <= known.floor or sequence in seen:
            return "replayed"
        due_ns = known.due_ns
        if due_ns < now_ns:
            due_ns = now_ns
        elif due_ns - now_ns > self._burst_ns:
            return "sender_rate_limited"
        known.due_ns = due_ns + self._gap_ns
        seen.add(sequence)
        order = known.order
        order.append(sequence)
        if len(order) > MEMORY:
            oldest = order.popleft()
            seen.remove(oldest)
            if oldest > known.floor:
                known.floor = oldest
        return ""

    def unwrap(self, packet: bytes, now_ns: int, wall_us: int) -> bytes:
        """Payload of an answer that has arrived at the sender. Raises :class:`RelayError`."""
        end = sealed_end(packet)
        if not end or not packet[3] & ANSWER or packet[5] != packet[4] - 1:
            raise RelayError("not an answer that has arrived")
        if refusal := self.refusal(packet, now_ns, wall_us):
            raise RelayError(f"an answer that is {refusal}")
        return packet[end:-TAG_SIZE]

    def _taken(self, key_id: int) -> list[hashlib.blake2b]:
        states = self._states.get(key_id)
        if states is None:
            states = self._states[key_id] = [keyed(derive(own_key, key_id)) for own_key in self._own_keys]
        return states

    def _fitting(self, key_id: int, packet: bytes | memoryview) -> hashlib.blake2b | None:
        """The state of whichever of the keys a packet was sealed with."""
        for state in self._taken(key_id) if len(self._own_keys) > 1 else ():
            tag = state.copy()
            tag.update(packet[:-TAG_SIZE])
            if compare_digest(tag.digest(), packet[-TAG_SIZE:]):
                return state
        return None

    def _meet(self, sender: int, state: hashlib.blake2b, wall_us: int) -> _Sender:
        if len(self._senders) >= MAX_SENDERS:
            del self._senders[next(iter(self._senders))]
        known = self._senders[sender] = _Sender(state, wall_us - FRESH_US)
        return known
