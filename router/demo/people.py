"""The people process: media edges, AI agents and ambient users of the demo world, and what the users experience.

One event loop carries all of it, so that a quiet world costs a few per cent of one core. ``GET /people`` on a port of
127.0.0.1 gives out every user's statistics, measured from the user's own packets; ``POST /people/{id}/roam`` gives a
user another address in mid-call.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvloop

from router.demo import fleet_of_world
from router.demo.ai_agents import AiAgents
from router.demo.answers import serve_one
from router.demo.control import ControlClient
from router.demo.matrix import slug
from router.demo.media import MediaEdges
from router.demo.overlay import MediaNode, Overlay
from router.demo.robots import Robots
from router.demo.standins import allow_descriptors
from router.demo.user import PACKET_S, Home, User
from router.demo.world import World, load

DEFAULT_PORT = 7403
MAX_USERS = 220  # the emulator has 300 places for users; the rest is for calls and changes of address
AGENTS_PER_HUB = 4
ROBOTS = 3  # who call for data centers on a ramp
SETUP_SPREAD_S = 0.3  # between two users' first calls
PACKETS_PER_S = 400  # of all ambient users together: many users talk more slowly, so that one machine carries them

HOMES = (
    Home("Almaty", "KZ", 43.24, 76.89, 9198),
    Home("São Paulo", "BR", -23.55, -46.63, 27699),
    Home("Lagos", "NG", 6.52, 3.38, 29465),
    Home("Berlin", "DE", 52.52, 13.41, 3320),
    Home("Chicago", "US", 41.88, -87.63, 7922),
    Home("Sydney", "AU", -33.87, 151.21, 1221),
    Home("Tokyo", "JP", 35.68, 139.69, 17676),
    Home("Mumbai", "IN", 19.08, 72.88, 55836),
    Home("London", "GB", 51.51, -0.13, 2856),
    Home("Mexico City", "MX", 19.43, -99.13, 8151),
    Home("Johannesburg", "ZA", -26.2, 28.05, 3741),
    Home("Istanbul", "TR", 41.01, 28.98, 9121),
)


class EmulatorUnreachable(Exception):
    """The emulator's API did not take a user; the message says why."""


def overlay_of(world: World) -> Overlay:
    """The address book of a world: the first node of each data center carries its media servers."""
    return Overlay(
        (
            MediaNode(
                data_center=dc.id,
                node=dc.nodes[0].id,
                real_host=dc.nodes[0].real_host,
                stand_in=dc.nodes[0].standin_host,
                hub="hub" in dc.roles,
                edge="edge" in dc.roles,
            )
            for dc in world.data_centers
        ),
        fleet_of_world.RELAY_PORT,
    )


async def settle(emulator_url: str, id: str, home: Home) -> str:
    """Put a user on the emulated network; returns the address it must send from."""
    body = {"latitude": home.latitude, "longitude": home.longitude}
    return str((await _emulator(emulator_url, "PUT", id, body))["real_host"])


async def leave(emulator_url: str, id: str) -> None:
    """Take a user's old address off the network."""
    await _emulator(emulator_url, "DELETE", id)


async def _emulator(url: str, method: str, id: str, body: object = None) -> dict[str, Any]:
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=5.0) as client:
            response = await client.request(method, f"/users/{id}", json=body)
    except httpx.HTTPError as error:
        raise EmulatorUnreachable(f"emulator at {url}: {str(error) or type(error).__name__}") from error
    if response.status_code >= 300:
        raise EmulatorUnreachable(f"emulator at {url}: {response.text}")
    found: dict[str, Any] = response.json() if response.content else {}
    return found


def residents(count: int) -> list[tuple[str, Home]]:
    """Ids and homes of the ambient users: once around the world, then again."""
    homes = [HOMES[i % len(HOMES)] for i in range(count)]
    return [(f"{slug(home.city)}-{i // len(HOMES) + 1}", home) for i, home in enumerate(homes)]


