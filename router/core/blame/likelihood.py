"""How much likelier a cell's counts are if something it crosses is at fault than if nothing is.

Bad ones among ``n`` are beta-binomial, not binomial: loss comes in bursts, and one person's bad network is bad in every
heartbeat. So one cell proves only so much, whatever its counts, and certainty comes from many cells that agree. The
fault's severity is not known; a grid of them stands for it, each as likely as the other.
"""

from __future__ import annotations

import numpy as np

from router.core.tables import F64, I64, Bool

SEVERITIES = np.array([0.05, 0.15, 0.40, 0.92])  # share of observations that a fault turns bad
STEADINESS = np.array([40.0, 8.0])  # of the baseline: probes, sessions; observations that tell as much as the cell
ROUGH = 4.0  # the same, while something spoils everything: as uneven as a fault, and more
FAULT_STEADINESS = 6.0  # of a fault's severity from cell to cell: it hits some flows more than others
MOST = 12.0  # nats that one cell may say for or against anything
TRUST = np.array([0.7, 1.0])  # of probes and sessions; what users have is what counts, probes only stand for it


def log_gamma(x: F64) -> F64:
    """Logarithm of the gamma function for x > 0, by Stirling's series after six steps up; error below 1e-9."""
    y = x + 6.0
    shift = np.log(x * (x + 1.0) * (x + 2.0) * (x + 3.0) * (x + 4.0) * (x + 5.0))
    square = y * y
    series = (1 / 12 - (1 / 360 - 1 / (1260 * square)) / square) / y
    found: F64 = (y - 0.5) * np.log(y) - y + 0.9189385332046727 + series - shift
    return found


def _log_likelihood(n: F64, b: F64, share: F64, steadiness: F64 | float) -> F64:
    """Of ``b`` bad ones in ``n``, up to a constant, under a beta-binomial of mean ``share``."""
    alpha, beta = share * steadiness, (1 - share) * steadiness
    found: F64 = (
        log_gamma(b + alpha) - log_gamma(alpha) + log_gamma(n - b + beta) - log_gamma(beta)
        - log_gamma(n + steadiness) + log_gamma(np.asarray(steadiness, np.float64))
    )  # fmt: skip
    return found


def ratios(n: F64, b: F64, baseline: F64, kind: I64, rough: Bool) -> F64:
    """Log of the likelihood ratio, float64 ``[cell, severity]``, of each severity against the baseline.

    ``rough`` cells are bad together with all others for a reason of no component, which hits some more than others.
    """
    steady = np.where(rough, ROUGH, STEADINESS[kind])
    none = _log_likelihood(n, b, baseline, steady)
    share = 1 - (1 - baseline[:, None]) * (1 - SEVERITIES)
    found = _log_likelihood(n[:, None], b[:, None], share, FAULT_STEADINESS) - none[:, None]
    weighted: F64 = np.clip(found, -MOST, MOST) * TRUST[kind][:, None]
    return weighted
