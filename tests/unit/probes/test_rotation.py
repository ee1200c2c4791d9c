"""Keys change with time: a relay and a reflector go through it without losing a packet, and old keys end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import pytest
from relay_world import HOSTS, SECRET, receive, socket_on, until, wall_us, world

from probes.clock import Clock
from probes.keys import derive, key_id, own_key, own_keys, period_at
from probes.prober import Prober
from probes.relay import Keyring, Neighbour, Relay
from probes.stamp import Key, Reflection, WrongKeyError, micros_to_ntp, verify_reply
from probes.stamp.packet import sign_request
from probes.wire import PlanPeer, ProbePlan
from router.api.node_keys import with_keys

LIFETIME_US = 1_000_000


def test_periods_follow_each_other_and_overlap() -> None:
    assert period_at(5, 0) == (0, 0)
    assert [period_at(at, 10) for at in (0, 9, 10, 25)] == [(1, 10), (1, 1), (2, 10), (3, 5)]
    assert own_keys(SECRET, "a", 0) == (own_key(SECRET, "a"),)
    for period in (1, 2, 9):
        present, before, following = own_keys(SECRET, "a", period)
        assert len({present, before, following, own_key(SECRET, "b", period)}) == 4
        assert own_keys(SECRET, "a", period + 1)[:2] == (following, present)


def test_a_plan_s_keys_change_with_the_period_and_each_receiver_takes_the_neighbours_periods() -> None:
    bare = ProbePlan("a-1", "a", 1, 0, 1, 1_000_000, 1_000_000,
                     (PlanPeer("b-1", "b", "internet", "192.0.2.1", 7_421, 7_422, 1_000_000),))  # fmt: skip
    seen = []
    for now_us in (LIFETIME_US, LIFETIME_US + 400_000, 2 * LIFETIME_US, 3 * LIFETIME_US):
        plan = with_keys(bare, SECRET, now_us, LIFETIME_US)
        peer = with_keys(replace(bare, node="b-1"), SECRET, now_us, LIFETIME_US)
        assert plan.keys_for_us == LIFETIME_US - now_us % LIFETIME_US
        assert plan.peers[0].key == derive(bytes.fromhex(peer.own_key), key_id("a-1")).hex()
        seen.append((plan.own_key, plan.own_keys_also))
        assert not any(key in repr(plan) for key in (plan.own_key, *plan.own_keys_also))
    assert seen[0] == seen[1]
    assert seen[2][0] in seen[1][1] and seen[1][0] in seen[2][1]
    assert seen[1][0] not in (seen[3][0], *seen[3][1]), "two periods later it is worth nothing"
    assert with_keys(bare, SECRET).own_keys_also == ()


def adopt(ring: Keyring, node: str, others: dict[str, Relay], period: int) -> None:
    """What a plan fetched in that period says."""
    neighbours = [
        Neighbour(*other.address, key_id(node), derive(own_key(SECRET, name, period), key_id(node)).hex())
        for name, other in others.items()
        if name != node
    ]
    present, *also = own_keys(SECRET, node, period)
    ring.install(node, present.hex(), neighbours, [key.hex() for key in also])


@pytest.mark.parametrize("seed", range(3))
async def test_a_stream_goes_through_a_rotation_of_live_relays_without_losing_a_packet(seed: int) -> None:
    """Nodes take up the new keys one after the other, in any order, while packets are under way."""
    rng = Random(seed)
    with socket_on(HOSTS[0]) as sender, socket_on(HOSTS[3]) as service:
        port = service.getsockname()[1]
        async with world(deliver=[port]) as made:
            rings = {name: relay.keyring for name, relay in made.items()} | {"s": Keyring()}
            for name, ring in rings.items():
                adopt(ring, name, made, 7)
            hops, sent = [made[name].address for name in "abt"], 0
            for period in (8, 9):
                turns = list(rings)
                rng.shuffle(turns)
                for name in turns:
                    for _ in range(5):
                        sender.sendto(rings["s"].wrap(hops, port, b"%d" % sent, wall_us()), hops[0])
                        sent += 1
                    adopt(rings[name], name, made, period)  # some of the five are still on their way
                    got = [int((await receive(service))[0]) for _ in range(5)]
                    assert got == list(range(sent - 5, sent))
            assert sum((relay.counters for relay in made.values()), start=type(made["a"].counters)()) == {
                "forwarded": 2 * sent, "delivered": sent,
            }  # fmt: skip


async def test_after_two_periods_a_key_is_refused_and_replays_are_known_over_a_rotation() -> None:
    with socket_on(HOSTS[0]) as sender, socket_on(HOSTS[1]) as service:
        port = service.getsockname()[1]
        async with world(deliver=[port]) as made:
            ring, a = Keyring(), made["a"]
            adopt(ring, "s", made, 7)
            adopt(a.keyring, "a", made, 7)
            first = ring.wrap([a.address], port, b"first", wall_us())
            sender.sendto(first, a.address)
            assert (await receive(service))[0] == b"first"
            adopt(a.keyring, "a", made, 8)
            sender.sendto(first, a.address)
            await until(lambda: a.counters["replayed"] == 1)
            sender.sendto(ring.wrap([a.address], port, b"old key, still good", wall_us()), a.address)
            assert (await receive(service))[0] == b"old key, still good"
            adopt(a.keyring, "a", made, 9)
            sender.sendto(ring.wrap([a.address], port, b"too old", wall_us()), a.address)
            await until(lambda: a.counters["forged"] == 1)
            adopt(ring, "s", made, 10)  # a sender may be ahead
            sender.sendto(ring.wrap([a.address], port, b"ahead", wall_us()), a.address)
            assert (await receive(service))[0] == b"ahead"


def test_the_reflector_answers_under_the_key_that_it_was_asked_with() -> None:
    reflection, ssid, stamp = Reflection(), key_id("s") << 4, micros_to_ntp(wall_us())
    for number, (period, asked) in enumerate(((7, 7), (7, 8), (8, 7), (8, 8), (8, 9))):
        present, *also = own_keys(SECRET, "a", period)
        reflection.trust(present, also)
        key = Key(derive(own_key(SECRET, "a", asked), key_id("s")))
        request = sign_request(key, number, stamp + number, 0x8001, ssid)
        reply = reflection.answer(request, ("192.0.2.9", 9), wall_us(), wall_us(), 255)
        told, *_ = verify_reply(key, reply)
        assert told == number, "the session goes on"
    old = Key(derive(own_key(SECRET, "a", 6), key_id("s")))
    with pytest.raises(WrongKeyError):
        reflection.answer(sign_request(old, 99, stamp, 0x8001, ssid), ("192.0.2.9", 9), wall_us(), wall_us(), 255)


@pytest.mark.parametrize("first", ["a", "b"])
async def test_probes_under_way_when_keys_change_count(first: str) -> None:
    """Whoever hears of the new keys first; many probes are away at each moment."""
    hosts = {"a": "127.0.0.31", "b": "127.0.0.32"}
    nodes = {name: Prober(host, (0, 0, None), Clock(), Random(1), frozenset()) for name, host in hosts.items()}
    other = {"a": "b", "b": "a"}

    async def fetch(name: str, period: int) -> None:
        peer, (host, port) = other[name], nodes[other[name]].reflector.address
        bare = ProbePlan(name, name, 1, 0, 0, 1_000_000, 1_000_000,
                         (PlanPeer(peer, peer, "internet", host, port, 0, 2_000),))  # fmt: skip
        await nodes[name].follow(with_keys(bare, SECRET, period * LIFETIME_US, LIFETIME_US))

    closed: list[tuple[int, int]] = []  # sent, received

    def answers(name: str) -> int:
        rows = nodes[name].end_interval()
        closed.extend(zip(rows.sent, rows.received, strict=True))
        return sum(rows.received)

    try:
        for name in nodes:
            await fetch(name, 3)
        for node in nodes.values():
            node.end_interval()
            node.reflector.counters.clear()
        for period in range(4, 8):
            for name in (first, other[first]):
                await fetch(name, period)
                for one in nodes:
                    left = 20
                    while left > 0:
                        await asyncio.sleep(0.005)
                        left -= answers(one)
        assert all(sent == received for sent, received in closed)
        for node in nodes.values():
            assert set(node.reflector.counters) == {"reflected"} and not node.sender.counters
            assert node.evidence.calm, "nobody was suspected"
    finally:
        for node in nodes.values():
            node.close()
