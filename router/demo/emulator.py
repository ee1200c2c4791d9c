"""The WAN emulator as a process: ``python -m router.demo.emulator --world FILE``. The work is in ``network.py``."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from router.core.errors import TendrilError
from router.demo.emulator_api import EmulatorApi
from router.demo.loopback import LoopbackEmulator
from router.demo.namespaces import Lab
from router.demo.network import Emulator
from router.demo.tun import TunEmulator
from router.demo.world import NODE_PORTS, USER_PORT, World, load

DEFAULT_API_PORT = 7402
SWITCH_S = 200e-6  # how long a question to the API may hold up packets


def run(
    world: World,
    api_port: int = DEFAULT_API_PORT,
    *,
    node_ports: Sequence[int] = NODE_PORTS,
    user_port: int = USER_PORT,
    lab: int | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Emulate a world until SIGINT or SIGTERM; ``api_port`` 0 takes a free one. The addresses are the world file's.

    With the number of a ``lab``, between its network namespaces, which must be there.
    """
    emulator: Emulator
    if lab is not None:
        _go_first()
        emulator = TunEmulator(world, Lab(lab))
    else:
        emulator = LoopbackEmulator(world, node_ports=node_ports, user_port=user_port)
    try:
        api = EmulatorApi(emulator, api_port)
    except BaseException:
        emulator.close()
        raise
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: emulator.stop())
    gc.collect()
    gc.freeze()  # the tables live as long as the process: never search them again, a pause is a late packet
    with api:
        announce(f"emulating {world.name}: {len(world.data_centers)} data centers, {world.links} links; API {api.url}")
        emulator.run()


def _go_first() -> None:
    """Run ahead of the agents whose packets wait here. The whole process: its threads share one interpreter lock."""
    with suppress(PermissionError):  # a container without CAP_SYS_NICE: later, and the accuracy says so
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    sys.setswitchinterval(SWITCH_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: ``python -m router.demo.emulator --world FILE [--api-port P]``."""
    parser = argparse.ArgumentParser(
        prog="python -m router.demo.emulator", description="Emulate the WAN of a world file."
    )
    parser.add_argument("--world", type=Path, required=True, help="world file, see docs/reference/world-files.md")
    parser.add_argument("--api-port", type=int, default=DEFAULT_API_PORT, help="TCP port on 127.0.0.1; 0: a free one")
    parser.add_argument("--node-ports", type=int, nargs="+", default=NODE_PORTS, help="UDP ports of every node")
    parser.add_argument("--user-port", type=int, default=USER_PORT, help="UDP port of every user")
    parser.add_argument("--lab", type=int, metavar="N", help="between the network namespaces of lab N (root)")
    options = parser.parse_args(arguments)
    try:
        run(
            load(options.world),
            options.api_port,
            node_ports=options.node_ports,
            user_port=options.user_port,
            lab=options.lab,
            announce=lambda text: print(text, flush=True),
        )
    except TendrilError as error:
        print(f"emulator: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
