"""What is broken, when, and what the streams say about it afterwards."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bench._testbed import Testbed
from bench.failover.gaps import Stream
from bench.failover.media import INTERVAL_US, Flow

BEFORE_US = 400_000  # of the stream before a cut, which must be whole but for single losses
LATE_US = 20_000  # a sender that paused for longer spoils the trial


class Kind(StrEnum):
    """Which packets a cut swallows."""

    THERE = "media cut, even to odd edge"
    BACK = "media cut, odd to even edge"
    ANSWERS = "only the answers of probes cut"
    PROVIDER = "whole provider dead"


@dataclass(frozen=True, slots=True)
class Cut:
    """One cut as it met one flow; times are of the machine's clock, which senders and receivers share."""

    kind: Kind
    flow: int
    what: str
    cut_us: int
    healed_us: int
    rtt_us: int  # of the path in force: there, and back along the same hops


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a listener noticed of a cut."""

    cut: Cut
    gap_us: int
    silence_us: int
    back_us: int  # from the cut until media arrived again for good; the whole cut if it never did


class Breaker:
    """Cuts paths in force, one link at a time, and notes what and when."""

    def __init__(self, testbed: Testbed, flows: Sequence[Flow], seed: int) -> None:
        self._testbed = testbed
        self._flows = flows
        self._draw = random.Random(f"{seed}/cuts")
        self._open: list[tuple[Kind, int, str, int, int, str]] = []
        self.cuts: list[Cut] = []
        self.skipped = 0  # a node that did not see its paths up again in time

    def path_in_force(self, flow: int) -> list[str] | None:
        """Data centers of the path that a flow takes now, by its own node; ``None`` if it has none."""
        answer = self._ask(flow)
        return None if answer is None else list(answer["forward"]["path"])

    def healed(self, flow: int) -> bool:
        """Whether a flow's node sees its path in force and the first backup up: one cut at a time is what is tried."""
        answer = self._ask(flow)
        if answer is None or not answer["backups"]["forward"]:
            return False
        return all(way["state"] == "up" for way in (answer["forward"], answer["backups"]["forward"][0]))

    def _ask(self, flow: int) -> dict[str, Any] | None:
        about = self._flows[flow]
        answer = self._testbed.ask_agent(about.source, f"/v1/routes/{about.data_center}?class={about.context}")
        return answer if answer and answer.get("forward") else None

    def cut_link(self, kind: Kind, flow: int) -> bool:
        """Silence one random link of the path in force, one way; not of a flow that is not well."""
        path = self.path_in_force(flow) if self.healed(flow) else None
        if path is None:
            self.skipped += 1
            return False
        hop = self._draw.randrange(len(path) - 1)
        ends = [path[hop], path[hop + 1]]
        if kind is Kind.ANSWERS:
            ends.reverse()
        fault = self._testbed.fault(link=ends, kind="blackhole")
        self._open.append((kind, flow, ">".join(ends), _now_us(), self.rtt_us(path), fault))
        return True

    def kill_provider(self, provider: str) -> None:
        """Silence all data centers of a provider; noted for each flow that relays there."""
        paths = [self.path_in_force(flow) for flow in range(len(self._flows))]
        fault = self._testbed.fault(target=f"provider={provider}", kind="blackhole")
        at_us = _now_us()
        for flow, path in enumerate(paths):
            if path is None:
                self.skipped += 1
            elif any(self.provider_of(name) == provider for name in path[1:-1]):
                self._open.append((Kind.PROVIDER, flow, provider, at_us, self.rtt_us(path), fault))

    def heal(self) -> None:
        """End everything that was cut since the last call."""
        self._testbed.emulator("DELETE", "/faults")
        healed_us = _now_us()
        self.cuts += [Cut(kind, flow, what, at, healed_us, rtt) for kind, flow, what, at, rtt, _ in self._open]
        self._open.clear()

    def accuracy(self) -> dict[str, Any]:
        """How late the emulator's last packets left."""
        return dict(self._testbed.emulator("GET", "/state")["accuracy"])

    def busiest_provider(self, providers: Sequence[str]) -> str:
        """The provider that relays for most flows now."""
        paths = [self.path_in_force(flow) or [] for flow in range(len(self._flows))]
        used = [self.provider_of(name) for path in paths for name in path[1:-1]]
        return max(providers, key=used.count)

    def provider_of(self, data_center: str) -> str:
        """Who runs a data center."""
        world = self._testbed.world
        return world.data_centers[world.index[data_center]].provider

    def rtt_us(self, path: Sequence[str]) -> int:
        """True round trip of a path and back over the same hops."""
        rtts = [self._testbed.world.rtt_us(a, b) for a, b in itertools.pairwise(path)]
        return sum(rtt for rtt in rtts if rtt is not None)


def judge(cut: Cut, stream: Stream) -> Outcome | None:
    """What the stream says about a cut; ``None`` where the sender paused or the stream was not whole before."""
    before = stream.between(cut.cut_us - BEFORE_US, cut.cut_us - cut.rtt_us)
    during = stream.between(cut.cut_us - cut.rtt_us, cut.healed_us)
    missing = sum(number not in stream.arrived_us for number in before)
    if missing > 2 or not during or stream.sender_late_us(range(before.start, during.stop)) > LATE_US:
        return None
    lost = [number for number in during if number not in stream.arrived_us]
    return Outcome(cut, stream.gap_us(during), stream.silence_us(during), _back_us(cut, stream, lost))


def _back_us(cut: Cut, stream: Stream, lost: Sequence[int]) -> int:
    run = [number for number in lost if number + 1 in lost or number - 1 in lost]  # not single losses of the link
    return 0 if not run else min(stream.sent_us[run[-1]] + INTERVAL_US, cut.healed_us) - cut.cut_us


def _now_us() -> int:
    return time.time_ns() // 1_000
