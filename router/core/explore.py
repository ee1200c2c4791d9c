"""Which links to probe next when there is not budget for all of them: a bandit over links (after VIA, Jiang 2016).

Users are careful and probes are hopeful. A user's path prices every link at its mean plus some deviations, so doubt
costs: a link that was just read is cheaper than an equal one of which the last reading is old. What a probe is worth
is how much of that price it would take off, summed over the pairs whose best path would then go over the link. Knowing
never measured links has lasting value, so these are hoped to be better than their mean; doubt that comes from age
returns by itself and is not. Links compete: only as many as the budget can read get the low price, paths are solved
again, and traffic concentrates on what can be kept verified. A path that is no best one even so gets no probes: that is
VIA's pruning by confidence intervals. Doubt grows with age (whoever makes the
:class:`~router.core.predict.Prediction` widens it), so that old knowledge comes up again by itself. A reserve goes to
links in turn, whatever anybody believes of them, because beliefs may be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.core.coordinates import F64
from router.core.kernel import solve_context
from router.core.predict import Prediction, Provenance
from router.core.tables import DIRECT, I16, I64, NO_COST, Bool

OPTIMISM = 0.3  # deviations below its mean at which a link is hoped to be that was never measured
RESERVE = 0.1  # of the budget, to links in turn
REFINEMENTS = 4  # solves per choice


@dataclass(frozen=True, eq=False)
class Choice:
    """Links to probe, most valuable first."""

    source: I64  # [k]
    target: I64  # [k]
    value_us: F64  # [k] expected saving summed over pairs; 0 for those of the reserve


def choose(
    prediction: Prediction,
    may_probe: Bool,
    budget: int,
    turn: int,
    caution: float = 1.0,
    max_relays: int = 2,
    both_ways: bool = False,
) -> Choice:
    """Pick at most ``budget`` links of those in ``may_probe``, bool ``[from, to]``.

    ``turn`` counts the calls and moves the reserve on. ``caution``: deviations above the mean at which users price a
    link. ``both_ways``: a probe measures a round trip that is the same from either end, one direction is enough.
    """
    n = len(prediction.mean_us)
    worth = link_values(prediction, budget, caution, max_relays)
    allowed = may_probe & ~np.eye(n, dtype=np.bool_)
    if both_ways:
        worth = worth + worth.T
        allowed = _one_of_two(allowed)
    flat = np.flatnonzero(allowed)
    budget = min(max(0, budget), len(flat))
    reserve = int(np.ceil(RESERVE * budget))
    value = worth.ravel()[flat]
    lot = _lot(flat, turn)
    ranked = np.lexsort((lot, -value))[: budget - reserve]
    ranked = ranked[value[ranked] > 0]
    rest = np.setdiff1d(np.arange(len(flat)), ranked)
    measured = prediction.provenance == Provenance.MEASURED
    age = np.where(measured, prediction.age_us, np.inf).ravel()[flat[rest]]
    oldest = rest[np.lexsort((lot[rest], -age))][: budget - len(ranked)]
    picked = np.concatenate([ranked, oldest])
    values = np.concatenate([value[ranked], np.zeros(len(oldest))])
    return Choice(flat[picked] // max(n, 1), flat[picked] % max(n, 1), values)


def link_values(prediction: Prediction, count: int, caution: float, max_relays: int = 2) -> F64:
    """What reading each link now would save, float64 ``[from, to]``, microseconds summed over pairs."""
    n = len(prediction.mean_us)
    known = np.isfinite(prediction.mean_us)
    log_sd = np.where(known, prediction.log_sd, 0.0)
    mean = np.where(known, prediction.mean_us, 0.0)
    careful = _cost(mean * np.exp(caution * log_sd), known)
    lasting = prediction.provenance != Provenance.MEASURED
    hoped = _cost(mean * np.exp(np.where(lasting, -OPTIMISM, 0.0) * log_sd), known)
    gap = np.where(known, careful - hoped, 0).astype(np.float64)
    everyone = np.ones(n, np.bool_)
    price, worth = hoped, np.zeros((n, n))
    for _ in range(REFINEMENTS):
        _, paths = solve_context(price, everyone, max_relays, 0)
        worth = gap * _carried(paths, np.where(known, 1.0, 0.0))
        enough = np.partition(worth.ravel(), -count)[-count] if 0 < count <= n * n else 0.0
        price = np.where(worth >= max(enough, 1e-9), hoped, careful)
    return worth


def _cost(value: F64, known: Bool) -> I64:
    return np.where(known, np.rint(np.minimum(value, float(NO_COST // 8))), NO_COST).astype(np.int64)


def _carried(relays: I16, weight: F64) -> F64:
    """Sum of the weights of all pairs whose path takes a link, float64 ``[from, to]``."""
    n = len(weight)
    load = np.zeros((n, n))
    here, target = np.indices((n, n))
    for slot in range(relays.shape[-1]):
        relay = relays[:, :, slot]
        hop = relay != DIRECT
        np.add.at(load, (here[hop], relay[hop]), weight[hop])
        here = np.where(hop, relay, here)
    np.add.at(load, (here, target), weight)
    np.fill_diagonal(load, 0.0)
    return load


def _one_of_two(allowed: Bool) -> Bool:
    """Of two allowed directions of a pair keep one, evenly over the nodes."""
    a, b = np.indices(allowed.shape)
    first = ((a + b) % 2 == 0) == (a < b)
    kept: Bool = allowed & (first | ~allowed.T)
    return kept


def _lot(links: I64, turn: int) -> I64:
    """A number per link that looks drawn by lot, anew each turn (SplitMix64's finaliser; Steele et al. 2014)."""
    x = links.astype(np.uint64) + np.uint64((turn + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
