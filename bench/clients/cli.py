"""Hide client networks of a measured matrix from the estimator, and see which edges it chooses for them.

Every place of the matrix is a client network, some of them are also edges. Each client is hidden in turn (or ``--hide``
at once): the product's :class:`~router.core.clients.ClientBook` takes what all others measured to the edges,
learns, and is asked for the nearest edge. *Cold*: nothing else. *Warm*: at most three beacons, to edges that
:func:`~router.core.clients.candidates` asks for, one after the other. Judged by the share of clients whose edge is
within 10 % or 2 ms of the best edge measured. A client chooses only among edges it was measured to: elsewhere there is
nothing to judge. Zeros on a matrix's diagonal are no measurements.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench._case import NO_BOUND, line, progress
from bench.clients.read import Place, World, read
from router.core.clients import Census, ClientBook, access_legs, candidates
from router.core.estimate import Estimator
from router.core.geography import distances_km
from router.core.messages import Beacon
from router.core.model import Client, DataCenter, DataCenterId, Inventory, ProviderId, RegionId
from router.core.tables import UNKNOWN, View

F64 = NDArray[np.float64]
EDGES = 23
BEACONS = 3
SHARE, SLACK_MS = 1.10, 2.0
NEIGHBOURS = 5
NOW = 1_000_000_000
FEWEST_EDGES = 3  # of which a client must have measurements to be judged
WARM_GOAL, COLD_GOAL = 0.96, 0.08


@dataclass(frozen=True)
class Task:
    """The matrix between clients and edges."""

    clients: tuple[Place, ...]
    edges: tuple[Place, ...]
    rtt_ms: F64  # [client, edge]

    def judged(self) -> list[int]:
        """Clients with enough measurements to choose and to be judged."""
        return [i for i in range(len(self.clients)) if np.isfinite(self.rtt_ms[i]).sum() >= FEWEST_EDGES]

    def fits(self, client: int, edge: int) -> bool:
        """Whether an edge is as good as the best one."""
        best = float(np.nanmin(self.rtt_ms[client]))
        return bool(self.rtt_ms[client, edge] <= max(best * SHARE, best + SLACK_MS))


def task_of(world: World, edges: Sequence[str]) -> Task:
    """Pick the edges by name, or the default ones. Raises ``ValueError`` for a name nobody knows."""
    names = [place.name for place in world.places]
    unknown = [edge for edge in edges if edge not in names]
    if unknown:
        raise ValueError(f"no such place: {', '.join(unknown)}")
    chosen = [names.index(edge) for edge in edges] or spread_edges(world, EDGES)
    return Task(world.places, tuple(world.places[i] for i in chosen), world.rtt_ms[:, chosen])


def spread_edges(world: World, count: int) -> list[int]:
    """Edges as one would open them: each next one where it shortens the way of the most people by the most."""
    rtt, weight = world.rtt_ms, np.sqrt([max(place.users, 1.0) for place in world.places])
    measured = np.isfinite(rtt).sum(axis=0)
    usable = measured >= 0.8 * np.median(measured[measured > 0])
    far = float(np.nanmax(rtt))
    way = np.full(len(rtt), far)
    chosen: list[int] = []
    for _ in range(min(count, int(usable.sum()))):
        saved = (weight[:, None] * np.maximum(way[:, None] - np.nan_to_num(rtt, nan=far), 0.0)).sum(axis=0)
        saved[~usable] = -1.0
        saved[chosen] = -1.0
        chosen.append(int(np.argmax(saved)))
        way = np.minimum(way, np.nan_to_num(rtt[:, chosen[-1]], nan=far))
    return chosen


# --- the product's estimator ------------------------------------------------------------------------------------------


class Product:
    """The estimator as a control plane runs it, with some clients hidden."""

    def __init__(self, task: Task, hidden: Sequence[int]) -> None:
        self._task = task
        ids = [f"e-{i:04d}" for i in range(len(task.edges))]
        self._inventory = Inventory(
            data_centers={
                DataCenterId(id): DataCenter(
                    DataCenterId(id), ProviderId("own"), RegionId(id), latitude=e.latitude, longitude=e.longitude
                )
                for id, e in zip(ids, task.edges, strict=True)
            }
        )
        self._links = Estimator(self._inventory).table(0)[0]
        self._book = ClientBook()
        for i in range(len(task.clients)):
            if i not in hidden:
                self.measure(i, np.flatnonzero(np.isfinite(task.rtt_ms[i])))
        self._book.adopt(Census(1, NOW, self._book.table, self._inventory).fit())

    def client(self, i: int) -> Client:
        """A client as the API would know it."""
        place = self._task.clients[i]
        return Client(f"10.{i >> 8}.{i & 255}.0/24", None, place.country, place.latitude, place.longitude)

    def measure(self, i: int, edges: Iterable[int]) -> None:
        """A client's beacons."""
        made = [
            Beacon(self.client(i), DataCenterId(f"e-{int(e):04d}"), round(1000 * self._task.rtt_ms[i, e]), "key")
            for e in edges
        ]
        self._book.observe(made, self._inventory, NOW)

    def view(self) -> View:
        """What readers see."""
        return View(NOW, 1, self._inventory, self._links, None, (), clients=self._book.table)

    def choose(self, i: int) -> int:
        """The edge with the shortest leg, among those that can be judged."""
        leg = access_legs(self.view(), self.client(i)).one_way_us
        known = np.isfinite(self._task.rtt_ms[i]) & (leg != UNKNOWN)
        return int(np.argmin(np.where(known, leg, np.iinfo(np.int64).max)))

    def next_beacon(self, i: int, sent: Sequence[int]) -> int | None:
        """The next edge to measure, of those that there is a measurement of; none twice, also if it was left out."""
        can = np.isfinite(self._task.rtt_ms[i])
        can[list(sent)] = False
        missing = [DataCenterId(f"e-{int(e):04d}") for e in np.flatnonzero(~can)]
        asked = candidates(self.view(), self.client(i), 1, missing)
        return int(asked[0].removeprefix("e-")) if asked else None


