"""The libraries people would otherwise use, each in the fastest call it has for all pairs of a dense graph.

None has a limit on the number of relays for all pairs, so they answer the unlimited question; graphs are built outside
the measured time. Where a whole answer would take too long, a sample of sources is timed and the result scaled: fair to
algorithms that go source by source; Floyd-Warshall is never sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import igraph
import networkit
import networkx as nx
import numpy as np
import rustworkx
from scipy.sparse.csgraph import dijkstra, floyd_warshall

from bench.solve.worlds import some_sources
from router.core.tables import I64, NO_COST

SCIPY_FLOYD_WARSHALL = "scipy floyd_warshall, predecessors"
NETWORKX_DIJKSTRA = "networkx dijkstra_predecessor_and_distance"


@dataclass(frozen=True)
class Peer:
    """``work()`` answers for ``sources`` and returns distances float64 ``[source, to]`` in the costs' unit."""

    name: str
    sources: list[int]
    work: Callable[[], Any]
    distances: Callable[[Any], Any]
    threads: int
    predecessors: bool


def scipy_floyd_warshall(cost: I64) -> Peer:
    """All pairs at once, predecessors kept: the peer of P1."""
    weight = _weights(cost)
    return Peer(
        SCIPY_FLOYD_WARSHALL,
        list(range(len(cost))),
        lambda: floyd_warshall(weight, return_predecessors=True),
        lambda answer: answer[0],
        1,
        True,
    )


def scipy_dijkstra(cost: I64, sample: int) -> Peer:
    """Heap Dijkstra from each source, predecessors kept."""
    weight = _weights(cost)
    sources = some_sources(len(cost), sample)
    return Peer(
        "scipy dijkstra, predecessors",
        sources,
        lambda: dijkstra(weight, indices=sources, return_predecessors=True),
        lambda answer: answer[0],
        1,
        True,
    )


def rustworkx_floyd_warshall(cost: I64, threads: int) -> Peer:
    """All pairs at once, parallel, distances only."""
    graph = rustworkx.PyDiGraph.from_adjacency_matrix(_weights(cost))
    name = "rustworkx floyd_warshall_numpy, distances only"
    return Peer(
        name,
        list(range(len(cost))),
        lambda: rustworkx.digraph_floyd_warshall_numpy(graph, weight_fn=float),
        lambda answer: answer,
        threads,
        False,
    )


def igraph_dijkstra(cost: I64, sample: int) -> Peer:
    """Dijkstra from each source, distances only."""
    source, target = _edges(len(cost))
    graph = igraph.Graph(n=len(cost), edges=np.column_stack([source, target]), directed=True)
    graph.es["weight"] = cost[source, target].tolist()
    sources = some_sources(len(cost), sample)
    return Peer(
        "igraph distances (Dijkstra), distances only",
        sources,
        lambda: graph.distances(source=sources, weights="weight", algorithm="dijkstra"),
        np.array,
        1,
        False,
    )


def networkit_dijkstra(cost: I64, sample: int, threads: int) -> Peer:
    """Dijkstra from each source, parallel, distances only."""
    networkit.setNumberOfThreads(threads)
    source, target = _edges(len(cost))
    weights = cost[source, target].astype(np.float64)
    graph = networkit.GraphFromCoo((weights, (source, target)), n=len(cost), weighted=True, directed=True)
    sources = some_sources(len(cost), sample)
    return Peer(
        "networkit SPSP (Dijkstra), distances only",
        sources,
        lambda: networkit.distance.SPSP(graph, sources).run(),
        lambda answer: np.array(answer.getDistances()),
        threads,
        False,
    )


def networkx_dijkstra(cost: I64, sample: int) -> Peer:
    """Dijkstra in Python from each source, predecessors kept."""
    n = len(cost)
    graph: Any = nx.DiGraph()
    rows = ((s, row) for s, row in enumerate(cost.tolist()))
    graph.add_weighted_edges_from((s, t, c) for s, row in rows for t, c in enumerate(row) if s != t)
    sources = some_sources(n, sample)

    def work() -> list[Any]:
        return [nx.dijkstra_predecessor_and_distance(graph, s) for s in sources]

    def distances(answer: list[Any]) -> Any:
        return np.array([[found[1].get(t, np.inf) for t in range(n)] for found in answer])

    return Peer(NETWORKX_DIJKSTRA, sources, work, distances, 1, True)


def _weights(cost: I64) -> Any:
    weight = np.where(cost >= NO_COST, np.inf, cost.astype(np.float64))
    np.fill_diagonal(weight, 0)
    return weight


def _edges(n: int) -> tuple[Any, Any]:
    source, target = np.nonzero(~np.eye(n, dtype=bool))
    return np.ascontiguousarray(source), np.ascontiguousarray(target)
