"""UDP sockets of the agent: the sender of probes and the reflector that answers those of others.

* :mod:`probes.sockets.kernel`: options, stamps and addresses as the kernel has them;
* :mod:`probes.sockets.batch`: many datagrams in one system call;
* :mod:`probes.sockets.loop`: an event loop that serves some sockets without going round;
* :mod:`probes.sockets.port`, :mod:`probes.sockets.receiver`: sockets on the event loop;
* :mod:`probes.sockets.sender`, :mod:`probes.sockets.reflector`: the two ends of STAMP;
* :mod:`probes.sockets.selftest`: which stamps really work here;
* :mod:`probes.sockets.timer`: an alarm to the microsecond; :mod:`probes.sockets.limits`: token buckets.

Raw non-blocking sockets on the event loop's readiness callbacks, one thread, no locks: a drain loop takes what has
arrived, and nothing in it can raise because of a packet's contents; a broken packet is counted and forgotten.

Stamps. Arrivals (T2, T4) and departures (T1, and T3 through Follow-Up Telemetry) are stamped by the kernel where it
can, so neither a busy loop, nor the number of targets, nor other agents in the same process add to a measured delay.
Where it cannot, the time of reading, or the time right before sending, counts. Both are wall-clock nanoseconds and pass
through the node's :class:`Clock`.

Ports. A STAMP reply looks like a request (same length, no type field), so sender and reflector have a port each, and
the reflector never answers a packet that comes from a reflector: two of them would otherwise play ball for ever.
"""

from probes.sockets.batch import BATCH, BATCHED
from probes.sockets.kernel import (
    MAX_DATAGRAM,
    Address,
    Ancillary,
    monotonic_us,
    open_udp,
    read_ancillary,
)
from probes.sockets.limits import SourceLimit, TokenBucket
from probes.sockets.loop import new_loop, settle
from probes.sockets.receiver import MAX_DRAIN, Receiver
from probes.sockets.reflector import REFLECTED_PER_S, REFLECTED_PER_SOURCE_S, Reflector
from probes.sockets.selftest import Stamping, stamping
from probes.sockets.sender import ProbeSender, Target
from probes.sockets.timer import Alarm

__all__ = [
    "BATCH",
    "BATCHED",
    "MAX_DATAGRAM",
    "MAX_DRAIN",
    "REFLECTED_PER_S",
    "REFLECTED_PER_SOURCE_S",
    "Address",
    "Alarm",
    "Ancillary",
    "ProbeSender",
    "Receiver",
    "Reflector",
    "SourceLimit",
    "Stamping",
    "Target",
    "TokenBucket",
    "monotonic_us",
    "new_loop",
    "open_udp",
    "read_ancillary",
    "settle",
    "stamping",
]
