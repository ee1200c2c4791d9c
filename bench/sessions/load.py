"""Media nodes that heartbeat, and users who come, move and go at a steady pace; a process of its own.

``python -m bench.sessions.load FILE``: FILE holds the task as JSON, and is replaced by what happened. A user's life is
place, arrive (their node says so), resume (as after a lost connection), arrive again, end; each step is timed.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

NODE, TOKEN = re.compile(rb'"edge":\{"data_center":"[^"]+","node":"([^"]+)"'), re.compile(rb'"token":"([^"]+)"')
SESSION = re.compile(rb'"id":"(s-[0-9a-z]+)"')
SPEAKERS, LIVES_AT_ONCE, PATIENCE_S = 128, 64, 60.0


@dataclass
class Task:
    """What to do for so many seconds."""

    port: int
    key: str
    seconds: float
    nodes: list[str]
    every_s: float  # between two heartbeats of a node
    lives_per_s: float
    places: list[tuple[float, float]]


@dataclass
class Seen:
    """How long each kind of request took in ms, and what was not as it should be."""

    place: list[float] = field(default_factory=list)
    resume: list[float] = field(default_factory=list)
    end: list[float] = field(default_factory=list)
    heartbeat: list[float] = field(default_factory=list)
    wrong: dict[str, int] = field(default_factory=dict)
    skipped: int = 0  # lives that did not begin in time, because too many others were under way
    seconds: float = 0.0
    cpu_s: float = 0.0


class Wire:
    """One kept connection, one request at a time."""

    def __init__(self, task: Task, seen: Seen) -> None:
        self._task, self._seen = task, seen
        self._pair: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._head = f"Host: t\r\nAuthorization: Bearer {task.key}\r\n"

    async def ask(self, kind: str, method: str, path: str, body: object = None) -> bytes | None:
        """The body of a success, timed under ``kind``; None otherwise."""
        text = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\n{self._head}"
        if text:
            head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        started = time.monotonic()
        try:
            status, answer = await asyncio.wait_for(self._call(f"{head}\r\n".encode() + text), PATIENCE_S)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self._pair = None
            return self._wrong(f"{kind}: {type(error).__name__}")
        if status not in (200, 201):
            return self._wrong(f"{kind}: {status} {answer[:160].decode(errors='replace')}")
        getattr(self._seen, kind).append((time.monotonic() - started) * 1000)
        return answer

    def _wrong(self, text: str) -> None:
        self._seen.wrong[text] = self._seen.wrong.get(text, 0) + 1

    async def _call(self, request: bytes) -> tuple[int, bytes]:
        if self._pair is None:
            self._pair = await asyncio.open_connection("127.0.0.1", self._task.port)
        reader, writer = self._pair
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 : head.find(b"\r\n", at)]) if at >= 0 else 0
        return int(head[9:12]), await reader.readexactly(length)


async def _speak(task: Task, seen: Seen, mine: list[str], until: float) -> None:
    """Heartbeats of some nodes in turn, each at its time."""
    wire, turn, n = Wire(task, seen), 0, len(mine)
    started = time.monotonic()
    while (due := started + turn * task.every_s / n) < until and time.monotonic() < until:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await wire.ask("heartbeat", "POST", "/v1/sessions/heartbeat", {"node": mine[turn % n], "epoch": 1})
        turn += 1


async def _live(task: Task, wire: Wire, rng: random.Random) -> None:
    latitude, longitude = rng.choice(task.places)
    client = {"latitude": latitude, "longitude": longitude}
    answer = await wire.ask("place", "POST", "/v1/sessions", {"client": client, "pool": "tutors"})
    for _ in range(2):
        if answer is None:
            return
        found = SESSION.search(answer), NODE.search(answer), TOKEN.search(answer)
        id, node, token = ("" if one is None else one[1].decode() for one in found)
        said = {"node": node, "epoch": 1, "changed": [{"id": id, "event": "attached"}]}
        if await wire.ask("heartbeat", "POST", "/v1/sessions/heartbeat", said) is None:
            return
        if _ == 0:
            answer = await wire.ask("resume", "POST", f"/v1/sessions/{id}/resume", {"token": token, "client": client})
    await wire.ask("end", "DELETE", f"/v1/sessions/{id}")


async def _drive(task: Task) -> Seen:
    seen, rng = Seen(), random.Random(9)
    started, cpu = time.monotonic(), time.process_time()
    until = started + task.seconds
    speakers = [asyncio.create_task(_speak(task, seen, task.nodes[i::SPEAKERS], until)) for i in range(SPEAKERS)]
    idle = [Wire(task, seen) for _ in range(LIVES_AT_ONCE)]
    lives: set[asyncio.Task[None]] = set()

    async def one(wire: Wire) -> None:
        await _live(task, wire, rng)
        idle.append(wire)

    count = 0
    while (due := started + count / task.lives_per_s) < until and time.monotonic() < until:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        count += 1
        if not idle:
            seen.skipped += 1
            continue
        life = asyncio.create_task(one(idle.pop()))
        lives.add(life)
        life.add_done_callback(lives.discard)
    await asyncio.gather(*lives, *speakers)
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
