"""How others notice that a path is gone, by the rules and defaults they publish, on the same cuts.

Each is given what it would see: whether its own probes, at its own rate, would have been answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

MS = 1_000


@dataclass(frozen=True, slots=True)
class Cut:
    """A path with loss that goes dark in one direction at a time."""

    at_us: int
    rtt_us: int
    loss: float  # of round trips
    forward: bool  # which direction


Rule = Callable[[Cut, Random], int]
"""Microseconds from the cut until the sender knows."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One published rule."""

    name: str
    rule: Rule
    per_s: float  # probes a second
    in_a_row: int  # losses that suffice for a false alarm
    one_way: bool = False  # whether one direction's loss counts


def _answered(cut: Cut, sent_us: int, rng: Random) -> bool:
    passes_us = sent_us if cut.forward else sent_us + cut.rtt_us // 2
    return passes_us < cut.at_us and rng.random() >= cut.loss


def bfd(cut: Cut, rng: Random, every_us: int = 300 * MS, multiplier: int = 3) -> int:
    """RFC 5880, asynchronous mode, 300 ms x 3: down when nothing arrived for the detection time.

    The end that hears nothing knows first and says so in its own packets; transmission is 75-100 % of the interval.
    """
    sent = cut.at_us - 20 * every_us - rng.randrange(every_us)
    last = sent
    while sent < cut.at_us:
        if rng.random() >= cut.loss / 2:
            last = sent + cut.rtt_us // 2
        sent += int(every_us * rng.uniform(0.75, 1.0))
    known = last + every_us * multiplier
    return known - cut.at_us + (cut.rtt_us // 2 if cut.forward else 0)


def silence(every_us: int, silent_us: int) -> Rule:
    """Down when no answer came for a time, of probes sent in a regular beat."""

    def rule(cut: Cut, rng: Random) -> int:
        sent = cut.at_us - 40 * every_us - rng.randrange(every_us)
        heard = sent
        while sent < cut.at_us + silent_us:
            if _answered(cut, sent, rng):
                heard = sent + cut.rtt_us
            sent += every_us
        return heard + silent_us - cut.at_us

    return rule


def in_a_row(every_us: int, count: int, slack_us: int = 15 * MS) -> Rule:
    """Down when the answers to so many probes in a row are overdue."""

    def rule(cut: Cut, rng: Random) -> int:
        sent, missing = cut.at_us - 40 * every_us - rng.randrange(every_us), 0
        while True:
            missing = 0 if _answered(cut, sent, rng) else missing + 1
            if missing >= count and sent + cut.rtt_us + slack_us >= cut.at_us:
                return sent + cut.rtt_us + slack_us - cut.at_us
            sent += every_us

    return rule


def ron(cut: Cut, rng: Random) -> int:
    """Andersen 2001: a probe every 12 s (up to a third of jitter), 3 s timeout, then up to four more in succession."""
    sent = cut.at_us - 60_000 * MS - rng.randrange(12_000 * MS)
    while True:
        if not _answered(cut, sent, rng):
            again = [sent + 3_000 * MS * i for i in range(1, 5)]
            if not any(_answered(cut, at, rng) for at in again):
                return again[-1] + 3_000 * MS - cut.at_us
        sent += 12_000 * MS + rng.randrange(4_000 * MS)


PEERS = (
    Peer("BFD 300 ms x 3", bfd, 1 / 0.2625, 3, one_way=True),
    Peer("SCION gateway 500 ms x 2", silence(500 * MS, 1_000 * MS), 2.0, 2),
    Peer("Tailscale 3 s, trust 6.5 s", silence(3_000 * MS, 6_500 * MS), 1 / 3, 2),
    Peer("RON 12 s + 4 x 3 s", ron, 1 / 14, 5),
)
