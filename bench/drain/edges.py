"""The media edges' side of sessions: admission, heartbeats over the node's own line, moves and ends carried out.

What `router/demo/media.py` does, with the voices themselves left to the C thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.drain.voices import Address, Voices
from bench.drain.wire import Wire
from router.demo.packets import Bye, Control, Hello, MoveTo, PacketError, Refused, Welcome, decode, encode

HEARTBEAT_S = 1.0
DETACHED_AFTER_US = 3_000_000


@dataclass(slots=True)
class _Leg:
    flow: int
    token: str
    user: Address
    detached: bool = False
    moving: bool = False


class Edge:
    """The media server of one node."""

    def __init__(
        self, index: int, data_center: str, node: str, wire: Wire, voices: Voices, agents: Sequence[str]
    ) -> None:
        self.index, self.data_center = index, data_center
        self.legs: dict[str, _Leg] = {}
        self.admitting_ms: list[float] = []  # from a user's first greeting to its welcome
        self._node, self._wire, self._voices = node, wire, voices
        self._agents: Mapping[str, int] = {id: i for i, id in enumerate(agents)}
        self._events: dict[str, str] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._told = 0
        self._epoch = int(time.time())

    def on_letter(self, data: bytes, user: Address, flows: Mapping[str, int]) -> None:
        """Handle what a user says; ``flows`` are the users by session."""
        try:
            message = decode(data)
        except PacketError:
            return
        match message:
            case Hello():
                self._on_hello(message, user, flows)
            case Bye():
                leg = self.legs.get(message.session)
                if leg is not None and leg.user == user:
                    self._forget(message.session)
                    if message.reason != "moved":  # after a move the session is somebody else's to report
                        self._report(message.session, "detached")

    def _on_hello(self, hello: Hello, user: Address, flows: Mapping[str, int]) -> None:
        leg = self.legs.get(hello.session)
        if leg is not None and leg.token == hello.token:
            leg.user = user
            self._say(Welcome(hello.session, self.data_center), user)
        elif hello.session not in self._asking and hello.session in flows:
            task = asyncio.get_running_loop().create_task(self._admit(hello, user, flows[hello.session]))
            self._asking[hello.session] = task
            task.add_done_callback(lambda _: self._asking.pop(hello.session, None))

    async def _admit(self, hello: Hello, user: Address, flow: int) -> None:
        began = time.monotonic()
        reply = await self._wire.call("GET", f"/v1/sessions/{hello.session}")
        refusal = "control_plane_unavailable" if reply is None else self._refusal(hello, reply.status, reply.body)
        if refusal or reply is None:
            self._say(Refused(hello.session, refusal), user)
            return
        self.legs[hello.session] = _Leg(flow, hello.token, user)
        self._voices.carry(self.index, flow, self._agents[reply.body["agent"]["id"]])
        self._report(hello.session, "attached")
        self._say(Welcome(hello.session, self.data_center), user)
        self.admitting_ms.append((time.monotonic() - began) * 1_000)

    def _refusal(self, hello: Hello, status: int, body: dict[str, Any]) -> str:
        if status >= 300:
            return str(body.get("code", status))
        if body.get("state") == "ended":
            return "ended"
        if not body.get("agent"):
            return "no_agent"
        if (body.get("edge") or {}).get("data_center") != self.data_center:
            return "another_edge"
        return "" if hello.token.split(".")[:2] == [hello.session, str(body.get("epoch"))] else "fenced"

    async def run(self) -> None:
        """Heartbeat each second, and at once when something happened, until cancelled."""
        while True:
            await self._heartbeat()
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._news.wait()
                await asyncio.sleep(0.05)  # what happens together is told together
            except TimeoutError:
                continue

    async def _heartbeat(self) -> None:
        self._notice_silence()
        self._news.clear()
        if not self.legs and not self._told and not self._events:
            return
        events, self._events = self._events, {}
        count = len(self.legs)
        body = {
            "node": self._node,
            "epoch": self._epoch,
            "changed": [{"id": session, "event": event} for session, event in events.items()],
            "totals": {"sessions": count, "good": count, "bad": 0, "setup_failures": 0},
        }
        reply = await self._wire.call("POST", "/v1/sessions/heartbeat", body)
        if reply is None or reply.status >= 500:
            self._events = {**events, **self._events}  # to be said again
            return
        if reply.ok:
            self._told = count
            self._carry_out(reply.body)

    def _carry_out(self, answer: dict[str, Any]) -> None:
        for move in answer.get("moves", ()):
            leg = self.legs.get(move["id"])
            if leg is not None:
                leg.moving = True
                self._say(MoveTo(move["id"], move["to"], move["url"], move["token"]), leg.user)
        for end in answer.get("ends", ()):
            leg = self._forget(end["id"])
            self._report(end["id"], "ended")
            if leg is not None and end["reason"] == "placed_elsewhere":
                self._say(Refused(end["id"], "placed_elsewhere"), leg.user)
            elif leg is not None:
                self._say(Bye(end["id"], "ended"), leg.user)
        for rebound in answer.get("rebound", ()):
            leg = self.legs.get(rebound["id"])
            if leg is not None:
                self._voices.carry(self.index, leg.flow, self._agents[rebound["agent"]["id"]])
            if rebound["id"] not in self._events:
                self._report(rebound["id"], "rebound")

    def _notice_silence(self) -> None:
        now_us, heard = self._voices.now_us(), self._voices.tables["leg_heard"]
        for session, leg in self.legs.items():
            silent = now_us - int(heard[self.index * self._voices.flows + leg.flow]) > DETACHED_AFTER_US
            if silent != leg.detached and not leg.moving:
                self._report(session, "detached" if silent else "attached")
            leg.detached = silent

    def _forget(self, session: str) -> _Leg | None:
        leg = self.legs.pop(session, None)
        if leg is not None:
            self._voices.carry(self.index, leg.flow, -1)
        return leg

    def _report(self, session: str, event: str) -> None:
        self._events[session] = event
        self._news.set()

    def _say(self, message: Control, user: Address) -> None:
        self._voices.say_to_user(self.index, encode(message), user)
