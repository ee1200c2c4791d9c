"""A world file: the data centers, nodes, loopback addresses and true link parameters that every demo process shares.

The launcher builds a :class:`World` once (from a measured matrix or the model), saves it as JSON, and the emulator, the
probe agents and the demo people read the same file, so that nobody has to agree on anything at run time.

Addresses. Node ``i`` (its index in the world) really listens on ``127.R.(i // 250).(i % 250 + 1)``; everybody else
reaches it at its *stand-in* ``127.S.`` with the same last two octets, where the emulator listens. Users have two ranges
of their own. The four second octets are ``World.octets`` = (node real, node stand-in, user real, user stand-in); tests
shift them so that several worlds live on one machine.

Matrices. ``delay_us``, ``jitter_us`` and ``loss_ppm`` are indexed ``[from][to]`` by the place of the data center in
``data_centers``, integers, directed. ``delay_us`` is the one-way delay, ``None`` where there is no link (and on the
diagonal); ``jitter_us`` is the mean of the extra delay of a packet; ``loss_ppm`` the share of packets lost.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from router.core.errors import InputRejected
from router.core.model import ID_REGEX

FORMAT = "tendril-world-1"
OCTETS = (1, 2, 3, 4)
NODE_PORTS = (7420, 7421, 7422, 7423, 7424, 7426)  # probe sender, reflector, relay, media edge, AI agent, spare
USER_PORT = 7425
MAX_DATA_CENTERS = 1_000  # the matrices are quadratic, and each node takes six sockets
MAX_NODES_PER_DATA_CENTER = 16
MAX_DELAY_US = 60_000_000  # a minute: beyond it the probes' own contract calls it a broken clock
MAX_CLOCK_OFFSET_US = 500_000  # what an unsynchronised virtual machine shows after some weeks
MAX_CLOCK_SKEW_PPM = 5  # a quartz with its frequency, but not its phase, corrected
HOSTS_PER_OCTET = 250
_HOSTS = 256 * HOSTS_PER_OCTET

Rows = tuple[tuple[int, ...], ...]
DelayRows = tuple[tuple[int | None, ...], ...]


@dataclass(frozen=True, slots=True)
class WorldNode:
    """One machine: its real and stand-in loopback addresses, and how wrong its clock is."""

    id: str
    index: int
    real_host: str
    standin_host: str
    clock_offset_us: int
    clock_skew_ppm: int


@dataclass(frozen=True, slots=True)
class WorldDataCenter:
    """One data center with its nodes; the position is ``None`` when nobody knows it."""

    id: str
    provider: str
    region: str
    roles: tuple[str, ...]
    latitude: float | None
    longitude: float | None
    nodes: tuple[WorldNode, ...]
    city: str = ""
    country: str = ""  # ISO 3166-1 alpha-2, or empty


@dataclass(frozen=True, slots=True)
class Site:
    """A data center before it has roles, nodes and addresses."""

    id: str
    provider: str
    region: str
    latitude: float | None = None
    longitude: float | None = None
    city: str = ""
    country: str = ""


@dataclass(frozen=True)
class World:
    """Everything that is true in the demo; see the module docstring for the matrices and addresses."""

    name: str
    data_centers: tuple[WorldDataCenter, ...]
    delay_us: DelayRows
    jitter_us: Rows
    loss_ppm: Rows
    octets: tuple[int, int, int, int] = OCTETS

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Place of each data center, by id."""
        return {dc.id: i for i, dc in enumerate(self.data_centers)}

    @property
    def nodes(self) -> tuple[WorldNode, ...]:
        """All nodes in index order."""
        return tuple(node for dc in self.data_centers for node in dc.nodes)

    @property
    def hubs(self) -> tuple[str, ...]:
        """Ids of the data centers whose role includes hub, in world order."""
        return tuple(dc.id for dc in self.data_centers if "hub" in dc.roles)

    @property
    def links(self) -> int:
        """Number of directed links that exist."""
        return sum(delay is not None for row in self.delay_us for delay in row)

    def one_way_us(self, source: str, target: str) -> int | None:
        """True one-way delay between two data centers, ``None`` where there is no link."""
        return self.delay_us[self.index[source]][self.index[target]]

    def rtt_us(self, a: str, b: str) -> int | None:
        """True round trip of the direct links, ``None`` unless both directions exist."""
        there, back = self.one_way_us(a, b), self.one_way_us(b, a)
        return None if there is None or back is None else there + back

    def save(self, path: Path) -> None:
        """Write the world file, whole or not at all."""
        record = asdict(self) | {"format": FORMAT}
        draft = path.with_name(f".{path.name}.part")
        draft.write_text(json.dumps(record, separators=(",", ":")), encoding="utf-8")
        draft.replace(path)


def loopback_host(octet: int, index: int) -> str:
    """Loopback address number ``index`` of the range with this second octet."""
    return f"127.{octet}.{index // HOSTS_PER_OCTET}.{index % HOSTS_PER_OCTET + 1}"


