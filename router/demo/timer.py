"""Waiting for packets or a point in time, to the microsecond.

``epoll.poll`` takes whole milliseconds, which alone puts a fifth of a 69-data-center world outside its accuracy; so the
loop waits with ``select`` on the epoll descriptor (microseconds, and only one descriptor, so the size limit of
``select`` does not matter as long as that one is low) and then asks epoll without waiting. The kernel may also round a
wake-up by the thread's timer slack, 50 µs by default: that is set to the minimum.
"""

from __future__ import annotations

import ctypes
import select

PR_SET_TIMERSLACK = 29  # linux/prctl.h
SLACK_NS = 1_000
MAX_EVENTS = 256  # per wake-up, so that due packets are not kept waiting by a flood
SELECT_LIMIT = 1_024  # FD_SETSIZE


class Waiter:
    """An epoll set that can be waited for with microseconds."""

    def __init__(self) -> None:
        self.poller = select.epoll()
        descriptor = self.poller.fileno()
        if descriptor >= SELECT_LIMIT:
            self.poller.close()
            raise RuntimeError(f"too many files are open already ({descriptor}); the limit of select is {SELECT_LIMIT}")
        self._watched = [descriptor]

    def ready(self, timeout_s: float) -> list[tuple[int, int]]:
        """Descriptors that can be read, as epoll lists them, after at most ``timeout_s``."""
        if timeout_s > 0 and not select.select(self._watched, (), (), timeout_s)[0]:
            return []
        return self.poller.poll(0, MAX_EVENTS)

    def close(self) -> None:
        """Free the descriptor."""
        self.poller.close()


def sharpen() -> None:
    """Ask for the least timer slack for the calling thread; where the system has none to give, nothing changes."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_TIMERSLACK, SLACK_NS, 0, 0, 0)
