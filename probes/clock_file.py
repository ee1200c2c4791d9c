"""A clock's error that a file dictates while the agent runs: for testbeds, where all agents share one real clock.

The file is read again whenever it has changed, so a test steps a clock by replacing it (write beside it, then rename).
A file that is gone or broken changes nothing and is logged once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from probes.clock import Clock, ClockError, parse_injection

log = logging.getLogger("probes.clock")

EVERY_S = 0.1
MAX_BYTES = 4_096

Version = tuple[int, int, int]  # inode, size, time of change


class ClockFile:
    """Keeps a clock as wrong as a file says."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._version: Version | None = None
        self._problem = ""

    def read(self) -> None:
        """Follow the file if it is another than last time. Raises OSError or ClockError."""
        stat = self._path.stat()
        version = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if version == self._version:
            return
        self._version = version
        with self._path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8", errors="replace")
        self._clock.inject(*parse_injection(text, time.time_ns() // 1_000))

    async def watch(self) -> None:
        """Follow the file for ever."""
        while True:
            try:
                self.read()
                self._problem = ""
            except (OSError, ClockError) as error:
                if str(error) != self._problem:
                    self._problem = str(error)
                    log.warning("%s: %s; the clock stays as it is", self._path, error)
            await asyncio.sleep(EVERY_S)
