"""The probe agents of a world in namespaces: one ``tendril agent run`` in each, as on real machines.

The one thing that is not as on real machines is the clock, which all of them share. So each agent's clock is as wrong
as a file beside its state says: the world's offset and skew at first; who replaces the file steps the clock
(:func:`write_clock`).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from router.demo import fleet_of_world
from router.demo.children import Child, Say
from router.demo.ground import write_private
from router.demo.namespaces import Lab
from router.demo.world import World, WorldNode

PROBE_PORT = 7420
AT_ONCE = 4  # processes that start at the same time: more of them only wait for each other
TOKEN = "TENDRIL_JOIN_TOKEN"


class Machines:
    """The agents of all nodes, one process each."""

    def __init__(self, world: World, lab: Lab, url: str, agents_dir: Path, tokens_file: Path, logs: Path) -> None:
        self._world = world
        self._tokens_file = tokens_file
        self._agents_dir = agents_dir
        self.children = {
            node.id: Child(
                f"agent {node.id}", lab.inside(node.index, _command(node, url, agents_dir)), logs / f"{node.id}.log"
            )
            for node in world.nodes
        }

    async def start(self, say: Say) -> None:
        """Start every agent. Raises :class:`ChildFailed`."""
        anchor_us = time.time_ns() // 1_000
        for node in self._world.nodes:
            folder = self._agents_dir / node.id
            folder.mkdir(parents=True, exist_ok=True)
            write_clock(clock_file(folder), node.clock_offset_us, node.clock_skew_ppm, anchor_us)
        self._hand_out_tokens()
        turns = asyncio.Semaphore(AT_ONCE)

        async def start(child: Child) -> None:
            async with turns:
                await child.start(say)

        await asyncio.gather(*(start(child) for child in self.children.values()))

    def restart(self) -> None:
        """Start all of them again, with the join tokens that are there now."""
        self._hand_out_tokens()
        for child in self.children.values():
            child.restart()

    def _hand_out_tokens(self) -> None:
        tokens: Mapping[str, str] = json.loads(self._tokens_file.read_text(encoding="utf-8"))
        for node, child in self.children.items():
            child.environment = {TOKEN: tokens[node]} if node in tokens else {}


def clock_file(state_dir: Path) -> Path:
    """Where an agent's injected clock error is written, given its state folder."""
    return state_dir / "clock.json"


def write_clock(file: Path, offset_us: int, skew_ppm: int, anchor_us: int) -> None:
    """Make a node's clock wrong in this way from now on; the skew counts from ``anchor_us`` of true time."""
    write_private(file, json.dumps({"offset_us": offset_us, "skew_ppm": skew_ppm, "anchor_us": anchor_us}))


def _command(node: WorldNode, url: str, agents_dir: Path) -> list[str]:
    state_dir = agents_dir / node.id
    return [
        *(sys.executable, "-m", "router", "agent", "run", "--node", node.id, "--url", url),
        *("--state-dir", str(state_dir), "--bind", node.real_host, "--address", f"internet={node.standin_host}"),
        *("--probe-port", str(PROBE_PORT), "--reflector-port", str(fleet_of_world.REFLECTOR_PORT)),
        *("--relay", "--relay-port", str(fleet_of_world.RELAY_PORT), "--media-url", fleet_of_world.media_url(node)),
        *("--inject-clock", str(clock_file(state_dir))),
    ]
