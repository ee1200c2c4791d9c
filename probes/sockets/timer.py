"""One alarm on the event loop, to the microsecond.

``loop.call_later`` sleeps in whole milliseconds, because ``epoll_wait`` does; a ``timerfd`` is one more descriptor that
becomes readable at the right moment. Where there is none (not Linux), ``call_at`` has to do.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import sys
from collections.abc import Callable

from probes.sockets.loop import attend, disregard

_MONOTONIC = 1
_NONBLOCK, _CLOEXEC = int(os.O_NONBLOCK), int(getattr(os, "O_CLOEXEC", 0))
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_SETTING = struct.Struct("@qqqq")  # interval and first expiry, each in seconds and nanoseconds


def _library() -> ctypes.CDLL | None:
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_long) != 8:
        return None
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "timerfd_create"):
        return None
    library.timerfd_create.argtypes = [ctypes.c_int, ctypes.c_int]
    library.timerfd_settime.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
    return library


_LIBC = _library()


def set_timer_each(descriptor: int, at_us: int) -> None:
    """Let a timerfd ring at that time of the monotonic clock; 0: not at all."""
    assert _LIBC is not None
    seconds, micros = divmod(at_us, 1_000_000)
    _LIBC.timerfd_settime(descriptor, _ABSOLUTE, _SETTING.pack(0, 0, seconds, micros * 1_000), None)


try:
    from probes.sockets._batch import set_timer
except ImportError:  # no compiler when it was installed, or not Linux
    set_timer = set_timer_each


class Alarm:
    """Calls ``ring`` once at the monotonic time it was last set to; True: it touched nothing of the loop's."""

    def __init__(self, ring: Callable[[], bool | None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._descriptor = _LIBC.timerfd_create(_MONOTONIC, _NONBLOCK | _CLOEXEC) if _LIBC is not None else -1
        if self._descriptor >= 0:
            attend(self._loop, self._descriptor, self._expired)

    @property
    def precise(self) -> bool:
        """Whether it rings to the microsecond, as far as the machine is idle."""
        return self._descriptor >= 0

    def set(self, at_us: int) -> None:
        """Ring at that time instead of any set before; at once if it has passed."""
        if self._descriptor >= 0:
            set_timer(self._descriptor, max(1, at_us))
            return
        self.cancel()
        self._handle = self._loop.call_at(at_us / 1e6, self._ring)

    def cancel(self) -> None:
        """Do not ring until it is set again."""
        if self._descriptor >= 0:
            set_timer(self._descriptor, 0)
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def close(self) -> None:
        """Give the descriptor back."""
        self.cancel()
        if self._descriptor >= 0:
            disregard(self._loop, self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _expired(self) -> bool:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:  # set anew after it had expired
            return True
        return self._ring() is True