# --- what it is compared with -----------------------------------------------------------------------------------------


def geography(task: Task, i: int) -> int:
    """The nearest edge on the map."""
    here = task.clients[i]
    km = distances_km(
        here.latitude, here.longitude,
        np.array([e.latitude for e in task.edges]), np.array([e.longitude for e in task.edges]),
    )  # fmt: skip
    return int(np.argmin(np.where(np.isfinite(task.rtt_ms[i]), km, np.inf)))


def country(task: Task, i: int) -> int:
    """The edge with the least mean over other clients of the country; the nearest on the map where there is none."""
    others = [j for j, c in enumerate(task.clients) if j != i and c.country and c.country == task.clients[i].country]
    return _mean_of(task, i, others)


def neighbours(task: Task, i: int) -> int:
    """The edge with the least mean over the five nearest other clients."""
    here = task.clients[i]
    km = distances_km(
        here.latitude, here.longitude,
        np.array([c.latitude for c in task.clients]), np.array([c.longitude for c in task.clients]),
    )  # fmt: skip
    near = [int(j) for j in np.argsort(km, kind="stable") if j != i and np.isfinite(task.rtt_ms[j]).any()]
    return _mean_of(task, i, near[:NEIGHBOURS])


def nearest_three(task: Task, i: int) -> int:
    """The best, by beacon, of the three nearest edges on the map."""
    left = task.rtt_ms[i].copy()
    found = []
    for _ in range(min(BEACONS, int(np.isfinite(left).sum()))):
        rest = Task(task.clients, task.edges, np.where(np.arange(len(task.clients))[:, None] == i, left, task.rtt_ms))
        found.append(geography(rest, i))
        left[found[-1]] = np.nan
    return min(found, key=lambda e: float(task.rtt_ms[i, e]))


def _mean_of(task: Task, i: int, others: list[int]) -> int:
    can = np.isfinite(task.rtt_ms[i])
    rows = task.rtt_ms[others]
    count = np.isfinite(rows).sum(axis=0)
    mean = np.where(count > 0, np.nansum(rows, axis=0) / np.maximum(count, 1), np.inf)
    mean = np.where(can, mean, np.inf)
    return int(np.argmin(mean)) if np.isfinite(mean).any() else geography(task, i)


# --- the run ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """What was chosen for one hidden client."""

    client: int
    edge: int
    evidence: str
    beacons: tuple[int, ...]


