"""All cases of ``make bench NAME=solve``; each function prints its lines and says whether the bounds were met."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from bench._case import NO_BOUND, best_of_all, line, progress, timed
from bench._limit import Limit
from bench.solve import changes, memory, peers
from bench.solve.verify import WrongAnswer, check_backups, check_solution
from bench.solve.worlds import costs_us, everyone, providers, some_sources
from router.core import kernel
from router.core.errors import Unavailable
from router.core.tables import I64, NO_COST

NAME = "solve"
SIZES = (100, 300, 1000, 2000)
GOAL_SIZE = 1000
CHECKED_SOURCES = 20  # of brute force; all of them where N is small
BEST_OF = 15  # of what takes milliseconds
TURNS_S, GOAL_TURNS_S = 1.5, 4.0  # how long a solve and the limit are measured in turns
TURNS = (3, 60)  # at least, at most
RELAY_COST_US = 500  # of the cases without peers: those know no such cost
CORES = min(64, len(os.sched_getaffinity(0)))
THREADS = tuple(sorted({1, CORES}))

# Bounds: P1 and P2 of the project's goals. A ratio of times, ours in the denominator.
LOOP_SHARE, LIMIT_SHARE = 0.8, 0.5
P1_PEERS = {peers.SCIPY_FLOYD_WARSHALL: 15.0, peers.NETWORKX_DIJKSTRA: 1000.0}
BACKUPS_RATIO = round(1 / 1.5, 3)


def run() -> bool:
    """Run everything."""
    start = time.perf_counter()
    if not kernel.COMPILED:
        progress("the kernel is not compiled: this measures its numpy form, which is not meant to meet the bounds")
    sizes = SIZES if kernel.COMPILED else SIZES[:-1]
    met = []
    for part in (_limits(sizes), _peers(sizes), _changes(), _backups(), _memory()):
        for one in part:
            met.append(one)
            progress(f"{time.perf_counter() - start:6.1f} s")
    progress(f"{sum(met)} of {len(met)} lines met their bound")
    return all(met)


def _limits(sizes: tuple[int, ...]) -> Iterator[bool]:
    """The limit itself, then our solves against the limit of as many threads."""
    limit = Limit()
    try:
        isas = limit.isas
    except Unavailable as error:
        progress(f"{error.message}: no limit, so nothing is measured against it")
        yield False
        return
    for isa in isas:
        for threads in THREADS:
            yield _limit_loop(limit, isa, threads)
    for n in sizes:
        for max_relays, products in ((1, 1), (3, 2)):
            for threads in THREADS:
                yield _against_limit(limit, n, max_relays, products, threads)


def _limit_loop(limit: Limit, isa: str, threads: int) -> bool:
    progress(f"limit of the machine, {isa}, {_threads(threads)}")
    steps, adds, mins = limit.steps_per_cycle(isa)
    clock_hz, lanes = limit.clock_hz(), limit.lanes(isa)
    expected = threads * lanes * steps * clock_hz
    measured = limit.settle(isa, threads, 0.9 * expected)
    return line(
        NAME, f"add+min limit, int32 {isa}, {_threads(threads)}", measured / 1e9, expected / 1e9,
        "lanes x issue rate x clock", "G steps/s", "P1", LOOP_SHARE,
        threads=threads, lanes=lanes, steps_per_cycle=steps, adds_per_cycle=round(adds, 2),
        mins_per_cycle=round(mins, 2), clock_ghz=round(clock_hz / 1e9, 3),
    )  # fmt: skip


def _against_limit(limit: Limit, n: int, max_relays: int, products: int, threads: int) -> bool:
    case = f"N={n}, <= {max_relays} relay{'s' * (max_relays > 1)}, {_threads(threads)}"
    progress(f"{case}, against the limit")
    cost, may_relay = costs_us(n), everyone(n)
    work = partial(kernel.solve_context, cost, may_relay, max_relays, 0, threads)
    turns_s = GOAL_TURNS_S if (n, max_relays) == (GOAL_SIZE, 1) else TURNS_S
    start, best_s, turns = time.perf_counter(), float("inf"), 0
    while turns < TURNS[0] or (turns < TURNS[1] and time.perf_counter() - start < turns_s):
        steps_per_s = limit.best_steps_per_s(threads, bursts=2)
        took_s, answer = timed(work)
        best_s, turns = min(best_s, took_s), turns + 1
    check_solution(cost, may_relay, max_relays, 0, answer, some_sources(n, n if n <= 100 else CHECKED_SOURCES))
    return line(
        NAME, case, best_s, products * n**3 / steps_per_s,
        "the add+min limit of as many threads", "s", "P1" if n == GOAL_SIZE and max_relays == 1 else "none",
        LIMIT_SHARE if n == GOAL_SIZE and max_relays == 1 else NO_BOUND,
        threads=threads, products=products, runs=turns, g_steps_per_s=round(products * n**3 / best_s / 1e9, 2),
        limit_g_steps_per_s=round(steps_per_s / 1e9, 2), compiled=kernel.COMPILED,
    )  # fmt: skip


def _peers(sizes: tuple[int, ...]) -> Iterator[bool]:
    """The libraries, all answers compared with ours; a graph lives only while its library is timed."""
    for n in sizes:
        cost, runs = costs_us(n), _runs(n)
        sample, nx_sample = {100: (100, 100), 2000: (50, 5)}.get(n, (100, 20))
        makers: tuple[tuple[Callable[[], peers.Peer], int], ...] = (
            (partial(peers.scipy_floyd_warshall, cost), runs),
            (partial(peers.scipy_dijkstra, cost, sample), runs),
            (partial(peers.rustworkx_floyd_warshall, cost, CORES), runs),
            (partial(peers.igraph_dijkstra, cost, sample), runs),
            (partial(peers.networkit_dijkstra, cost, sample, CORES), runs),
            (partial(peers.networkx_dijkstra, cost, nx_sample), min(runs, 2)),
        )
        unlimited = kernel.unlimited(cost, everyone(n), 0, CORES)[0]
        for maker, repeat in makers:
            progress(f"peers, N={n}")
            yield from _against_peer(cost, maker(), unlimited, repeat)


def _runs(n: int) -> int:
    """How often everything at this size is timed, ours and peers alike."""
    if n >= GOAL_SIZE and not kernel.COMPILED:
        return 1
    return {100: 5, 2000: 1}.get(n, 3)


def _against_peer(cost: I64, peer: peers.Peer, unlimited: I64, repeat: int) -> Iterator[bool]:
    n = len(cost)
    (ours_s, ours), (free_s, _), (peer_s, found) = best_of_all(
        (
            partial(kernel.solve_context, cost, everyone(n), 3, 0, CORES),
            partial(kernel.unlimited, cost, everyone(n), 0, CORES),
            peer.work,
        ),
        repeat,
    )
    equal_share = _compare(peer, peer.distances(found), ours[0], unlimited)
    peer_s *= n / len(peer.sources)
    more: dict[str, object] = {
        "runs": repeat, "threads": CORES, "peer_threads": peer.threads, "peer_keeps_paths": peer.predecessors,
        "compiled": kernel.COMPILED,
    }  # fmt: skip
    if len(peer.sources) < n:
        more |= {"sampled_sources": len(peer.sources), "extrapolated": True}
    bound = P1_PEERS.get(peer.name, NO_BOUND) if n == GOAL_SIZE else NO_BOUND
    goal = "P1" if bound else "none"
    case = f"N={n}, <= 3 relays"
    yield line(NAME, case, ours_s, peer_s, peer.name, "s", goal, bound, equal_share=equal_share, **more)
    case = f"N={n}, no limit on relays (like for like)"
    yield line(NAME, case, free_s, peer_s, peer.name, "s", "none", NO_BOUND, **more)


def _compare(peer: peers.Peer, found: np.ndarray, total: I64, unlimited: I64) -> float:
    """Share of pairs whose best path has at most three relays; raises where an answer contradicts the peer's."""
    rows = np.arange(len(found))
    there = np.where(np.isfinite(found), found, NO_COST).astype(np.int64)
    there[rows, peer.sources] = NO_COST
    if not np.array_equal(there, unlimited[peer.sources]):
        raise WrongAnswer(f"N={len(total)}: our unlimited costs are not those of {peer.name}")
    if (there > total[peer.sources]).any():
        raise WrongAnswer(f"N={len(total)}: <= 3 relays is cheaper than the unlimited paths of {peer.name}")
    return round(float((there == total[peer.sources]).mean()), 4)


