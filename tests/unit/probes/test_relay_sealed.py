"""Sealed packets through real relays: there and back, spoofed, replayed, looping, too many, garbage; all counted."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from relay_world import HOSTS, keyring, neighbour, receive, socket_on, until, wall_us, world

from probes.keys import derive, key_id
from probes.relay import Keyring, Neighbour, Relay, RelayHeader, SealedHeader
from probes.relay.packet import TAG_SIZE
from probes.sockets import Address, open_udp


def ring_of(made: dict[str, Relay], node: str = "s") -> Keyring:
    """A keyring of its own for a node of the world, as its probe socket has."""
    return keyring(node, {name: relay.address for name, relay in made.items() if name != node})


async def test_a_probe_goes_there_and_back_through_two_relays() -> None:
    with socket_on(HOSTS[0]) as sender, socket_on(HOSTS[3]) as service:
        port = service.getsockname()[1]
        async with world(deliver=[port]) as made:
            ring, hops = ring_of(made), [made[name].address for name in "abt"]
            for number in range(3):
                sender.sendto(ring.wrap(hops, port, bytes([number]), wall_us()), hops[0])
                payload, flow = await receive(service)
                assert payload == bytes([number])
                service.sendto(b"pong" + payload, flow)
                answer, came_from = await receive(sender)
                assert ring.unwrap(answer, time.monotonic_ns(), wall_us()) == b"pong" + payload
                assert came_from == made["a"].address
            assert made["a"].counters == made["b"].counters == {"forwarded": 6}
            assert made["t"].counters == {"delivered": 3, "forwarded": 3}
            assert (made["a"].flows, made["b"].flows, made["t"].flows) == (0, 0, 1)


async def test_ipv6() -> None:
    with socket_on("::1") as sender, socket_on("::1") as service:
        port = service.getsockname()[1]
        async with world(deliver=[port], hosts=["::1"] * 4) as made:
            ring, hops = ring_of(made), [made[name].address for name in "abt"]
            sender.sendto(ring.wrap(hops, port, b"ping", wall_us()), hops[0])
            payload, flow = await receive(service)
            assert payload == b"ping"
            service.sendto(b"pong", flow[:2])
            answer, _ = await receive(sender)
            assert ring.unwrap(answer, time.monotonic_ns(), wall_us()) == b"pong"
            four = Keyring()
            four.install("s", "", [neighbour("s", "a", ("127.0.0.1", made["a"].address[1]))])
            packet = four.wrap([("127.0.0.1", made["a"].address[1])], port, b"", wall_us())
            sender.sendto(packet, made["a"].address)  # IPv4 hops at a relay that speaks IPv6
            await until(lambda: made["a"].counters["malformed"] == 1)


async def test_what_is_spoofed_replayed_or_unsealed_is_counted_and_goes_nowhere() -> None:
    with socket_on("127.0.0.1") as anywhere:
        async with world(deliver=[9]) as made:
            a, hops = made["a"], [made["a"].address, made["b"].address]
            packet = ring_of(made).wrap(hops, 9, b"x", wall_us())
            flipped = packet[:-1] + bytes([packet[-1] ^ 1])
            stale = ring_of(made).wrap(hops, 9, b"x", wall_us() - 3_600_000_000)
            anywhere.sendto(flipped, a.address)  # forged; it must not use up the true one's sequence
            anywhere.sendto(RelayHeader.wrap(hops, 9, b"x"), a.address)
            anywhere.sendto(stale, a.address)
            anywhere.sendto(packet, a.address)  # not the sender's address: the seal counts, not the source
            anywhere.sendto(packet, a.address)
            anywhere.sendto(packet, made["b"].address)  # sealed for another relay
            anywhere.sendto(packet[:-1], a.address)
            anywhere.sendto(packet[:20], a.address)
            anywhere.sendto(packet + bytes(3_000), a.address)
            expected = {"forged": 2, "unauthenticated": 1, "stale": 1, "forwarded": 1, "replayed": 1}
            await until(lambda: a.counters == expected | {"malformed": 1, "too_long": 1})
            await until(lambda: made["b"].counters["forged"] == 1)
            # what a forwarded to b is the last hop there, but port 9 of that host has no listener; it was delivered
            assert made["b"].counters["delivered"] == 1


async def test_strange_next_hops_closed_ports_and_answers_to_nobody() -> None:
    with socket_on(HOSTS[0]) as sender:
        async with world(deliver=[9]) as made:
            ring, a = ring_of(made), made["a"]
            sender.sendto(ring.wrap([a.address, ("127.0.0.99", 7422)], 9, b"x", wall_us()), a.address)
            sender.sendto(ring.wrap([a.address, (HOSTS[2], 53)], 9, b"x", wall_us()), a.address)
            sender.sendto(ring.wrap([a.address], 53, b"x", wall_us()), a.address)
            answer = ring.start(ring.path((a.address,)), 0, b"x", wall_us(), (1, 2, 3))
            sender.sendto(answer, a.address)
            await until(lambda: a.counters == {"not_allowed": 4})


async def test_loops_end_at_the_second_visit_and_ttl_ends_the_rest() -> None:
    """The sender's own library builds no such path: these are a broken or hostile node's, with true keys."""
    with socket_on(HOSTS[0]) as sender:
        async with world(deliver=[9]) as made:
            ring, a, b = ring_of(made), made["a"], made["b"]

            def sealed(hops: list[Address], ttl: int = 8) -> bytearray:
                packet = bytearray(SealedHeader(tuple(hops), 0, ttl, 9).encode() + bytes(TAG_SIZE))
                onward = ring.path((hops[0],)).first
                ring.seal(memoryview(packet), onward, wall_us())
                return packet

            sender.sendto(sealed([a.address, b.address, a.address, b.address]), a.address)
            sender.sendto(sealed([a.address, sender.getsockname(), b.address]), a.address)  # straight back
            await until(lambda: b.counters == {"loop": 1} and a.counters == {"forwarded": 1, "loop": 1})
            sender.sendto(sealed([a.address, b.address], ttl=0), a.address)
            sender.sendto(sealed([a.address, b.address], ttl=1), a.address)
            await until(lambda: a.counters["ttl_exceeded"] == 1 and b.counters["ttl_exceeded"] == 1)


async def test_rates_are_limited_for_all_and_for_each() -> None:
    with socket_on(HOSTS[0]) as sender:
        async with world(deliver=[9], packets_per_s=10) as made:
            ring, a = ring_of(made), made["a"]
            for _ in range(60):
                sender.sendto(ring.wrap([a.address, made["b"].address], 9, b"x", wall_us()), a.address)
            await until(lambda: sum(a.counters.values()) == 60)
            assert a.counters["rate_limited"] > 30
        strict = Relay(open_udp(HOSTS[1], 0), [9], keyring=Keyring(packets_per_s=10))
        try:
            strict.follow("a", "11" * 32, [])
            own = Keyring()
            key = derive(bytes.fromhex("11" * 32), key_id("s")).hex()
            own.install("s", "", [Neighbour(*strict.address, key_id("s"), key)])
            for _ in range(60):
                sender.sendto(own.wrap([strict.address], 9, b"x", wall_us()), strict.address)
            await until(lambda: sum(strict.counters.values()) == 60)
            assert strict.counters["sender_rate_limited"] > 30
        finally:
            strict.close()


async def test_copies_of_a_numbered_packet_are_delivered_once_from_one_socket() -> None:
    """Two ways, one flow: the service sees one peer and each number once, and the answer takes the first copy's way."""
    with socket_on(HOSTS[0]) as sender, socket_on(HOSTS[3]) as service:
        port = service.getsockname()[1]
        async with world(deliver=[port]) as made:
            ring, t = ring_of(made), made["t"]
            peers = set()
            for number in range(10):
                for way in ("at", "bt"):
                    hops = [made[name].address for name in way]
                    packet = ring.wrap(hops, port, bytes([number]), wall_us(), (77, 5, number))
                    sender.sendto(packet, hops[0])
                payload, flow = await receive(service)
                assert payload == bytes([number])
                peers.add(flow)
                await until(lambda seen=number: t.counters["duplicates"] == seen + 1)  # type: ignore[misc]
            assert len(peers) == 1
            assert t.counters == {"delivered": 10, "duplicates": 10}
            hops = [made[name].address for name in "at"]
            sender.sendto(ring.wrap(hops, port, b"other", wall_us(), (78, 5, 0)), hops[0])  # another origin: no copy
            assert (await receive(service))[0] == b"other"
            sender.sendto(ring.wrap(hops, port, b"plain", wall_us()), hops[0])
            sender.sendto(ring.wrap(hops, port, b"plain", wall_us()), hops[0])
            assert [(await receive(service))[0] for _ in range(2)] == [b"plain"] * 2  # not numbered: all are delivered


