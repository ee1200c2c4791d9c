"""The relay of one node: forwards between relays, delivers to local ports, and brings answers back.

One socket, one drain loop, one buffer. A packet on its way is changed in place and sent on; nothing is made of it but
the bytes of the next hop. Packets, rules and limits: ``docs/reference/relay.md``.

The way back. Every relay replaces its own entry in the list by the address the packet came from (IP's loose source
route does the same), so at the last hop the list, read backwards, is the path of the answer, as the packets themselves
saw it: address translation and the demo's stand-in addresses need no special case. A relay on the way keeps no state.
The last one keeps a *flow*: a socket of its own from which it delivers. What comes back to that socket travels along
the way that the flow's last first copy came by, marked as an answer, and ends at the socket that sent the packet.

Copies. The packets of a numbered flow are delivered once each, whatever ways they come by, all from the same socket.

Which hop am I? The index in the packet says so; addresses are never compared with one's own. The index only rises, the
list is short and no relay hands a packet back to one that had it; ``ttl`` bounds the journey once more.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from probes.relay.keyring import Keyring, Neighbour, Path
from probes.relay.packet import (
    ANSWER,
    FIRST_TTL,
    IPV6,
    MAGIC,
    MAX_PAYLOAD,
    OPEN,
    OPEN_FIXED,
    SEALED,
    SEALED_FIXED,
    TAG_SIZE,
    Address,
    RelayError,
    open_end,
    pack_hop,
    sealed_end,
    unpack_hop,
)
from probes.relay.window import Window
from probes.sockets import Receiver, monotonic_us, open_udp
from probes.stamp import Flows

MEDIA_PORTS = frozenset({7423, 7424})  # media edge and AI agent
PACKETS_PER_S = 20_000
MAX_FLOWS = 1_024
FLOW_IDLE_US = 60_000_000
MAX_DATAGRAM = 2_048  # larger ones are refused
MAX_DRAIN = 256  # datagrams per wake-up, then others get a turn
MAX_CACHED = 4_096
_PORT = 2  # bytes of a hop that are not its address

Numbered = tuple[int, int, int]  # origin, flow, number
FlowKey = tuple[bytes | int, int, int]
"""Origin or way back, flow (0: not numbered; -1: open), destination port."""


class Relay:
    """Forwards to the relays it is told about and delivers to ``deliver_ports`` of its own address.

    With ``open`` it also takes version 1, which proves nothing, from the addresses it is told about. What goes to
    ``media_ports`` or answers from there is real media and counted in ``media``.
    """

    def __init__(
        self,
        sock: socket.socket,
        deliver_ports: Iterable[int],
        *,
        packets_per_s: int = PACKETS_PER_S,
        open: bool = False,
        keyring: Keyring | None = None,
        media: Flows | None = None,
        media_ports: Iterable[int] = (),
    ) -> None:
        self.address: Address = sock.getsockname()[:2]
        self.keyring = keyring or Keyring()
        self.counters: Counter[str] = Counter()
        self.on_answer: Callable[[int, int, bytes], bool] | None = None  # origin, flow, payload; the tunnel's
        host = self.address[0]
        self._sock = sock
        self._six = sock.family == socket.AF_INET6
        self._own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # where local services are reached
        self._deliver_ports = frozenset(deliver_ports)
        self._media_ports = frozenset(media_ports)
        self.media = media or Flows()
        self._open = open
        self._open_hosts: frozenset[str] = frozenset()
        self._open_relays: dict[bytes, Address] = {}
        self._gap_ns = 1_000_000_000 // packets_per_s
        self._burst_ns = max(100_000_000, self._gap_ns)
        self._due_ns = 0
        self._flows: dict[FlowKey, _Flow] = {}  # least recently used first
        self._packed: dict[Address, bytes] = {}  # addresses that packets came from
        self._buffer = bytearray(MAX_DATAGRAM + 1)
        self._loop = asyncio.get_running_loop()
        self.allow(())
        self._loop.add_reader(sock, self._drain)

    @property
    def flows(self) -> int:
        """Flows that can bring an answer back now."""
        return len(self._flows)

    def allow(self, relays: Iterable[Address]) -> None:
        """Know these relays (numeric address, port) for open packets; port 0 means a machine that does not relay."""
        known = list(relays)
        self._open_relays = {pack_hop(*relay): relay for relay in known if relay[1] and ":" not in relay[0]}
        self._open_hosts = frozenset({self._own, *(host for host, _ in known)})

    def follow(self, node: str, own_key: str, neighbours: Iterable[Neighbour], also: Sequence[str] = ()) -> None:
        """Forward to these neighbours from now on, sealed with their keys, and open where that is allowed."""
        known = list(neighbours)
        self.keyring.install(node, own_key, known, also)
        self.allow((neighbour.host, neighbour.port) for neighbour in known)

    def close(self) -> None:
        """Close all sockets."""
        for flow in self._flows.values():
            flow.close()
        self._flows.clear()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def start(self, path: Path, destination_port: int, payload: bytes, flow: Numbered) -> bool:
        """Send a payload of this node along a path; False, and counted, if that is not possible now."""
        if not self._may_send(time.monotonic_ns()):
            self.counters["rate_limited"] += 1
            return False
        try:
            packet = self.keyring.start(path, destination_port, payload, time.time_ns() // 1_000, flow)
        except RelayError:
            self.counters["too_long"] += 1
            return False
        return self._send(packet, path.first.address)

    # --- what arrives ------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        receive, buffer, take = self._sock.recvfrom_into, self._buffer, self._take
        view = memoryview(buffer)
        now_ns, wall_us = time.monotonic_ns(), time.time_ns() // 1_000
        for _ in range(MAX_DRAIN):
            try:
                size, address = receive(buffer)
            except BlockingIOError:
                return
            except OSError:  # a queued ICMP error: the socket lives on
                self.counters["receive_errors"] += 1
                continue
            if size > MAX_DATAGRAM:
                self.counters["too_long"] += 1
            elif refusal := take(view[:size], address[:2], now_ns, wall_us):
                self.counters[refusal] += 1

    def _take(self, packet: memoryview, address: Address, now_ns: int, wall_us: int) -> str:
        """Handle one packet; returns why it was refused, or ""."""
        if len(packet) > 2 and packet[2] == SEALED:
            end = sealed_end(packet)
            if not end or bool(packet[3] & IPV6) != self._six:
                return "malformed"
            if refusal := self.keyring.refusal(packet, now_ns, wall_us):
                return refusal
            start = SEALED_FIXED.size
        else:
            end = open_end(packet)
            if not end or self._six:
                return "malformed"
            if not self._open:
                return "unauthenticated"
            if address[0] not in self._open_hosts:
                return "not_allowed"
            start = OPEN_FIXED.size
        if packet[6] == 0:
            return "ttl_exceeded"
        if not self._may_send(now_ns):
            return "rate_limited"
        return self._pass(packet, start, end, address, wall_us)

    def _may_send(self, now_ns: int) -> bool:
        """Take one packet out of the bucket, which is a time: when it would be full again (GCRA, ITU-T I.371)."""
        due_ns = self._due_ns
        if due_ns < now_ns:
            due_ns = now_ns
        elif due_ns - now_ns > self._burst_ns:
            return False
        self._due_ns = due_ns + self._gap_ns
        return True

    def _pass(self, packet: memoryview, start: int, end: int, address: Address, wall_us: int) -> str:
        count, index = packet[4], packet[5]
        size = (end - start) // count
        here = start + index * size
        packet[here : here + size] = self._packed.get(address) or self._pack(address)
        if index == count - 1:
            return self._arrive(packet, start, end)
        hop = bytes(packet[here + size : here + 2 * size])
        for at in range(start, here + size, size):
            if packet[at : at + size] == hop:
                return "loop"
        packet[5] = index + 1
        packet[6] -= 1
        last_of_answer = index == count - 2 and packet[3] & ANSWER != 0
        if start == SEALED_FIXED.size:
            onward = self.keyring.onward(hop, last_of_answer=last_of_answer)
            if onward is None:
                return "not_allowed"
            self.keyring.seal(packet, onward, wall_us)
            target = onward.address
        else:
            known = self._open_next(hop, last_of_answer)
            if known is None:
                return "not_allowed"
            target = known
        if self._send(packet, target):
            self.counters["forwarded"] += 1
        return ""

    def _open_next(self, hop: bytes, last_of_answer: bool) -> Address | None:
        known = self._open_relays.get(hop)
        if known is None and last_of_answer:
            known = unpack_hop(hop)
            if known[0] not in self._open_hosts or not known[1]:
                return None
        return known

    def _pack(self, address: Address) -> bytes:
        if len(self._packed) >= MAX_CACHED:
            self._packed.clear()
        hop = self._packed[address] = pack_hop(*address)
        return hop

    def _send(self, packet: bytes | memoryview, target: Address) -> bool:
        try:
            self._sock.sendto(packet, target)
        except OSError:
            self.counters["send_errors"] += 1
            return False
        return True

    # --- the last hop ------------------------------------------------------------------------------------------------

    def _arrive(self, packet: memoryview, start: int, end: int) -> str:
        sealed, port = packet[2] == SEALED, packet[8] << 8 | packet[9]
        origin = flow = number = 0
        if sealed:
            _, _, _, _, _, _, _, origin, flow, number, _, _ = SEALED_FIXED.unpack_from(packet)
        payload = bytes(packet[end : len(packet) - TAG_SIZE if sealed else len(packet)])
        if packet[3] & ANSWER:
            if not sealed or self.on_answer is None or not self.on_answer(origin, flow, payload):
                return "not_allowed"  # an answer that nobody here waits for
            self.counters["answers"] += 1
            self.media.carried(bytes(packet[start : start + (end - start) // packet[4] - _PORT]), received=1)
            return ""
        if port not in self._deliver_ports:
            return "not_allowed"
        count = packet[4]
        size = (end - start) // count
        back = b"".join(bytes(packet[at : at + size]) for at in range(end - size, start - 1, -size))
        key = (origin if flow else back, flow if sealed else -1, port)
        return self._deliver(key, sealed, back, count, number, payload)

    def _deliver(self, key: FlowKey, sealed: bool, back: bytes, count: int, number: int, payload: bytes) -> str:
        flow = self._flows.pop(key, None) or self._open_flow(key, sealed)
        if flow is None:
            return "flows_refused"
        self._flows[key] = flow
        if key[1] > 0 and not flow.window.take(number):
            return "duplicates"
        flow.back, flow.count = back, count
        flow.used_us = monotonic_us()
        if key[2] in self._media_ports:
            self.media.carried(back[len(back) - len(back) // count : -_PORT], received=1)
        if flow.receiver.send(payload, flow.service):
            self.counters["delivered"] += 1
        return ""

    def _open_flow(self, key: FlowKey, sealed: bool) -> _Flow | None:
        self._expire()
        try:
            return _Flow(self, key, sealed, (self._own, key[2]))
        except OSError:  # out of descriptors or ports
            return None

    def _expire(self) -> None:
        before_us = monotonic_us() - FLOW_IDLE_US
        while self._flows:
            key, flow = next(iter(self._flows.items()))
            if flow.used_us >= before_us and len(self._flows) < MAX_FLOWS:
                return
            flow.close()
            del self._flows[key]

    def answer(self, flow: _Flow, payload: bytes) -> None:
        """Send what a local service answered along the flow's way back; only flows call this."""
        if len(payload) > MAX_PAYLOAD:
            self.counters["too_long"] += 1
        elif flow.sealed:
            path = self.keyring.way_back(flow.back, flow.count)
            if path is None:
                self.counters["not_allowed"] += 1
            elif self.start(path, 0, payload, flow.numbered()):
                self.counters["forwarded"] += 1
                self._count_answer(flow)
        else:
            self._answer_open(flow, payload)

    def _answer_open(self, flow: _Flow, payload: bytes) -> None:
        target = self._open_next(flow.back[:6], flow.count == 1)
        if target is None:
            self.counters["not_allowed"] += 1
        elif not self._may_send(time.monotonic_ns()):
            self.counters["rate_limited"] += 1
        else:
            head = OPEN_FIXED.pack(MAGIC, OPEN, ANSWER, flow.count, 0, FIRST_TTL, 0)
            if self._send(head + flow.back + payload, target):
                self.counters["forwarded"] += 1
                self._count_answer(flow)

    def _count_answer(self, flow: _Flow) -> None:
        if flow.service[1] in self._media_ports:
            self.media.carried(flow.back[len(flow.back) - len(flow.back) // flow.count : -_PORT], sent=1)


class _Flow:
    """A local socket from which payloads are delivered to one port, and the way back for the answers."""

    def __init__(self, relay: Relay, key: FlowKey, sealed: bool, service: Address) -> None:
        self._relay = relay
        self._origin = key[0] if isinstance(key[0], int) else 0
        self._flow = max(0, key[1])
        self._answers = 0
        self.sealed = sealed
        self.service = service
        self.window = Window()
        self.back, self.count = b"", 0
        self.used_us = 0
        self.receiver = Receiver(open_udp(service[0], 0), self._take)

    def numbered(self) -> Numbered:
        """Origin, flow and number of the next answer."""
        self._answers = (self._answers + 1) & 0xFFFFFFFF
        return (self._origin, self._flow, self._answers if self._flow else 0)

    def close(self) -> None:
        """Close the socket."""
        self.receiver.close()

    def _take(self, packet: bytes, ancillary: object, address: Address) -> None:
        if address[:2] == self.service:
            self._relay.answer(self, packet)
