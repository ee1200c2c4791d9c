"""A machine per node without machines: one Linux network namespace for each node of a world. Needs root.

Every node has an ordinary address of its own on the emulated WAN, a TUN device whose other end the emulator holds
(``tun.py``), and nothing else that leads to other nodes: whatever it sends to them are whole IP packets on the
emulator's desk. Beside that, a veth pair leads to the control plane, at the same address from everywhere; no packet of
it passes the emulator, and nothing between nodes passes it, so that stopping the control plane leaves the data path
untouched.

==================  ============================================================================================
data                ``198.18.(i // 250).(i % 250 + 1)`` of node ``i``, device ``wan``
control             ``198.19.LAB.(i + 1)`` of node ``i``, device ``control``; the control plane is ``198.19.LAB.254``
namespace           ``tendril-LAB-i``; the veth's end outside is ``tndLAB-i``
==================  ============================================================================================

The addresses are from the block set aside for tests of networks (RFC 2544, appendix C.2.2). LAB tells several worlds on
one machine apart.

Cleaning up. A running lab holds a lock on a file named after it, which the kernel gives back however the process ends.
Namespaces of a lab whose lock is free were left behind (``kill -9``), and are removed when the next one starts.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from router.core.errors import InputRejected, Unavailable
from router.demo.world import HOSTS_PER_OCTET, World

MAX_NODES = 250  # of a lab: the control addresses' last octet; a process per node ends it sooner
WAN = "wan"
MTU = 1_500
TUN = Path("/dev/net/tun")
NAMES = Path("/run/netns")  # where ``ip netns`` keeps them
LOCKS = Path("/run")
_CLONE_NEWNET = 0x40000000
_NAME = re.compile(r"tendril-(\d+)-(\d+)")


def why_not() -> str | None:
    """Why this process cannot make namespaces, or ``None`` when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in ("ip", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} must be installed (packages iproute2 and util-linux)"
    if not os.access(TUN, os.R_OK | os.W_OK):
        return f"{TUN} cannot be opened (kernel module tun)"
    return None


def data_host(index: int) -> str:
    """A node's address on the emulated WAN."""
    return f"198.18.{index // HOSTS_PER_OCTET}.{index % HOSTS_PER_OCTET + 1}"


def with_ordinary_addresses(world: World) -> World:
    """The same world with the addresses that its nodes have in namespaces. Raises :class:`InputRejected`."""
    if len(world.nodes) > MAX_NODES:
        rule = f"at most {MAX_NODES} nodes in namespaces, this world has {len(world.nodes)}"
        raise InputRejected("bad_world", rule, field="--namespaces", rule=rule, limit=MAX_NODES)
    return replace(
        world,
        data_centers=tuple(
            replace(
                dc,
                nodes=tuple(
                    replace(node, real_host=data_host(node.index), standin_host=data_host(node.index))
                    for node in dc.nodes
                ),
            )
            for dc in world.data_centers
        ),
    )


class Lab:
    """The namespaces of one world; :meth:`build` makes them, :meth:`remove` takes them away."""

    def __init__(self, number: int) -> None:
        if not 1 <= number <= 254:
            raise InputRejected("bad_world", "a lab's number is 1 to 254", field="--octet", limit=254)
        self.number = number
        self._lock: IO[str] | None = None

    @property
    def control_host(self) -> str:
        """Where the control plane listens, as every node sees it."""
        return f"198.19.{self.number}.254"

    def name(self, index: int) -> str:
        """The namespace of a node."""
        return f"tendril-{self.number}-{index}"

    def inside(self, index: int, argv: Sequence[str]) -> list[str]:
        """The command that runs ``argv`` in a node's namespace; the process keeps its id, parent and signals."""
        return ["nsenter", f"--net={NAMES / self.name(index)}", "--", *argv]

    @contextmanager
    def entered(self, index: int) -> Iterator[None]:
        """What the calling thread opens meanwhile belongs to a node's namespace."""
        with _opened(Path("/proc/thread-self/ns/net")) as home, _opened(NAMES / self.name(index)) as there:
            _set_namespace(there)
            try:
                yield
            finally:
                _set_namespace(home)

    def build(self, nodes: int) -> None:
        """Make the namespaces of ``nodes`` nodes. Raises :class:`InputRejected` or :class:`Unavailable`."""
        reason = why_not()
        if reason is not None:
            raise InputRejected("no_namespaces", reason, field="--namespaces", rule=reason,
                                override="without --namespaces a world runs on loopback addresses")  # fmt: skip
        self._lock = _claim(self.number)
        if self._lock is None:
            rule = f"lab {self.number} must not be in use by another world"
            raise InputRejected("lab_in_use", rule, field="--octet", rule=rule, override="choose another --octet")
        remove_left_behind()
        self._clear()
        try:
            _ip([line for index in range(nodes) for line in self._outside(index)])
            for index in range(nodes):
                _ip(self._within(index), namespace=self.name(index))
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Take everything away; again does no harm."""
        if self._lock is not None:
            self._clear()
            self._lock.close()
            self._lock = None

    def _outside(self, index: int) -> list[str]:
        own, name = f"tnd{self.number}-{index}", self.name(index)
        return [
            f"netns add {name}",
            f"link add {own} type veth peer name control netns {name}",
            f"addr add {self.control_host}/32 dev {own}",
            f"link set {own} addrgenmode none up",
            f"route add {self._node_host(index)}/32 dev {own} src {self.control_host}",
        ]

    def _within(self, index: int) -> list[str]:
        return [
            "link set lo up",
            f"tuntap add mode tun name {WAN}",
            f"addr add {data_host(index)}/32 dev {WAN}",
            f"link set {WAN} mtu {MTU} addrgenmode none up",
            f"route add 198.18.0.0/16 dev {WAN} src {data_host(index)}",
            f"addr add {self._node_host(index)}/32 dev control",
            "link set control addrgenmode none up",
            f"route add {self.control_host}/32 dev control src {self._node_host(index)}",
        ]

    def _node_host(self, index: int) -> str:
        return f"198.19.{self.number}.{index + 1}"

    def _clear(self) -> None:
        names = [name for lab, name in _existing() if lab == self.number]
        links = {entry.name for entry in Path("/sys/class/net").glob(f"tnd{self.number}-*")}
        _ip([f"link del {link}" for link in sorted(links)])  # first: a process that lives on keeps the namespace, too
        _ip([f"netns del {name}" for name in names])


def remove_left_behind() -> list[int]:
    """Remove what labs that ended without doing it have left; returns their numbers."""
    removed = []
    for number in sorted({lab for lab, _ in _existing()}):
        lock = _claim(number)
        if lock is not None:
            lab = Lab(number)
            lab._lock = lock
            lab.remove()
            removed.append(number)
    return removed


def _existing() -> list[tuple[int, str]]:
    if not NAMES.is_dir():
        return []
    matches = (_NAME.fullmatch(entry.name) for entry in NAMES.iterdir())
    return sorted((int(match[1]), match[0]) for match in matches if match is not None)


def _claim(number: int) -> IO[str] | None:
    """The lock of a lab, ``None`` while another process has it."""
    file = (LOCKS / f"tendril-lab-{number}.lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _ip(lines: Sequence[str], namespace: str | None = None) -> None:
    """Run lines of ``ip``. Raises :class:`Unavailable` with what it said."""
    if not lines:
        return
    command = ["ip", *(("-n", namespace) if namespace else ()), "-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable("no_namespaces", f"{' '.join(command)}: {done.stderr.strip()}")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _set_namespace(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns comes with Python 3.12
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
