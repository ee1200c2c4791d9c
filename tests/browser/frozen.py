"""A simulated world, frozen: ``python -m tests.browser.frozen FOLDER KEY PORT…`` serves one instant of it at each port.

The simulator drives the real core through a minute of a real day: calls, probes, a provider that begins to lose
packets, a drain. Then time stops. What the core knows by then, and the rows that it rests on, are put behind the real
API, on a clock that stands. Everything is a function of the seed, so every number on every screen is the same on every
machine, and tests may say which.

What is committed over the API becomes true in the simulation, too. ``POST /let-pass?seconds=5`` lets the world go on
for so long, with all its probes, calls and moves, and stand still again. Each port has a process with a world of its
own, all made of the one simulation that was run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import Connection, delete, func, select

from probes.clock import Clock
from router.access import KeyRing
from router.api import create_app
from router.bootstrap import ADMIN_KEY_FILE, App, Server, ensure_admin_key, listen
from router.core.capacity import Buying, Offer, Terms
from router.core.geography import light_floor_us
from router.core.messages import (
    Beacon,
    Beaconed,
    Committed,
    DrainChanged,
    Input,
    RampChanged,
    ResourcesChanged,
)
from router.core.model import (
    Client,
    DataCenter,
    DataCenterId,
    DrainMode,
    Event,
    Inventory,
    Node,
    NodeId,
    Pool,
    Provider,
    ProviderId,
    Region,
    RegionId,
    Resource,
    Role,
    kind_of,
)
from router.core.plane import ControlPlane
from router.runtime import Runtime, StreamItem
from router.settings import Settings
from router.sim.clouds import Provision
from router.sim.engine import START, stream
from router.sim.faults import Fault, Kind
from router.sim.simulation import Simulation
from router.sim.users import POOL, Crowd
from router.sim.world import World
from router.solver import Simulations, Solver
from router.store import Store, bulk, events, tables
from router.store.engine import Database
from router.store.resources import change
from router.store.rows import drain_row, row_of, session_row

SEED = 8
NAMES = {"azure": "Azure", "gcp": "Google", "linode": "Linode", "oracle": "Oracle", "vultr": "Vultr"}
CITIES = {
    "ashburn": ("US", 39.04, -77.49),
    "bahrain": ("BH", 26.07, 50.56),
    "frankfurt": ("DE", 50.11, 8.68),
    "johannesburg": ("ZA", -26.2, 28.05),
    "london": ("GB", 51.51, -0.13),
    "los-angeles": ("US", 34.05, -118.24),
    "mumbai": ("IN", 19.08, 72.88),
    "sao-paulo": ("BR", -23.55, -46.63),
    "singapore": ("SG", 1.35, 103.82),
    "sydney": ("AU", -33.87, 151.21),
    "tokyo": ("JP", 35.68, 139.69),
}
PLACES = {
    "azure": ("bahrain", "johannesburg", "london"),
    "gcp": ("ashburn", "frankfurt", "singapore", "tokyo"),
    "linode": ("london", "mumbai", "sydney"),
    "oracle": ("ashburn", "frankfurt", "singapore"),
    "vultr": ("los-angeles", "sao-paulo", "tokyo"),
}
CAPACITY = 120
# Client networks: net, AS number, country, where, and per edge round trip in us and loss in ppm.
NETWORKS = (
    ("198.51.100", 64500, "DE", 52.5, 13.4, (("gcp-frankfurt", 14_200, 0), ("azure-london", 27_900, 1_000))),
    ("203.0.113", 64501, "IN", 28.6, 77.2, (("linode-mumbai", 61_500, 42_000), ("azure-bahrain", 118_000, 55_000))),
    ("192.0.2", 64502, "BR", -22.9, -43.2, (("vultr-sao-paulo", 19_800, 2_000),)),
)
# What may be bought: data center, size, micro-USD an hour. Nearby there is too little, so plans have something to tell.
OFFERS = (
    ("azure-bahrain", "d16s", 760_000),
    ("azure-london", "d16s", 740_000),
    ("gcp-tokyo", "n2-16", 780_000),
    ("linode-mumbai", "g6-16", 480_000),
    ("oracle-ashburn", "e5-8", 420_000),
    ("oracle-singapore", "e5-8", 420_000),
)
BUYING = Buying(
    offers=tuple(
        Offer(dc.split("-")[0], DataCenterId(dc), RegionId(""), size, price, agents=24, quota=8)
        for dc, size, price in OFFERS
    ),
    dry_run=False,
    max_machines=60,
    terms=Terms(budget_uusd_h=44_000_000),
)
SPREAD = (1.15, 1.9)  # how much longer than a straight fibre a way of the open Internet is


def inventory() -> Inventory:
    """Sixteen data centers of five providers."""
    centers = {}
    for provider, cities in PLACES.items():
        for i, city in enumerate(cities):
            id = DataCenterId(f"{provider}-{city}")
            roles = (Role.EDGE, Role.HUB) if i == 0 or provider == "gcp" else (Role.EDGE,)
            _, latitude, longitude = CITIES[city]
            centers[id] = DataCenter(
                id, ProviderId(provider), RegionId(city), roles, latitude, longitude, capacity_sessions=CAPACITY
            )
    nodes = [Node(NodeId(f"{dc}-1"), dc, {"internet": f"{dc}-1"}, relay_port=7422) for dc in centers]
    regions = [
        Region(RegionId(id), id.replace("-", " ").title(), *CITIES[id])
        for id in sorted({dc.region for dc in centers.values()})
    ]
    return Inventory(
        providers={ProviderId(id): Provider(ProviderId(id), name) for id, name in NAMES.items()},
        regions={region.id: region for region in regions},
        data_centers=dict(sorted(centers.items())),
        nodes={node.id: node for node in sorted(nodes, key=lambda node: node.id)},
        pools={POOL: Pool(POOL)},
    )


def world() -> World:
    """The truth about it."""
    known = inventory()
    delay = {}
    for a in known.data_centers.values():
        for b in known.data_centers.values():
            if a is not b:
                stretch = stream(SEED, f"way/{a.id}>{b.id}").uniform(*SPREAD)
                delay[a.id, b.id] = int(light_floor_us(a, b) * stretch) + 400
    clocks = {id: Clock(stream(SEED, id).randint(-400_000, 400_000), 5, START) for id in known.nodes}
    return World(known, delay, clocks)


def simulated() -> Simulation:
    """The world at the instant that is served."""
    fault = Fault(
        "brown", Kind.BROWNOUT, 30_000_000, target={"data_center": "oracle-frankfurt"},
        numbers={"loss_percent": 8.0, "ramp_s": 1.0},
    )  # fmt: skip
    plane = ControlPlane(buying=BUYING)
    # A machine comes up after a cold start of 90 s: what was bought is still on its way at the instant that is served.
    sim = Simulation(world(), SEED, plane, faults=[fault], crowd=Crowd(240, 600.0), provision=Provision())
    _beacons(sim)
    sim.run(48)
    sim.drain(DataCenterId("vultr-tokyo"), DrainMode.SOFT)
    sim.run(3)
    return sim


def _beacons(sim: Simulation) -> None:
    """What real users of three networks have measured; one of them has a bad way to everything."""
    rows = [
        Beacon(
            Client(f"{net}.0/24", asn, country, latitude, longitude), DataCenterId(edge), rtt_us, f"witness-{i}",
            loss_ppm, 3_000,
        )
        for net, asn, country, latitude, longitude, edges in NETWORKS
        for edge, rtt_us, loss_ppm in edges
        for i in range(4)
    ]  # fmt: skip
    sim.submit(Beaconed(tuple(rows)))


class Frozen(Runtime):
    """Serves what a simulation came to. No timer runs: time passes when it is told to, and in the simulation only."""

    def __init__(self, store: Store, sim: Simulation, url: str) -> None:
        super().__init__(store, Solver(), clock=lambda: sim.engine.now)
        self._plane, self._sim, self._url = sim.plane, sim, url
        self._written = inventory_rows(sim)
        self._told = len(sim.events)

    async def start(self) -> None:
        boot = self.store.boot(self.now())
        await self._chronicle.begin()
        self.secret = boot.secret
        self.keys = KeyRing(boot.keys)
        self._ready = True

    def _handle(self, event: Input) -> None:
        """What was committed is a row of the simulation, too, and what follows from it happens there."""
        if isinstance(event, Committed):
            rows = self._sim.rows
            for change_ in event.changes:
                match change_:
                    case ResourcesChanged(upserts, deletes):
                        rows.put(upserts, deletes)
                    case DrainChanged(drain):
                        rows.drains[drain.id] = drain
                    case RampChanged(ramp):
                        rows.ramps[ramp.id] = ramp
            self._sim.world.inventory = rows.inventory
            self._written = inventory_rows(self._sim)
        self._sim.submit(event)

    async def routes_settled(self, timeout_s: float = 2.0) -> None:
        await self.let_pass(0.5)

    async def let_pass(self, seconds: float) -> None:
        """Let the simulated world go on, and write down what became of it."""
        self._sim.run(seconds)
        now = inventory_rows(self._sim)
        resources = [resource for key, resource in now.items() if self._written.get(key) != resource]
        happened = self._sim.events[self._told :]
        self._written, self._told = now, len(self._sim.events)
        rewrite(self._url, self._sim, resources, happened)
        self._hub.publish(StreamItem("generation", {"generation": self.view.generation, "changed_pairs": 0}))


def inventory_rows(sim: Simulation) -> dict[str, Resource]:
    """Every resource of a simulation by what it is."""
    known = sim.rows.inventory
    kinds = (known.providers, known.regions, known.data_centers, known.nodes, known.pools)
    return {f"{kind_of(one)}/{one.id}": one for kind in kinds for one in kind.values()}


def rewrite(url: str, sim: Simulation, resources: list[Resource], happened: list[Event]) -> None:
    """Make the database say what the simulation's rows say."""
    rows, database = sim.rows, Database(url)

    def fill(connection: Connection) -> None:
        last = connection.scalar(select(func.max(tables.events.c.id))) or 0
        change(connection, resources, [], actor="tendril", now=sim.engine.now)
        connection.execute(delete(tables.events).where(tables.events.c.id > last))  # what happened the simulation says
        held = (tables.sessions, rows.sessions, session_row), (tables.agents, rows.agents, row_of)
        for table, kept, row in (*held, (tables.drains, rows.drains, drain_row)):
            connection.execute(delete(table))
            bulk.insert(connection, table, [row(one) for one in kept.values()])
        events.append(connection, happened)

    database.write(fill)
    database.close()


