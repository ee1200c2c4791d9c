"""Where a demo world stands: its folder, its world file, its ports, and the note that tells other commands about it.

Every world has a folder of its own under ``STATE/worlds``, named after what it was made from, so that the database of
one world never meets the nodes of another. A world file that is there is used as it is: its database knows it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from providers import catalog
from router.access import mint_key
from router.core.errors import InputRejected
from router.demo import emulator, people
from router.demo.matrix import load_matrix, slug
from router.demo.model_world import DEFAULT_DATA_CENTERS, model_world
from router.demo.namespaces import Lab, with_ordinary_addresses
from router.demo.world import NODE_PORTS, OCTETS, World, load

DEFAULT_STATE = Path("var")
DEFAULT_PORT = 7400
EMULATOR_PORT = emulator.DEFAULT_API_PORT
PEOPLE_PORT = people.DEFAULT_PORT
NOTE = "demo.json"


@dataclass(frozen=True, slots=True)
class Options:
    """What a world is made from and where it listens."""

    state_dir: Path = DEFAULT_STATE
    matrix: Path | None = None
    data_centers: int = DEFAULT_DATA_CENTERS
    nodes: int = 1  # per data center
    users: int = 6
    port: int = DEFAULT_PORT
    emulator_port: int = EMULATOR_PORT
    people_port: int = PEOPLE_PORT
    octet: int = OCTETS[0]  # first of the four second octets of the world's loopback addresses; number of its lab
    world: Path | None = None  # a world file that is there already
    namespaces: bool = False  # a network namespace per node instead of loopback addresses

    @property
    def url(self) -> str:
        """The control plane's address."""
        return f"http://{self.host}:{self.port}"

    @property
    def host(self) -> str:
        """Where the control plane listens: on loopback, or where every namespace sees it."""
        return Lab(self.octet).control_host if self.namespaces else "127.0.0.1"

    @property
    def emulator_url(self) -> str:
        """The emulator API's address."""
        return f"http://127.0.0.1:{self.emulator_port}"

    @property
    def people_url(self) -> str:
        """Where ``GET /people`` is answered, in namespaces ``GET /calls``."""
        return f"http://127.0.0.1:{self.people_port}"

    @property
    def octets(self) -> tuple[int, int, int, int]:
        """Second octets of the four address ranges."""
        return self.octet, self.octet + 1, self.octet + 2, self.octet + 3


def world_name(options: Options) -> str:
    """Name of the world's folder: the same for the same input, another for any other."""
    where = ("" if options.octet == OCTETS[0] else f"-at{options.octet}") + ("-ns" if options.namespaces else "")
    if options.world is not None:
        return f"{_stem(options.world, '--world')}{where}"
    if options.matrix is not None:
        return f"{_stem(options.matrix, '--matrix')}x{options.nodes}{where}"
    return f"model-{options.data_centers}x{options.nodes}{where}"


def _stem(file: Path, option: str) -> str:
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    except OSError as error:
        rule = f"cannot be read: {error.strerror}"
        raise InputRejected(f"bad_{option[2:]}", f"{file} {rule}", field=option, rule=rule) from error
    return f"{slug(file.name.split('.')[0])[:40] or option[2:]}-{digest}"


def prepare_world(options: Options) -> tuple[World, Path]:
    """Load the world of these options, or build and save it; returns it with its folder."""
    folder = options.state_dir / "worlds" / world_name(options)
    file = folder / "world.json"
    if file.exists():
        return load(file), folder
    if options.world is not None:
        world = load(options.world)
    elif options.matrix is not None:
        world = load_matrix(
            options.matrix,
            find_position=catalog.find_position,
            nodes_per_data_center=options.nodes,
            octets=options.octets,
        )
    else:
        world = model_world(
            catalog.load(),
            data_centers=options.data_centers,
            nodes_per_data_center=options.nodes,
            octets=options.octets,
        )
    if options.namespaces:
        world = with_ordinary_addresses(world)
    folder.mkdir(parents=True, exist_ok=True)
    world.save(file)
    return world, folder


def admin_key(state_dir: Path) -> str:
    """The administrator's key of this state folder; made at the first call, readable by its owner alone."""
    file = state_dir / "admin.key"
    if file.exists():
        return file.read_text(encoding="utf-8").strip()
    _, text = mint_key("admin", "admin", time.time_ns() // 1_000)
    write_private(file, text + "\n")
    return text


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = file.with_name(f".{file.name}.part")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    draft.replace(file)


def lock(state_dir: Path) -> IO[str]:
    """Claim a state folder for this process. Raises :class:`InputRejected` while another world runs in it."""
    state_dir.mkdir(parents=True, exist_ok=True)
    file = (state_dir / "demo.lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        rule = "must not be in use by another demo world"
        raise InputRejected("state_in_use", f"{state_dir} {rule}", field="--state-dir", rule=rule,
                            override="stop that world, or choose another --state-dir") from error  # fmt: skip
    return file


def check_ports(options: Options, world: World) -> None:
    """Raise :class:`InputRejected` naming the first port that somebody else has."""
    ports = [("--emulator-port", options.emulator_port), ("--people-port", options.people_port)]
    if not options.namespaces:  # where nobody else can listen
        ports += [("--port", options.port)]
    for option, port in ports:
        _check(socket.SOCK_STREAM, "127.0.0.1", port, option)
    first = world.nodes[0]
    for host in () if options.namespaces else (first.real_host, first.standin_host):
        for port in NODE_PORTS:
            _check(socket.SOCK_DGRAM, host, port, "--octet")


def _check(kind: socket.SocketKind, host: str, port: int, option: str) -> None:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what closed a moment ago does not count
        try:
            probe.bind((host, port))
        except OSError as error:
            protocol = "TCP" if kind == socket.SOCK_STREAM else "UDP"
            rule = f"{protocol} {host}:{port} must be free ({error.strerror})"
            raise InputRejected("port_in_use", rule, field=option, rule=rule,
                                override=f"another demo world? choose another {option}") from error  # fmt: skip


def write_note(options: Options, world: World, folder: Path) -> None:
    """Leave a note in the state folder about the world that runs, for ``tendril demo break`` and its siblings."""
    note = {
        "world": world.name,
        "folder": str(folder),
        "url": options.url,
        "emulator_url": options.emulator_url,
        "people_url": options.people_url,
        "pid": os.getpid(),
    }
    write_private(options.state_dir / NOTE, json.dumps(note, indent=2) + "\n")


def read_note(state_dir: Path) -> dict[str, str]:
    """The note of the last world in this state folder; the default addresses when there is none."""
    defaults = Options(state_dir)
    note = {"url": defaults.url, "emulator_url": defaults.emulator_url, "people_url": defaults.people_url}
    try:
        found = json.loads((state_dir / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return note
    return note | {name: str(value) for name, value in found.items()} if isinstance(found, dict) else note
