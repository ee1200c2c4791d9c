"""The compiled inner loops of the sender; their Python forms say what each does."""

from collections.abc import Callable, Sequence

from probes.sockets.batch import Arrival
from probes.sockets.sender import Request, Target
from probes.summary import Probe, Values

def fold(
    values: list[Values],
    rtt: dict[int, int],
    forward: dict[int, int],
    backward: dict[int, int],
    forward_base_us: int,
    backward_base_us: int,
    last_us: int,
    jitter_16: int,
    /,
) -> tuple[int, int, int, int, int]: ...
def launch(
    targets: Sequence[Target],
    port_index: int,
    t1_us: int,
    now_us: int,
    timestamp: int,
    estimate: int,
    request: Request,
    /,
) -> tuple[list[tuple[bytes, bytes]], list[Probe]]: ...
def take(
    arrivals: list[Arrival],
    targets: dict[tuple[bytes, int], Target],
    relays: frozenset[bytes],
    offset_us: int,
    now_us: int,
    followed: Callable[[Target, bytes, int, int], None],
    heard: Callable[[Target, int, int, int], None] | None,
    other: Callable[[Arrival, int], None],
    /,
) -> None: ...
