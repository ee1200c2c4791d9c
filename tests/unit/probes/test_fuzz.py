"""Goal R7: whatever arrives at a node, it is counted, nothing is raised, and the next good packet is served."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from random import Random

import pytest
from relay_world import HOSTS, receive, socket_on, until, wall_us

from probes.prober import Prober
from probes.relay import RelayHeader, Tunnel, pack_send
from probes.stamp import Key, micros_to_ntp, pack_request
from probes.stamp.packet import sign_request
from tests.unit.probes.test_relay_with_reflex import probers_of

PACKETS = 1_200
ESTIMATE = 0x8001


def mutated(rng: Random, good: bytes) -> bytes:
    """Noise, or a good packet with bytes changed, cut off, repeated or put behind it."""
    how = rng.randrange(6)
    if how == 0:
        return rng.randbytes(rng.randrange(200))
    packet = bytearray(good)
    if how == 1:
        return bytes(packet[: rng.randrange(len(packet) + 1)])
    if how == 2:
        return bytes(packet + rng.randbytes(rng.randrange(1, 60)))
    if how == 3:
        at = rng.randrange(len(packet))
        return bytes(packet[:at] + packet[rng.randrange(len(packet)) :])
    for _ in range(rng.randrange(1, 5)):
        packet[rng.randrange(len(packet))] = rng.randrange(256) if how == 4 else rng.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(packet)


def stamps(rng: Random) -> list[bytes]:
    """STAMP requests: plain, with TLVs of any kind and length, and authenticated."""
    plain = pack_request(7, micros_to_ntp(wall_us()), ESTIMATE, 9)
    parts = b"".join(
        bytes((rng.randrange(256), rng.choice((0, 1, 7, 8, 3, 4, 9)))) + size.to_bytes(2, "big") + rng.randbytes(size)
        for size in (rng.randrange(24) for _ in range(rng.randrange(4)))
    )
    signed = sign_request(Key.of_hex("5a" * 32), 7, micros_to_ntp(wall_us()), ESTIMATE, 9)
    return [plain, plain + parts, signed, signed + parts]


async def storm(to: tuple[str, int], packets: list[bytes]) -> None:
    """Send from an address that the node knows, giving it time to read."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((HOSTS[1], 0))
        for number, packet in enumerate(packets):
            sender.sendto(packet, to)
            if number % 16 == 15:
                await asyncio.sleep(0)


def relayed(rng: Random, a: Prober, t: Prober, port: int) -> list[bytes]:
    """A sealed packet over t, and an open one."""
    assert a.relay is not None and t.relay is not None
    path = a.keyring.path((t.relay.address,))
    sealed = a.keyring.start(path, port, rng.randbytes(30), wall_us(), (1, 1, rng.randrange(1 << 32)))
    return [sealed, RelayHeader.wrap([t.relay.address], port, b"x" * 20)]


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_that_arrives_breaks_a_node(seed: int) -> None:
    rng = Random(seed)
    broken: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: broken.append(context))
    with socket_on(HOSTS[3]) as service, socket_on("127.0.0.1") as media:
        port = service.getsockname()[1]
        async with probers_of(port) as probers:
            a, t = probers["a"], probers["t"]
            assert a.relay is not None and t.relay is not None
            way = (t.relay.address,)
            tunnel = Tunnel(a.relay, lambda context, target: [way], bind=("127.0.0.1", 0))
            try:
                sent = pack_send("voice", "dc-t", port, 1, b"hello")
                for to, kinds in (
                    (t.reflector.address, lambda: stamps(rng)),
                    (t.sender.address, lambda: stamps(rng) + relayed(rng, a, t, port)),
                    (t.relay.address, lambda: relayed(rng, a, t, port)),
                    (tunnel.address or ("", 0), lambda: [sent]),
                ):
                    await storm(to, [mutated(rng, rng.choice(kinds())) for _ in range(PACKETS)])
                assert not broken
                with suppress(BlockingIOError):
                    while service.recv(4_096):  # mutated payloads that were good packets all the same
                        pass
                media.sendto(pack_send("voice", "dc-t", port, 2, b"alive"), tunnel.address or ("", 0))
                while (await receive(service))[0] != b"alive":
                    pass
                await until(lambda: t.reflector.counters["reflected"] > 0 and tunnel.counters["malformed"] > 0)
                assert t.relay.counters["malformed"] and t.relay.counters["forged"]
                assert t.sender.counters["malformed"] and t.sender.counters["stray"]
            finally:
                tunnel.close()
    assert not broken
