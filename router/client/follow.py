"""Keep a :class:`RouteTable` filled from ``/v1/routes/watch``: for threads (:class:`Routes`) and for asyncio.

Each traffic class has a stream of its own. A stream that breaks or falls silent is taken up again at the next address,
with the generation it had come to, after a pause that doubles from ``FIRST_PAUSE_S`` to ``LAST_PAUSE_S`` with random
spread, so that a thousand media servers do not come back in the same moment. Meanwhile the table answers on.

The last address to try may be the local API of the probe agent on the same node (``agent``): it answers from its
reaction plan when every control plane is dead, without figures. From there the control planes are tried again every
``RETURN_S``.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from router.client.answers import ServerEvent, parse_events, problem_of
from router.client.table import SILENT_S, HeldRoute, RouteTable

FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 5.0
CONNECT_S = 5.0
RETURN_S = 15.0


class _Frames:
    """Lines of an event stream, cut into events; comments are heartbeats and give none."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def take(self, line: str) -> Iterator[ServerEvent]:
        self._lines.append(line)
        if not line:
            lines, self._lines = self._lines, []
            yield from parse_events(lines)


@dataclass
class _Stream:
    """One class' stream: where it is asked for, how far it came, and what went wrong last."""

    table: RouteTable
    traffic_class: str
    urls: tuple[str, ...]
    agent: str | None
    headers: dict[str, str]
    turn: int = 0
    failures: int = 0
    last_id: str | None = None
    trouble: str = "not connected yet"
    frames: _Frames = field(default_factory=_Frames)
    ended: str = ""  # why the server ended the stream, if it said so
    since_s: float = 0.0
    at_agent: bool = False

    def ask(self) -> tuple[str, dict[str, str], dict[str, str]]:
        """Address, parameters and headers of the next attempt."""
        sources = (*self.urls, *((self.agent,) if self.agent else ()))
        url = sources[self.turn % len(sources)]
        self.frames, self.since_s, self.at_agent = _Frames(), time.monotonic(), url == self.agent
        params = {"class": self.traffic_class}
        if self.at_agent:
            self.last_id = None  # what it will tell is of no generation that can be resumed
            return f"{url}/v1/watch", params, {}
        resumed = {"Last-Event-ID": self.last_id} if self.last_id else {}
        return f"{url}/v1/routes/watch", params | {"from": self.table.source}, self.headers | resumed

    def enough(self) -> bool:
        """Whether it is time to leave the probe agent and to ask the control planes again."""
        return self.at_agent and time.monotonic() - self.since_s > RETURN_S

    def hear(self, line: str) -> None:
        """Take in one line."""
        now_s = time.monotonic()
        self.failures, self.trouble = 0, ""
        self.table.heard(self.traffic_class, now_s)
        for event in self.frames.take(line):
            if event.kind == "end":
                self.ended = f"the stream ended: {event.data.get('detail')}"
            else:
                self.table.take(self.traffic_class, event, now_s)
                self.last_id = event.id or self.last_id

    def failed(self, why: str) -> float:
        """Note a stream that broke; the pause before the next attempt, at the next address."""
        self.trouble, self.ended = self.ended or why, ""
        self.turn += 1
        self.failures += 1
        most_s: float = min(LAST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(16, self.failures - 1))
        return random.uniform(most_s / 2, most_s)


_BROKEN = (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError)  # the last three: not a Tendril's stream
_TIMEOUT = httpx.Timeout(CONNECT_S, read=SILENT_S)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class _Held:
    """What both libraries share: the table, its streams, and the questions a media server asks."""

    def __init__(
        self,
        urls: str | Sequence[str],
        source: str,
        *,
        key: str | None = None,
        classes: Sequence[str] = ("voice",),
        agent: str | None = None,
    ) -> None:
        self.table = RouteTable(source)
        addresses = tuple(url.rstrip("/") for url in ((urls,) if isinstance(urls, str) else urls))
        headers = {"Accept": "text/event-stream"} | ({"Authorization": f"Bearer {key}"} if key else {})
        last = agent.rstrip("/") if agent else None
        self._streams = [_Stream(self.table, name, addresses, last, headers) for name in classes]
        self.route = self.table.route
        """``route(target, traffic_class="voice")`` -> the route or ``None``; never waits, never fails."""
        self.find = self.table.find
        """``find((target, traffic_class))``: the same as one dict lookup, for whoever asks for each packet."""

    def age_ms(self, route: HeldRoute) -> float:
        """How old what a route says is."""
        return self.table.age_ms(route, time.monotonic())

    def stale(self, route: HeldRoute) -> bool:
        """Whether nobody vouches for a route any more; it is still the best there is."""
        return self.table.stale(route, time.monotonic())

    @property
    def troubles(self) -> dict[str, str]:
        """What is wrong with the stream of each class; empty if nothing is."""
        return {stream.traffic_class: stream.trouble for stream in self._streams if stream.trouble}

    def _complete(self) -> bool:
        return all(stream.traffic_class in self.table.generations for stream in self._streams)


class Routes(_Held):
    """Routes of one ingress, kept fresh by a thread per class; a context manager."""

    def start(self, wait_s: float = 5.0) -> bool:
        """Begin to follow; whether every class has its first table within ``wait_s``."""
        self._stop = threading.Event()
        self._client = httpx.Client(timeout=_TIMEOUT, trust_env=False)
        self._threads = [
            threading.Thread(target=self._follow, args=(stream,), name=f"routes {stream.traffic_class}", daemon=True)
            for stream in self._streams
        ]
        for thread in self._threads:
            thread.start()
        deadline = time.monotonic() + wait_s
        while not self._complete() and time.monotonic() < deadline:
            self._stop.wait(0.01)
        return self._complete()

    def close(self) -> None:
        """Stop following; the table stays as it is."""
        self._stop.set()
        self._client.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _follow(self, stream: _Stream) -> None:
        while not self._stop.is_set():
            why = "the stream ended"
            try:
                url, params, headers = stream.ask()
                with self._client.stream("GET", url, params=params, headers=headers) as response:
                    if not response.is_success:
                        response.read()
                        why = str(problem_of(response))
                    else:
                        for line in response.iter_lines():
                            if self._stop.is_set():
                                return
                            stream.hear(line)
                            if stream.enough():
                                break
            except _BROKEN as error:
                why = _words(error)
            except (RuntimeError, OSError):
                if self._stop.is_set():
                    return  # closed while it was about to ask
                raise
            self._stop.wait(stream.failed(why))


class AsyncRoutes(_Held):
    """Routes of one ingress, kept fresh by a task per class; an async context manager."""

    async def start(self, wait_s: float = 5.0) -> bool:
        """Begin to follow; whether every class has its first table within ``wait_s``."""
        self._client = httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False)
        self._tasks = [asyncio.create_task(self._follow(stream)) for stream in self._streams]
        deadline = time.monotonic() + wait_s
        while not self._complete() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return self._complete()

    async def close(self) -> None:
        """Stop following; the table stays as it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def _follow(self, stream: _Stream) -> None:
        while True:
            why = "the stream ended"
            try:
                url, params, headers = stream.ask()
                async with self._client.stream("GET", url, params=params, headers=headers) as response:
                    if not response.is_success:
                        await response.aread()
                        why = str(problem_of(response))
                    else:
                        async for line in response.aiter_lines():
                            stream.hear(line)
                            if stream.enough():
                                break
            except _BROKEN as error:
                why = _words(error)
            await asyncio.sleep(stream.failed(why))