async def serve(sim: Simulation, folder: Path, key: str, port: int) -> None:
    """Serve it until told to stop."""
    folder.mkdir()
    settings = Settings(host="127.0.0.1", port=port, state_dir=folder, admin_key=key, flight_recorder_mb=0)
    url = f"sqlite:///{folder}/frozen.db"
    store = Store(url)
    store.upgrade()
    rewrite(url, sim, list(inventory_rows(sim).values()), sim.events)
    ensure_admin_key(store, settings, sim.engine.now)
    runtime = Frozen(store, sim, url)
    simulations = Simulations()
    http = create_app(runtime, settings, simulations.ask)
    http.add_api_route("/let-pass", runtime.let_pass, methods=["POST"], status_code=204)
    app = App(settings, store, runtime, http, folder / ADMIN_KEY_FILE, simulations)
    await runtime.start()
    with listen("127.0.0.1", port) as taken:
        await Server(app).serve([taken])


def main(folder: Path, key: str, ports: list[int]) -> None:
    """Simulate once, and serve the outcome at each port from a process of its own, until told to stop."""
    sim = simulated()
    children = [child for port in ports if (child := os.fork()) or run(sim, folder / str(port), key, port)]

    def stop(*_: Any) -> None:
        for child in children:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    for child in children:
        os.waitpid(child, 0)


def run(sim: Simulation, folder: Path, key: str, port: int) -> NoReturn:
    """All that the process behind one port does."""
    asyncio.run(serve(sim, folder, key, port))
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], [int(port) for port in sys.argv[3:]])
