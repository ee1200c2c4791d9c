"""Child processes that can neither outlive the launcher nor stay dead.

Every child asks the kernel to be killed when its parent dies (``PR_SET_PDEATHSIG``), so nothing is left behind even
when the launcher is killed with -9. Each has a process group of its own: Ctrl-C in the terminal reaches the launcher
alone, which then stops its children in order. A child that ends by itself is started again, after 0.3 s at first and
with doubling pauses while it keeps dying at once. A child that does not even start the first time is an error.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from router.core.errors import Unavailable

FIRST_PAUSE_S = 0.3
LONGEST_PAUSE_S = 8.0
STEADY_AFTER_S = 10.0  # a child that lived this long earns a quick restart again
STOP_WITHIN_S = 6.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

Say = Callable[[str], None]


class ChildFailed(Exception):
    """A child ended before it was ready; the message carries the end of its log."""


@dataclass
class Child:
    """One supervised process; ``ready`` is awaited after every start, ``came_back`` after every start but the first."""

    name: str
    argv: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], Awaitable[None]] | None = None
    came_back: Callable[[], Awaitable[None]] | None = None
    restarts: int = 0
    _process: asyncio.subprocess.Process | None = None
    _supervisor: asyncio.Task[None] | None = None
    _restarting: bool = False

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def start(self, say: Say) -> None:
        """Start it, wait until it is ready, and watch over it from then on. Raises :class:`ChildFailed`."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")  # one world, one log; restarts append
        process = await self._spawn()
        if not await self._ready(process):
            raise ChildFailed(f"{self.name} did not start ({_cause(process.returncode)}):\n{self.last_lines()}")
        self._supervisor = asyncio.create_task(self._supervise(process, say))

    async def watched(self) -> None:
        """Return never, or raise what went wrong in watching over it."""
        if self._supervisor is not None:
            await self._supervisor

    async def stop(self) -> None:
        """Ask it to end, wait for it, and kill it if it does not."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait({self._supervisor})
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    def restart(self) -> None:
        """End it now; its supervisor starts it again at once."""
        if self._process is not None and self._process.returncode is None:
            self._restarting = True
            self._process.terminate()

    def last_lines(self, count: int = 8) -> str:
        """The end of its log."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-count:])

    async def _spawn(self) -> asyncio.subprocess.Process:
        parent = os.getpid()
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
                preexec_fn=lambda: die_with(parent),
            )
        return self._process

    async def _ready(self, process: asyncio.subprocess.Process) -> bool:
        """Wait until it is ready; false when it ended before that."""
        if self.ready is None:
            return process.returncode is None
        ready = asyncio.ensure_future(self.ready())
        ended = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
                return True
            return False
        finally:
            ready.cancel()
            ended.cancel()

    async def _supervise(self, process: asyncio.subprocess.Process, say: Say) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            started = time.monotonic()
            code = await process.wait()
            if self._restarting:
                self._restarting = False
            else:
                pause_s = FIRST_PAUSE_S if time.monotonic() - started > STEADY_AFTER_S else pause_s
                say(f"{self.name}: ended ({_cause(code)}), starting again in {pause_s:.1f} s (log: {self.log})")
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self.restarts += 1
            process = await self._spawn()
            try:
                ready = await self._ready(process)
            except Unavailable as error:
                say(f"{self.name}: running, but not ready: {error.message}")
                process.terminate()
                continue
            if ready:
                say(f"{self.name}: back, process {process.pid}")
                if self.came_back is not None:
                    await self.came_back()


def die_with(parent: int) -> None:
    """Ask the kernel to be killed when ``parent`` ends; runs in the child between fork and exec."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the request took effect
        os._exit(1)


def _cause(code: int | None) -> str:
    if code is None:
        return "not ready in time"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
