"""A running world with people in it: agents registered, every user in a session of its own, voices flowing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench._case import progress
from bench._testbed import Testbed
from bench.drain import agents
from bench.drain.edges import Edge
from bench.drain.users import CLIENT, User, Users, start_session
from bench.drain.voices import EDGE, Address, Voices
from bench.drain.wire import Wire
from bench.drain.world import hubs
from router.demo.fleet_of_world import POOL
from router.demo.namespaces import data_host

SPARE_PCT = 20  # of the agents: for newcomers while everybody talks
MOST_S = 420  # of records
CALLS_AT_ONCE = 4
CALL_TRIES = 3
PHONES = 32  # connections that the users share; people have one each
EDGE_LINES = 16  # of each media server: it asks about everybody who arrives, and they arrive together
NEWCOMER_S = 0.1
NEAR_LOOKS, NEAR_EVERY_S, NEAR_WITHIN_S = 10, 0.5, 120.0


class Stage:
    """What the cases act on."""

    def __init__(self, testbed: Testbed, admin: Wire, voices: Voices, edges: list[Edge], users: Users) -> None:
        self.testbed, self.admin, self.voices, self.edges, self.users = testbed, admin, voices, edges, users
        self.names = [edge.data_center for edge in edges]

    def busiest(self, of: Callable[[str], str] = str) -> str:
        """The edge, or whatever ``of`` makes of edges, that carries most users."""
        counts = Counter(of(self.names[user.edge]) for user in self.users.all if user.edge >= 0)
        return min(counts, key=lambda name: (-counts[name], name))

    def on(self, edges: set[int]) -> list[User]:
        """Users who talk through one of these edges."""
        return [user for user in self.users.all if user.edge in edges]

    async def must(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """A call by the operator. Raises RuntimeError when it is refused."""
        reply = await self.admin.call(method, path, body)
        if reply is None or not reply.ok:
            raise RuntimeError(f"{method} {path}: {'no answer' if reply is None else reply.body}")
        return reply.body

    async def newcomers(self, seconds: float) -> list[tuple[float, str]]:
        """New sessions for a while, ended at once: when each was asked for, and its edge (or why there is none)."""
        began, found = time.monotonic(), list[tuple[float, str]]()
        while (asked := time.monotonic()) - began < seconds:
            reply = await start_session(self.admin)
            if reply is None or not reply.ok:
                found.append((asked - began, "refused" if reply else "no answer"))
            else:
                found.append((asked - began, (reply.body.get("edge") or {}).get("data_center", "none")))
                await self.admin.call("DELETE", f"/v1/sessions/{reply.body['id']}")
            await asyncio.sleep(max(0.0, NEWCOMER_S - (time.monotonic() - asked)))
        return found

    def cut(self, provider: str) -> int:
        """Every line of a provider's nodes goes dead at once; returns when, in the records' time."""
        nodes = [n for dc in self.testbed.world.data_centers if dc.provider == provider for n in dc.nodes]
        cut_us = self.voices.now_us()
        cuts = [
            subprocess.Popen(["ip", "-n", self.testbed.lab.name(node.index), "link", "set", "control", "down"])
            for node in nodes
        ]
        if sum(cut.wait() != 0 for cut in cuts):
            raise RuntimeError(f"the lines of {provider} could not be cut")
        self.testbed.fault(target=f"provider={provider}", kind="blackhole")
        return cut_us


@asynccontextmanager
async def staged(testbed: Testbed, sessions: int) -> AsyncIterator[Stage]:
    """Everybody in place and talking; all of it stopped at the end."""
    world, lab, homes = testbed.world, testbed.lab, hubs(testbed.world)
    nodes = [dc.nodes[0] for dc in world.data_centers]
    _, port = testbed.control_address
    media_key = (testbed.folder / "media.key").read_text(encoding="utf-8").strip()
    admin_key = (testbed.folder.parent.parent / "admin.key").read_text(encoding="utf-8").strip()
    admin, phones = Wire(lab, port, admin_key, connections=2), Wire(lab, port, media_key, connections=PHONES)
    count = max(len(homes), sessions + sessions * SPARE_PCT // 100 + 4)
    voices = Voices(lab, [node.index for node in nodes], sessions, [i % len(homes) for i in range(count)], MOST_S)
    records = [
        {
            "id": f"voice-{i}",
            "data_center": world.data_centers[homes[i % len(homes)]].id,
            "node": nodes[homes[i % len(homes)]].id,
            "address": voices.hub_addresses[i % len(homes)],
        }
        for i in range(count)
    ]
    wires = [Wire(lab, port, media_key, node.index, connections=EDGE_LINES) for node in nodes]
    ids = [record["id"] for record in records]
    edges = [Edge(i, dc.id, nodes[i].id, wires[i], voices, ids) for i, dc in enumerate(world.data_centers)]
    names = {edge.data_center: edge.index for edge in edges}
    users = Users(voices, phones, names, {data_host(node.index): i for i, node in enumerate(nodes)})
    _listen(voices, edges, users)
    epochs = await agents.register(phones, records)
    progress(f"{count} agents are registered")
    running = [asyncio.create_task(work) for work in _works(edges, users, phones, records, epochs)]
    try:
        await _until_near(admin, world.data_centers[0].id)
        await _call_all(users)
        yield Stage(testbed, admin, voices, edges, users)
        for task in running:
            if task.done():
                task.result()  # what ended early must be seen
    finally:
        for task in (*running, *(user.task for user in users.all if user.task is not None)):
            task.cancel()
        asyncio.get_running_loop().remove_reader(voices.letters_fd)
        voices.close()
        for wire in (admin, phones, *wires):
            wire.close()


def _works(
    edges: list[Edge], users: Users, phones: Wire, records: list[dict[str, str]], epochs: list[int]
) -> list[Coroutine[Any, Any, None]]:
    return [agents.keep(phones, records, epochs), users.look(), *(edge.run() for edge in edges)]


def _listen(voices: Voices, edges: list[Edge], users: Users) -> None:
    at = {voices.edge_address(edge.index): edge.index for edge in edges}

    def take(who: int, index: int, data: bytes, sender: Address) -> None:
        if who == EDGE:
            edges[index].on_letter(data, sender, users.flows)
        elif sender in at:
            users.on_letter(index, data, at[sender])

    asyncio.get_running_loop().add_reader(voices.letters_fd, voices.read_letters, take)


async def _until_near(admin: Wire, nearest: str) -> None:
    """Wait until placement has chosen the edge in the users' own city for some seconds on end."""
    deadline, looks = time.monotonic() + NEAR_WITHIN_S, 0
    while looks < NEAR_LOOKS:
        reply = await admin.call("POST", "/v1/steer", {"client": CLIENT, "pool": POOL, "class": "agent"})
        found = reply.body["edges"][0]["data_center"] if reply is not None and reply.ok else "nowhere"
        looks = looks + 1 if found == nearest else 0
        if time.monotonic() > deadline:
            raise RuntimeError(f"users in the city of {nearest} are still placed at {found}: {reply}")
        await asyncio.sleep(NEAR_EVERY_S)


async def _call_all(users: Users) -> None:
    """Raises RuntimeError when somebody cannot be set up."""
    turns = asyncio.Semaphore(CALLS_AT_ONCE)

    async def call(user: User) -> None:
        for attempt in range(CALL_TRIES):
            async with turns:
                problem = await users.call(user)
            if not problem:
                return
            await asyncio.sleep(0.5 * 2**attempt)
        raise RuntimeError(f"user {user.flow} has no session: {problem}")

    await asyncio.gather(*(call(user) for user in users.all))
    progress(f"{len(users.all)} users talk")


def sessions_wanted() -> int:
    """How many live sessions there are to be; ``BENCH_DRAIN_SESSIONS`` says, else 500."""
    return max(2, int(os.environ.get("BENCH_DRAIN_SESSIONS", "500")))


def keep_file() -> Path | None:
    """Where every change of edge is written down for recounting (``BENCH_DRAIN_OUT``)."""
    return Path(name) if (name := os.environ.get("BENCH_DRAIN_OUT")) else None