def _changes() -> Iterator[bool]:
    return changes.lines(NAME, GOAL_SIZE, THREADS, BEST_OF if kernel.COMPILED else 1)


def _backups() -> Iterator[bool]:
    """Three alternatives for all pairs against one solve of at most one relay, with as many threads."""
    n = GOAL_SIZE
    runs = BEST_OF if kernel.COMPILED else 1
    cost, may_relay = costs_us(n), everyone(n)
    cases = (
        ("8 providers", providers(n, 8), BACKUPS_RATIO),
        ("20 providers", providers(n, 20), NO_BOUND),
        ("node-disjoint", np.arange(n, dtype=np.int16), NO_BOUND),
    )
    for text, group, bound in cases:
        for threads in THREADS:
            progress(f"backups, {text}, {_threads(threads)}")
            (ours_s, answer), (solve_s, _) = best_of_all(
                (
                    partial(kernel.alternatives, cost, may_relay, RELAY_COST_US, group, threads=threads),
                    partial(kernel.solve_context, cost, may_relay, 1, RELAY_COST_US, threads),
                ),
                runs,
            )
            check_backups(cost, may_relay, RELAY_COST_US, group, answer, some_sources(n, CHECKED_SOURCES))
            yield line(
                NAME, f"N={n}, 3 backups, {text}, {_threads(threads)}", ours_s, solve_s,
                "one solve of <= 1 relay", "s", "P2" if bound else "none", bound, runs=runs, threads=threads,
                solves=round(ours_s / solve_s, 3), compiled=kernel.COMPILED,
            )  # fmt: skip


def _memory() -> Iterator[bool]:
    """Bytes of the answer, and what a solve takes at its worst moment."""
    for n in SIZES[-2:] if kernel.COMPILED else SIZES[-2:-1]:
        progress(f"memory, N={n}")
        cost = costs_us(n)
        total, relays = kernel.solve_context(cost, everyone(n), 3, 0, CORES)
        yield line(
            NAME, f"N={n}, <= 3 relays, table", total.nbytes + relays.nbytes, cost.nbytes + n * n * 4,
            "scipy: distances and predecessors", "bytes", "none", NO_BOUND,
        )  # fmt: skip
    n = GOAL_SIZE
    yield line(
        NAME, f"N={n}, <= 3 relays, peak of resident memory above the input", memory.solve_bytes("ours", n),
        memory.solve_bytes("scipy", n), "scipy floyd_warshall, predecessors", "bytes", "none", NO_BOUND,
    )  # fmt: skip


def _threads(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"
