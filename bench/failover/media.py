"""The calls of the failover benchmark: a process with a foot in every namespace, which sends, receives and writes down.

Each flow sends a numbered packet every 20 ms through the tunnel of the node it starts from, and listens where the relay
of the node it goes to delivers. Sent and arrived packets are records in one file, in the order of their happening:
arrivals by the kernel's stamp, so that what this process sleeps in does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import IO

from bench.failover.gaps import Stream
from probes.relay import TUNNEL_PORT, pack_send
from router.demo.fleet_of_world import EDGE_PORT
from router.demo.namespaces import Lab

INTERVAL_US = 20_000
AUDIO_BYTES = 160  # 20 ms of Opus at 64 kbit/s
RECORD = Struct("<BBIq")  # what, flow, number, microseconds
SENT, ARRIVED = 0, 1
PAYLOAD = Struct("<BI")  # flow, number
_SO_TIMESTAMPNS = 35
_TIMESPEC = Struct("@qq")


@dataclass(frozen=True, slots=True)
class Flow:
    """One direction of a call."""

    source: int  # number of the node it starts from
    target: int  # number of the node it goes to
    target_host: str
    data_center: str  # the target's
    context: str = "voice"


class Calls:
    """All flows of one run."""

    def __init__(self, lab: Lab, flows: Sequence[Flow], out: IO[bytes]) -> None:
        self._flows = flows
        self._out = out
        self._numbers = [0] * len(flows)
        self._senders = []
        self._receivers: dict[int, socket.socket] = {}
        self._poller = select.poll()
        for flow in flows:
            with lab.entered(flow.source):
                self._senders.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        for index, host in sorted({(flow.target, flow.target_host) for flow in flows}):
            with lab.entered(index):
                receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            receiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            receiver.bind((host, EDGE_PORT))
            self._receivers[receiver.fileno()] = receiver
            self._poller.register(receiver, select.POLLIN)

    def run(self) -> None:
        """Talk until SIGTERM."""
        stopping: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
        step_us = INTERVAL_US // len(self._flows)  # flows take turns, so that no two are due at once
        next_us, turn = time.monotonic_ns() // 1_000, 0
        while not stopping:
            wait_us = next_us - time.monotonic_ns() // 1_000
            if wait_us > 0:
                self._receive(wait_us / 1_000)
                continue
            self._send(turn)
            turn = (turn + 1) % len(self._flows)
            next_us += step_us
        self._out.flush()

    def _send(self, turn: int) -> None:
        flow, number = self._flows[turn], self._numbers[turn]
        self._numbers[turn] += 1
        payload = PAYLOAD.pack(turn, number).ljust(AUDIO_BYTES, b"\0")
        packet = pack_send(flow.context, flow.data_center, EDGE_PORT, turn, payload)
        self._out.write(RECORD.pack(SENT, turn, number, time.time_ns() // 1_000))
        with suppress(ConnectionRefusedError):  # an agent that is not there (yet): lost, and counted as such
            self._senders[turn].sendto(packet, ("127.0.0.1", TUNNEL_PORT))

    def _receive(self, wait_ms: float) -> None:
        for descriptor, _ in self._poller.poll(wait_ms):
            data, ancillary, _, _ = self._receivers[descriptor].recvmsg(2_048, socket.CMSG_SPACE(_TIMESPEC.size))
            if len(data) != AUDIO_BYTES:
                continue
            flow, number = PAYLOAD.unpack_from(data)
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
            self._out.write(RECORD.pack(ARRIVED, flow, number, seconds * 1_000_000 + nanoseconds // 1_000))


def read(file: Path, flows: int) -> list[Stream]:
    """The streams that a file of records tells about; a record cut short by the end of the run is left out."""
    streams = [Stream(INTERVAL_US) for _ in range(flows)]
    data = file.read_bytes()
    for what, flow, number, at_us in RECORD.iter_unpack(data[: len(data) - len(data) % RECORD.size]):
        if what == SENT:
            streams[flow].sent_us.append(at_us)
        else:
            streams[flow].arrived(number, at_us)
    return streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: ``python -m bench.failover.media --lab N --flows JSON --out FILE``."""
    parser = argparse.ArgumentParser(prog="python -m bench.failover.media")
    parser.add_argument("--lab", type=int, required=True)
    parser.add_argument("--flows", required=True, help="JSON list of flows")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # it is the clock of the measurement
    with options.out.open("wb", buffering=4_096) as out:
        Calls(Lab(options.lab), [Flow(**flow) for flow in json.loads(options.flows)], out).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