def run(task: Task, hide: int) -> list[Choice]:
    """Hide ``hide`` clients at a time; cold and warm choices for each."""
    judged = task.judged()
    groups = [judged[k :: max(1, -(-len(judged) // hide))] for k in range(max(1, -(-len(judged) // hide)))]
    choices: list[Choice] = []
    for number, group in enumerate(groups):
        product = Product(task, group)
        cold = [Choice(i, product.choose(i), "cold", ()) for i in group]
        choices += cold
        for i in group:  # a beacon of one tells a little about the next one, as it would in a day's work
            sent: list[int] = []
            while len(sent) < BEACONS and (edge := product.next_beacon(i, sent)) is not None:
                sent.append(edge)
                product.measure(i, [edge])
            choices.append(Choice(i, product.choose(i), "warm", tuple(sent)))
        if number % 20 == 0:
            progress(f"clients: {number + 1} of {len(groups)} hidden")
    return choices


def write(path: Path, task: Task, choices: Sequence[Choice]) -> None:
    """The log: one line per hidden client and kind of evidence."""
    with path.open("w", encoding="utf-8") as file:
        for choice in choices:
            row = {
                "client": task.clients[choice.client].name,
                "edge": task.edges[choice.edge].name,
                "evidence": choice.evidence,
                "beacons": [task.edges[e].name for e in choice.beacons],
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def report(task: Task, choices: Sequence[Choice]) -> bool:
    """Print the shares; whether both goals are met."""
    share = {
        kind: float(np.mean([task.fits(c.client, c.edge) for c in choices if c.evidence == kind]))
        for kind in ("cold", "warm")
    }
    peers: dict[str, Callable[[Task, int], int]] = {
        "geography alone": geography,
        "country alone": country,
        "five nearest neighbours": neighbours,
        "best of the three nearest edges by beacon": nearest_three,
    }
    judged = task.judged()
    found = {name: float(np.mean([task.fits(i, rule(task, i)) for i in judged])) for name, rule in peers.items()}
    more = {"clients": len(judged), "edges": len(task.edges)}
    met = share["warm"] >= WARM_GOAL and share["cold"] >= found["geography alone"] + COLD_GOAL
    for name, peer in found.items():
        kind = "warm" if "beacon" in name else "cold"
        line("clients", f"{kind} against {name}", 100 * share[kind], 100 * peer, name, "% of clients/s", "",
             NO_BOUND, points=round(100 * (share[kind] - peer), 2), **more)  # fmt: skip
    warm, cold = 100 * share["warm"], 100 * share["cold"]
    ahead = cold - 100 * found["geography alone"]
    print(json.dumps({
        "name": "clients", "case": "D8", "warm_pct": round(warm, 2), "cold_pct": round(cold, 2),
        "cold_ahead_of_geography_points": round(ahead, 2), "goal": "warm >= 96 %, cold >= geography + 8 points",
        "met": met,
    }), flush=True)  # fmt: skip
    return met


def main(arguments: Sequence[str] | None = None) -> bool:
    """Run it; whether the goals are met."""
    parser = argparse.ArgumentParser(prog="python -m bench.clients", description=__doc__)
    parser.add_argument("--rtt", type=Path, help="measured round trips in ms: pairs or a matrix")
    parser.add_argument("--locations", type=Path, help="name, latitude, longitude, country; or countries")
    parser.add_argument("--edges", default="", help="names, by comma; a file with one a line; none: chosen by need")
    parser.add_argument("--log", type=Path, help="where to write what was chosen")
    parser.add_argument("--hide", type=int, default=1, help="clients hidden at a time")
    given = parser.parse_args(arguments)
    if given.rtt is None or given.locations is None:
        progress("clients: needs --rtt and --locations, see docs/reference/benchmarks.md")
        return True
    listed = (
        Path(given.edges).read_text(encoding="utf-8") if given.edges and Path(given.edges).is_file() else given.edges
    )
    edges = [name.strip() for name in listed.replace("\n", ",").split(",") if name.strip()]
    task = task_of(read(given.rtt, given.locations), edges)
    choices = run(task, max(1, given.hide))
    if given.log is not None:
        write(given.log, task, choices)
    return report(task, choices)
