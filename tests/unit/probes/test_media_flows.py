"""Direct Measurement (RFC 8972, 4.5): counters of real media, from the relay that carries it or told by its server."""

from __future__ import annotations

import socket
import struct

import pytest
from relay_world import HOSTS, receive, socket_on, until
from test_relay_tunnel import tunnelled, way

from probes.clock import Clock
from probes.relay import pack_send
from probes.sockets import Reflector, open_udp
from probes.stamp import Flow, Flows
from probes.stamp.flows import MAX_HOSTS

REQUEST = struct.pack(">IQHH28x", 7, 1, 1, 5)  # RFC 8762, 4.2.1: sequence, T1, error estimate, session id
TLV = struct.pack(">BBHIII", 0x80, 5, 12, 0xAABBCCDD, 0, 0)  # RFC 8972, 4.5: U set by the sender, S_TxC


async def asked(reflector: Reflector, host: str) -> bytes:
    """The TLV as it comes back to a request from that host."""
    with socket_on(host) as sock:
        sock.sendto(REQUEST + TLV, reflector.address)
        reply, _ = await receive(sock)
    assert len(reply) == len(REQUEST + TLV)
    return reply[44:]


async def test_the_reflector_answers_with_what_its_relay_carried_and_with_u_where_nothing_is_known() -> None:
    with socket_on("127.0.0.1") as media, socket_on(HOSTS[3]) as service:
        port = service.getsockname()[1]
        async with tunnelled(port) as (made, tunnel, ways):
            assert tunnel.address is not None
            t = made["t"]
            ends = [Reflector(open_udp(host, 0), Clock(), flow_of=made[name].media.of)
                    for name, host in (("t", HOSTS[3]), ("s", HOSTS[0]))]  # fmt: skip
            try:
                assert await asked(ends[0], HOSTS[0]) == TLV, "U, as it came: nothing was carried yet"
                for number in range(20):  # the first ten twice
                    ways.paths = (way(made, "abt"), way(made, "bt"))[: 1 + (number < 10)]
                    media.sendto(pack_send("voice", "t-dc", port, 9, bytes([number])), tunnel.address)
                    _, peer = await receive(service)
                    if number < 3:
                        service.sendto(b"answer", peer)
                await until(lambda: t.counters["duplicates"] == 10 and tunnel.counters["answered"] == 3)
                made["a"].follow("a", "", [])  # the first relay forgets everybody: five are lost
                for number in range(5):
                    media.sendto(pack_send("voice", "t-dc", port, 9, bytes([number])), tunnel.address)
                await until(lambda: tunnel.counters["sent"] == 25)
                assert made["s"].media.all() == {HOSTS[3]: Flow(received=3, sent=25)}
                assert t.media.all() == {HOSTS[0]: Flow(received=20, sent=3)}
                assert await asked(ends[0], HOSTS[0]) == struct.pack(">BBHIII", 0, 5, 12, 0xAABBCCDD, 20, 3)
                assert await asked(ends[1], HOSTS[3]) == struct.pack(">BBHIII", 0, 5, 12, 0xAABBCCDD, 3, 25)
                assert await asked(ends[0], HOSTS[1]) == TLV, "a relay on the way is nobody's media"
            finally:
                for reflector in ends:
                    reflector.close()


async def test_what_is_delivered_to_other_services_is_no_media() -> None:
    with socket_on("127.0.0.1") as client, socket_on(HOSTS[3]) as service:
        port = service.getsockname()[1]
        async with tunnelled(port) as (made, tunnel, ways):
            assert tunnel.address is not None
            made["t"]._media_ports = frozenset()  # it is the reflector's
            ways.paths = (way(made, "t"),)
            client.sendto(pack_send("voice", "t-dc", port, 9, b"probe"), tunnel.address)
            _, peer = await receive(service)
            service.sendto(b"answer", peer)
            await until(lambda: tunnel.counters["answered"] == 1)
            assert made["t"].media.all() == {}


def test_what_servers_tell_counts_where_the_relay_carries_nothing() -> None:
    flows = Flows()
    for host in ("192.0.2.1", "2001:db8:0::1", "edge.example", ""):
        flows.told(host, received=5, sent=6)
    flows.told("192.0.2.1", received=1, sent=0)
    flows.told("192.0.2.2", received=0, sent=0)
    flows.carried(socket.inet_aton("192.0.2.3"), sent=1)
    assert flows.of("192.0.2.1") == Flow(6, 6)
    assert flows.of("2001:db8::1") == Flow(5, 6)
    assert flows.of("192.0.2.2") is None, "a post without packets says nothing"
    flows.carried(socket.inet_aton("192.0.2.1"), received=2)
    assert flows.of("192.0.2.1") == Flow(2, 0), "the same packets are not counted twice"
    assert list(flows.all()) == ["192.0.2.1", "2001:db8::1", "192.0.2.3"]
    assert flows.of("edge.example") is None


@pytest.mark.parametrize("kind", ["carried", "told"])
def test_hosts_are_bounded(kind: str) -> None:
    flows = Flows()
    for i in range(MAX_HOSTS + 3):
        host = socket.inet_aton(f"10.0.{i >> 8}.{i & 255}")
        if kind == "carried":
            flows.carried(host, sent=1)
        else:
            flows.told(socket.inet_ntoa(host), received=0, sent=1)
    assert len(flows.all()) == MAX_HOSTS
    assert flows.of("10.0.0.2") is None
    assert flows.of("10.0.0.3") == Flow(0, 1)
