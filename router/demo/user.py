"""A user of the demo world: calls, talks 20 times a second, follows moves, and saves itself when its edge falls silent.

One small task per user decides where it talks; packets themselves need no task. What a user does:

* *call*: ``POST /v1/sessions``, then ``Hello`` to the edge it was given, then talk;
* *move* (asked by its edge): ``Hello`` to the new edge while still talking through the old one; switch on ``Welcome``;
  say ``Bye`` to the old edge once the agent has been heard through the new one. If the new edge stays silent, stay;
* *resume* (its edge is silent, even to a ``Hello``): ``POST /v1/sessions/{id}/resume``, naming the edges
  that were silent a moment ago, then the same; an answer that gets lost is asked for again with the same token;
* *roam* (its own address changes): resume at once from the new address;
* the session ended: pause, and call again.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from router.demo.control import ControlClient, Reply
from router.demo.conversation import Conversation
from router.demo.packets import (
    Audio,
    Bye,
    Hello,
    MoveTo,
    PacketError,
    Refused,
    Welcome,
    decode,
    encode,
    parse_url,
)
from router.demo.udp import Address, UdpPort

USER_PORT = 7425
PACKET_S = 0.05
SILENCE_US = 400_000
SILENT_PACKETS = 4  # of somebody who talks seldom: so many missing answers are a silence
HELLO_S = 0.25  # between two greetings of the same edge
HELLO_TRIES = 4
PINGS = 2  # greetings before a silent edge is given up: together longer than any round trip on earth
UNREACHABLE_FOR_US = 30_000_000  # for how long an edge that did not answer is not wanted again
MAX_UNREACHABLE = 16  # named in one resume
SETTLE_S = 2.0  # after a move: how long to watch before its gap is stated
HEARD = 3  # answers that prove that an agent is there
SOUND = bytes(80)  # 20 ms of narrow-band sound


@dataclass(frozen=True, slots=True)
class Home:
    """Where a user is, as its application would know it."""

    city: str
    country: str
    latitude: float
    longitude: float
    asn: int | None = None  # of the network it is in


@dataclass(frozen=True, slots=True)
class Binding:
    """The edge a user talks through, and the token it showed there."""

    edge: str
    address: Address
    token: str


@dataclass(slots=True)
class Change:
    """One change of edge: ``kind`` is ``move`` (make before break) or ``resume`` (the old edge was dead)."""

    kind: str
    source: str
    target: str
    began_us: int
    at: float
    gap_ms: float | None = None


@dataclass(slots=True)
class _Arrival:
    binding: Binding
    welcome: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class User:
    """One person with one UDP port."""

    def __init__(
        self,
        id: str,
        home: Home,
        host: str,
        control: ControlClient,
        pool: str,
        *,
        port: int = USER_PORT,
        packet_s: float = PACKET_S,
    ) -> None:
        self.id = id
        self.home = home
        self.conversation = Conversation()
        self.state = "idle"  # idle, calling, talking, recovering
        self.problem = ""  # why the last call to the control plane failed
        self.moves = self.resumes = self.calls = self.broken = 0
        self.changes: list[Change] = []
        self.binding: Binding | None = None
        self.placement: dict[str, Any] = {}  # the last session answer
        self._previous: Binding | None = None
        self._control = control
        self._pool = pool
        self._arrival: _Arrival | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._stays = False  # a robot's is the edge it was sent to
        self._sequence = 0
        self._silent_since_us = 0
        self._unreachable: dict[str, int] = {}  # edge -> when it last did not answer; the latest last
        self._packet_s = packet_s
        self._silence_us = max(SILENCE_US, round(SILENT_PACKETS * packet_s * 1e6))
        self._port = UdpPort((host, port), self.on_datagram)

    def close(self) -> None:
        """Stop talking and free the port."""
        self._over.set()
        self._port.close()

    async def run(self, pause_s: float = 3.0) -> None:
        """Call again and again until cancelled."""
        while True:
            await self.call()
            await asyncio.sleep(pause_s)

    async def call(self) -> bool:
        """Make one call and stay in it until it is over; false when it could not be set up."""
        self.state, self._over = "calling", asyncio.Event()
        try:
            reply = await self._start()
            if reply is None:
                return False
            self.calls += 1
            session = reply.body["id"]
            self.conversation.begin(session, reply.body["agent"]["id"])
            if not await self._arrive(_binding(reply.body)) and not await self._resume("calling"):
                await self._control.call("DELETE", f"/v1/sessions/{session}")
                return False
            await self._talk()
            return True
        finally:
            self.leave()

    async def reach(self, path: str, within_s: float) -> tuple[str, str]:
        """Set up one session as ``path`` gives it, and stay until its agent is heard; the session, and what went wrong.

        A robot's way: it goes where it was sent and nowhere else. Whoever sent it hangs up.
        """
        self.state, self._over, self._stays = "calling", asyncio.Event(), True
        reply = await self._start(path)
        if reply is None:
            return "", self.problem
        session = str(reply.body["id"])
        self.conversation.begin(session, reply.body["agent"]["id"])
        if not await self._arrive(_binding(reply.body)):
            return session, self.problem
        heard, talk = self.conversation.answers, asyncio.create_task(self._talk())
        try:
            async with asyncio.timeout(within_s):
                while self.conversation.answers < heard + HEARD:
                    await asyncio.sleep(self._packet_s)
        except TimeoutError:
            return session, "its agent was not heard"
        finally:
            talk.cancel()
        return session, ""

    async def hang_up(self) -> None:
        """End the session, at the control plane and at the edge."""
        session, self.state = self.conversation.session, "idle"
        if self.binding is not None:
            self._say(Bye(session, "ended"), self.binding.address)
        if session:
            await self._control.call("DELETE", f"/v1/sessions/{session}")
        self._over.set()

    async def roam(self, host: str) -> bool:
        """Go on from another address, as a phone does that leaves the Wi-Fi: same session, same agent, a new token."""
        if not self.conversation.session or self.binding is None:
            return False
        if self._task is not None:
            self._task.cancel()
        self._port.close()
        self._port = UdpPort((host, self._port.address[1]), self.on_datagram)
        self._task = asyncio.get_running_loop().create_task(self._come_back())
        return True

    def summary(self) -> dict[str, object]:
        """JSON-ready description of this user now."""
        return {
            "id": self.id,
            "city": self.home.city,
            "country": self.home.country,
            "state": self.state,
            "edge": None if self.binding is None else self.binding.edge,
            **self.conversation.summary(_now_us()),
            "calls": self.calls,
            "moves": self.moves,
            "resumes": self.resumes,
            "changes": [
                {"kind": c.kind, "from": c.source, "to": c.target, "at": round(c.at, 3), "gap_ms": c.gap_ms}
                for c in self.changes[-10:]
            ],
            "broken_packets": self.broken,
            "problem": self.problem or None,
        }

    # --- the control flow of a call ---

    async def _start(self, path: str = "/v1/sessions") -> Reply | None:
        body = {
            "client": _client(self.home),
            "pool": self._pool,
            "metadata": {"user": self.id, "city": self.home.city},
        }
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        reply = await self._control.call("POST", path, body, **headers)
        return self._checked(reply, "the call was not set up")

    async def _resume(self, state: str = "recovering") -> bool:
        """Ask for the best edge now until one is reached or the session is over."""
        began_us, source = _now_us(), self.binding.edge if self.binding is not None else ""
        self.state = state
        token = self.placement["token"]
        while not self._over.is_set():
            body = {"token": token, "client": _client(self.home), "unreachable": self._not_answering()}
            path = f"/v1/sessions/{self.conversation.session}/resume"
            reply = await self._control.call("POST", path, body)
            if reply is not None and reply.code in ("fenced", "unknown_session", "session_ended", "token_expired"):
                self.problem = reply.code
                return False
            if reply is not None and reply.code == "no_edge":
                self._unreachable.clear()  # perhaps it was our own line that was down
            if self._checked(reply, "the session was not resumed") is not None and reply is not None:
                token = reply.body["token"]
                if await self._arrive(_binding(reply.body)):
                    self.resumes += 1
                    self._changed("resume", source, began_us)
                    return True
            await asyncio.sleep(0.2)
        return False

    def _checked(self, reply: Reply | None, otherwise: str) -> Reply | None:
        if reply is None or not reply.ok or not reply.body.get("agent") or not reply.body.get("edge"):
            detail = "control plane unreachable" if reply is None else reply.body.get("detail", reply.code)
            self.problem = f"{otherwise}: {detail}"
            return None
        self.problem = ""
        self.placement = reply.body
        return reply

    async def _arrive(self, binding: Binding, tries: int = HELLO_TRIES) -> bool:
        """Greet an edge until it welcomes or refuses us, or stays silent."""
        arrival = self._arrival = _Arrival(binding)
        try:
            for _ in range(tries):
                self._say(Hello(self.conversation.session, binding.token), binding.address)
                done, _pending = await asyncio.wait({arrival.welcome}, timeout=HELLO_S)
                if done:
                    self.problem = arrival.welcome.result()
                    if not self.problem:
                        self._switch(binding)
                    return not self.problem
            self.problem = f"edge {binding.edge} does not answer"
            self._unreachable.pop(binding.edge, None)
            self._unreachable[binding.edge] = _now_us()
            return False
        finally:
            self._arrival = None

    def _not_answering(self) -> list[str]:
        """The edges that did not answer a moment ago."""
        since_us = _now_us() - UNREACHABLE_FOR_US
        self._unreachable = {edge: at_us for edge, at_us in self._unreachable.items() if at_us >= since_us}
        return list(self._unreachable)[-MAX_UNREACHABLE:]

    def _switch(self, binding: Binding) -> None:
        if self.binding is not None and self.binding.address != binding.address:
            self._previous = self.binding
        self.binding = binding
        self._unreachable.pop(binding.edge, None)
        self._silent_since_us = _now_us() + self._silence_us  # the first answer needs a round trip to the agent
        self.state = "talking"

    async def _talk(self) -> None:
        """Send packets until the session is over."""
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        while not self._over.is_set():
            self._tick()
            next_at = max(next_at + self._packet_s, loop.time() - self._packet_s)
            await asyncio.sleep(next_at - loop.time())

    def _tick(self) -> None:
        now_us = _now_us()
        if self.binding is None:
            return
        self._sequence += 1
        audio = Audio(self.conversation.session, self.conversation.agent, self._sequence, now_us, payload=SOUND)
        self.conversation.on_sent(self._sequence, now_us)
        self._say(audio, self.binding.address)
        idle = not self._stays and (self._task is None or self._task.done())
        if idle and self.conversation.silent_us(now_us, self._silent_since_us) > self._silence_us:
            self._task = asyncio.get_running_loop().create_task(self._save_ourselves())

    async def _save_ourselves(self) -> None:
        """Our answers have stopped: is it the edge, or something behind it that routing will go around?"""
        binding = self.binding
        if binding is None:
            return
        if await self._arrive(binding, PINGS):
            self.state = "recovering"
            self._silent_since_us = _now_us() + self._silence_us
            return
        if not await self._resume():
            self._over.set()

    async def _come_back(self) -> None:
        if not await self._resume():
            self._over.set()

    # --- packets ---

    def on_datagram(self, data: bytes, sender: Address) -> None:
        """Handle one packet from an edge."""
        try:
            message = decode(data)
        except PacketError:
            self.broken += 1
            return
        if message.session != self.conversation.session:
            return
        match message:
            case Audio(answer=True):
                self._on_answer(message, sender)
            case Welcome():
                self._greeted(sender, "")
            case Refused():
                self._greeted(sender, message.code)
            case MoveTo() if self.binding is not None and sender == self.binding.address:
                self._on_move(message)
            case Bye() if self.binding is not None and sender == self.binding.address:
                self._over.set()  # an edge that we have left may be the last to hear of it
            case _:
                self.broken += 1

    def _on_answer(self, answer: Audio, sender: Address) -> None:
        if not self.conversation.on_answer(answer, _now_us()):
            return
        self.state = "talking"
        if self._previous is not None and self.binding is not None and sender == self.binding.address:
            self._say(Bye(answer.session, "moved"), self._previous.address)
            self._previous = None

    def _greeted(self, sender: Address, refusal: str) -> None:
        arrival = self._arrival
        if arrival is not None and sender == arrival.binding.address and not arrival.welcome.done():
            arrival.welcome.set_result(refusal)

    def _on_move(self, move: MoveTo) -> None:
        if self._task is not None and not self._task.done():
            return  # said again each second until we are gone
        try:
            binding = Binding(move.edge, parse_url(move.url), move.token)
        except PacketError:
            self.broken += 1
            return
        self._task = asyncio.get_running_loop().create_task(self._move(binding))

    async def _move(self, binding: Binding) -> None:
        began_us, source = _now_us(), self.binding.edge if self.binding is not None else ""
        if await self._arrive(binding):
            self.moves += 1
            self._changed("move", source, began_us)
            reply = await self._control.call("GET", f"/v1/sessions/{self.conversation.session}")
            news = reply.body if reply is not None and reply.ok else {}  # the new paths, for whoever looks
            self.placement = {**self.placement, **news, "token": binding.token}

    def _changed(self, kind: str, source: str, began_us: int) -> None:
        change = Change(kind, source, self.binding.edge if self.binding is not None else "", began_us, time.time())
        self.changes.append(change)
        asyncio.get_running_loop().call_later(SETTLE_S, self._measure, change)

    def _measure(self, change: Change) -> None:
        if self.binding is not None and (self.conversation.last_answer_us or 0) < change.began_us:
            asyncio.get_running_loop().call_later(SETTLE_S, self._measure, change)  # the gap is not over
            return
        since_us = change.began_us - SILENCE_US  # a resume begins after the silence did
        change.gap_ms = round(self.conversation.gap_since(since_us, _now_us()) / 1000, 1)

    def leave(self) -> None:
        """Forget the edge; nobody is told."""
        if self._task is not None:
            self._task.cancel()
        self.binding = self._previous = self._task = None
        self.state = "idle"

    def _say(self, message: Audio | Hello | Bye, to: Address) -> None:
        self._port.send(encode(message), to)


def _binding(body: dict[str, Any]) -> Binding:
    edge = body["edge"]
    return Binding(edge["data_center"], parse_url(edge["url"]), body["token"])


def _client(home: Home) -> dict[str, str | float]:
    position: dict[str, str | float] = {"latitude": home.latitude, "longitude": home.longitude}
    known: dict[str, str | float] = {"country": home.country} if home.country else {}
    return position | known | ({"asn": home.asn} if home.asn is not None else {})


def _now_us() -> int:
    return time.monotonic_ns() // 1000