async def test_flows_are_refused_when_there_are_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise OSError(24, "Too many open files")

    with socket_on(HOSTS[0]) as sender:
        async with world(deliver=[9]) as made:
            monkeypatch.setattr("probes.relay.forward.open_udp", none_left)
            sender.sendto(ring_of(made).wrap([made["t"].address], 9, b"x", wall_us()), made["t"].address)
            await until(lambda: made["t"].counters == {"flows_refused": 1})


async def test_new_keys_replace_the_old_ones() -> None:
    with socket_on(HOSTS[0]) as sender:
        async with world(deliver=[9]) as made:
            ring, a = ring_of(made), made["a"]
            hops = [a.address, made["b"].address]
            a.follow("a", "", [])
            sender.sendto(ring.wrap(hops, 9, b"x", wall_us()), a.address)
            await until(lambda: a.counters == {"no_key": 1})


async def test_garbage_is_counted_and_the_relay_lives_on() -> None:
    rng = random.Random(17)
    broken: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: broken.append(context))
    with socket_on(HOSTS[0]) as sender, socket_on(HOSTS[1]) as service:
        port = service.getsockname()[1]
        async with world(deliver=[port]) as made:
            ring, a = ring_of(made), made["a"]
            good = ring.wrap([a.address, made["b"].address], port, b"x" * 20, wall_us())
            for number in range(400):
                packet = bytearray(good if number % 2 else rng.randbytes(rng.randrange(80)))
                if packet and number % 2:
                    packet[rng.randrange(len(packet))] ^= rng.randrange(1, 256)
                sender.sendto(packet, a.address)
                await asyncio.sleep(0)
            await until(lambda: sum(a.counters.values()) == 400)
            assert set(a.counters) <= {"malformed", "forged", "unauthenticated"}
            assert a.counters["forged"] > 100
            sender.sendto(ring.wrap([a.address], port, b"alive", wall_us()), a.address)
            assert (await receive(service))[0] == b"alive"
    assert not broken
