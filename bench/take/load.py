"""Callers that take and return agents, as fast as they are answered or at times of their own; a process of its own.

``python -m bench.take.load FILE``: FILE holds the task as JSON, and is replaced by what happened. Each caller has one
connection at a time, kept alive, without pipelining. With ``per_s`` requests are due at random times, whatever the
control planes do meanwhile, and what a caller waits for counts from then on (an open loop). Now and then a caller
closes its connection after sending, so that the reply is lost; whatever is lost, also by the death of a server, is
asked again with the same Idempotency-Key, elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

SESSION, AGENT = re.compile(rb'"id":"(s-[0-9a-f]+)"'), re.compile(rb'"agent":\{"id":"([^"]+)"')
WAIT_S = 15.0  # for one answer
MOST_TRIES = 300
PAUSE_S = 0.02  # before a refused or lost request is sent again
PAIRS, TAKES, RETURNS = "pairs", "takes", "returns"
CREATED, OK, NOT_FOUND, CONFLICT = 201, 200, 404, 409


class Lost(Exception):
    """The connection ended before the answer."""


@dataclass
class Task:
    """What to do: until so many takes, or so many seconds; ``does`` says what: each take with its return, or one alone.

    ``held``: the holds to return, as an earlier run has left them.
    """

    ports: list[int]
    key: str
    callers: int
    seconds: float
    takes: int
    lose_one_in: int
    places: list[tuple[float, float]]
    run: str
    does: str = PAIRS
    per_s: float = 0.0  # offered load; 0: each caller asks again when it was answered
    held: list[tuple[str, str, float, float]] = field(default_factory=list)


class Turns:
    """When the next request is due: at once, or after gaps as between strangers (exponential)."""

    def __init__(self, per_s: float) -> None:
        self._per_s, self._rng = per_s, random.Random(11)
        self._at = time.monotonic()

    async def next(self) -> float:
        """Wait for it; when it was due."""
        if not self._per_s:
            return time.monotonic()
        self._at = at = self._at + self._rng.expovariate(self._per_s)
        if (wait := at - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        return at


@dataclass
class Seen:
    """What happened. A hold is (agent, session, answered at, return asked for at): it was surely held in between."""

    holds: list[tuple[str, str, float, float]] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)  # takes whose first request was answered
    returned_ms: list[float] = field(default_factory=list)
    lost_on_purpose: int = 0
    lost: int = 0  # connections that ended before the answer
    nobody: int = 0  # attempts to connect while the control plane was down
    refused: int = 0
    unavailable: int = 0
    gave_up: int = 0  # requests that were never answered as they should be
    missing: int = 0  # sessions that were acknowledged and are not there
    unexpected: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_s: float = 0.0


class Caller:
    """One caller with its connection."""

    def __init__(self, task: Task, seen: Seen, turns: Turns, number: int) -> None:
        self._task, self._seen, self._turns = task, seen, turns
        self._rng = random.Random(number)
        self._name = f"{task.run}-{number}"
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._next = number  # which server

    async def run(self, until: float) -> None:
        """Take and return, or one of the two, until the time is over or nothing is left to do."""
        does, count = self._task.does, 0
        while time.monotonic() < until and self._more():
            due, count = await self._turns.next(), count + 1
            if does == RETURNS:
                if self._task.held:
                    agent, session, at, _ = self._task.held.pop()
                    await self._back(agent, session, at, due)
                continue
            held = await self._take(f"{self._name}-{count}", due)
            if held is None:
                continue
            if does == TAKES:
                self._seen.holds.append((*held, held[2]))
            else:
                await self._back(*held, time.monotonic())
        self._close()

    def _more(self) -> bool:
        if self._task.does == RETURNS:
            return bool(self._task.held)
        return not self._task.takes or len(self._seen.holds) < self._task.takes

    async def _back(self, agent: str, session: str, at: float, due: float) -> None:
        asked_at = time.monotonic()
        await self._return(session, due)
        self._seen.holds.append((agent, session, at, asked_at))

    async def _take(self, key: str, started: float) -> tuple[str, str, float] | None:
        latitude, longitude = self._rng.choice(self._task.places)
        client = {"latitude": latitude, "longitude": longitude}
        body = json.dumps({"client": client, "pool": "tutors", "metadata": {"caller": self._name}}).encode()
        request = self._request(b"POST", "/v1/sessions", f"Idempotency-Key: {key}\r\n", body)
        lose = self._rng.randrange(self._task.lose_one_in) == 0
        tries = 0
        while tries < MOST_TRIES:
            tries += 1
            status, answer = await self._until_answered(request, lose and tries == 1)
            if status == CREATED:
                now = time.monotonic()
                if tries == 1 and not lose:
                    self._seen.took_ms.append((now - started) * 1000)
                session, agent = SESSION.search(answer), AGENT.search(answer)
                assert session is not None and agent is not None
                return agent[1].decode(), session[1].decode(), now
            if status == CONFLICT:
                self._seen.refused += 1
                await asyncio.sleep(PAUSE_S)
                return None
            self._note(status, answer)
            await asyncio.sleep(PAUSE_S)
        self._seen.gave_up += 1
        return None

    async def _return(self, session: str, started: float) -> None:
        request = self._request(b"DELETE", f"/v1/sessions/{session}", "", b"")
        for _ in range(MOST_TRIES):
            status, answer = await self._until_answered(request, False)
            if status == OK:
                self._seen.returned_ms.append((time.monotonic() - started) * 1000)
                return
            if status == NOT_FOUND:
                self._seen.missing += 1
                return
            self._note(status, answer)
            await asyncio.sleep(PAUSE_S)
        self._seen.gave_up += 1

    def _note(self, status: int, answer: bytes) -> None:
        if status == 503:
            self._seen.unavailable += 1
            return
        text = f"{status} {answer[:200].decode(errors='replace')}"
        self._seen.unexpected[text] = self._seen.unexpected.get(text, 0) + 1

    def _request(self, method: bytes, path: str, more: str, body: bytes) -> bytes:
        head = f" {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {self._task.key}\r\n{more}"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return method + head.encode() + b"\r\n" + body

    async def _until_answered(self, request: bytes, lose: bool) -> tuple[int, bytes]:
        while True:
            try:
                if lose:
                    await self._send_and_go(request)
                    lose = False
                return await asyncio.wait_for(self._call(request), WAIT_S)
            except ConnectionRefusedError:
                self._seen.nobody += 1
            except (OSError, Lost, asyncio.IncompleteReadError, TimeoutError):
                self._seen.lost += 1
            self._close()
            self._next += 1
            await asyncio.sleep(PAUSE_S)

    async def _send_and_go(self, request: bytes) -> None:
        await self._connect()
        assert self._writer is not None
        self._writer.write(request)
        await asyncio.sleep(self._rng.choice((0.0, 0.001, 0.005)))  # the server is somewhere between reading and answer
        self._seen.lost_on_purpose += 1
        self._close()

    async def _call(self, request: bytes) -> tuple[int, bytes]:
        await self._connect()
        assert self._reader is not None and self._writer is not None
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 : head.find(b"\r\n", at)]) if at >= 0 else 0
        body = await self._reader.readexactly(length) if length else b""
        return int(head[9:12]), body

    async def _connect(self) -> None:
        if self._writer is None:
            port = self._task.ports[self._next % len(self._task.ports)]
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)

    def _close(self) -> None:
        if self._writer is not None:
            with suppress(OSError):
                self._writer.transport.abort()
        self._reader = self._writer = None


async def _drive(task: Task) -> Seen:
    seen, started, cpu = Seen(), time.monotonic(), time.process_time()
    until, turns = started + task.seconds, Turns(task.per_s)
    await asyncio.gather(*(Caller(task, seen, turns, number).run(until) for number in range(task.callers)))
    seen.seconds, seen.cpu_s = time.monotonic() - started, time.process_time() - cpu
    return seen


def main(file: Path) -> None:
    """Carry out the task in a file and put what happened in its place."""
    task: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seen = runner.run(_drive(Task(**task)))
    done = file.with_suffix(".done")
    done.write_text(json.dumps({name: getattr(seen, name) for name in Seen.__dataclass_fields__}), encoding="utf-8")
    done.replace(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
