"""Other people's reports and queries, from a process of its own: as many as there is room for, or so many a second."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from typing import cast

from bench.freshness.wire import length_of

CONNECTIONS = 8
PLACE = b'"sequence":' + b" " * 16  # in a prepared report, where its number comes


def prepared(report: bytes) -> bytes:
    """A report's request with room for a rising number."""
    head, _, body = report.partition(b"\r\n\r\n")
    before, _, rest = body.partition(b'"sequence":')
    body = before + PLACE + rest[rest.index(b",") :]
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


@dataclass(frozen=True)
class Load:
    """Requests, one after the other and again from the front; those with ``PLACE`` in them get rising numbers."""

    port: int
    requests: tuple[bytes, ...]
    seconds: float
    per_second: float = 0.0  # 0: as many as there is room for
    first_sequence: int = 1_000_000


@dataclass(frozen=True)
class Took:
    """What became of a load."""

    answered: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds


class Running:
    """A load under way."""

    def __init__(self, load: Load) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe(duplex=False)
        self._process: BaseProcess = context.Process(target=_child, args=(load, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()  # it has connected

    @property
    def going_on(self) -> bool:
        """Whether it still sends."""
        return not self._pipe.poll()

    def result(self) -> Took:
        """Wait for its end. Raises ``EOFError`` if it failed."""
        took = cast(Took, self._pipe.recv())
        self._process.join()
        return took


def at_half(load: Load, most: Took) -> Load:
    """The same load at half of what there was room for."""
    return replace(load, per_second=most.per_second / 2, first_sequence=load.first_sequence * 2)


def _child(load: Load, pipe: Pipe) -> None:
    pipe.send(asyncio.run(_send(load, pipe)))


async def _send(load: Load, pipe: Pipe) -> Took:
    streams = [await asyncio.open_connection("127.0.0.1", load.port) for _ in range(CONNECTIONS)]
    pipe.send("connected")
    loop = asyncio.get_running_loop()
    start = loop.time()
    count = answered = 0

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count, answered
        while True:
            mine, count = count, count + 1
            due = start + (mine / load.per_second if load.per_second else 0.0)
            if max(due, loop.time()) > start + load.seconds:
                return
            await asyncio.sleep(max(0.0, due - loop.time()))
            writer.write(_numbered(load, mine))
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(length_of(head))
            answered += 1

    await asyncio.gather(*(work(*stream) for stream in streams))
    seconds = loop.time() - start
    for _, writer in streams:
        writer.close()
    return Took(answered, seconds)


def _numbered(load: Load, turn: int) -> bytes:
    """The request of a turn; a report's number takes the place of blanks, so that its length stays."""
    made = load.requests[turn % len(load.requests)]
    return made.replace(PLACE, b'"sequence":%-16d' % (load.first_sequence + turn), 1)
