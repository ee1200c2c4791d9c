"""Packets that one core forwards, by CPU time of the forwarding process alone.

The forwarder is a process of its own; this one sends it packets made beforehand and takes what it sends on, with a
bounded number under way, so nothing is lost and nothing waits for a pace. The figure is packets forwarded per second of
the forwarder's CPU time, system calls and the kernel's loopback included: it holds on a busy machine too. The peer is a
forwarder that does the two system calls and nothing between.
"""

from __future__ import annotations

import hmac
import json
import os
import socket
import subprocess
import sys
from typing import Any

from bench._case import NO_BOUND, best_s, line, progress
from bench.relay.packets import HOST, packets
from probes.relay.keyring import keyed

NAME = "relay"
SIZES = {"voice, 160 bytes": 160, "video, 1200 bytes": 1_200}
COUNT = 30_000
ROUNDS = 3
UNDER_WAY = 128
GOAL = "none"


class Forwarder:
    """The process under test and the socket beyond it."""

    def __init__(self, kind: str) -> None:
        self.beyond = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.beyond.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.beyond.bind((HOST, 0))
        self.beyond.settimeout(20)
        command = [sys.executable, "-m", "bench.relay.forwarder", kind, str(self.beyond.getsockname()[1])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = (HOST, int(self._hear()["port"]))

    def cpu_s(self) -> tuple[float, dict[str, int]]:
        """CPU seconds used so far, and what it counted."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        told = self._hear()
        return float(told["cpu_s"]), dict(told["counters"])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self.beyond.close()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))


def forward(forwarder: Forwarder, sender: socket.socket, made: list[bytes]) -> float:
    """CPU seconds in which the forwarder passed on all packets."""
    before_s, _ = forwarder.cpu_s()
    buffer = bytearray(2_048)
    for start in range(0, len(made), UNDER_WAY):
        batch = made[start : start + UNDER_WAY]
        for packet in batch:
            sender.sendto(packet, forwarder.address)
        for _ in batch:
            forwarder.beyond.recv_into(buffer)
    return forwarder.cpu_s()[0] - before_s


def rate(kind: str, size: int) -> float:
    """Packets per CPU second, the best of some rounds."""
    forwarder = Forwarder(kind)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((HOST, 0))
    try:
        best = min(
            forward(forwarder, sender, packets(kind, forwarder.address, forwarder.beyond.getsockname(), size, COUNT))
            for _ in range(ROUNDS)
        )
    finally:
        sender.close()
        forwarder.close()
    return COUNT / best


def seals(size: int) -> tuple[float, float]:
    """Nanoseconds of one tag over a packet of this size: ours, and HMAC-SHA-256."""
    key, data, runs = os.urandom(32), memoryview(os.urandom(size)), 5_000
    state = keyed(key)

    def ours() -> None:
        for _ in range(runs):
            tag = state.copy()
            tag.update(data)
            tag.digest()

    def peer() -> None:
        for _ in range(runs):
            hmac.digest(key, data, "sha256")

    return best_s(ours, 15) / runs * 1e9, best_s(peer, 15) / runs * 1e9


def run() -> bool:
    """Run all cases; nothing is promised, so nothing can be missed."""
    met = True
    for label, size in SIZES.items():
        progress(f"relay: {label}")
        bare = rate("bare", size)
        for kind in ("sealed", "open"):
            met &= line(
                NAME, f"forward {kind} {label}", rate(kind, size), bare, "the two system calls alone", "packets/s",
                GOAL, NO_BOUND, packets=COUNT, rounds=ROUNDS,
            )  # fmt: skip
        ours, peer = seals(size + 60)
        met &= line(NAME, f"tag {label}", ours, peer, "HMAC-SHA-256, one shot", "ns", GOAL, NO_BOUND)
    return met
