"""The rules that are compared: one protocol, the simple rules, and the registry of all families with their grids.

A rule sees the slices before ``t`` and answers with the paths in force during ``t``. The published rules of other
systems are in :mod:`bench.decisions.published`; our own engine is in :mod:`bench.decisions.engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bench.decisions import published
from bench.decisions._paths import F64, direct_paths, fastest, last_known
from bench.decisions.engine import EngineRule
from router.core.tables import I16


class Rule(Protocol):
    """Decides causally; an instance serves one replay and keeps its own state."""

    name: str

    def decide(self, seen: F64) -> I16:
        """Paths int16 ``[from, to, MAX_RELAYS]`` in force during slice t.

        ``seen`` float64 ``[t, from, to]``: one-way delays in ms (half the round trip) of slices 0..t-1, NaN where
        missing. Called once per slice in order, first with t = 0, where all is direct.
        """


class Direct:
    """Always the direct path: what everybody has without an overlay."""

    name = "direct"

    def decide(self, seen: F64) -> I16:
        """Never a relay."""
        return direct_paths(seen.shape[1])


class Greedy:
    """The path that was fastest in the latest slice, at most one relay; a missing cell keeps its last value."""

    name = "greedy"

    def __init__(self) -> None:
        self._known: F64 | None = None

    def decide(self, seen: F64) -> I16:
        """Follow the newest values with no margin at all."""
        if not len(seen):
            return direct_paths(seen.shape[1])
        self._known = seen[-1] if self._known is None else last_known(self._known, seen[-1])
        return fastest(self._known)[1]


class PairedWindow:
    """Move where one relay beat the direct path in at least ``share`` of the last ``window`` slices.

    Among several such relays the one that won most often, then the smaller index. A slice in which one of the three
    links is missing is not won. While fewer than ``window`` slices exist the share is taken of those that do, from
    ``least`` on. Wins are counted incrementally: int16 ``[from, relay, to]``.
    """

    CHUNK = 1 << 22  # cells compared at once: bounds memory at hundreds of nodes

    def __init__(self, share: float = 0.9, window: int = 60, least: int = 5) -> None:
        self.name = f"paired-{share:g}"
        self._share = share
        self._window = int(window)
        self._least = int(least)
        self._wins: I16 | None = None

    def decide(self, seen: F64) -> I16:
        """Count the newest slice in and the oldest out."""
        t, n = seen.shape[:2]
        paths = direct_paths(n)
        if not t:
            return paths
        if self._wins is None:
            self._wins = np.zeros((n, n, n), np.int16)
        self._count(seen[-1], 1)
        if t > self._window:
            self._count(seen[t - 1 - self._window], -1)
        if t < self._least:
            return paths
        best = self._wins.argmax(axis=1)
        most = np.take_along_axis(self._wins, best[:, None, :], axis=1)[:, 0, :]
        # The subtraction keeps 0.9 * 60 from being missed by a rounding error of the product.
        move = most >= self._share * min(t, self._window) - 1e-9
        paths[..., 0] = np.where(move & (most > 0), best, paths[..., 0])
        return paths

    def _count(self, delay_ms: F64, by: int) -> None:
        assert self._wins is not None
        n = delay_ms.shape[0]
        step = max(1, self.CHUNK // (n * n))
        for first in range(0, n, step):
            rows = slice(first, min(n, first + step))
            won = delay_ms[rows, :, None] + delay_ms[None, :, :] < delay_ms[rows, None, :]
            self._wins[rows] += by * won.astype(np.int16)


@dataclass(frozen=True, slots=True)
class Family:
    """A rule with its constants: ``published`` are those of its source, ``grid`` what tuning may choose from."""

    name: str
    make: Callable[..., Rule]
    published: Mapping[str, Any]
    grid: tuple[Mapping[str, Any], ...] = ()
    ours: bool = False

    def rule(self, constants: Mapping[str, Any] | None = None) -> Rule:
        """A fresh rule under its published constants, or under others."""
        return self.make(**(self.published if constants is None else constants))


def _grid(**choices: tuple[Any, ...]) -> tuple[Mapping[str, Any], ...]:
    """Every combination of the choices."""
    rows: list[dict[str, Any]] = [{}]
    for key, values in choices.items():
        rows = [{**row, key: value} for row in rows for value in values]
    return tuple(rows)


def _cautions() -> tuple[Mapping[str, Any], ...]:
    """Our own frontier: how much risk is accepted, and how long a restless pair waits."""
    return tuple({"accepted": a, "max_dwell_s": d} for a in (0.05, 0.15, 0.35, 0.7, 1.4) for d in (10, 0))


FAMILIES: dict[str, Family] = {}


def register(family: Family) -> None:
    """Add a family, or replace the one of that name."""
    FAMILIES[family.name] = family


for _family in (
    Family("direct", Direct, {}),
    Family("greedy", Greedy, {}),
    Family("ron", published.Ron, {}, _grid(old_weight=(0.9, 0.5), margin=(0.05, 0.1, 0.2, 0.4))),
    Family("babel", published.Babel, {}, _grid(hop_cost=(96, 24), rtt_max_ms=(120.0, 1000.0), half_life=(1.0, 16.0))),
    Family("tailscale", published.Tailscale, {}, _grid(window=(2, 13), ratio=(0.9, 2 / 3, 0.33))),
    Family("scion", published.Scion, {}, _grid(dead_after=(2, 4))),
    Family("hawkeye", published.HawkEye, {}, _grid(threshold=(0.05, 0.1, 0.2, 0.4, 0.6))),
    Family("paired-0.9", PairedWindow, {"share": 0.9}, _grid(share=(0.95, 0.9, 0.8, 0.6), window=(20, 60, 120))),
    Family("paired-0.7", PairedWindow, {"share": 0.7}),
    Family("tendril", EngineRule, {}, _cautions(), ours=True),
):
    register(_family)
