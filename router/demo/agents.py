"""All probe agents of the demo world in one process: real agents, real sockets, each on its node's own address.

They differ from agents on real machines in two ways only: they share an event loop, and their clocks are wrong by what
the world file says.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from probes.agent import AgentConfig, AgentError, ProbeAgent
from router.demo import fleet_of_world
from router.demo.standins import allow_descriptors
from router.demo.world import World, WorldNode, load

PROBE_PORT = 7420
LOCAL_API_PORT = 7401
STARTS_PER_S = 40  # so that the control plane is not greeted by everybody in the same instant
# For each agent its own, for reports and for waiting for routes: a pool looks at every connection and every waiting
# request each time it is used.
FEW_CONNECTIONS = httpx.Limits(max_connections=2, keepalive_expiry=30.0)


def config_of(node: WorldNode, url: str, state_dir: Path, token: str | None) -> AgentConfig:
    """How the agent of one node runs."""
    return AgentConfig(
        node=node.id,
        control_url=url,
        state_dir=state_dir / node.id,
        bind_host=node.real_host,
        probe_port=PROBE_PORT,
        reflector_port=fleet_of_world.REFLECTOR_PORT,
        relay_port=fleet_of_world.RELAY_PORT,
        relay_open=True,  # the world's media process has no keys
        join_token=token,
        clock_offset_us=node.clock_offset_us,
        clock_skew_ppm=node.clock_skew_ppm,
        advertise_addresses={"internet": node.standin_host},
        media_url=fleet_of_world.media_url(node),
        labels=fleet_of_world.LABELS,
        local_api=(node.real_host, LOCAL_API_PORT),
    )


async def run(world: World, url: str, state_dir: Path, tokens: Mapping[str, str]) -> None:
    """Run every node's agent until SIGTERM or SIGINT. Raises :class:`AgentError` if one cannot start or go on."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as clients:
        agents = []
        for node in world.nodes:
            client = await clients.enter_async_context(httpx.AsyncClient(limits=FEW_CONNECTIONS, trust_env=False))
            config = config_of(node, url, state_dir, tokens.get(node.id))
            agents.append(ProbeAgent(config, client, random.Random(node.id)))
        started: list[ProbeAgent] = []
        try:
            for agent in agents:
                await agent.start()
                started.append(agent)
                await asyncio.sleep(1 / STARTS_PER_S)
            await _until_stopped(started, stop)
        finally:
            await asyncio.gather(*(agent.stop() for agent in started))


async def _until_stopped(agents: Sequence[ProbeAgent], stop: asyncio.Event) -> None:
    waits = [asyncio.create_task(agent.wait()) for agent in agents]
    stopped = asyncio.create_task(stop.wait())
    done, pending = await asyncio.wait({*waits, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for task in done - {stopped}:
        task.result()  # an agent that cannot go on ends the process, with its reason in the log


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: ``python -m router.demo.agents --world FILE --url URL --state-dir DIR [--tokens FILE]``."""
    parser = argparse.ArgumentParser(prog="python -m router.demo.agents", description="Run a world's probe agents.")
    parser.add_argument("--world", type=Path, required=True)
    parser.add_argument("--url", required=True, help="control plane")
    parser.add_argument("--state-dir", type=Path, required=True, help="one folder per node is made in it")
    parser.add_argument("--tokens", type=Path, help="JSON object: node id -> join token")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    world = load(options.world)
    tokens = json.loads(options.tokens.read_text()) if options.tokens is not None and options.tokens.exists() else {}
    allow_descriptors(16 * len(world.nodes) + 256)
    try:
        asyncio.run(run(world, options.url, options.state_dir, tokens))
    except AgentError as error:
        print(f"agents: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
