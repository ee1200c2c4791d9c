"""Media edges of the demo world: where users' packets enter the overlay and answers leave it.

One :class:`Edge` stands for the media server on one data center's first node. A user arrives with ``Hello``; the edge
asks the control plane once whether this session may be here, answers ``Welcome`` and reports ``attached``. From then on
every packet is forwarded without asking anybody: questions along the forward path to the session's AI agent, answers to
the user. Once a second the node's heartbeat renews the lease over its sessions; the answer carries moves and ends.

A move is make-before-break: the user is told where to go and keeps being served here until it says ``Bye``, which it
does after it has heard its agent through the new edge. A user that never says so is kept: staying beats being cut off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from router.demo.control import ControlClient
from router.demo.overlay import MediaNode, Overlay, Pair
from router.demo.packets import (
    NOWHERE,
    Audio,
    Bye,
    Hello,
    Message,
    MoveTo,
    PacketError,
    Refused,
    Welcome,
    decode,
    encode,
    stamped,
)
from router.demo.udp import Address, UdpPort

EDGE_PORT, AGENT_PORT = 7423, 7424
HEARTBEAT_S = 1.0
IDLE_HEARTBEAT_S = 30.0  # a node without sessions has nothing to renew
DETACHED_AFTER_US = 3_000_000  # no packet from the user
FORGOTTEN_AFTER_US = 90_000_000  # longer than the grace the control plane gives (60 s)


@dataclass(slots=True)
class Leg:
    """One user at this edge."""

    session: str
    token: str
    user: Address
    agent: str
    hub: str
    heard_us: int
    detached: bool = False
    moving_to: str | None = None


class Edge:
    """The media server of one node."""

    def __init__(
        self,
        place: MediaNode,
        overlay: Overlay,
        control: ControlClient,
        changed: Callable[[], None],
        *,
        port: int = EDGE_PORT,
    ) -> None:
        self.place = place
        self.legs: dict[str, Leg] = {}
        self.broken = 0  # packets that could not be understood
        self.strangers = 0  # packets of sessions that are not here
        self.told = 0  # sessions in the last heartbeat that was taken; a node that has some must not fall silent
        self._overlay = overlay
        self._control = control
        self._changed = changed  # tells the heartbeat loop that there is something to say now
        self._events: dict[str, str] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._port = UdpPort((place.real_host, port), self.on_datagram)
        self._reply_to = (place.stand_in, port)

    def close(self) -> None:
        """Free the port; nobody is told."""
        for task in self._asking.values():
            task.cancel()
        self._port.close()

    @property
    def pairs(self) -> set[Pair]:
        """The (edge, hub) pairs whose routes this edge needs."""
        return {(self.place.data_center, leg.hub) for leg in self.legs.values()}

    def on_datagram(self, data: bytes, sender: Address) -> None:
        """Handle one packet from a user or from the overlay."""
        try:
            message: Message = decode(data)
        except PacketError:
            self.broken += 1
            return
        match message:
            case Audio(answer=True):
                self._on_answer(message, data)
            case Audio():
                self._on_question(message, sender)
            case Hello():
                self._on_hello(message, sender)
            case Bye():
                self._on_bye(message, sender)
            case _:
                self.strangers += 1

    def _on_question(self, audio: Audio, sender: Address) -> None:
        leg = self.legs.get(audio.session)
        if leg is None or leg.user != sender:
            self.strangers += 1
            self._say(Refused(audio.session, "not_here"), sender)
            return
        leg.heard_us = _now_us()
        if leg.detached:
            leg.detached = False
            self._report(leg.session, "attached")
        self._overlay.send(
            self._port,
            self.place.data_center,
            leg.hub,
            AGENT_PORT,
            encode(stamped(audio, self._reply_to, leg.agent)),
            leg.session,
        )

    def _on_answer(self, audio: Audio, data: bytes) -> None:
        leg = self.legs.get(audio.session)
        if leg is None:
            self.strangers += 1
            return
        self._port.send(data, leg.user)

    def _on_hello(self, hello: Hello, sender: Address) -> None:
        leg = self.legs.get(hello.session)
        if leg is not None and leg.token == hello.token:
            leg.user, leg.heard_us = sender, _now_us()
            self._say(Welcome(hello.session, self.place.data_center), sender)
        elif hello.session not in self._asking:
            task = asyncio.get_running_loop().create_task(self._admit(hello, sender))
            self._asking[hello.session] = task
            task.add_done_callback(lambda _: self._asking.pop(hello.session, None))

    def _on_bye(self, bye: Bye, sender: Address) -> None:
        leg = self.legs.get(bye.session)
        if leg is None or leg.user != sender:
            self.strangers += 1
            return
        del self.legs[bye.session]
        self._overlay.pin(bye.session, None)
        if bye.reason != "moved":  # after a move the session is somebody else's to report
            self._report(bye.session, "detached")

    async def _admit(self, hello: Hello, sender: Address) -> None:
        reply = await self._control.call("GET", f"/v1/sessions/{hello.session}")
        refusal = "control_plane_unavailable" if reply is None else self._refusal(hello, reply.status, reply.body)
        if refusal or reply is None:
            self._say(Refused(hello.session, refusal), sender)
            return
        place, agent = self.place.data_center, reply.body["agent"]
        for source, target, name in ((place, agent["data_center"], "forward"), (agent["data_center"], place, "return")):
            self._overlay.learn(source, target, (reply.body.get(name) or {}).get("path"))
        self._overlay.pin(hello.session, reply.body.get("metadata", {}).get("tendril.via"))
        self.legs[hello.session] = Leg(hello.session, hello.token, sender, agent["id"], agent["data_center"], _now_us())
        self._report(hello.session, "attached")
        self._say(Welcome(hello.session, place), sender)

    def _refusal(self, hello: Hello, status: int, body: dict[str, Any]) -> str:
        if status >= 300:
            return str(body.get("code", status))
        if body.get("state") == "ended":
            return "ended"
        if not body.get("agent"):
            return "no_agent"
        if (body.get("edge") or {}).get("data_center") != self.place.data_center:
            return "another_edge"
        if hello.token.split(".")[:2] != [hello.session, str(body.get("epoch"))]:
            return "fenced"  # a newer token is out; its signature was checked by whoever asked for the newer one
        return ""

    # --- heartbeat ---------------------------------------------------------------------------------------------------

    @property
    def period_s(self) -> float:
        """Longest pause between two heartbeats."""
        return HEARTBEAT_S if self.legs or self.told else IDLE_HEARTBEAT_S

    def has_news(self) -> bool:
        """Whether a heartbeat is worth sending before the next second is over."""
        return bool(self._events)

    async def heartbeat(self, epoch: int) -> None:
        """Renew the lease over this node's sessions, tell what changed, and carry out what the answer asks."""
        self._notice_silence()
        events, self._events = self._events, {}
        count = len(self.legs)
        body = {
            "node": self.place.node,
            "epoch": epoch,
            "changed": [{"id": session, "event": event} for session, event in events.items()],
            "totals": {"sessions": count, "good": count, "bad": 0, "setup_failures": 0},
        }
        reply = await self._control.call("POST", "/v1/sessions/heartbeat", body)
        if reply is None or reply.status >= 500:
            self._events = {**events, **self._events}  # to be said again
            return
        if reply.ok:
            self.told = count
            self._carry_out(reply.body.get("moves", ()), reply.body.get("ends", ()))
            for rebound in reply.body.get("rebound", ()):
                self._follow(rebound["id"], rebound["agent"])

    def _carry_out(self, moves: Sequence[dict[str, Any]], ends: Sequence[dict[str, Any]]) -> None:
        for move in moves:
            leg = self.legs.get(move["id"])
            if leg is not None:
                leg.moving_to = move["to"]
                self._say(MoveTo(leg.session, move["to"], move["url"], move["token"]), leg.user)
        for end in ends:
            leg = self.legs.pop(end["id"], None)
            self._overlay.pin(end["id"], None)
            self._report(end["id"], "ended")  # confirmed; it is said again until we do
            if leg is not None and end["reason"] == "placed_elsewhere":
                self._say(Refused(leg.session, "placed_elsewhere"), leg.user)  # a user that is still here resumes
            elif leg is not None:
                self._say(Bye(leg.session, "ended"), leg.user)

    def _follow(self, session: str, agent: dict[str, Any]) -> None:
        """Send a session's questions to another agent from here on: its first one was lost."""
        leg = self.legs.get(session)
        if leg is not None:
            leg.agent, leg.hub = agent["id"], agent["data_center"]
        if session not in self._events:  # else this is said again: what happened to the user goes first
            self._report(session, "rebound")

    def _notice_silence(self) -> None:
        now_us = _now_us()
        for leg in list(self.legs.values()):
            silent_us = now_us - leg.heard_us
            if silent_us > FORGOTTEN_AFTER_US:
                del self.legs[leg.session]
            elif silent_us > DETACHED_AFTER_US and not leg.detached:
                leg.detached = True
                if leg.moving_to is None:
                    self._report(leg.session, "detached")

    def _report(self, session: str, event: str) -> None:
        self._events[session] = event
        self._changed()

    def _say(self, message: Message, to: Address) -> None:
        if to != NOWHERE:
            self._port.send(encode(message), to)


