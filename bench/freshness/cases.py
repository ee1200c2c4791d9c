"""The cases: in process, over HTTP with nothing else to do, and inside the service at half of what it can take."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np

from bench._case import line, progress
from bench.freshness.inside import Inside, Unchanged
from bench.freshness.load import Load, Running, at_half, prepared
from bench.freshness.served import ADMIN_KEY, Served, serving, shown
from bench.freshness.wire import GET, Connection, request
from bench.freshness.world import World

NAME, GOAL, PEER, SIZE = "freshness", "P5", "bound", 300
ROWS = 50  # of a report: what changes in a second where every node probes 50 peers a second
MET = 1.0  # of bound / ours
INSIDE_S, HTTP_S, LOADED_S = 0.5e-3, 3e-3, 10e-3
INSIDE_SECONDS = 2  # worth of reports of every node
ALONE = 200  # reports measured with nothing else to do
HALF_S = 20.0  # of half load
PACE_S = 0.02  # between two of them
FULL_S = 5.0
QUERIES = 2  # for every report of the load
OURS = 20  # nodes whose reports are measured; the others make the load


def run() -> bool:
    """All cases; whether every bound was met."""
    met = [*_inside()]
    world = World(SIZE)
    progress(f"a control plane with {SIZE} data centers")
    with serving(world) as served:
        served.warm_up()
        met += [_alone(served), *_beside(served)]
    return all(met)


def _inside() -> Iterator[bool]:
    inside = Inside(World(SIZE))
    progress("in process")
    inside.warm_up()
    for rows in (ROWS, SIZE - 1):
        took, cpu = inside.measure(rows, INSIDE_SECONDS)
        more = {"cpu_p50_s": float(f"{np.percentile(cpu, 50):.4g}")}
        case, bound_s = f"N={SIZE}, {rows} rows a report, in process", INSIDE_S if rows == ROWS else 0.0
        yield _line(case, took, 50, bound_s, rows, **more)


def _alone(served: Served) -> bool:
    progress("over HTTP")
    connection, world, took = served.connect(), served.world, list[float]()
    for turn in range(ALONE):
        took.append(_one(served, connection, turn))
        other = OURS + turn % (world.n - OURS)
        connection.call(served.posted(other, world.half(other), faster_us=0))
    return _line(f"N={SIZE}, {ROWS} rows a report, over HTTP, nothing else to do", np.array(took), 50, HTTP_S, ROWS)


def _beside(served: Served) -> Iterator[bool]:
    """The service finds its limit first; then half of that is offered while reports are measured."""
    load = Load(served.port, _mixed(served), FULL_S)
    progress("how much load there is room for")
    most = Running(load).result()
    progress(f"beside half of {most.per_second:.0f} requests a second")
    half = Running(at_half(Load(load.port, load.requests, HALF_S), most))
    connection, took = served.connect(), list[float]()
    while half.going_on:
        took.append(_one(served, connection, ALONE + len(took)))
    offered = half.result()
    more = {"requests_per_s": round(offered.per_second), "most_requests_per_s": round(most.per_second)}
    case = f"N={SIZE}, {ROWS} rows a report, over HTTP at half load"
    yield _line(f"{case}, p99", np.array(took), 99, LOADED_S, ROWS, **more)


def _mixed(served: Served) -> tuple[bytes, ...]:
    """The reports of the nodes that are not measured, in turn about all their peers, and queries between them."""
    world, mixed = served.world, list[bytes]()
    for first in range(0, world.n - 1, ROWS):
        for source in range(OURS, world.n):
            peers = world.peers(source, world.n)[first : first + ROWS]
            mixed.append(prepared(served.posted(source, peers, faster_us=0)))
            for peer in peers[:QUERIES]:
                mixed.append(request(GET, f"/v1/routes/{world.ids[source]}/{world.ids[peer]}", ADMIN_KEY))
    return tuple(mixed)


def _one(served: Served, connection: Connection, turn: int) -> float:
    """Seconds from sending a report until an answer has another estimate, another cost and a lower age."""
    world, source = served.world, turn % OURS
    other = (turn + OURS // 2) % OURS  # links that nobody reports for 20 s are unknown
    connection.call(served.posted(other, world.peers(other, world.n), faster_us=0))
    peers = world.peers(source, ROWS)
    ask, report = served.link(source, int(peers[turn % ROWS])), served.posted(source, peers)
    before = shown(connection.call(ask))
    if before["metric_us"] is None or before["expected_ms"] is None:
        raise Unchanged(f"nothing is known of {before}")
    time.sleep(PACE_S * np.random.default_rng(turn).uniform(0, 1))  # not in step with the jobs
    start = time.perf_counter()
    connection.call(report)
    while True:
        answer = connection.call(ask)
        took = time.perf_counter() - start
        after = shown(answer)
        if after["expected_ms"] < before["expected_ms"] and after["metric_us"] != before["metric_us"]:
            break
        if took > 10.0:
            raise Unchanged(f"{before} -> {after}")
    if after["age_ms"] > took * 1000:
        raise Unchanged(f"the age of {after} is not that of the report {took * 1000:.1f} ms ago")
    return took


def _line(case: str, took: np.ndarray, percentile: float, bound_s: float, rows: int, **more: object) -> bool:
    """One line; a case without a bound is compared with the one beside it, and promises nothing."""
    quantiles = {f"p{q}_s": float(f"{np.percentile(took, q):.4g}") for q in (50, 90, 99)}
    ours, goal = float(np.percentile(took, percentile)), GOAL if bound_s else "none"
    bound, peer = (MET, bound_s) if bound_s else (0.0, INSIDE_S)
    return line(
        NAME, case, ours, peer, PEER, "s", goal, bound, percentile=percentile, **quantiles,
        max_s=float(f"{took.max():.4g}"), rows=rows, reports=len(took),
        load_average=round(os.getloadavg()[0], 1), cores=os.cpu_count(), **more,
    )  # fmt: skip
