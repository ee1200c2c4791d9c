"""All ordered pairs with at most two relays: our numpy kernel against networkx, answers compared while timing.

networkx has no relay limit, so it is given the easier question (unlimited shortest paths, Dijkstra from every vertex);
wherever its path has at most two relays the costs must be equal, and it may never be dearer.
"""

from __future__ import annotations

import networkx as nx
import numpy as np

from bench._case import best_s, line
from router.core.kernel import solve_context
from router.core.tables import NO_COST

SIZES = (30, 70, 150)


def world(n: int, seed: int) -> np.ndarray:
    """Directed costs in microseconds: points on a sphere, great circle in fibre, log-normal detours per link."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    angle = np.arccos(np.clip(points @ points.T, -1, 1))
    cost = np.rint(angle * 6371 * 5 * rng.lognormal(0.4, 0.35, (n, n))).astype(np.int64) + 300
    np.fill_diagonal(cost, NO_COST)
    return cost


def main() -> bool:
    """Run all sizes."""
    met = True
    for n in SIZES:
        cost = world(n, n)
        graph = nx.DiGraph()
        graph.add_weighted_edges_from((s, t, int(cost[s, t])) for s in range(n) for t in range(n) if s != t)
        total, _ = solve_context(cost, np.ones(n, np.bool_), 2, 0)
        for s, (lengths, paths) in nx.all_pairs_dijkstra(graph):
            for t, length in lengths.items():
                if s != t and (length > total[s, t] or (len(paths[t]) <= 4 and length != total[s, t])):
                    raise AssertionError(f"N={n}: {s} -> {t}: ours {total[s, t]}, networkx {length}")
        ours = best_s(lambda cost=cost, n=n: solve_context(cost, np.ones(n, np.bool_), 2, 0))
        peer = best_s(lambda graph=graph: dict(nx.all_pairs_dijkstra(graph)), repeat=1)
        goal = "floor of the numpy form"
        met &= line("solve", f"N={n}, <= 2 relays", ours, peer, "networkx all_pairs_dijkstra", "s", goal, 20.0)
    return met
