"""AI agents of the demo world: stateful workers that talk to one user at a time and remember the conversation.

Each hub's agents share one UDP port and are told apart by the agent id in the packet. An agent's whole state is its
:class:`Memory`: a random number drawn when the memory began, and how many packets of this session it has heard. Every
answer carries both, so a user can prove from its packets that it still talks to the same agent with the same state.
They register natively (``POST /v1/pools/{pool}/agents``), heartbeat, and register anew when the control plane has
forgotten them; whom they serve is decided by the lease, and a stranger's packet never disturbs a conversation.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Any

from router.demo.control import ControlClient
from router.demo.media import AGENT_PORT, EDGE_PORT
from router.demo.overlay import MediaNode, Overlay
from router.demo.packets import Audio, PacketError, answered, decode, encode
from router.demo.udp import Address, UdpPort

HEARTBEAT_S = 10.0
RETRY_S = 1.0
ABANDONED_AFTER_US = 3_000_000  # a new session may take over when the old one has been silent for this long


@dataclass(slots=True)
class Memory:
    """What an agent knows about the conversation it is in."""

    session: str
    number: int
    heard: int
    last_us: int


class AiAgent:
    """One stateful worker of a pool; this demo's agents echo."""

    def __init__(self, id: str, pool: str) -> None:
        self.id = id
        self.pool = pool
        self.epoch: int | None = None  # None: not registered (any more)
        self.leased_to: str | None = None
        self.memory: Memory | None = None

    def hear(self, question: Audio, now_us: int) -> Audio | None:
        """Return the answer, or ``None`` for a stranger's packet while another conversation is going on."""
        memory = self.memory
        if memory is None or memory.session != question.session:
            busy = memory is not None and now_us - memory.last_us < ABANDONED_AFTER_US
            if busy and self.leased_to != question.session:
                return None
            memory = self.memory = Memory(question.session, 1 + secrets.randbelow(2**32 - 1), 0, now_us)
        memory.heard += 1
        memory.last_us = now_us
        return answered(question, memory.heard, memory.number)

    def take_over(self, record: dict[str, Any]) -> None:
        """Accept what the control plane says about this agent's lease."""
        self.epoch = int(record["epoch"])
        self.leased_to = record.get("session")


class Hub:
    """The agents of one data center behind one UDP port."""

    def __init__(self, place: MediaNode, overlay: Overlay, agents: list[AiAgent], port: int = AGENT_PORT) -> None:
        self.place = place
        self.agents = {agent.id: agent for agent in agents}
        self.broken = 0
        self.strangers = 0
        self._overlay = overlay
        self._port = UdpPort((place.real_host, port), self.on_datagram)

    @property
    def address(self) -> str:
        """Where edges reach these agents."""
        return f"{self.place.stand_in}:{self._port.address[1]}"

    def close(self) -> None:
        """Free the port."""
        self._port.close()

    def on_datagram(self, data: bytes, sender: Address) -> None:
        """Answer one question along the return path; who passed it on is in the packet, not in ``sender``."""
        try:
            question = decode(data)
        except PacketError:
            self.broken += 1
            return
        if not isinstance(question, Audio) or question.answer:
            self.broken += 1
            return
        agent, edge = self.agents.get(question.agent), self._overlay.place_at(question.reply_to[0])
        answer = agent.hear(question, time.monotonic_ns() // 1000) if agent is not None else None
        if answer is None or edge is None:
            self.strangers += 1
            return
        here, there = self.place.data_center, edge.data_center
        self._overlay.send(self._port, here, there, EDGE_PORT, encode(answer), answer.session)


class AiAgents:
    """All hubs of the world in one process, and their agents' standing with the control plane."""

    def __init__(self, overlay: Overlay, control: ControlClient, pool: str, per_hub: int) -> None:
        self._control = control
        self.hubs = [
            Hub(place, overlay, [AiAgent(f"{place.data_center[:48]}-ai-{n + 1}", pool) for n in range(per_hub)])
            for place in overlay.places.values()
            if place.hub
        ]
        self.registered = asyncio.Event()  # all of them, at least once

    def close(self) -> None:
        """Close all hubs."""
        for hub in self.hubs:
            hub.close()

    async def run(self) -> None:
        """Keep every agent registered until cancelled; one round per period, spread evenly over it."""
        agents = [(hub, agent) for hub in self.hubs for agent in hub.agents.values()]
        while True:
            started = time.monotonic()
            missing = [pair for pair in agents if pair[1].epoch is None]
            for hub, agent in missing or agents:
                await self._renew(hub, agent)
                if not missing:
                    await asyncio.sleep(HEARTBEAT_S / len(agents))
            spent = time.monotonic() - started
            still_missing = any(agent.epoch is None for _, agent in agents)
            if not still_missing:
                self.registered.set()
            await asyncio.sleep(RETRY_S if still_missing or not agents else max(0.0, HEARTBEAT_S - spent))

    async def _renew(self, hub: Hub, agent: AiAgent) -> None:
        path = f"/v1/pools/{agent.pool}/agents"
        if agent.epoch is None:
            place = hub.place
            body = {"id": agent.id, "data_center": place.data_center, "node": place.node, "address": hub.address}
            reply = await self._control.call("POST", path, body)
        else:
            reply = await self._control.call("POST", f"{path}/{agent.id}/heartbeat", {"epoch": agent.epoch})
        if reply is None or reply.status >= 500:
            return
        if reply.ok:
            agent.take_over(reply.body)
        else:
            agent.epoch = None  # unknown or fenced: register anew, which adopts a live lease
