"""The compiled loops and their Python forms do the same, with whatever arrives."""

from __future__ import annotations

import random
from typing import Any

import pytest

from probes import summary
from probes.clock import Clock
from probes.sockets import ProbeSender, Target, monotonic_us, open_udp, sender
from probes.sockets.kernel import raw_address, wall_ns
from probes.stamp import Key, ReflectorPacket, micros_to_ntp
from probes.stamp.packet import REQUEST, SIGNED_REQUEST
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
