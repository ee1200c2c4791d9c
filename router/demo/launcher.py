"""``tendril demo``: the whole living world from one command, and the end of all of it with one Ctrl-C.

Order: claim the state folder and the ports, build or load the world, start emulator and control plane, declare the
inventory, start the probe agents and the media side, and watch the first measurements arrive. Afterwards the launcher
only watches its children: a control plane that is killed with -9 is back within about a second, with the same database.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from router.core.errors import Unavailable
from router.demo import ground
from router.demo.children import Child, ChildFailed
from router.demo.control import ControlClient
from router.demo.ground import Options
from router.demo.machines import Machines
from router.demo.namespaces import Lab
from router.demo.provision import Provisioner, answers
from router.demo.world import World

Say = Callable[[str], None]
PYTHON = (sys.executable, "-m")
WATCH_S = 60.0  # how long the users wait for the first measurements
WATCH_EVERY_S = 1.0
SETTLE_S = 2.0  # from the last measurements to routes that use them
SAY_EVERY_S = 5.0
AGENT_LEASE_S = 30  # three heartbeats of the demo's AI agents
AGENT_SUSPECT_S = 20  # two of them
ENOUGH = 0.99  # of all pairs measured: the world counts as awake


class Launcher:
    """One world from start to end."""

    def __init__(self, options: Options, say: Say) -> None:
        self._options = options
        self._started = time.monotonic()
        self._print = say
        self._children: list[Child] = []
        self._lab = Lab(options.octet) if options.namespaces else None

    async def run(self) -> None:
        """Run the world until SIGINT, SIGTERM or SIGHUP. Raises :class:`TendrilError` or :class:`ChildFailed`."""
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        claim = ground.lock(self._options.state_dir)
        try:
            world, folder = ground.prepare_world(self._options)
            ground.check_ports(self._options, world)
            if self._lab is not None:
                self._lab.build(len(world.nodes))
            key = ground.admin_key(self._options.state_dir)
            ground.write_note(self._options, world, folder)
            control = ControlClient(self._options.url, key)
            living = asyncio.create_task(self._live(world, folder, key, control))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({living, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if stop.is_set():
                self._say("stopping")
                living.cancel()
            try:
                with suppress(asyncio.CancelledError):
                    await living
            finally:
                await self._stop()
                await control.close()
                self._say("stopped")
        finally:
            if self._lab is not None:
                self._lab.remove()
            claim.close()

    def _say(self, text: str) -> None:
        self._print(f"[{time.monotonic() - self._started:6.1f} s] {text}")

    async def _live(self, world: World, folder: Path, key: str, control: ControlClient) -> None:
        options, say = self._options, self._say
        hubs = f"{len(world.hubs)} hubs" if len(world.hubs) != 1 else "1 hub"
        say(f"world {world.name}: {len(world.data_centers)} data centers, {world.links} links, {hubs} ({folder})")
        provisioner = Provisioner(control, world, folder)
        emulator, plane = self._make_network(folder), self._make_control_plane(folder, key)
        agents, people = self._make_agents(world, folder, provisioner), self._make_people(folder, provisioner)
        await asyncio.gather(self._start(emulator), self._start(plane))
        say(f"control plane and emulator are up: {options.url} {options.emulator_url}")
        await self._provision(provisioner)

        async def control_plane_came_back() -> None:
            joining, new_key = await self._provision(provisioner)
            if joining:
                agents.restart()
            if new_key and people is not None:
                people.restart()

        async def emulator_came_back() -> None:
            if people is not None:
                people.restart()  # its users are not on the new emulator's network

        plane.came_back, emulator.came_back = control_plane_came_back, emulator_came_back
        await self._start_agents(agents)
        for line in _welcome(options, world):
            say(line)
        await self._watch(world, control)
        if people is None:
            say("Ctrl-C stops everything")
        else:
            await self._start(people)  # not before there are routes to place them by
            say(f"{options.users} users are calling; Ctrl-C stops everything")
            if options.namespaces:
                state = "" if options.state_dir == ground.DEFAULT_STATE else f" --state-dir {options.state_dir}"
                say(f"what they hear through the relays: tendril demo calls{state}")
        await asyncio.gather(*(child.watched() for child in self._children))

    def _make_network(self, folder: Path) -> Child:
        options = self._options
        argv = [*PYTHON, "router.demo.emulator", "--world", str(folder / "world.json")]
        argv += [
            "--api-port",
            str(options.emulator_port),
            *(["--lab", str(options.octet)] if options.namespaces else []),
        ]
        return Child("emulator", argv, self._logs / "emulator.log", ready=answers(f"{options.emulator_url}/state"))

    def _make_control_plane(self, folder: Path, key: str) -> Child:
        options = self._options
        environment = {
            "TENDRIL_DATABASE_URL": f"sqlite:///{(folder / 'tendril.db').resolve()}",
            "TENDRIL_HOST": options.host,
            "TENDRIL_PORT": str(options.port),
            "TENDRIL_ADMIN_KEY": key,
            "TENDRIL_STATE_DIR": str(folder),
            "TENDRIL_AGENT_LEASE_S": str(AGENT_LEASE_S),
            "TENDRIL_AGENT_SUSPECT_S": str(AGENT_SUSPECT_S),
        }
        ready = answers(f"{options.url}/readyz")
        return Child(
            "control plane", [*PYTHON, "router", "serve"], self._logs / "control-plane.log", environment, ready
        )

    def _make_agents(self, world: World, folder: Path, provisioner: Provisioner) -> Child | Machines:
        url, tokens, state_dir = self._options.url, provisioner.tokens_file, provisioner.agents_dir
        if self._lab is not None:
            return Machines(world, self._lab, url, state_dir, tokens, self._logs)
        argv = [*PYTHON, "router.demo.agents", "--world", str(folder / "world.json"), "--url", url]
        argv += ["--state-dir", str(state_dir), "--tokens", str(tokens)]
        return Child("probe agents", argv, self._logs / "agents.log")

    def _make_people(self, folder: Path, provisioner: Provisioner) -> Child | None:
        options = self._options
        if options.namespaces:
            return self._make_calls(folder, provisioner) if options.users > 1 else None
        argv = [*PYTHON, "router.demo.people", "--world", str(folder / "world.json"), "--url", options.url]
        argv += ["--emulator", options.emulator_url, "--key-file", str(provisioner.media_key_file)]
        argv += ["--users", str(options.users), "--port", str(options.people_port)]
        return Child("people", argv, self._logs / "people.log", ready=answers(f"{options.people_url}/people"))

    def _make_calls(self, folder: Path, provisioner: Provisioner) -> Child:
        """Users live on loopback; in namespaces pairs of nodes talk."""
        options = self._options
        argv = [*PYTHON, "router.demo.calls", "--world", str(folder / "world.json"), "--lab", str(options.octet)]
        argv += ["--agents", str(provisioner.agents_dir), "--port", str(options.people_port)]
        argv += ["--calls", str(options.users // 2)]
        return Child("calls", argv, self._logs / "calls.log", ready=answers(f"{options.people_url}/calls"))

    @property
    def _logs(self) -> Path:
        return self._options.state_dir / "log"

    async def _start_agents(self, agents: Child | Machines) -> None:
        if isinstance(agents, Machines):
            self._children += agents.children.values()
            await agents.start(self._say)
        else:
            await self._start(agents)

    async def _start(self, child: Child) -> None:
        self._children.append(child)
        await child.start(self._say)

    async def _stop(self) -> None:
        """Users hang up and agents fall silent first; the control plane hears of it and goes last."""
        agents = [child for child in self._children if child.name.startswith("agent ")]
        await asyncio.gather(*(child.stop() for child in agents))
        for child in reversed(self._children):
            await child.stop()

    async def _provision(self, provisioner: Provisioner) -> tuple[int, bool]:
        """Declare what is missing; returns how many nodes must join, and whether the media side has a new key."""
        try:
            changed = await provisioner.apply_inventory()
            new_key = await provisioner.make_media_key()
            joining = await provisioner.make_join_tokens()
        except Unavailable as error:
            if not any(child.restarts for child in self._children):
                raise  # at the first start it must work
            self._say(f"could not check the inventory after the restart: {error.message}")
            return 0, False
        self._say(f"inventory applied: {changed} changes; {joining} nodes join with a new token")
        return joining, new_key

    async def _watch(self, world: World, control: ControlClient) -> None:
        """Tell how the first measurements arrive, until nearly every pair has one."""
        pairs = sum(
            world.rtt_us(a.id, b.id) is not None for a in world.data_centers for b in world.data_centers if a is not b
        )
        began, said_at = time.monotonic(), 0.0
        while (now := time.monotonic()) - began < WATCH_S:
            measured = await _measured(control)
            done = measured is not None and measured >= ENOUGH * pairs
            if done or now - said_at >= SAY_EVERY_S:
                said_at = now
                self._say(f"{measured or 0} of {pairs} pairs measured")
            if done:
                await asyncio.sleep(SETTLE_S)
                return
            await asyncio.sleep(WATCH_EVERY_S)
        self._say(f"still not measured everywhere; see {self._options.state_dir / 'log'}")


async def _measured(control: ControlClient) -> int | None:
    reply = await control.call("GET", "/v1/matrix")
    if reply is None or not reply.ok:
        return None
    rows = reply.body["rtt_ms"]
    return sum(value is not None for i, row in enumerate(rows) for j, value in enumerate(row) if i != j)


def _welcome(options: Options, world: World) -> list[str]:
    source, target = best_detour(world)
    one = world.data_centers[0].id
    at = "" if options.url == ground.Options().url else f" --url {options.url}"
    state = "" if options.state_dir == ground.DEFAULT_STATE else f" --state-dir {options.state_dir}"
    key = "" if options.state_dir == ground.DEFAULT_STATE else f" --key $(cat {options.state_dir / 'admin.key'})"
    return [
        f"dashboard: {options.url}  (sign in with the key in {options.state_dir / 'admin.key'})",
        f"emulator API: {options.emulator_url}"
        + ("" if options.namespaces else f"  users: {options.people_url}/people"),
        f"try: tendril route {source} {target}{at}{key}",
        *(() if options.namespaces else (f"     tendril demo call --country KZ{state}",)),
        f"     tendril demo break data_center={one} --for 30s{state}",
    ]


def best_detour(world: World) -> tuple[str, str]:
    """The pair of data centers whose best one-relay path saves most over the direct link."""
    delay, count = world.delay_us, len(world.data_centers)
    best, pair = -1, (0, 1)
    for a in range(count):
        for b in range(count):
            direct = delay[a][b]
            if direct is None:
                continue
            legs = ((there, row[b]) for there, row in zip(delay[a], delay, strict=True))
            via = min((x + y for x, y in legs if x is not None and y is not None), default=direct)
            if direct - via > best:
                best, pair = direct - via, (a, b)
    return world.data_centers[pair[0]].id, world.data_centers[pair[1]].id


async def launch(options: Options, say: Say) -> None:
    """Run a world until it is told to stop. Raises :class:`TendrilError` when it cannot start."""
    try:
        await Launcher(options, say).run()
    except ChildFailed as error:
        raise Unavailable("child_failed", str(error)) from error
