"""Array kernel: best paths between all ordered pairs of vertices, exact at one microsecond.

Min-plus products over integer costs: ``D1 = min(W, W * W)`` has at most one relay, ``min(D1, D1 * W)`` two,
``min(D1, D1 * D1)`` three. Each product takes the smallest relay index among equals, and only when strictly cheaper
than what is there, so the total order is (cost including the per-relay cost, direct before relayed, smallest relay
index per product). `engine` says which code does the arithmetic; all engines give equal arrays.

Why no path meets a vertex twice, though nothing checks for it. Let costs be >= 0 (potentials see to that), and let
``i .. m .. j`` be what the second product picks, so its cost v < D1[i, j] strictly. The diagonal is missing, so m is
neither i nor j. If j occurs before m, cutting the path there leaves a path with at most one relay that costs <= v, and
is >= D1[i, j]: contradiction. The same holds if i occurs after m. If a is a relay on both sides of m, ``i a j`` costs
<= v and is >= D1[i, j]: contradiction. Costs of zero do not matter, because v < D1[i, j] is strict.
"""

from router.core.kernel.engine import COMPILED
from router.core.kernel.incremental import Incremental
from router.core.kernel.paths import alternatives, path_cost, solve_context, unlimited
from router.core.kernel.potentials import UNREACHABLE, NegativeCycle, johnson

__all__ = [
    "COMPILED",
    "UNREACHABLE",
    "Incremental",
    "NegativeCycle",
    "alternatives",
    "johnson",
    "path_cost",
    "solve_context",
    "unlimited",
]