def assemble(
    name: str,
    sites: Sequence[Site],
    delay_us: Sequence[Sequence[int | None]],
    *,
    jitter_us: Sequence[Sequence[int]] | None = None,
    loss_ppm: Sequence[Sequence[int]] | None = None,
    hubs: Sequence[int] = (),
    nodes_per_data_center: int | Sequence[int] = 1,
    seed: int = 1,
    octets: tuple[int, int, int, int] = OCTETS,
    max_skew_ppm: int = MAX_CLOCK_SKEW_PPM,
) -> World:
    """Give sites their roles, nodes, addresses and clocks. Clocks depend on ``seed`` and the node's id alone.

    ``nodes_per_data_center`` is one number for all, or one for each site.
    """
    counts = [nodes_per_data_center] * len(sites) if isinstance(nodes_per_data_center, int) else nodes_per_data_center
    if len(counts) != len(sites) or not all(1 <= count <= MAX_NODES_PER_DATA_CENTER for count in counts):
        raise _rejected("nodes_per_data_center", f"must be between 1 and {MAX_NODES_PER_DATA_CENTER}",
                        MAX_NODES_PER_DATA_CENTER)  # fmt: skip
    zeros = tuple((0,) * len(sites) for _ in sites)
    data_centers = tuple(
        WorldDataCenter(
            id=site.id,
            provider=site.provider,
            region=site.region,
            roles=("edge", "hub") if i in hubs else ("edge",),
            latitude=site.latitude,
            longitude=site.longitude,
            nodes=tuple(_node(site.id, sum(counts[:i]) + k, k, seed, octets, max_skew_ppm) for k in range(counts[i])),
            city=site.city,
            country=site.country,
        )
        for i, site in enumerate(sites)
    )
    world = World(
        name=name,
        data_centers=data_centers,
        delay_us=tuple(tuple(row) for row in delay_us),
        jitter_us=zeros if jitter_us is None else tuple(tuple(row) for row in jitter_us),
        loss_ppm=zeros if loss_ppm is None else tuple(tuple(row) for row in loss_ppm),
        octets=octets,
    )
    return _checked(world)


def _node(
    data_center: str, index: int, place: int, seed: int, octets: tuple[int, int, int, int], max_skew_ppm: int
) -> WorldNode:
    name = f"{data_center[:58]}-n{place + 1}"  # an id has at most 63 characters
    clock = random.Random(f"{seed}/clock/{name}")
    return WorldNode(
        id=name,
        index=index,
        real_host=loopback_host(octets[0], index),
        standin_host=loopback_host(octets[1], index),
        clock_offset_us=clock.randint(-MAX_CLOCK_OFFSET_US, MAX_CLOCK_OFFSET_US),
        clock_skew_ppm=clock.randint(-max_skew_ppm, max_skew_ppm),
    )


# --- reading ---------------------------------------------------------------------------------------------------------


def load(path: Path) -> World:
    """Read and check a world file. Raises :class:`InputRejected` naming the field and the rule."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _rejected("file", f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _rejected("file", f"must be JSON in UTF-8: {error}") from error
    if not isinstance(record, dict) or record.pop("format", None) != FORMAT:
        raise _rejected("format", f"must be {FORMAT}")
    try:
        data_centers = tuple(_data_center(dc) for dc in record.pop("data_centers"))
        world = World(
            name=record.pop("name"),
            data_centers=data_centers,
            octets=tuple(record.pop("octets")),
            **{name: tuple(tuple(row) for row in record.pop(name)) for name in ("delay_us", "jitter_us", "loss_ppm")},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _rejected("file", f"does not have the fields of a world: {error}") from error
    if record:
        raise _rejected(min(record), "is not a known field")
    return _checked(world)


def _data_center(record: Mapping[str, object]) -> WorldDataCenter:
    fields = dict(record)
    nodes, roles = fields.pop("nodes"), fields.pop("roles")
    if not isinstance(nodes, list) or not isinstance(roles, list):
        raise TypeError("data_centers[].nodes and .roles must be lists")
    return WorldDataCenter(**fields, roles=tuple(roles), nodes=tuple(WorldNode(**n) for n in nodes))  # type: ignore[arg-type]


def _checked(world: World) -> World:
    count = len(world.data_centers)
    if not 2 <= count <= MAX_DATA_CENTERS:
        raise _rejected("data_centers", f"must be between 2 and {MAX_DATA_CENTERS}", MAX_DATA_CENTERS)
    names: list[object] = [*(dc.id for dc in world.data_centers), *(node.id for node in world.nodes)]
    for name in names:
        if not isinstance(name, str) or not ID_REGEX.match(name):
            raise _rejected("id", f"{name!r} must match {ID_REGEX.pattern}")
    if len(set(names)) != len(names):
        raise _rejected("id", "must be unique")
    if [node.index for node in world.nodes] != list(range(len(world.nodes))) or len(world.nodes) > _HOSTS:
        raise _rejected("index", "must number the nodes from 0 in world order", _HOSTS)
    octets = world.octets
    if len(set(octets)) != 4 or not all(type(o) is int and 1 <= o <= 254 for o in octets):
        raise _rejected("octets", "must be four different integers between 1 and 254", 254)
    _check_rows("delay_us", world.delay_us, count, MAX_DELAY_US, missing=True)
    _check_rows("jitter_us", world.jitter_us, count, MAX_DELAY_US)
    _check_rows("loss_ppm", world.loss_ppm, count, 1_000_000)
    return world


def _check_rows(name: str, rows: Sequence[Sequence[object]], count: int, limit: int, *, missing: bool = False) -> None:
    if len(rows) != count or any(len(row) != count for row in rows):
        raise _rejected(name, f"must be {count} rows of {count}", count)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            if value is None and missing:
                continue
            if type(value) is not int or not 0 <= value <= limit:
                raise _rejected(f"{name}[{i}][{j}]", f"must be an integer between 0 and {limit}", limit)


def _rejected(field: str, rule: str, limit: int | None = None) -> InputRejected:
    return InputRejected("bad_world", f"world: {field} {rule}", field=field, rule=rule, limit=limit)
