"""The compiled form of what `probes.sockets.batch` does datagram by datagram; see there for what each does."""

from collections.abc import Callable, Sequence
from socket import socket

from probes.sockets.batch import Arrival, Departure
from probes.sockets.kernel import Address
from probes.sockets.limits import SourceLimit, TokenBucket
from probes.stamp import Reflection

def send_batch(sock: socket, datagrams: Sequence[tuple[bytes, bytes]], /) -> tuple[int, int]: ...
def receive_batch(sock: socket, /) -> list[Arrival]: ...
def departures(sock: socket, /) -> list[Departure]: ...
def mirror(
    descriptor: int,
    arrivals: list[Arrival],
    reflection: Reflection,
    addresses: dict[bytes, Address],
    bucket: TokenBucket,
    sources: SourceLimit,
    offset_us: int,
    now_us: int,
    hear: Callable[[str], None],
    other: Callable[[Arrival, int], None],
    /,
) -> tuple[int, int]: ...
def wait(epoll: int, timeout_ms: int, quick: dict[int, Callable[[], bool]], /) -> list[tuple[int, int]]: ...
def set_timer(descriptor: int, at_us: int, /) -> None: ...
