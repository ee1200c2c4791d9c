"""The compiled form of what `probes.sockets.batch` does datagram by datagram; see there for what each does."""

from collections.abc import Sequence
from socket import socket

from probes.sockets.batch import Arrival, Departure

def send_batch(sock: socket, datagrams: Sequence[tuple[bytes, bytes]], /) -> tuple[int, int]: ...
def receive_batch(sock: socket, /) -> list[Arrival]: ...
def departures(sock: socket, /) -> list[Departure]: ...
