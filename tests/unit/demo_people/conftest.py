"""A town small enough for one test: real UDP between a user, two edges and a hub, and a pretended control plane."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from router.demo.ai_agents import AiAgent, Hub
from router.demo.control import ControlClient
from router.demo.media import Edge
from router.demo.overlay import MediaNode, Overlay
from router.demo.user import Home, User

_numbers = itertools.count(1)
ALMATY = Home("Almaty", "KZ", 43.24, 76.89)


def own_host() -> str:
    """A loopback address of this process alone, so that fixed ports never collide between parallel test runs."""
    pid, number = os.getpid(), next(_numbers)
    return f"127.{100 + pid % 100}.{pid // 100 % 256}.{number % 254 + 1}"


@dataclass
class PretendedControlPlane:
    """Answers of the contract, without durability: sessions live in a dictionary, the test moves and ends them."""

    urls: dict[str, str]
    agent: str = "agent-1"
    edge: str = "edge-a"
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    moves: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # node -> moves said in each heartbeat
    ends: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    events: list[tuple[str, str, str]] = field(default_factory=list)  # node, session, event
    registered: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    resumes: list[dict[str, Any]] = field(default_factory=list)
    heard: list[tuple[str, str, bool, str]] = field(default_factory=list)  # what robots told
    via: str | None = None  # the relay that robots are sent over
    lost_answers: int = 0  # to so many of the next resumes
    dead: bool = False

    def client(self) -> ControlClient:
        """A client whose calls end here."""
        return ControlClient("http://control", "key", httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        """One call."""
        self.asked.append(f"{request.method} {request.url.path}")
        if self.dead:
            raise httpx.ConnectError("refused", request=request)
        body = json.loads(request.content) if request.content else {}
        match request.method, request.url.path.removeprefix("/v1/").split("/"):
            case "POST", ["sessions"]:
                return httpx.Response(201, json=self.start(f"s-{len(self.sessions) + 1}"))
            case "POST", ["sessions", "heartbeat"]:
                return httpx.Response(200, json=self.heartbeat(body))
            case "POST", ["ramps", _, "calls"]:
                started = self.start(f"s-{len(self.sessions) + 1}")
                self.sessions[started["id"]]["metadata"] = {} if self.via is None else {"tendril.via": self.via}
                return httpx.Response(201, json=started)
            case "POST", ["ramps", ramp, "calls", id]:
                self.heard.append((ramp, id, body["heard"], body["detail"]))
                return httpx.Response(200, json={})
            case "GET", ["sessions", id]:
                return self._found(id)
            case "POST", ["sessions", id, "resume"]:
                if id not in self.sessions:
                    return httpx.Response(404, json={"code": "unknown_session"})
                return self._resumed(request, id, body)
            case "DELETE", ["sessions", id]:
                self.sessions.pop(id, None)
                return httpx.Response(204)
            case "POST", ["pools", pool, "agents", *rest]:
                self.registered.append({"pool": pool, "rest": rest, **body})
                return httpx.Response(200, json={"epoch": 3, "session": None})
            case _:
                return httpx.Response(404, json={"code": "not_found"})

    def _found(self, id: str) -> httpx.Response:
        if id not in self.sessions:
            return httpx.Response(404, json={"code": "unknown_session"})
        return httpx.Response(200, json=self.sessions[id])

    def _resumed(self, request: httpx.Request, id: str, body: dict[str, Any]) -> httpx.Response:
        """Somewhere else than where the user could not get through; the same token again gets the same answer again."""
        self.resumes.append(body)
        repeated = len(self.resumes) > 1 and self.resumes[-2]["token"] == body["token"]
        if not repeated:
            reachable = [edge for edge in (self.edge, *self.urls) if edge not in body["unreachable"] and edge != "hub"]
            if not reachable:
                return httpx.Response(409, json={"code": "no_edge", "detail": "no data center may take this session"})
            self.place(id, reachable[0])
        if self.lost_answers:
            self.lost_answers -= 1
            raise httpx.ReadTimeout("lost", request=request)
        return httpx.Response(200, json=dict(self.sessions[id]))

    def start(self, id: str) -> dict[str, Any]:
        """A new session at the present edge."""
        self.sessions[id] = {"id": id, "state": "attaching", "token": f"{id}.0"}
        return self.place(id, self.edge)

    def place(self, id: str, edge: str) -> dict[str, Any]:
        """Bind a session to an edge, with a new token."""
        session = self.sessions[id]
        session["epoch"] = int(session["token"].split(".")[1]) + 1
        session["token"] = f"{id}.{session['epoch']}"
        session["edge"] = {"data_center": edge, "node": f"{edge}-n1", "url": self.urls[edge]}
        session["agent"] = {"id": self.agent, "data_center": "hub"}
        session["forward"], session["return"] = {"path": [edge, "hub"]}, {"path": ["hub", edge]}
        return dict(session)

    def move(self, id: str, source: str, target: str) -> None:
        """Ask, in every heartbeat of the old edge's node from now on, that this session moves."""
        session = self.place(id, target)
        move = {"id": id, "from": source, "to": target, "url": self.urls[target], "token": session["token"]}
        self.moves[f"{source}-n1"] = [move]

    def heartbeat(self, body: dict[str, Any]) -> dict[str, Any]:
        """Note what changed, and say what must be carried out."""
        self.events += [(body["node"], change["id"], change["event"]) for change in body["changed"]]
        node = body["node"]
        return {"moves": self.moves.get(node, []), "ends": self.ends.get(node, []), "lease_expires_at": "later"}


@dataclass
class Town:
    """Everything of one test."""

    control_plane: PretendedControlPlane
    control: ControlClient
    edges: dict[str, Edge]
    hub: Hub
    user: User
    overlay: Overlay

    async def heartbeats(self) -> None:
        """One round."""
        for edge in self.edges.values():
            await edge.heartbeat(epoch=1)

    async def until(self, condition: Callable[[], object], *, beating: bool = False, within_s: float = 20.0) -> None:
        """Wait for a condition, with heartbeats going on meanwhile if asked."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not reached: {self.user.summary()}"
            if beating:
                await self.heartbeats()
            await asyncio.sleep(0.01)


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    """Two edges, a hub with two agents, and a user in Almaty, all on addresses of their own."""
    nodes = [
        MediaNode(name, f"{name}-n1", host, host, hub=name == "hub", edge=name != "hub")
        for name, host in (("edge-a", own_host()), ("edge-b", own_host()), ("hub", own_host()))
    ]
    overlay = Overlay(nodes, relay_port=7422)
    plane = PretendedControlPlane({node.data_center: f"udp://{node.stand_in}:7423" for node in nodes})
    control = plane.client()
    edges = {node.data_center: Edge(node, overlay, control, lambda: None) for node in nodes if node.edge}
    hub = Hub(nodes[2], overlay, [AiAgent("agent-1", "demo"), AiAgent("agent-2", "demo")])
    user = User("almaty-1", ALMATY, own_host(), control, "demo")
    yield Town(plane, control, edges, hub, user, overlay)
    user.close()
    hub.close()
    for edge in edges.values():
        edge.close()
    await control.close()
