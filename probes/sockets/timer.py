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


class Alarm:
    """Calls ``ring`` once at the monotonic time it was last set to."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._descriptor = _LIBC.timerfd_create(_MONOTONIC, _NONBLOCK | _CLOEXEC) if _LIBC is not None else -1
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._expired)

    @property
    def precise(self) -> bool:
        """Whether it rings to the microsecond, as far as the machine is idle."""
        return self._descriptor >= 0

    def set(self, at_us: int) -> None:
        """Ring at that time instead of any set before; at once if it has passed."""
        if self._descriptor >= 0:
            seconds, micros = divmod(max(1, at_us), 1_000_000)
            assert _LIBC is not None
            _LIBC.timerfd_settime(self._descriptor, _ABSOLUTE, _SETTING.pack(0, 0, seconds, micros * 1_000), None)
            return
        self.cancel()
        self._handle = self._loop.call_at(at_us / 1e6, self._ring)

    def cancel(self) -> None:
        """Do not ring until it is set again."""
        if self._descriptor >= 0:
            assert _LIBC is not None
            _LIBC.timerfd_settime(self._descriptor, 0, bytes(_SETTING.size), None)
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def close(self) -> None:
        """Give the descriptor back."""
        self.cancel()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _expired(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:  # set anew after it had expired
            return
        self._ring()
