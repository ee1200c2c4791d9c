"""The agents' standing with the control plane: registered at the start, heard every ten seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.drain.wire import Wire
from router.demo.fleet_of_world import POOL

HEARTBEAT_S = 10.0
AT_ONCE = 4


async def register(wire: Wire, agents: Sequence[dict[str, str]]) -> list[int]:
    """Register all; returns their epochs. Raises RuntimeError when one is refused."""
    turns, epochs = asyncio.Semaphore(AT_ONCE), [0] * len(agents)

    async def one(number: int) -> None:
        async with turns:
            reply = await wire.call("POST", f"/v1/pools/{POOL}/agents", agents[number])
        if reply is None or not reply.ok:
            raise RuntimeError(f"agent {agents[number]['id']}: {reply.body if reply else 'no answer'}")
        epochs[number] = int(reply.body["epoch"])

    await asyncio.gather(*(one(number) for number in range(len(agents))))
    return epochs


async def keep(wire: Wire, agents: Sequence[dict[str, str]], epochs: list[int]) -> None:
    """Heartbeat until cancelled, spread over the period; who was forgotten registers anew."""
    while True:
        for number, agent in enumerate(agents):
            path = f"/v1/pools/{POOL}/agents/{agent['id']}/heartbeat"
            reply = await wire.call("POST", path, {"epoch": epochs[number]})
            if reply is not None and not reply.ok and reply.status < 500:
                (epochs[number],) = await register(wire, [agent])
            await asyncio.sleep(HEARTBEAT_S / len(agents) * 0.8)