async def run(world: World, control: ControlClient, emulator_url: str, users: int, port: int) -> None:
    """Run edges, AI agents and users until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    overlay = overlay_of(world)
    edges = MediaEdges(overlay, control)
    hubs = sum(place.hub for place in overlay.places.values())
    per_hub = max(AGENTS_PER_HUB, -(-users * 3 // (2 * max(1, hubs))))  # half as many again as users
    workers = AiAgents(overlay, control, fleet_of_world.POOL, per_hub)
    packet_s = max(PACKET_S, users / PACKETS_PER_S)
    people = [
        User(id, home, await settle(emulator_url, id, home), control, fleet_of_world.POOL, packet_s=packet_s)
        for id, home in residents(users)
    ]
    robots = Robots(
        control,
        [
            User(id, home, await settle(emulator_url, id, home), control, fleet_of_world.POOL)
            for id, home in [(f"robot-{i + 1}", HOMES[i]) for i in range(ROBOTS)]
        ],
    )
    world_of_people = _Crowd({user.id: user for user in people}, edges, workers, emulator_url)
    server = await asyncio.start_server(world_of_people.serve, "127.0.0.1", port)
    tasks = [asyncio.create_task(some.run()) for some in (edges, workers, robots)]
    tasks += [asyncio.create_task(_live(user, workers.registered, SETUP_SPREAD_S * i)) for i, user in enumerate(people)]
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    if stopped in done:
        await asyncio.gather(*(user.hang_up() for user in people))
    for user in people:
        user.close()
    for some in (edges, workers, robots):
        some.close()
    server.close()
    await control.close()
    for task in tasks:
        if task in done:
            task.result()


async def _live(user: User, agents_registered: asyncio.Event, after_s: float) -> None:
    await agents_registered.wait()
    await asyncio.sleep(after_s)
    await user.run()


@dataclass
class _Crowd:
    """What the process can be asked: ``GET /people``, and ``POST /people/{id}/roam`` to change a user's address."""

    users: Mapping[str, User]
    edges: MediaEdges
    workers: AiAgents
    emulator_url: str
    roamed: int = 0
    places: dict[str, str] = field(default_factory=dict)  # user -> its name on the network, where it has changed

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one HTTP request and close."""
        await serve_one(reader, writer, self._answer)

    async def _answer(self, method: str, path: str) -> tuple[bytes, object]:
        match method, path.strip("/").split("/"):
            case "GET", ["people"]:
                return b"200 OK", self.statistics()
            case "POST", ["people", id, "roam"] if id in self.users:
                return await self._roam(self.users[id])
            case "POST", ["people", id, "roam"]:
                problem = {"code": "unknown_user", "status": 404, "detail": f"there is no user {id}", "field": "id"}
                return b"404 Not Found", problem
        return b"404 Not Found", {"code": "unknown_path", "status": 404, "detail": f"there is no {method} {path}"}

    async def _roam(self, user: User) -> tuple[bytes, object]:
        self.roamed += 1
        place = f"{user.id}-at-{self.roamed}"
        try:
            host = await settle(self.emulator_url, place, user.home)
            gone = self.places.get(user.id, user.id)
            if not await user.roam(host):
                await leave(self.emulator_url, place)
                return b"409 Conflict", {"code": "not_talking", "status": 409, "detail": f"{user.id} is not in a call"}
            self.places[user.id] = place
            await leave(self.emulator_url, gone)
        except EmulatorUnreachable as error:
            return b"503 Service Unavailable", {"code": "emulator_unreachable", "status": 503, "detail": str(error)}
        return b"202 Accepted", {"id": user.id, "host": host}

    def statistics(self) -> dict[str, object]:
        """Everything about everybody."""
        edges, workers = self.edges, self.workers
        return {
            "people": [user.summary() for user in self.users.values()],
            "edges": {dc: len(edge.legs) for dc, edge in edges.edges.items() if edge.legs},
            "agents_registered": sum(agent.epoch is not None for hub in workers.hubs for agent in hub.agents.values()),
            "broken_packets": sum(edge.broken for edge in edges.edges.values())
            + sum(hub.broken for hub in workers.hubs),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: ``python -m router.demo.people --world FILE --url URL --key-file FILE --emulator URL``."""
    parser = argparse.ArgumentParser(prog="python -m router.demo.people", description="Run a world's media side.")
    parser.add_argument("--world", type=Path, required=True)
    parser.add_argument("--url", required=True, help="control plane")
    parser.add_argument("--key-file", type=Path, required=True, help="a key with the scope media")
    parser.add_argument("--emulator", required=True, help="emulator API")
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="TCP port on 127.0.0.1 for GET /people")
    options = parser.parse_args(arguments)
    world = load(options.world)
    allow_descriptors(2 * len(world.nodes) + options.users + 256)

    async def start() -> None:
        control = ControlClient(options.url, options.key_file.read_text().strip())
        await run(world, control, options.emulator, options.users, options.port)

    try:
        uvloop.run(start())
    except (EmulatorUnreachable, OSError) as error:
        print(f"people: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
