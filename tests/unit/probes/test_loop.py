"""The agent's event loop: quick descriptors are served in its wait, and everything else goes on as in asyncio."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from probes.clock import Clock
from probes.sockets import Alarm, Reflector, loop, monotonic_us, new_loop, open_udp, settle
from probes.sockets.loop import GC_THRESHOLDS
from probes.stamp import pack_request

FORMS = [pytest.param(form, id="compiled" if form else "in Python") for form in dict.fromkeys((loop.wait, None))]


@pytest.fixture(params=FORMS)
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Awaitable[Any]], Any]]:
    """Run a coroutine on a loop of either form."""
    monkeypatch.setattr(loop, "wait", request.param)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        yield runner.run


class Pipe:
    """A pair of sockets; what arrives is counted by a quick callback, which says ``quiet``."""

    def __init__(self, *, quiet: bool = True) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.quiet = quiet
        self.heard = 0
        self.done = asyncio.Event()
        loop.attend(asyncio.get_running_loop(), self.near.fileno(), self._ready)

    def _ready(self) -> bool:
        self.heard += len(self.near.recv(100))
        if not self.quiet:
            self.done.set()
        return self.quiet

    def close(self) -> None:
        loop.disregard(asyncio.get_running_loop(), self.near.fileno())
        self.near.close()
        self.far.close()


def test_quiet_ones_are_served_while_tasks_sleep_on_time(run: Callable[[Awaitable[Any]], Any]) -> None:
    async def play() -> None:
        pipe, asked = Pipe(), monotonic_us()
        try:
            for _ in range(5):
                pipe.far.send(b"x")
                await asyncio.sleep(0.01)
            assert pipe.heard == 5
            assert monotonic_us() - asked >= 50_000
        finally:
            pipe.close()

    run(play())


def test_a_flood_of_quiet_ones_does_not_keep_timers_and_readers_waiting(run: Callable[[Awaitable[Any]], Any]) -> None:
    async def play() -> None:
        pipe, around = Pipe(), asyncio.get_running_loop()
        near, far = socket.socketpair()
        near.setblocking(False)

        def more() -> bool:
            pipe.heard += len(pipe.near.recv(100))
            pipe.far.send(b"x")  # there is always another one
            return True

        loop.disregard(around, pipe.near.fileno())
        loop.attend(around, pipe.near.fileno(), more)
        try:
            pipe.far.send(b"x")
            await asyncio.sleep(0.02)
            before = pipe.heard
            far.send(b"hello")
            assert await around.sock_recv(near, 10) == b"hello"
            assert await asyncio.to_thread(lambda: 7) == 7
            assert pipe.heard > before > 1
        finally:
            pipe.close()
            near.close()
            far.close()

    run(play())


def test_one_that_touched_the_loop_lets_it_go_round(run: Callable[[Awaitable[Any]], Any]) -> None:
    async def play() -> None:
        pipe = Pipe(quiet=False)
        try:
            pipe.far.send(b"x")
            await asyncio.wait_for(pipe.done.wait(), 20)
        finally:
            pipe.close()

    run(play())


def test_what_a_callback_raises_is_told_and_the_loop_goes_on(run: Callable[[Awaitable[Any]], Any]) -> None:
    async def play() -> None:
        pipe, told = Pipe(), []
        around = asyncio.get_running_loop()
        around.set_exception_handler(lambda _, context: told.append(context["exception"]))

        def broken() -> bool:
            pipe.near.recv(100)
            raise ValueError("broken")

        loop.disregard(around, pipe.near.fileno())
        loop.attend(around, pipe.near.fileno(), broken)
        try:
            pipe.far.send(b"x")
            await asyncio.sleep(0.01)
            assert [str(error) for error in told] == ["broken"]
        finally:
            pipe.close()

    run(play())


def test_a_descriptor_that_is_disregarded_is_silent_and_can_be_attended_again(
    run: Callable[[Awaitable[Any]], Any],
) -> None:
    async def play() -> None:
        pipe, around = Pipe(), asyncio.get_running_loop()
        try:
            loop.disregard(around, pipe.near.fileno())
            loop.disregard(around, pipe.near.fileno())
            pipe.far.send(b"x")
            await asyncio.sleep(0.01)
            assert not pipe.heard
            loop.attend(around, pipe.near.fileno(), pipe._ready)
            await asyncio.sleep(0.01)
            assert pipe.heard == 1
        finally:
            pipe.close()

    run(play())


def test_signals_and_alarms_come_through(run: Callable[[Awaitable[Any]], Any]) -> None:
    async def play() -> None:
        around, came, rang = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        around.add_signal_handler(signal.SIGUSR1, came.set)
        alarm = Alarm(rang.set)
        try:
            alarm.set(monotonic_us() + 5_000)
            await asyncio.wait_for(rang.wait(), 20)
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(came.wait(), 20)
        finally:
            alarm.close()
            around.remove_signal_handler(signal.SIGUSR1)

    run(play())


def test_a_reflector_answers_on_it(run: Callable[[Awaitable[Any]], Any]) -> None:
    async def play() -> None:
        reflector = Reflector(open_udp("127.0.0.1", 0), Clock())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
            for number in range(3):
                sock.sendto(pack_request(number, 1, 1, 1), reflector.address)
                answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 2_048), 20)
                assert int.from_bytes(answer[24:28], "big") == number
        reflector.close()

    run(play())


def test_an_agent_that_has_settled_searches_seldom_and_leaves_alone_what_it_has() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        settle()
        assert gc.get_threshold() == GC_THRESHOLDS
        assert gc.get_freeze_count() > frozen
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
