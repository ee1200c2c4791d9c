"""The compiled loops and their Python forms do the same, with whatever arrives."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Any

import pytest

from probes import summary
from probes.clock import Clock
from probes.keys import derive
from probes.sockets import ProbeSender, Reflector, Target, limits, monotonic_us, open_udp, reflector, sender
from probes.sockets.kernel import raw_address, wall_ns
from probes.stamp import Key, ReflectorPacket, micros_to_ntp
from probes.stamp.packet import REQUEST, SIGNED_REQUEST, sign_request
from probes.summary import Summary, fold_each

pytest.importorskip("probes._hot", reason="not compiled here")

HOST = "127.0.0.1"
KEY = Key(bytes(range(32)))
PEERS = [raw_address((f"192.0.2.{i}", 7_421)) for i in range(1, 7)]


def test_folding_is_the_same() -> None:
    rng = random.Random(1)
    for case in range(200):
        wide = 10 ** rng.randint(0, 15)
        values = [
            (rng.randrange(wide), rng.randint(-wide, wide), rng.randint(-wide, wide))
            for _ in range(rng.choice((1, 2, 30, summary.MAX_UNFOLDED)))
        ]
        bases = rng.randint(-wide, wide), rng.randint(-wide, wide)
        before = {rng.randint(-50, 50): rng.randint(1, 9) for _ in range(case % 7)}
        last, jitter = rng.choice((-1, 0, wide)), rng.randrange(1_000_000)
        sketches = [[dict(before) for _ in range(3)] for _ in range(2)]
        told = [
            form(values, *its, *bases, last, jitter)
            for form, its in zip((summary.fold, fold_each), sketches, strict=True)
        ]
        assert told[0] == told[1]
        assert sketches[0] == sketches[1]
    with pytest.raises(ValueError, match="1 to 1024"):
        summary.fold([], {}, {}, {}, 0, 0, 0, 0)
    with pytest.raises(OverflowError):
        summary.fold([(1 << 70, 0, 0)], {}, {}, {}, 0, 0, 0, 0)


class Run:
    """A sender whose packets are answered by hand; nothing leaves the machine or comes in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
        self.sent: list[tuple[bytes, bytes]] = []
        self.told: list[tuple[int, int, int]] = []
        self.log: list[tuple[bytes, bytes]] = []  # all that was sent
        self.summary = Summary(timeout_us=1_000_000)
        self.sender = ProbeSender(open_udp(HOST, 0), clock, on_answer=self._hear)
        self.targets = [
            Target(self.summary.row("plain", "a"), (HOST, 1), 1),
            Target(self.summary.row("followed", "a"), (HOST, 1), 2, follow_up=True),
            Target(self.summary.row("keyed", "a"), (HOST, 1), 3, key=KEY),
            Target(self.summary.row("keyed and followed", "a"), (HOST, 1), 4, key=KEY, follow_up=True),
            Target(self.summary.row("wrapped", "a"), (HOST, 1), 5, wrap=lambda packet: b"w" + packet),
            Target(self.summary.row("enveloped", "a"), (HOST, 1), 6, envelope=b"envelope"),
        ]
        for target, raw in zip(self.targets, PEERS, strict=True):
            target.raw = raw
        self.sender.replace(self.targets)
        monkeypatch.setattr(sender, "send_batch", self._send)

    def _send(self, _: Any, datagrams: list[tuple[bytes, bytes]]) -> tuple[int, int]:
        self.sent += datagrams
        self.log += datagrams
        return len(datagrams), 0

    def _hear(self, target: Target, sequence: int, rtt_us: int, now_us: int) -> None:
        assert now_us == self.now_us
        self.told.append((target.ssid, sequence, rtt_us))

    def play(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
        """What came of it, told by everything that can be looked at."""
        rng, replies = random.Random(seed), []
        wall_us = 1_790_000_000_000_000
        for _ in range(60):
            self.now_us, wall_us = wall_us - 1_780_000_000_000_000, wall_us + rng.randrange(40_000)
            for name, value in (("monotonic_us", self.now_us), ("wall_ns", wall_us * 1_000)):
                monkeypatch.setattr(sender, name, lambda value=value: value)
            self.sender.send_all(rng.sample(self.targets, rng.randint(1, 6)))
            replies += [_reply(rng, *one, wall_us) for one in self.sent]
            self.sent.clear()
            rng.shuffle(replies)
            some = [replies.pop() for _ in range(rng.randrange(len(replies) + 1))]
            self.sender._take(some + rng.sample(some, len(some) // 5))
        rows = self.summary.close(self.now_us + 10_000_000)
        totals = self.summary.strays, self.summary.clock_steps, self.summary.followed_up
        self.sender.close()
        return rows, totals, self.summary.residences_refused, self.told, self.log, self.sender.counters


def _reply(rng: random.Random, packet: bytes, address: bytes, wall_us: int) -> Any:
    """An answer, most of the time as it should be."""
    signed = address in PEERS[2:4]
    sequence, t1, estimate, ssid = (SIGNED_REQUEST if signed else REQUEST).unpack_from(packet)
    odd = rng.choices(("", "late", "key", "ptp", "old", "t1", "before", "cut", "no stamp", "none", "multiplier"),
                      (40, *[1] * 10))[0]  # fmt: skip
    t2_us = wall_us + rng.randrange(5_000)
    t3_us = t2_us + rng.randrange(300) - (5 if odd == "before" else 0)
    t2, t3 = micros_to_ntp(t2_us), micros_to_ntp(t3_us)
    ttls = rng.choices((250, 249), (9, 1), k=2)
    if odd == "old":
        t2 = t3 = 5
    answer = ReflectorPacket(rng.randrange(1 << 32), t3, 0x4001 if odd == "ptp" else 0 if odd == "multiplier" else 1,
                             ssid, t2, sequence, t1 ^ (odd == "t1"), estimate, ttls[0])  # fmt: skip
    raw = (answer.sign(Key(bytes(32)) if odd == "key" else KEY) if signed else answer.encode()) + (
        packet[112 if signed else 44 :] if rng.random() < 0.7 else b""
    )
    t4_us = wall_us + 12_000 + (2_000_000 if odd == "late" else rng.randrange(3_000))
    stamp_ns = 0 if odd == "no stamp" else t4_us * 1_000 + 999
    return None if odd == "none" else raw[:40] if odd == "cut" else raw, stamp_ns, ttls[1], address


@pytest.mark.parametrize("clock", [Clock(), Clock(offset_us=-250_000), Clock(offset_us=9, skew_ppm=40)])
@pytest.mark.parametrize("seed", range(6))
async def test_sending_and_taking_is_the_same(clock: Clock, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = Run(monkeypatch, clock).play(seed, monkeypatch)
    monkeypatch.setattr(sender, "launch", sender.launch_each)
    monkeypatch.setattr(sender, "take", sender.take_each)
    monkeypatch.setattr(summary, "fold", fold_each)
    assert Run(monkeypatch, clock).play(seed, monkeypatch) == compiled
    *_, told, _, counters = compiled
    assert counters["hops_changed"] > 5
    assert len(told) > 80
    assert sum(counters.values()) > 20


async def test_what_hearers_raise_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, Clock())
    run.now_us = monotonic_us()
    run.sender.send_all(run.targets[:1])
    (packet, address) = run.sent[0]
    sequence, t1, estimate, ssid = REQUEST.unpack_from(packet)
    stamp = micros_to_ntp(wall_ns() // 1_000)
    reply = ReflectorPacket(0, stamp, 1, ssid, stamp, sequence, t1, estimate, 255).encode()
    with pytest.raises(AssertionError):  # the time is not the one that was set
        run.sender._take([(reply, wall_ns(), 255, address)])
    run.sender.close()


def test_odd_arguments_are_refused() -> None:
    batch = pytest.importorskip("probes.sockets._batch", reason="not compiled here")
    with pytest.raises(OSError, match="descriptor"):
        batch.wait(-1, 0, {})
    for arguments in ((0, 0, []), (1 << 40, 0, {}), (0,)):
        with pytest.raises((TypeError, OverflowError)):
            batch.wait(*arguments)
    with pytest.raises(OSError, match="descriptor"):
        batch.set_timer(-1, 5)
    with pytest.raises(TypeError):
        batch.set_timer(1)


OWN_KEY = bytes(range(32))


class Mirror:
    """A reflector whose requests are handed to it; what it sends arrives at real sockets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, sinks: list[socket.socket], now_us: int) -> None:
        self.sinks, self.ports = sinks, [sink.getsockname()[1] for sink in sinks]
        self.heard: list[str] = []
        self.reflector = Reflector(open_udp(HOST, 0), Clock(offset_us=77), self.heard.append, per_s=2_000)
        self.reflector.trust(OWN_KEY)
        self.now_us = self.reflector._bucket._at_us = now_us
        monkeypatch.setattr(reflector, "wall_ns", lambda: 1_790_000_000_000_000_000)
        for module in (reflector, limits):
            monkeypatch.setattr(module, "monotonic_us", lambda: self.now_us)

    def play(self, seed: int) -> tuple[Any, ...]:
        rng, made = random.Random(seed), self.reflector
        sequences = dict.fromkeys(range(8), (1 << 32) - 40)
        replies: list[tuple[int, bytes]] = []
        for turn in range(80):
            self.now_us += rng.choice((0, 2_000, 100_000))
            arrivals = [_request(rng, sequences, self.ports, 1_790_000_000_000_000 + turn) for _ in range(40)]
            if turn == 40:
                made.refuse([(HOST, self.ports[1])])
            made._take(arrivals)
            for place, sink in enumerate(self.sinks):
                replies += [(place, packet) for packet in _received(sink)]
        sessions = {
            name: (one.sequence, one.newest, one.stamp_sequence) for name, one in made._reflection._sessions.items()
        }
        levels = [made._bucket._level_us, *(bucket._level_us for bucket in made._sources._buckets.values())]
        return [_without_t3(one) for one in replies], list(sessions.items()), levels, self.heard, made.counters


def _received(sink: socket.socket) -> list[bytes]:
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(sink.recv(2_048))
    return found


def _without_t3(reply: tuple[int, bytes]) -> tuple[int, bytes]:
    """The compiled form looks at the clock itself."""
    place, packet = reply
    return place, packet[:4] + bytes(8) + packet[12:] if len(packet) == 44 and packet[13] else packet


def _request(rng: random.Random, sequences: dict[int, int], ports: list[int], wall_us: int) -> Any:
    which = rng.randrange(8)
    odd = rng.choices(("", "old", "restart", "twice", "none", "cut", "padded", "signed", "no stamp", "multiplier"),
                      (60, *[2] * 9))[0]  # fmt: skip
    sequences[which] = (sequences[which] + (odd != "twice") - (900 if odd == "restart" else 0)) % (1 << 32)
    number = (sequences[which] - (5 if odd == "old" else 2_000 if odd == "restart" else 0)) % (1 << 32)
    packet = REQUEST.pack(number, micros_to_ntp(wall_us), 0 if odd == "multiplier" else 0x8001, which + 1) + bytes(28)
    if odd == "signed":
        packet = sign_request(Key(derive(OWN_KEY, 3)), number, micros_to_ntp(wall_us), 0x8001, 3 << 4 | which)
    packet = packet[: rng.randrange(44)] if odd == "cut" else packet + bytes(7) if odd == "padded" else packet
    source = raw_address((HOST, ports[which % len(ports)]))
    stamp_ns = 0 if odd == "no stamp" else wall_us * 1_000 + 321
    return None if odd == "none" else packet, stamp_ns, rng.choice((255, 250, (1 << 8) + 7)), source


@pytest.mark.parametrize("seed", range(4))
async def test_reflecting_is_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told, start_us, compiled, by_itself = [], monotonic_us(), reflector.mirror, 0

    def counted(*arguments: Any) -> tuple[int, int]:
        nonlocal by_itself
        sent, refused = compiled(*arguments)
        by_itself += sent
        return sent, refused

    with contextlib.ExitStack() as opened:
        sinks = [opened.enter_context(contextlib.closing(open_udp(HOST, 0))) for _ in range(3)]
        for form in (counted, reflector.mirror_each):
            monkeypatch.setattr(reflector, "mirror", form)
            made = Mirror(monkeypatch, sinks, start_us)
            try:
                told.append(made.play(seed))
            finally:
                made.reflector.close()
    assert told[0] == told[1]
    replies, sessions, _, heard, counters = told[0]
    assert len(replies) == len(heard) == counters["reflected"] > 500
    assert by_itself > counters["reflected"] // 2
    assert len(sessions) > 3 and counters["rate_limited"] and counters["from_reflector"] and counters["malformed"]
