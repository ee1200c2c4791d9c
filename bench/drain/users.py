"""The users' side of sessions: they call, follow moves, and save themselves when their edge falls silent.

What `router/demo/user.py` does, with the voices themselves left to the C thread.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.drain.voices import Voices
from bench.drain.wire import Wire
from bench.drain.world import CITY
from router.demo.control import Reply
from router.demo.fleet_of_world import POOL
from router.demo.packets import Bye, Hello, MoveTo, PacketError, Refused, Welcome, decode, encode, parse_url

SILENCE_US = 400_000
HELLO_S, HELLO_TRIES, PINGS = 0.25, 4, 2
LOOK_S = 0.05
TOO_LATE = ("fenced", "unknown_session", "session_ended", "token_expired")
CLIENT = {"latitude": CITY[0], "longitude": CITY[1], "country": "DE", "asn": 3320}


@dataclass(slots=True)
class Change:
    """One change of edge as the user did it."""

    kind: str  # move or resume
    source: int
    target: int
    at_us: int  # of the records' clock: when the user talked through the new edge


@dataclass(slots=True)
class User:
    """One user and its flow."""

    flow: int
    key: str = field(default_factory=lambda: secrets.token_hex(16))  # of its one call, asked for again if need be
    session: str = ""
    agent: str = ""
    token: str = ""
    edge: int = -1
    previous: int = -1
    lost: str = ""  # why the session is over
    changes: list[Change] = field(default_factory=list)
    unreachable: dict[str, float] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    arrival: tuple[int, asyncio.Future[str]] | None = None
    silent_since_us: int = 0

    @property
    def busy(self) -> bool:
        """Whether it is changing its edge."""
        return self.task is not None and not self.task.done()


class Users:
    """All users, by flow and by session."""

    def __init__(self, voices: Voices, wire: Wire, edges: Mapping[str, int], by_host: Mapping[str, int]) -> None:
        self.all = [User(flow) for flow in range(voices.flows)]
        self.flows: dict[str, int] = {}  # by session
        self.edge_names = {number: name for name, number in edges.items()}
        self._voices, self._wire, self._by_host = voices, wire, by_host

    async def call(self, user: User) -> str:
        """Set up the session and talk; returns why not, or nothing."""
        reply = await start_session(self._wire, user.key)
        if reply is None or not reply.ok or not reply.body.get("agent") or not reply.body.get("edge"):
            return "no answer" if reply is None else str(reply.body)[:300]
        body = reply.body
        user.session, user.agent, user.token = body["id"], body["agent"]["id"], body["token"]
        self.flows[user.session] = user.flow
        edge = self._edge(body["edge"]["url"])
        if not await self._arrive(user, edge, user.token):
            return f"edge {body['edge']['data_center']} did not answer"
        return ""

    async def look(self) -> None:
        """Notice silence and finished moves, until cancelled."""
        heard, through = self._voices.tables["heard"], self._voices.tables["heard_edge"]
        while True:
            await asyncio.sleep(LOOK_S)
            now_us = self._voices.now_us()
            for user in self.all:
                if user.edge < 0 or user.lost:
                    continue
                if user.previous >= 0 and through[user.flow] == user.edge:
                    self._voices.say_to_edge(user.flow, user.previous, encode(Bye(user.session, "moved")))
                    user.previous = -1
                if not user.busy and now_us - max(int(heard[user.flow]), user.silent_since_us) > SILENCE_US:
                    user.task = asyncio.get_running_loop().create_task(self._save(user))

    def on_letter(self, flow: int, data: bytes, edge: int) -> None:
        """Handle what an edge says."""
        user = self.all[flow]
        try:
            message = decode(data)
        except PacketError:
            return
        if message.session != user.session:
            return
        match message:
            case Welcome():
                self._greeted(user, edge, "")
            case Refused(code=code):
                self._greeted(user, edge, code)
            case MoveTo() if edge == user.edge and not user.busy:
                user.task = asyncio.get_running_loop().create_task(self._move(user, message))
            case Bye() if edge == user.edge:
                self._over(user, "its edge said that it is over")

    def _greeted(self, user: User, edge: int, refusal: str) -> None:
        if user.arrival is not None and user.arrival[0] == edge and not user.arrival[1].done():
            user.arrival[1].set_result(refusal)

    async def _arrive(self, user: User, edge: int, token: str, tries: int = HELLO_TRIES) -> bool:
        arrival = user.arrival = (edge, asyncio.get_running_loop().create_future())
        try:
            for _ in range(tries):
                self._voices.say_to_edge(user.flow, edge, encode(Hello(user.session, token)))
                done, _ = await asyncio.wait({arrival[1]}, timeout=HELLO_S)
                if done:
                    if not arrival[1].result():
                        self._switch(user, edge, token)
                    return not arrival[1].result()
            user.unreachable[self.edge_names[edge]] = time.monotonic()
            return False
        finally:
            user.arrival = None

    def _switch(self, user: User, edge: int, token: str) -> None:
        if user.edge >= 0 and user.edge != edge:
            user.previous = user.edge
        user.edge, user.token = edge, token
        user.unreachable.pop(self.edge_names[edge], None)
        user.silent_since_us = self._voices.now_us()
        if self._voices.tables["talking"][user.flow]:
            self._voices.tables["user_edge"][user.flow] = edge
        else:
            self._voices.start(user.flow, edge)

    async def _move(self, user: User, move: MoveTo) -> None:
        source, target = user.edge, self._edge(move.url)
        if await self._arrive(user, target, move.token):
            user.changes.append(Change("move", source, target, self._voices.now_us()))

    async def _save(self, user: User) -> None:
        """Silence: greet the edge first, then ask the control plane for another."""
        if await self._arrive(user, user.edge, user.token, PINGS):
            user.silent_since_us = self._voices.now_us() + SILENCE_US
            return
        source, token = user.edge, user.token
        while not user.lost:
            recent = [name for name, at in user.unreachable.items() if time.monotonic() - at < 30]
            body = {"token": token, "client": CLIENT, "unreachable": recent[-16:]}
            reply = await self._wire.call("POST", f"/v1/sessions/{user.session}/resume", body)
            if reply is not None and reply.code in TOO_LATE:
                self._over(user, reply.code)
            elif reply is not None and reply.ok and reply.body.get("edge") and reply.body.get("agent"):
                token = reply.body["token"]
                target = self._edge(reply.body["edge"]["url"])
                if await self._arrive(user, target, token):
                    user.changes.append(Change("resume", source, target, self._voices.now_us()))
                    return
            await asyncio.sleep(0.2)

    def _over(self, user: User, why: str) -> None:
        user.lost = why
        self._voices.tables["talking"][user.flow] = 0

    def _edge(self, url: str) -> int:
        return self._by_host[parse_url(url)[0]]


async def start_session(wire: Wire, key: str = "") -> Reply | None:
    """Ask for a session, as an application does for its user; with the same key again it is the same session."""
    body: dict[str, Any] = {"client": CLIENT, "pool": POOL, "class": "agent"}
    return await wire.call("POST", "/v1/sessions", body, **{"Idempotency-Key": key or secrets.token_hex(16)})