class MediaEdges:
    """All edges of the world in one process: their heartbeats and the refresh of the routes they use."""

    def __init__(self, overlay: Overlay, control: ControlClient) -> None:
        self._overlay = overlay
        self._control = control
        self._news = asyncio.Event()
        self._epoch = int(time.time())
        self._spoken_at: dict[str, float] = {}
        self.edges = {
            dc: Edge(place, overlay, control, self._news.set) for dc, place in overlay.places.items() if place.edge
        }

    def close(self) -> None:
        """Close all edges."""
        for edge in self.edges.values():
            edge.close()

    async def run(self) -> None:
        """Heartbeat and refresh until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._heartbeats())
            group.create_task(self._routes())

    async def _heartbeats(self) -> None:
        while True:
            now = time.monotonic()
            due = [edge for edge in self.edges.values() if self._is_due(edge, now)]
            for edge in due:
                self._spoken_at[edge.place.node] = now
            await asyncio.gather(*(edge.heartbeat(self._epoch) for edge in due))
            self._news.clear()
            if any(edge.has_news() for edge in self.edges.values()):
                await asyncio.sleep(0.1)  # the control plane did not take it, or something happened meanwhile
                continue
            try:
                await asyncio.wait_for(self._news.wait(), HEARTBEAT_S)
            except TimeoutError:
                continue

    def _is_due(self, edge: Edge, now: float) -> bool:
        if edge.has_news():
            return True
        return now - self._spoken_at.get(edge.place.node, 0.0) >= edge.period_s * 0.9

    async def _routes(self) -> None:
        while True:
            pairs = sorted({pair for edge in self.edges.values() for pair in edge.pairs if pair[0] != pair[1]})
            if pairs:
                body = {"class": "agent", "pairs": [{"from": source, "to": target} for source, target in pairs]}
                reply = await self._control.call("POST", "/v1/routes/batch", body)
                for route in reply.body.get("routes", ()) if reply is not None and reply.ok else ():
                    self._overlay.learn(route["from"], route["to"], (route["forward"] or {}).get("path"))
                    self._overlay.learn(route["to"], route["from"], (route["return"] or {}).get("path"))
            await asyncio.sleep(1.0)


def _now_us() -> int:
    return time.monotonic_ns() // 1000
